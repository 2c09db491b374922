//! Learning against a whole corpus: the passages keep the embeddings that the base model gives them,
//! and only the queries' network learns. Each question is a lesson; the teacher is the base model
//! reading the question's translation (or the question itself, where nobody translated it), told
//! which passages hold an answer. A lesson costs the tokens of one question, so ten thousands of
//! them are minutes on a CPU, and an index that exists stays as it is.

use std::collections::BTreeSet;

use memchr::memmem;
use rayon::prelude::*;
use xqg_data::embeddings::Side;
use xqg_data::lines::BadLines;
use xqg_data::passage::{Passage, read_passages};
use xqg_data::query::{Query, read_queries};
use xqg_data::translations::{Translations, single_spaced};
use xqg_data::vectors::Embeddings;
use xqg_kernel::dropout::Key;
use xqg_model::encoder::Encoder;
use xqg_model::tokenizer::Tokens;

use crate::cache::keyed;
use crate::config::{CorpusConfig, TrainConfig};
use crate::error::TrainError;
use crate::examples::is_held_out;
use crate::folder::{Base, Reader};
use crate::loss::corpus::prior;
use crate::network::pass::Text;

/// Texts that the base model encodes at once.
const AT_ONCE: usize = 1024;

/// An answer that more than this part of all passages hold says nothing about any.
const COMMON: f64 = 0.02;

/// A question and what it should see.
#[derive(Debug, Clone, PartialEq)]
pub struct Lesson {
    /// The question's id; its text where only its translation is known.
    pub qid: String,
    /// Its language, where that is known.
    pub lang: Option<String>,
    /// Token ids.
    pub ids: Vec<u32>,
    /// Its answers as they are written.
    pub answers: Vec<String>,
    /// The passages that hold one of them.
    pub holders: Vec<u32>,
    /// The row of its teacher.
    teacher: usize,
}

/// The passages and the lessons over them.
#[derive(Debug)]
pub struct Corpus {
    /// Lessons to learn from.
    pub train: Vec<Lesson>,
    /// Lessons that are held out: questions with an answer.
    pub held_out: Vec<Lesson>,
    /// The passages' embeddings, row after row.
    pub passages: Vec<f32>,
    /// Their texts, without titles.
    pub texts: Vec<String>,
    /// Questions that were cut to their greatest length.
    pub truncated: usize,
    /// The logarithm of how many answers of the training lessons each passage holds.
    prior: Vec<f64>,
    teachers: Vec<f32>,
    dim: usize,
}

/// What one step looks at.
#[derive(Debug)]
pub struct LessonBatch<'a> {
    /// The questions.
    pub queries: Vec<Text>,
    /// The embeddings of their teachers, row after row.
    pub teachers: Vec<f32>,
    /// For each question the passages that hold an answer.
    pub holders: Vec<&'a [u32]>,
    /// A number for each passage, higher for those that hold many answers.
    pub prior: &'a [f64],
    /// The ids of the first questions, for messages.
    pub names: String,
}

/// A question before it is tokenized, with what its teacher reads.
struct Asked {
    query: Query,
    told: String,
}

impl Corpus {
    /// Reads everything, and lets the base model encode what is not given.
    ///
    /// # Errors
    /// When a file cannot be read, texts and embeddings do not fit, or no question is left.
    pub fn read(
        config: &TrainConfig,
        corpus: &CorpusConfig,
        (base, reader): (&Base, &Reader),
    ) -> Result<Self, TrainError> {
        let passages: Vec<Passage> =
            read_passages(&corpus.texts, BadLines::Stop)?.collect::<Result<_, _>>()?;
        let asked = gather(corpus)?;
        let teacher = base.teacher(config)?;
        let (vectors, dim) = embeddings(corpus, &passages, &teacher)?;
        let texts: Vec<String> = passages.into_iter().map(|passage| passage.text).collect();
        let told: Vec<String> = asked.iter().map(|a| a.told.clone()).collect();
        let teachers = encode(&teacher, Side::Query, &told)?;
        drop(teacher);
        let (lessons, truncated) = lessons(asked, &texts, reader)?;
        let held = |l: &Lesson| !l.answers.is_empty() && is_held_out(&l.qid, config.data.held_out);
        let (held_out, train): (Vec<_>, Vec<_>) = lessons.into_iter().partition(held);
        if train.is_empty() {
            return Err(TrainError::Setting {
                name: "corpus.questions or corpus.translations",
                expected: "at least one question to learn from",
                found: format!("none, and {} held out or left out", held_out.len()),
            });
        }
        let prior = prior(train.iter().map(|lesson| lesson.holders.as_slice()), texts.len());
        Ok(Self { train, held_out, passages: vectors, texts, truncated, prior, teachers, dim })
    }

