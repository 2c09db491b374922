//! sentence-transformers' rows: one text a column. `anchor` (or `query`, `question`) with
//! `positive` and any of `negative`, `negative_1`, `negative_2` …; or a pair `sentence1`,
//! `sentence2` with a `score` above 0, which makes the second a positive of the first.
//!
//! A number `score` or `label` beside a positive alone is the teacher's score of the pair. Beside
//! negatives it is what that library's margin losses read: one number is the margin of the positive
//! over the negative; a list has a margin for each negative, or with one number more the score of
//! the positive and then of each negative. Only differences count there, so margins become scores
//! below a positive of 0.

use serde_json::Value;

use super::{TrainingExample, TrainingPassage, bare_passage, id_or_row, number, query};
use crate::error::{Mismatch, quote};
use crate::lines::text_field;

const ANCHORS: [&str; 3] = ["anchor", "query", "question"];

/// Whether an object's keys are of this shape.
pub fn matches(object: &Value) -> bool {
    let has = |key: &str| object.get(key).is_some_and(|v| !v.is_null());
    ANCHORS.iter().any(|key| has(key)) && has("positive") || has("sentence1") && has("sentence2")
}

/// Reads one row.
pub fn parse(object: &Value, row: u64) -> Result<TrainingExample, Mismatch> {
    let qid = id_or_row(object, row)?;
    let anchor = ANCHORS.into_iter().find(|key| object.get(key).is_some());
    let (anchor, positive) = match anchor.filter(|_| object.get("positive").is_some()) {
        Some(anchor) => (anchor, "positive"),
        None => ("sentence1", "sentence2"),
    };
    let query = query(object, qid, anchor)?;
    let positives = vec![bare_passage(&object[positive], positive)?];
    let negatives = negatives(object)?;
    let prompt = text_field(object, "prompt")?;
    let mut example = TrainingExample { query, prompt, positives, negatives };
    give_scores(&mut example, object)?;
    if positive == "sentence2" && example.positives[0].score.is_none_or(|s| s <= 0.0) {
        let found = quote(&object.get("score").unwrap_or(&Value::Null).to_string());
        return Err(Mismatch::new("a `score` above 0 beside `sentence1` and `sentence2`", found));
    }
    Ok(example)
}

/// The negatives in the order of their numbers; the one without a number comes first.
fn negatives(object: &Value) -> Result<Vec<TrainingPassage>, Mismatch> {
    let numbered = |key: &String| match key.strip_prefix("negative")? {
        "" => Some(0u32),
        rest => rest.strip_prefix('_')?.parse().ok(),
    };
    let keys = object.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    let mut found: Vec<(u32, &String, &Value)> =
        keys.filter_map(|(key, value)| Some((numbered(key)?, key, value))).collect();
    found.sort_by_key(|(number, key, _)| (*number, *key));
    found.into_iter().map(|(_, key, value)| bare_passage(value, key)).collect()
}

fn give_scores(example: &mut TrainingExample, object: &Value) -> Result<(), Mismatch> {
    let has = |key: &&str| object.get(*key).is_some_and(|v| !v.is_null());
    let Some(key) = ["score", "label"].into_iter().find(has) else { return Ok(()) };
    let single = std::slice::from_ref(&object[key]);
    let values = object[key].as_array().map_or(single, Vec::as_slice);
    let values: Vec<f32> = values.iter().map(|v| number(v, key)).collect::<Result<_, _>>()?;
    let wanted = example.negatives.len();
    let scores = if values.len() == wanted + 1 {
        values
    } else if values.len() == wanted {
        std::iter::once(0.0).chain(values.iter().map(|margin| -margin)).collect()
    } else {
        let expected = format!("{wanted} margins or {} scores in `{key}`", wanted + 1);
        return Err(Mismatch::new(expected, values.len().to_string()));
    };
    let passages = example.positives.iter_mut().chain(&mut example.negatives);
    passages.zip(scores).for_each(|(passage, score)| passage.score = Some(score));
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::lines::json_object;
    use crate::training::{TrainingExample, TrainingPassage, parse_example};

    const ROWS: &str = include_str!("../../tests/fixtures/training/sentence_transformers.jsonl");

    fn rows() -> Vec<TrainingExample> {
        ROWS.lines().map(|line| parse_example(&json_object(line).unwrap(), 1).unwrap()).collect()
    }

    fn texts(passages: &[TrainingPassage]) -> Vec<&str> {
        passages.iter().map(|p| p.passage.text.as_str()).collect()
    }

    fn scores(example: &TrainingExample) -> Vec<Option<f32>> {
        example.positives.iter().chain(&example.negatives).map(|p| p.score).collect()
    }

    #[test]
    fn columns_become_positives_and_negatives() {
        let rows = rows();
        assert_eq!(rows[0].query.text, "Who sailed first?");
        assert_eq!(texts(&rows[0].positives), ["Leif sailed first."]);
        assert_eq!(texts(&rows[1].negatives), ["n one", "n two", "n ten"]);
        assert_eq!(texts(&rows[2].negatives), ["only one"]);
    }

    #[test]
    fn scores_margins_and_pairs_are_told_apart() {
        let rows = rows();
        assert_eq!(scores(&rows[0]), [None]);
        assert_eq!(scores(&rows[2]), [Some(0.0), Some(-4.5)], "one margin");
        assert_eq!(scores(&rows[3]), [Some(9.0), Some(2.0), Some(-1.0)], "all scores");
        assert_eq!(scores(&rows[4]), [Some(0.8)], "a pair with a score");
        assert_eq!(rows[4].query.text, "A plane is taking off.");
        assert_eq!(scores(&rows[5]), [Some(-3.0)], "an anchor's positive may score below 0");
    }

    #[test]
    fn wrong_rows_are_named() {
        for (line, word) in [
            (r#"{"sentence1":"a","sentence2":"b"}"#, "a `score` above 0"),
            (r#"{"sentence1":"a","sentence2":"b","score":0}"#, "a `score` above 0"),
            (r#"{"anchor":"a","positive":"b","negative":"c","label":[1,2,3]}"#, "1 margins or 2"),
            (r#"{"anchor":"a","positive":"b","label":"yes"}"#, "finite numbers in `label`"),
            (r#"{"anchor":"a","positive":["b"]}"#, "a text that is not blank in `positive`"),
            (r#"{"anchor":"a","positive":"b","negative_2":5}"#, "not blank in `negative_2`"),
        ] {
            let m = parse_example(&json_object(line).unwrap(), 1).unwrap_err();
            assert!(m.expected.contains(word), "{line}: {}", m.expected);
        }
    }
}
