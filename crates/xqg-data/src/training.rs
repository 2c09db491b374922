//! A training example: a query, the passages that answer it and passages that do not. What `mine`
//! writes and the trainer reads, one JSON object a line, plain or `.gz`.
//!
//! Three published shapes are read, told apart by their keys, also within one file: the rows of
//! Tevatron (`query_id`, `query`, `positive_passages`, `negative_passages`), of FlagEmbedding
//! (`query`, `pos`, `neg`) and of sentence-transformers (`anchor`, `positive`, `negative_1` …). We
//! write Tevatron's, with fields of our own that Tevatron passes over: the query's `lang`,
//! `answers` and `prompt`, a passage's teacher `score`, and its `source`.

mod flag_embedding;
mod sentence_transformers;
mod tevatron;

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{DataError, Mismatch, quote};
use crate::file::PartialFile;
use crate::lines::{BadLines, LineFile, MAX_TEXT_BYTES, json_object};
use crate::passage::Passage;
use crate::query::Query;

/// A query with its positives, of which there is at least one, and its negatives, none of which is
/// a positive too.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingExample {
    /// What is asked. Rows without an id get `row-N`, counted from 1 over the rows of the file.
    pub query: Query,
    /// The instruction that FlagEmbedding rows may put before their query.
    pub prompt: Option<String>,
    /// Passages that answer the query.
    pub positives: Vec<TrainingPassage>,
    /// Passages that do not, though they may look as if they did.
    pub negatives: Vec<TrainingPassage>,
}

/// A passage of an example.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingPassage {
    /// Docid, title and text. Where the file names no docid it is made from the text, so that equal
    /// passages of different rows are known to be equal.
    pub passage: Passage,
    /// What a teacher gives this passage for the query, for distillation; finite.
    pub score: Option<f32>,
    /// How the passage was found, where that is known.
    pub source: Option<PassageSource>,
}

impl TrainingPassage {
    /// A passage without a score, from nowhere in particular.
    pub fn new(passage: Passage) -> Self {
        Self { passage, score: None, source: None }
    }
}

/// How a passage of an example was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PassageSource {
    /// What says that it belongs there.
    pub by: FoundBy,
    /// The text whose ranking it was found in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Asked>,
    /// Its rank there, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<u32>,
    /// Its score there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f32>,
    /// The answer that a positive holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
}

/// What found a passage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum FoundBy {
    /// A judgment.
    Qrels,
    /// The ranking of an index of embeddings.
    Index,
    /// A ranking by words.
    Bm25,
}

/// The text that a ranking was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Asked {
    /// The query as it was asked.
    Question,
    /// Its translation.
    Translation,
}

/// Streams the examples of a file of any of the three shapes. A row without a positive, or with a
/// passage that is positive and negative at once, is a bad line.
///
/// # Errors
/// When the file cannot be opened; a bad line is an error of the iterator.
pub fn stream_examples(
    path: &Path,
    policy: BadLines,
) -> Result<LineFile<TrainingExample>, DataError> {
    let mut row = 0u64;
    let parse = move |line: &str| {
        row += 1;
        parse_example(&json_object(line)?, row)
    };
    LineFile::open(path, policy, Box::new(parse))
}

/// Reads all examples of a file, in its order.
///
/// # Errors
/// On bad lines, or when there is no example at all.
pub fn read_examples(path: &Path) -> Result<Vec<TrainingExample>, DataError> {
    let examples: Vec<_> = stream_examples(path, BadLines::Stop)?.collect::<Result<_, _>>()?;
    if examples.is_empty() {
        return Err(DataError::unexpected(path, "at least one training example", "none"));
    }
    Ok(examples)
}

/// Reads one example from a JSON object of any of the three shapes; `row` names it where it has no
/// id.
///
/// # Errors
/// When the keys are of no known shape, a value is not what it must be, no positive is there, or a
/// passage is positive and negative at once.
pub fn parse_example(object: &Value, row: u64) -> Result<TrainingExample, Mismatch> {
    let example = if object.get("positive_passages").is_some() {
        tevatron::parse(object)?
    } else if object.get("pos").is_some() {
        flag_embedding::parse(object, row)?
    } else if sentence_transformers::matches(object) {
        sentence_transformers::parse(object, row)?
    } else {
        return Err(unknown_shape(object));
    };
    check(example)
}

fn unknown_shape(object: &Value) -> Mismatch {
    let expected =
        "`query` with `positive_passages` or `pos`, or `anchor` with `positive`, and their values";
    let keys: Vec<&str> = object.as_object().into_iter().flatten().map(|(k, _)| &**k).collect();
    let found = if keys.is_empty() { "no key".to_owned() } else { quote(&keys.join(", ")) };
    Mismatch::new(expected, found)
}

