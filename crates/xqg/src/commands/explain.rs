//! Why did this match: for a hit, the attached question that is nearest to the query, and its
//! language. The questions' vectors were never stored, so the few that are asked about are encoded
//! again.

use std::fmt;

use anyhow::Result;
use serde::Serialize;
use xqg_data::embeddings::Side;
use xqg_data::lang::Lang;
use xqg_index::fuse::LangWeights;
use xqg_index::index::Index;
use xqg_index::search::dot;
use xqg_index::unit::Question;

use crate::encoding::Opened;

/// Explains hits of one index.
pub struct Explainer<'a> {
    index: &'a Index,
    encoder: Option<&'a Opened>,
    langs: &'a LangWeights,
}

/// The query whose hits are explained.
#[derive(Clone, Copy)]
pub struct Asker<'a> {
    /// Its embedding.
    pub vector: &'a [f32],
    /// Its language.
    pub lang: Option<Lang>,
}

/// A hit as it is printed.
#[derive(Debug, Serialize)]
pub struct Shown {
    /// From 1.
    pub rank: usize,
    /// The passage.
    pub docid: String,
    /// Its fused score.
    pub score: f32,
    /// Its title.
    pub title: String,
    /// Its text.
    pub text: String,
    /// The question that speaks for it, where asked for and where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub because: Option<Because>,
}

/// The attached question nearest to the query.
#[derive(Debug, Serialize)]
pub struct Because {
    /// The question.
    pub question: String,
    /// Its language.
    pub lang: Lang,
    /// The product of its embedding with the query's.
    pub score: f32,
}

impl<'a> Explainer<'a> {
    /// The length of an embedding.
    pub fn dim(&self) -> usize {
        self.index.dim()
    }

    /// With an encoder hits are explained, without one only shown. Only questions that count in the
    /// search can be a reason.
    pub fn new(index: &'a Index, encoder: Option<&'a Opened>, langs: &'a LangWeights) -> Self {
        Self { index, encoder, langs }
    }

    /// The texts of some hits of one query, each with its nearest question.
    pub fn show(&self, hits: &[(f32, u32)], asker: Asker) -> Result<Vec<Shown>> {
        let rows: Vec<u32> = hits.iter().map(|hit| hit.1).collect();
        let passages = self.index.passages(&rows)?;
        let questions = match self.encoder {
            Some(_) => self.index.questions(&rows)?,
            None => rows.iter().map(|_| Vec::new()).collect(),
        };
        let mut shown = Vec::with_capacity(hits.len());
        for (i, (passage, questions)) in passages.into_iter().zip(questions).enumerate() {
            let because = self.nearest(questions, asker)?;
            let (rank, score) = (i + 1, hits[i].0);
            let (docid, title, text) = (passage.docid, passage.title, passage.text);
            shown.push(Shown { rank, docid, score, title, text, because });
        }
        Ok(shown)
    }

    fn nearest(
        &self,
        mut questions: Vec<(Side, Question)>,
        asker: Asker,
    ) -> Result<Option<Because>> {
        let Some(opened) = self.encoder else { return Ok(None) };
        questions.retain(|(_, q)| self.langs.weight(q.lang, asker.lang) > 0.0);
        let mut best: Option<Because> = None;
        for side in [Side::Query, Side::Passage] {
            let own: Vec<&Question> =
                questions.iter().filter(|(s, _)| *s == side).map(|(_, q)| q).collect();
            let texts: Vec<String> = own.iter().map(|q| q.text.clone()).collect();
            let vectors = opened.encoder.encode(side, &texts)?.vectors;
            for (q, vector) in own.iter().zip(vectors.chunks_exact(asker.vector.len())) {
                let score = dot(vector, asker.vector);
                if best.as_ref().is_none_or(|b| score > b.score) {
                    best = Some(Because { question: q.text.clone(), lang: q.lang, score });
                }
            }
        }
        Ok(best)
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rank, docid, score, title, .. } = self;
        writeln!(f, "{rank:>3}. {score:.4}  {docid}  {title}")?;
        write!(f, "     {}", snippet(&self.text))?;
        if let Some(because) = &self.because {
            write!(f, "\n     matched because [{}] {}", because.lang, because.question)?;
        }
        Ok(())
    }
}

/// The beginning of a text, cut at a word.
fn snippet(text: &str) -> String {
    const LENGTH: usize = 160;
    if text.chars().count() <= LENGTH {
        return text.to_owned();
    }
    let start: String = text.chars().take(LENGTH).collect();
    let cut = start.rfind(char::is_whitespace).unwrap_or(start.len());
    format!("{} …", start[..cut].trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snippets_end_at_a_word() {
        let long = "palabra ".repeat(40);
        assert!(snippet(&long).ends_with("palabra …") && snippet(&long).len() < 170);
        assert_eq!(snippet("kurz"), "kurz");
    }
}
