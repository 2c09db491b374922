//! The tasks' rows: what a question is written from, its language and its text; learned from or held
//! out.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use xqg_data::error::{DataError, Mismatch};
use xqg_data::lang::Lang;
use xqg_data::lines::{BadLines, LineFile, json_object, text_field};
use xqg_data::passage::read_passages;
use xqg_kernel::dropout::Key;

use super::config::{GeneratorConfig, TaskConfig};
use crate::error::TrainError;

/// A question to learn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The place of its source in the task.
    pub source: usize,
    /// The place of its language in the configuration.
    pub lang: usize,
    /// The question.
    pub text: String,
}

/// The rows of one task.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Task {
    /// The texts that questions are written from, each once.
    pub sources: Vec<String>,
    /// Rows that are learned from, those of one source together.
    pub train: Vec<Row>,
    /// Rows that are held out.
    pub held_out: Vec<Row>,
}

impl Task {
    /// Reads a task's files.
    ///
    /// # Errors
    /// When a file cannot be read, has a bad row, or names a passage that the corpus does not have.
    pub fn read(config: &GeneratorConfig, task: &TaskConfig) -> Result<Self, TrainError> {
        let corpus = task.corpus.as_deref().map(passages).transpose()?;
        let mut places: BTreeMap<String, usize> = BTreeMap::new();
        let mut rows: Vec<Row> = Vec::new();
        let mut sources = Vec::new();
        for path in &task.files {
            let langs = config.langs.clone();
            let corpus = corpus.clone();
            let parse =
                Box::new(move |line: &str| parse(&json_object(line)?, &langs, corpus.as_ref()));
            for row in LineFile::open(path, BadLines::Stop, parse)? {
                let (source, lang, text) = row?;
                let place = *places.entry(source).or_insert_with_key(|source| {
                    sources.push(source.clone());
                    sources.len() - 1
                });
                rows.push(Row { source: place, lang, text });
            }
        }
        rows.sort_by_key(|row| row.source);
        let held = |row: &Row| {
            let share = config.data.held_out;
            held_out(&sources[row.source], share) || held_out(&row.text, share)
        };
        let (held_out, train): (Vec<Row>, Vec<Row>) = rows.into_iter().partition(held);
        if train.is_empty() {
            return Err(TrainError::Setting {
                name: "tasks",
                expected: "a task with rows to learn from",
                found: format!("none in {}", task.name),
            });
        }
        Ok(Self { sources, train, held_out })
    }
}

/// Whether a text's rows are held out: by its hash, so that it is in no task's training.
fn held_out(text: &str, share: f64) -> bool {
    let key = text.bytes().fold(Key::new(0x6765), |key, byte| key.part(u64::from(byte)));
    (key.number() as f64) < share * u64::MAX as f64
}

fn passages(path: &Path) -> Result<BTreeMap<String, String>, DataError> {
    let read = |passage: Result<xqg_data::passage::Passage, DataError>| {
        passage.map(|p| (p.docid.clone(), p.encoder_text()))
    };
    read_passages(path, BadLines::Stop)?.map(read).collect()
}

type Parsed = (String, usize, String);

fn parse(
    row: &Value,
    langs: &[Lang],
    corpus: Option<&BTreeMap<String, String>>,
) -> Result<Parsed, Mismatch> {
    let lang: Lang = needed(row, "lang")?.parse()?;
    let place = langs.iter().position(|known| *known == lang);
    let place = place
        .ok_or_else(|| Mismatch::new("a language of the configuration's `langs`", lang.code()))?;
    Ok((source(row, corpus)?, place, needed(row, "text")?))
}

fn source(row: &Value, corpus: Option<&BTreeMap<String, String>>) -> Result<String, Mismatch> {
    if row.get("docid").is_none() {
        return needed(row, "source");
    }
    let docid = needed(row, "docid")?;
    let Some(corpus) = corpus else {
        return Err(Mismatch::new(
            "a `source`, for the task has no `corpus`",
            format!("docid {docid}"),
        ));
    };
    let found = corpus.get(&docid).cloned();
    found.ok_or_else(|| Mismatch::new("a docid of the task's corpus", docid))
}

fn needed(row: &Value, key: &str) -> Result<String, Mismatch> {
    let text = text_field(row, key)?.unwrap_or_default();
    let text = text.trim();
    if text.is_empty() {
        return Err(Mismatch::new(format!("`{key}`, a text"), "none"));
    }
    Ok(text.to_owned())
}