fn check(example: TrainingExample) -> Result<TrainingExample, Mismatch> {
    let qid = &example.query.qid;
    if example.positives.is_empty() {
        return Err(Mismatch::new("at least one positive", format!("none for `{qid}`")));
    }
    let docid = |p: &TrainingPassage| p.passage.docid.clone();
    let positives: BTreeSet<String> = example.positives.iter().map(docid).collect();
    match example.negatives.iter().map(docid).find(|id| positives.contains(id)) {
        Some(both) => {
            let found = format!("{} among both for `{qid}`", quote(&both));
            Err(Mismatch::new("negatives that are no positives", found))
        }
        None => Ok(example),
    }
}

/// Writes one example as one line, in Tevatron's shape.
///
/// # Errors
/// What the writer refuses.
pub fn write_example(out: &mut impl Write, example: &TrainingExample) -> io::Result<()> {
    let line = tevatron::render(example);
    out.write_all(line.as_bytes())?;
    out.write_all(b"\n")
}

/// Writes a file of examples, compressed where its name ends in `.gz`.
///
/// # Errors
/// When the file cannot be written; an earlier file of that name is then untouched.
pub fn write_examples<'a>(
    path: &Path,
    examples: impl IntoIterator<Item = &'a TrainingExample>,
) -> Result<(), DataError> {
    let mut file = PartialFile::create(path)?;
    let written = if path.extension().is_some_and(|e| e == "gz") {
        let mut gz = GzEncoder::new(&mut file, Compression::default());
        examples
            .into_iter()
            .try_for_each(|e| write_example(&mut gz, e))
            .and_then(|()| gz.finish().map(|_| ()))
    } else {
        examples.into_iter().try_for_each(|e| write_example(&mut file, e))
    };
    written.map_err(DataError::io("writing", path))?;
    file.commit()
}

/// The query of a row: what all shapes have in common.
fn query(object: &Value, qid: String, text_key: &str) -> Result<Query, Mismatch> {
    let text = crate::lines::text_field(object, text_key)?.unwrap_or_default();
    if text.trim().is_empty() {
        return Err(Mismatch::new(format!("a `{text_key}`"), format!("`{qid}` without one")));
    }
    let lang = crate::query::lang_field(object)?;
    Ok(Query { qid, lang, text, answers: crate::query::answers_field(object)? })
}

/// The id of a row whose shape does not ask for one.
fn id_or_row(object: &Value, row: u64) -> Result<String, Mismatch> {
    for key in ["query_id", "id", "_id"] {
        if object.get(key).is_some_and(|v| !v.is_null()) {
            return crate::lines::id_field(object, key);
        }
    }
    Ok(format!("row-{row}"))
}

/// A passage that is only a text; its docid is 128 bits of a hash of it.
fn bare_passage(value: &Value, key: &str) -> Result<TrainingPassage, Mismatch> {
    let found = || quote(&value.to_string());
    let expected = || format!("a text that is not blank in `{key}`");
    let text = value.as_str().ok_or_else(|| Mismatch::new(expected(), found()))?;
    if text.trim().is_empty() {
        return Err(Mismatch::new(expected(), found()));
    }
    check_text(text, key)?;
    Ok(TrainingPassage::new(Passage {
        docid: text_docid(text),
        title: String::new(),
        text: text.to_owned(),
    }))
}

fn text_docid(text: &str) -> String {
    format!("text-{:032x}", xxhash_rust::xxh3::xxh3_128(text.as_bytes()))
}

fn check_text(text: &str, key: &str) -> Result<(), Mismatch> {
    if text.contains('\0') {
        return Err(Mismatch::new(format!("`{key}` as text"), "a NUL character in it"));
    }
    if text.len() > MAX_TEXT_BYTES {
        let found = format!("{:.1} MB", text.len() as f64 / 1e6);
        return Err(Mismatch::new(format!("`{key}` of at most 1 MiB"), found));
    }
    Ok(())
}

/// A score: a number that fits single precision.
fn number(value: &Value, key: &str) -> Result<f32, Mismatch> {
    match value.as_f64().map(|n| n as f32) {
        Some(n) if n.is_finite() => Ok(n),
        _ => Err(Mismatch::new(format!("finite numbers in `{key}`"), quote(&value.to_string()))),
    }
}

