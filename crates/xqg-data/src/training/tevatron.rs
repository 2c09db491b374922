//! Tevatron's rows: `query_id`, `query`, `positive_passages` and `negative_passages`, each passage
//! with `docid`, `title` and `text`. Also the one shape that we write.

use serde::{Deserialize as _, Serialize};
use serde_json::Value;

use super::{PassageSource, TrainingExample, TrainingPassage, list, number, query, text_docid};
use crate::error::{Mismatch, quote};
use crate::lang::Lang;
use crate::lines::{id_field, text_field};
use crate::passage::Passage;

/// Reads one row.
pub fn parse(object: &Value) -> Result<TrainingExample, Mismatch> {
    let qid = id_field(object, "query_id")?;
    Ok(TrainingExample {
        query: query(object, qid, "query")?,
        prompt: text_field(object, "prompt")?,
        positives: passages(object, "positive_passages")?,
        negatives: passages(object, "negative_passages")?,
    })
}

fn passages(object: &Value, key: &str) -> Result<Vec<TrainingPassage>, Mismatch> {
    let rows = list(object, key)?.map(Vec::as_slice).unwrap_or_default();
    rows.iter().map(|row| passage(row, key)).collect()
}

fn passage(row: &Value, key: &str) -> Result<TrainingPassage, Mismatch> {
    if !row.is_object() {
        let expected = format!("passages with `docid`, `title`, `text` in `{key}`");
        return Err(Mismatch::new(expected, quote(&row.to_string())));
    }
    let title = text_field(row, "title")?.unwrap_or_default();
    let text = text_field(row, "text")?.unwrap_or_default();
    if title.trim().is_empty() && text.trim().is_empty() {
        let expected = format!("a `title` or a `text` in each of `{key}`");
        return Err(Mismatch::new(expected, quote(&row.to_string())));
    }
    let docid = match row.get("docid") {
        None | Some(Value::Null) => text_docid(&format!("{title}\n{text}")),
        Some(_) => id_field(row, "docid")?,
    };
    let score = row.get("score").filter(|s| !s.is_null());
    let score = score.map(|s| number(s, "score")).transpose()?;
    Ok(TrainingPassage { passage: Passage { docid, title, text }, score, source: source(row)? })
}

fn source(row: &Value) -> Result<Option<PassageSource>, Mismatch> {
    let Some(value) = row.get("source").filter(|s| s.is_object()) else { return Ok(None) };
    let wrong = |_| {
        let expected = "`source` with `by` (qrels, index, bm25) and numbers as rank and score";
        Mismatch::new(expected, quote(&value.to_string()))
    };
    PassageSource::deserialize(value).map(Some).map_err(wrong)
}

#[derive(Serialize)]
struct Row<'a> {
    query_id: &'a str,
    query: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    lang: Option<Lang>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    answers: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt: Option<&'a str>,
    positive_passages: Vec<PassageRow<'a>>,
    negative_passages: Vec<PassageRow<'a>>,
}

#[derive(Serialize)]
struct PassageRow<'a> {
    docid: &'a str,
    title: &'a str,
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'a PassageSource>,
}

/// Renders one row, without a line end.
pub fn render(example: &TrainingExample) -> String {
    let query = &example.query;
    let row = Row {
        query_id: &query.qid,
        query: &query.text,
        lang: query.lang,
        answers: &query.answers,
        prompt: example.prompt.as_deref(),
        positive_passages: example.positives.iter().map(passage_row).collect(),
        negative_passages: example.negatives.iter().map(passage_row).collect(),
    };
    serde_json::to_string(&row).expect("a row is plain data")
}

fn passage_row(p: &TrainingPassage) -> PassageRow<'_> {
    let Passage { docid, title, text } = &p.passage;
    PassageRow { docid, title, text, score: p.score, source: p.source.as_ref() }
}

#[cfg(test)]
mod tests {
    use crate::lines::json_object;
    use crate::training::{FoundBy, TrainingExample, parse_example};

    const ROWS: &str = include_str!("../../tests/fixtures/training/tevatron.jsonl");

    fn rows() -> Vec<TrainingExample> {
        ROWS.lines().map(|line| parse_example(&json_object(line).unwrap(), 1).unwrap()).collect()
    }

    #[test]
    fn published_rows_and_our_own_are_read() {
        let rows = rows();
        assert_eq!(rows[0].query.qid, "1185869");
        assert_eq!((rows[0].positives.len(), rows[0].negatives.len()), (1, 2));
        assert_eq!(rows[0].positives[0].passage.encoder_text(), "Knots Speed at sea is in knots.");
        let ours = &rows[1];
        assert_eq!(ours.query.lang.unwrap().code(), "fi");
        assert_eq!(ours.query.answers, ["1912"]);
        let source = ours.positives[0].source.as_ref().unwrap();
        assert_eq!((source.by, source.rank), (FoundBy::Index, Some(3)));
        assert_eq!(ours.negatives[0].score, Some(-2.5));
    }

    #[test]
    fn a_passage_without_a_docid_is_known_by_its_text() {
        let rows = rows();
        let ids: Vec<&str> = rows[2].positives.iter().map(|p| p.passage.docid.as_str()).collect();
        assert!(ids[0].starts_with("text-") && ids[0] == ids[1] && ids[0] != ids[2], "{ids:?}");
    }

    #[test]
    fn wrong_passages_are_named() {
        for (passage, word) in [
            (r#""text only""#, "passages with `docid`"),
            (r#"{"docid":"d"}"#, "a `title` or a `text`"),
            (r#"{"docid":"a b","text":"t"}"#, "without white space"),
            (r#"{"docid":"d","text":"t","score":"high"}"#, "finite numbers in `score`"),
            (r#"{"docid":"d","text":"t","score":1e300}"#, "finite numbers in `score`"),
            (r#"{"docid":"d","text":"t","source":{"by":"luck"}}"#, "`source` with `by`"),
        ] {
            let line = format!(r#"{{"query_id":"1","query":"q","positive_passages":[{passage}]}}"#);
            let m = parse_example(&json_object(&line).unwrap(), 1).unwrap_err();
            assert!(m.expected.contains(word), "{passage}: {}", m.expected);
        }
    }
}
