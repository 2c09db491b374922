//! Questions by a language model behind an endpoint: a prompt for each passage and language, several
//! at a time; the answer is read as one question a line, or as a JSON list where the model made one.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use serde_json::Value;
use xqg_data::error::DataError;
use xqg_data::lang::Lang;
use xqg_data::passage::Passage;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::writer::{Question, QuestionWriter, Usage, Written};
use crate::args::PromptArg;
use crate::chat::{Answer, Ask, Chat};

/// The prompt where nobody gives another.
const PROMPT: &str = "Write {n} different questions in {language} that the passage below answers. \
    Somebody who has not seen the passage must understand them, so each names what it asks about. \
    Write short, natural questions, as people type them into a search box. Write in {language} only, \
    one question a line, without numbers, translations or anything else.\n\n{title}\n{passage}";

/// Longer lines are no questions.
const LONGEST: usize = 500;

/// Prompt templates: one for all languages and those of single ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompts {
    general: String,
    single: BTreeMap<Lang, String>,
}

impl Prompts {
    /// The built-in prompt, replaced by files where they are given.
    ///
    /// # Errors
    /// When a file cannot be read or has no place for what it is about.
    pub fn read(files: &[PromptArg], built_in: &str, subject: &str) -> Result<Self> {
        let mut prompts = Self { general: built_in.to_owned(), single: BTreeMap::new() };
        for file in files {
            let text = read_template(&file.path, subject)?;
            match file.lang {
                Some(lang) => drop(prompts.single.insert(lang, text)),
                None => prompts.general = text,
            }
        }
        Ok(prompts)
    }

    /// The built-in prompt for questions, or those of files.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn for_questions(files: &[PromptArg]) -> Result<Self> {
        Self::read(files, PROMPT, "{passage}")
    }

    /// All templates, the general one under `*`: what a plan remembers.
    pub fn all(&self) -> BTreeMap<&str, &str> {
        let single = self.single.iter().map(|(lang, text)| (lang.code(), text.as_str()));
        single.chain([("*", self.general.as_str())]).collect()
    }

    /// The template of a language.
    pub fn of(&self, lang: Option<Lang>) -> &str {
        lang.and_then(|lang| self.single.get(&lang)).unwrap_or(&self.general)
    }
}

fn read_template(path: &Path, subject: &str) -> Result<String> {
    let text = std::fs::read_to_string(path).map_err(DataError::io("reading", path))?;
    if text.contains(subject) {
        return Ok(text);
    }
    Err(DataError::unexpected(path, format!("a prompt with {subject} in it"), "none").into())
}

/// Fills the places of a template in one go: what a text that is put in looks like does not matter.
pub fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let (mut filled, mut rest) = (String::with_capacity(template.len()), template);
    while let Some(at) = rest.find('{') {
        filled.push_str(&rest[..at]);
        rest = &rest[at..];
        let found = values.iter().find(|(name, _)| {
            rest[1..].strip_prefix(name).is_some_and(|after| after.starts_with('}'))
        });
        match found {
            Some((name, value)) => {
                filled.push_str(value);
                rest = &rest[name.len() + 2..];
            }
            None => {
                filled.push('{');
                rest = &rest[1..];
            }
        }
    }
    filled + rest
}

/// How questions are asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// Questions of a passage in one language.
    pub n: usize,
    /// Tokens of a question at most.
    pub max_tokens: usize,
    /// As servers know it.
    pub temperature: Option<f32>,
    /// As servers know it.
    pub top_p: Option<f32>,
    /// The seed.
    pub seed: u64,
    /// Characters of a passage that are sent at most.
    pub passage_max_chars: usize,
    /// The prompts.
    pub prompts: Prompts,
}

/// A language model that writes questions.
pub struct Endpoint<'a> {
    /// The model.
    pub chat: &'a Chat,
    /// What is wanted of it.
    pub wanted: &'a Wanted,
}