    /// The lessons at these places of the training part; `key` is the step's.
    pub fn batch(&self, places: &[usize], key: Key) -> LessonBatch<'_> {
        let lessons: Vec<&Lesson> = places.iter().map(|&place| &self.train[place]).collect();
        let rows = lessons.iter().flat_map(|l| &self.teachers[l.teacher * self.dim..][..self.dim]);
        let names: Vec<&str> = lessons.iter().take(5).map(|l| l.qid.as_str()).collect();
        LessonBatch {
            queries: keyed(lessons.iter().map(|l| l.ids.clone()).collect(), key.part(0)),
            teachers: rows.copied().collect(),
            holders: lessons.iter().map(|l| l.holders.as_slice()).collect(),
            prior: &self.prior,
            names: names.join(", "),
        }
    }

    /// Bytes that stay in memory during a run, and those that each question of a batch adds.
    pub fn bytes(&self) -> (u64, u64) {
        let texts: usize = self.texts.iter().map(String::len).sum();
        let lasting = (self.passages.len() + self.teachers.len()) * 4 + texts;
        (lasting as u64, (self.texts.len() * 5 * 8) as u64)
    }
}

/// All questions, each once, in the order of the files; those to be left out left out.
fn gather(corpus: &CorpusConfig) -> Result<Vec<Asked>, TrainError> {
    let mut seen = BTreeSet::new();
    for path in &corpus.leave_out {
        for query in read_queries(path)? {
            seen.extend([query.qid, single_spaced(&query.text)]);
        }
    }
    let translations = match &corpus.translations[..] {
        [] => Translations::default(),
        paths => Translations::read(paths)?,
    };
    let mut all = Vec::new();
    for path in &corpus.questions {
        for query in read_queries(path)? {
            let text = single_spaced(&query.text);
            if seen.contains(&query.qid) || !seen.insert(text.clone()) {
                continue;
            }
            let told = translations.get(&query).map_or(text, str::to_owned);
            all.push(Asked { query, told });
        }
    }
    for (text, told) in translations.iter().filter(|(text, _)| !seen.contains(*text)) {
        let (qid, told) = (text.to_owned(), told.to_owned());
        let query = Query { qid, lang: None, text: text.to_owned(), answers: Vec::new() };
        all.push(Asked { query, told });
    }
    Ok(all)
}

/// The passages' embeddings and their length: those of the file, or the base model's.
fn embeddings(
    corpus: &CorpusConfig,
    passages: &[Passage],
    teacher: &Encoder,
) -> Result<(Vec<f32>, usize), TrainError> {
    let Some(path) = &corpus.embeddings else {
        let texts: Vec<String> = passages.iter().map(Passage::encoder_text).collect();
        return Ok((encode(teacher, Side::Passage, &texts)?, teacher.dim()));
    };
    let beside = path.with_extension("ids");
    let all = Embeddings::open(path, Some(beside.as_path()).filter(|ids| ids.is_file()))?;
    let unexpected = |expected: String, found: String| TrainError::Unexpected {
        path: path.clone(),
        expected,
        found,
        hint: "xqg encode --corpus makes them with the base model",
    };
    if all.dim() != teacher.dim() {
        return Err(unexpected(format!("rows of {}", teacher.dim()), all.dim().to_string()));
    }
    let own = teacher.contract();
    let own = own.passage_weights.as_ref().unwrap_or(&own.weights);
    if let Some(contract) = all.contract().filter(|c| c.is_known() && c.weights != *own) {
        return Err(unexpected("embeddings of the base model".into(), contract.model.clone()));
    }
    all.check()?;
    let ids = all.all_ids()?;
    let same = ids.len() == passages.len() && ids.iter().zip(passages).all(|(a, b)| *a == b.docid);
    if !same {
        let expected = format!("the {} passages of the texts, in their order", passages.len());
        return Err(unexpected(expected, format!("{} others", ids.len())));
    }
    Ok((all.to_vec(), all.dim()))
}

