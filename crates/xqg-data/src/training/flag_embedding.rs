//! FlagEmbedding's rows: `query`, `pos` and `neg` as lists of texts, optional `pos_scores` and
//! `neg_scores` of a teacher beside them, and an optional `prompt`.

use serde_json::Value;

use super::{TrainingExample, TrainingPassage, bare_passage, id_or_row, list, number, query};
use crate::error::Mismatch;
use crate::lines::text_field;

/// Reads one row.
pub fn parse(object: &Value, row: u64) -> Result<TrainingExample, Mismatch> {
    Ok(TrainingExample {
        query: query(object, id_or_row(object, row)?, "query")?,
        prompt: text_field(object, "prompt")?.filter(|p| !p.is_empty()),
        positives: scored(object, "pos", "pos_scores")?,
        negatives: scored(object, "neg", "neg_scores")?,
    })
}

fn scored(object: &Value, key: &str, score_key: &str) -> Result<Vec<TrainingPassage>, Mismatch> {
    let texts = list(object, key)?.map(Vec::as_slice).unwrap_or_default();
    let mut passages: Vec<TrainingPassage> =
        texts.iter().map(|text| bare_passage(text, key)).collect::<Result<_, _>>()?;
    let Some(scores) = list(object, score_key)? else { return Ok(passages) };
    if scores.len() != passages.len() {
        let expected = format!("as many `{score_key}` as `{key}`: {}", passages.len());
        return Err(Mismatch::new(expected, scores.len().to_string()));
    }
    for (passage, score) in passages.iter_mut().zip(scores) {
        passage.score = Some(number(score, score_key)?);
    }
    Ok(passages)
}

#[cfg(test)]
mod tests {
    use crate::lines::json_object;
    use crate::training::{TrainingExample, parse_example};

    const ROWS: &str = include_str!("../../tests/fixtures/training/flag_embedding.jsonl");

    fn rows() -> Vec<TrainingExample> {
        let parse = |(i, line)| parse_example(&json_object(line).unwrap(), i as u64 + 1).unwrap();
        ROWS.lines().enumerate().map(parse).collect()
    }

    #[test]
    fn scores_and_prompts_are_kept() {
        let rows = rows();
        assert_eq!((rows[0].query.qid.as_str(), rows[0].prompt.as_deref()), ("row-1", None));
        assert_eq!((rows[0].positives.len(), rows[0].negatives.len()), (2, 1));
        assert_eq!(rows[1].prompt.as_deref(), Some("Find a passage: "));
        assert_eq!(rows[1].positives[0].score, Some(0.93));
        let scores: Vec<Option<f32>> = rows[1].negatives.iter().map(|n| n.score).collect();
        assert_eq!(scores, [Some(-1.5), Some(0.25)]);
        assert_eq!(rows[2].query.qid, "own-id");
    }

    #[test]
    fn scores_must_pair_with_texts() {
        for (part, word) in [
            (r#""pos_scores":[1,2]"#, "as many `pos_scores` as `pos`: 1"),
            (r#""pos_scores":["x"]"#, "finite numbers in `pos_scores`"),
            (r#""neg":"n""#, "`neg`, a list"),
            (r#""neg":[3]"#, "a text that is not blank in `neg`"),
        ] {
            let line = format!(r#"{{"query":"q","pos":["p"],{part}}}"#);
            let m = parse_example(&json_object(&line).unwrap(), 1).unwrap_err();
            assert_eq!(m.expected, word, "{part}");
        }
    }
}