impl Endpoint<'_> {
    fn ask(&self, passage: &Passage, lang: Lang) -> Ask {
        let wanted = self.wanted;
        let text = beginning(&passage.text, wanted.passage_max_chars).unwrap_or(&passage.text);
        let values = [
            ("n", wanted.n.to_string()),
            ("language", lang.name().to_owned()),
            ("lang", lang.code().to_owned()),
            ("title", passage.title.clone()),
            ("passage", text.to_owned()),
        ];
        let values: Vec<(&str, &str)> = values.iter().map(|(k, v)| (*k, v.as_str())).collect();
        let key = format!("{}\0{}", passage.docid, lang.code());
        Ask {
            prompt: fill(wanted.prompts.of(Some(lang)), &values),
            max_tokens: wanted.n * wanted.max_tokens,
            temperature: wanted.temperature,
            top_p: wanted.top_p,
            seed: xxh3_64_with_seed(key.as_bytes(), wanted.seed),
        }
    }

    fn add(&self, written: &mut Written, lang: Lang, answer: &Answer) {
        let texts = questions(answer, self.wanted.n);
        written.usage.add(&Usage {
            requests: u64::from(answer.usable),
            retries: answer.retries,
            failed: u64::from(!answer.usable),
            short: u64::from(answer.usable && texts.len() < self.wanted.n),
            prompt_tokens: answer.prompt_tokens,
            answer_tokens: answer.answer_tokens,
        });
        let question = |text| Question { lang, text, logprob: None, similarity: None, cut: false };
        written.questions.extend(texts.into_iter().map(question));
    }
}

impl QuestionWriter for Endpoint<'_> {
    fn batch(&self) -> usize {
        usize::MAX
    }

    fn write(&mut self, passages: &[Passage], langs: &[Lang]) -> Result<Vec<Written>> {
        let pairs: Vec<(usize, Lang)> =
            (0..passages.len()).flat_map(|i| langs.iter().map(move |&lang| (i, lang))).collect();
        let asks: Vec<Ask> = pairs.iter().map(|(i, lang)| self.ask(&passages[*i], *lang)).collect();
        let n = self.wanted.n;
        let answers = self.chat.ask_all(&asks, |answer| !questions(answer, n).is_empty())?;
        let cut = |p: &Passage| beginning(&p.text, self.wanted.passage_max_chars).is_some();
        let begun = |p: &Passage| Written { truncated: cut(p), ..Written::default() };
        let mut all: Vec<Written> = passages.iter().map(begun).collect();
        for ((i, lang), answer) in pairs.iter().zip(&answers) {
            self.add(&mut all[*i], *lang, answer);
        }
        Ok(all)
    }
}

/// The first `most` characters of a text that is longer.
fn beginning(text: &str, most: usize) -> Option<&str> {
    text.char_indices().nth(most).map(|(at, _)| &text[..at])
}

/// The questions in an answer, each once, at most `n`.
pub fn questions(answer: &Answer, n: usize) -> Vec<String> {
    let text = without_thoughts(&answer.text);
    let lines = match json_list(text) {
        Some(list) => list,
        None => {
            let mut lines: Vec<&str> = text.lines().collect();
            // What was cut is no whole question.
            if answer.cut {
                lines.pop();
            }
            lines.into_iter().map(str::to_owned).collect()
        }
    };
    let mut found: Vec<String> = Vec::new();
    for line in lines {
        let question = bare_line(&line);
        let sound = !question.is_empty() && question.chars().count() <= LONGEST;
        // `Here are five questions:` and the signs around a list.
        let remark = question.ends_with([':', '：']) || question.starts_with("```");
        if sound && !remark && !found.iter().any(|other| other == question) {
            found.push(question.to_owned());
        }
    }
    found.truncate(n);
    found
}

/// What stands behind a model's thinking aloud.
pub fn without_thoughts(text: &str) -> &str {
    let text = text.rsplit_once("</think>").map_or(text, |(_, after)| after);
    if text.trim_start().starts_with("<think>") { "" } else { text.trim() }
}