/// A list field; absent or null is `None`.
fn list<'a>(object: &'a Value, key: &str) -> Result<Option<&'a Vec<Value>>, Mismatch> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(list)) => Ok(Some(list)),
        Some(other) => Err(Mismatch::new(format!("`{key}`, a list"), quote(&other.to_string()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(line: &str) -> Result<TrainingExample, Mismatch> {
        parse_example(&json_object(line)?, 7)
    }

    #[test]
    fn rows_without_a_positive_or_of_no_shape_are_named() {
        for (line, word) in [
            (r#"{"query_id":"1","query":"q","positive_passages":[]}"#, "none for `1`"),
            (r#"{"query":"q","pos":[],"neg":["n"]}"#, "none for `row-7`"),
            (r#"{"query":"q","pos":["same"],"neg":["n","same"]}"#, "among both for `row-7`"),
            (r#"{"query":"q","neg":["n"]}"#, "`query, neg`"),
            (r#"{"anchor":"a","positive":"p","negative":"p"}"#, "among both"),
            (r#"{"anchor":"a","positive":" "}"#, "a text that is not blank in `positive`"),
            (r#"{"anchor":" ","positive":"p"}"#, "a `anchor`"),
            (r#"{}"#, "no key"),
        ] {
            let m = parse(line).unwrap_err();
            let text = format!("{} {}", m.expected, m.found);
            assert!(text.contains(word), "{line}: {text}");
        }
    }

    #[test]
    fn a_file_without_an_example_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.jsonl");
        std::fs::write(&path, "\n").unwrap();
        let error = read_examples(&path).unwrap_err().to_string();
        assert!(error.contains("at least one training example"), "{error}");
        std::fs::write(&path, "{\"query\":\"q\",\"pos\":[]}\n{\"query\":\"q\",\"pos\":[1]}\n")
            .unwrap();
        let error = read_examples(&path).unwrap_err().to_string();
        assert!(error.contains("line 1: ") && error.contains("line 2: "), "{error}");
    }

    #[test]
    fn shapes_may_be_mixed_in_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.jsonl");
        let rows = [
            r#"{"anchor":"a","positive":"p"}"#,
            "",
            r#"{"query":"q","pos":["p"],"neg":["n"]}"#,
            r#"{"query_id":5,"query":"q","positive_passages":[{"docid":"d","text":"t"}]}"#,
        ];
        std::fs::write(&path, rows.join("\n")).unwrap();
        let examples = read_examples(&path).unwrap();
        let qids: Vec<&str> = examples.iter().map(|e| e.query.qid.as_str()).collect();
        assert_eq!(qids, ["row-1", "row-2", "5"]);
        let [a, b] = [0, 1].map(|i| &examples[i].positives[0].passage);
        assert_eq!(a, b, "one text is one passage");
    }

    fn source() -> impl Strategy<Value = PassageSource> {
        let by = prop_oneof![Just(FoundBy::Qrels), Just(FoundBy::Index), Just(FoundBy::Bm25)];
        let asked = prop_oneof![Just(Asked::Question), Just(Asked::Translation)];
        let found = (by, proptest::option::of(asked), proptest::option::of(1u32..1000));
        let score = proptest::option::of(-1e3f32..1e3);
        (found, score, proptest::option::of(".{0,5}")).prop_map(
            |((by, asked, rank), score, answer)| {
                let answer = answer.map(|a: String| a.replace('\0', ""));
                PassageSource { by, asked, rank, score, answer }
            },
        )
    }

    fn passages(name: &'static str, least: usize) -> impl Strategy<Value = Vec<TrainingPassage>> {
        let texts = ("[^\0]{0,6}", "[^\0]{0,10}x");
        let one = (texts, proptest::option::of(-9f32..9.0), proptest::option::of(source()));
        proptest::collection::vec(one, least..4).prop_map(move |all| {
            let passage = |(i, ((title, text), score, source)): (usize, _)| TrainingPassage {
                passage: Passage { docid: format!("{name}{i}"), title, text },
                score,
                source,
            };
            all.into_iter().enumerate().map(passage).collect()
        })
    }

    proptest! {
        #[test]
        fn examples_survive_the_disk(
            text in "[^\0]{0,10}\\?",
            answers in proptest::collection::vec("[^\0]{0,4}", 0..3),
            prompt in proptest::option::of("[^\0]{0,4}"),
            positives in passages("p", 1),
            negatives in passages("n", 0),
        ) {
            let lang = Some("te".parse().unwrap());
            let query = Query { qid: "q1".into(), lang, text, answers };
            let example = TrainingExample { query, prompt, positives, negatives };
            let folder = tempfile::tempdir().unwrap();
            for name in ["t.jsonl", "t.jsonl.gz"] {
                let path = folder.path().join(name);
                write_examples(&path, [&example, &example]).unwrap();
                let back = read_examples(&path).unwrap();
                prop_assert_eq!(&back, &[example.clone(), example.clone()]);
            }
        }

        #[test]
        fn no_line_makes_the_reader_panic(
            key in "query|pos|neg|anchor|positive|positive_passages|pos_scores|label",
            value in "null|1|\"x\"|\\[\\]|\\[1\\]|\\[\"a\",\"b\"\\]|\\{\\}|\\[\\{\"docid\":\"d\"\\}\\]",
        ) {
            let line = format!(
                r#"{{"query":"q","pos":["a"],"anchor":"a","positive":"p","{key}":{value}}}"#
            );
            let _ = parse(&line);
        }
    }
}