fn encode(teacher: &Encoder, side: Side, texts: &[String]) -> Result<Vec<f32>, TrainError> {
    let mut vectors = Vec::with_capacity(texts.len() * teacher.dim());
    for part in texts.chunks(AT_ONCE) {
        vectors.extend(teacher.encode(side, part)?.vectors);
    }
    Ok(vectors)
}

/// Questions as lessons, and how many were cut.
fn lessons(
    asked: Vec<Asked>,
    texts: &[String],
    reader: &Reader,
) -> Result<(Vec<Lesson>, usize), TrainError> {
    let questions: Vec<String> = asked.iter().map(|a| a.query.text.clone()).collect();
    let tokens = reader.tokens(Side::Query, &questions)?;
    let cut = tokens.iter().filter(|t| t.truncated).count();
    let holders: Vec<Vec<u32>> =
        asked.par_iter().map(|a| holders(&a.query.answers, texts)).collect();
    let lessons = asked.into_iter().zip(tokens).zip(holders).enumerate();
    let lesson = |(teacher, ((asked, tokens), holders)): (usize, ((Asked, Tokens), Vec<u32>))| {
        let Asked { query: Query { qid, lang, answers, .. }, .. } = asked;
        let lang = lang.map(|lang| lang.code().to_owned());
        Lesson { qid, lang, ids: tokens.ids, answers, holders, teacher }
    };
    Ok((lessons.map(lesson).collect(), cut))
}

/// The passages that hold an answer in its own words, upper and lower case kept apart.
fn holders(answers: &[String], texts: &[String]) -> Vec<u32> {
    let mut all = BTreeSet::new();
    for answer in answers.iter().map(|a| a.trim()) {
        if answer.is_empty() || matches!(answer, "yes" | "no" | "unknown") {
            continue;
        }
        let finder = memmem::Finder::new(answer);
        let holds = |text: &&(u32, &String)| {
            finder.find_iter(text.1.as_bytes()).any(|at| is_whole(text.1, at, answer.len()))
        };
        let numbered: Vec<(u32, &String)> = (0..).zip(texts).collect();
        let found: Vec<u32> = numbered.iter().filter(holds).map(|(row, _)| *row).collect();
        if (found.len() as f64) <= COMMON * texts.len() as f64 {
            all.extend(found);
        }
    }
    all.into_iter().collect()
}

/// Whether a place in a text is no part of longer words.
fn is_whole(text: &str, at: usize, length: usize) -> bool {
    let letter = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    !letter(text[..at].chars().next_back()) && !letter(text[at + length..].chars().next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holders_have_the_answer_as_words() {
        let mut texts = vec!["x".to_owned(); 200];
        texts[3] = "Born in 1970.".into();
        texts[5] = "The 19705th".into();
        texts[7] = "(1970) and 5".into();
        let of = |answers: &[&str]| {
            holders(&answers.iter().map(|&a| a.to_owned()).collect::<Vec<_>>(), &texts)
        };
        assert_eq!(of(&["1970"]), [3, 7]);
        assert_eq!(of(&["born", "5"]), [7], "case counts");
        assert_eq!(of(&["x"]), [0u32; 0], "what nearly all hold says nothing");
        assert_eq!(of(&["no", " ", "unknown"]), [0u32; 0]);
    }
}