/// The texts of a JSON list, whole or cut.
fn json_list(text: &str) -> Option<Vec<String>> {
    let inner = text.trim_start_matches("```json").trim_matches('`').trim();
    if !inner.starts_with(['[', '{']) {
        return None;
    }
    let start = &inner[inner.find('[')?..];
    let whole = start.rfind(']').map(|end| start[..=end].to_owned());
    let cut = || start.rfind("\",").map(|end| format!("{}\"]", &start[..end]));
    let read = |json: String| serde_json::from_str::<Vec<Value>>(&json).ok();
    let list = whole.and_then(read).or_else(|| cut().and_then(read))?;
    let text = |v: &Value| {
        let inside = v.as_object().and_then(|o| o.values().find_map(Value::as_str));
        v.as_str().or(inside).map(str::to_owned)
    };
    Some(list.iter().filter_map(text).collect())
}

/// A line without its number, its dash and its quotation marks.
fn bare_line(line: &str) -> &str {
    let line = line.trim().trim_start_matches(['-', '*', '•', '·']).trim_start();
    let digits = line.trim_start_matches(|c: char| c.is_ascii_digit());
    let numbered = digits.len() < line.len() && line.len() - digits.len() <= 2;
    let line = match digits.strip_prefix(['.', ')', ':']) {
        Some(rest) if numbered && !rest.starts_with(|c: char| c.is_ascii_digit()) => rest,
        _ => line,
    };
    let quotes = ['"', '“', '”', '„', '「', '」', '«', '»', '*'];
    line.trim().trim_matches(quotes).trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, cut: bool) -> Vec<String> {
        questions(&Answer { text: text.into(), cut, ..Answer::default() }, 3)
    }

    #[test]
    fn questions_are_found_in_whatever_shape() {
        let two = ["Kuka se on?", "Mikä on 3.5?"];
        for text in [
            "Kuka se on?\nMikä on 3.5?",
            "Here are the questions:\n\n1. Kuka se on?\n2) \"Mikä on 3.5?\"\n",
            "- Kuka se on?\n- Mikä on 3.5?\n- Kuka se on?",
            "[\"Kuka se on?\", \"Mikä on 3.5?\"]",
            "```json\n[\"Kuka se on?\",\n \"Mikä on 3.5?\"]\n```",
            "{\"questions\": [{\"question\": \"Kuka se on?\"}, {\"question\": \"Mikä on 3.5?\"}]}",
            "<think>\nWhat may\nbe asked?</think>Kuka se on?\nMikä on 3.5?",
        ] {
            assert_eq!(read(text, false), two, "{text}");
        }
        assert_eq!(read("1980-luvulla?", false), ["1980-luvulla?"]);
        assert_eq!(read("a?\nb?\nc?\nd?", false).len(), 3);
        assert!(read("<think>\nI wonder", true).is_empty() && read("", false).is_empty());
    }

    #[test]
    fn what_was_cut_is_no_question() {
        assert_eq!(read("Kuka?\nMikä on Suom", true), ["Kuka?"]);
        assert_eq!(read("[\"Kuka?\", \"Mikä on Suom", true), ["Kuka?"]);
        assert!(read("Mikä on Suom", true).is_empty());
    }

    #[test]
    fn a_template_is_filled_once() {
        let values = [("n", "5"), ("passage", "about {n} and {x}")];
        assert_eq!(fill("{n} {x} {passage} {", &values), "5 {x} about {n} and {x} {");
    }

    #[test]
    fn a_prompt_has_a_place_for_the_passage() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.txt");
        std::fs::write(&path, "Write {n}").unwrap();
        let te: Lang = "te".parse().unwrap();
        let file = |lang| PromptArg { lang, path: path.clone() };
        assert!(
            Prompts::for_questions(&[file(None)]).unwrap_err().to_string().contains("{passage}")
        );
        std::fs::write(&path, "In Telugu: {passage}").unwrap();
        let prompts = Prompts::for_questions(&[file(Some(te))]).unwrap();
        assert_eq!(prompts.of(Some(te)), "In Telugu: {passage}");
        assert_eq!(prompts.of("fi".parse().ok()), PROMPT);
    }
}
