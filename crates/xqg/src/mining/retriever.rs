//! Where candidates come from: an index of embeddings with its encoder, or BM25 over the words of
//! the corpus. Both know passages by row.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use xqg_data::embeddings::Side;
use xqg_data::lang::Lang;
use xqg_data::passage::Passage;
use xqg_data::query::Query;
use xqg_data::training::{Asked, FoundBy};
use xqg_index::fuse::{LangWeights, Reduce, Weight};
use xqg_index::index::Index;
use xqg_index::search::{QueryVectors, SearchOptions, search_rows};
use xqg_lexical::index::LexicalIndex;

use super::select::Ranking;
use crate::encoding::Opened;

/// A source of rankings and passages.
pub enum Retriever {
    /// Nearest embeddings; questions that were added to the index do not count.
    Vectors {
        /// The index.
        index: Box<Index>,
        /// Its encoder.
        opened: Box<Opened>,
    },
    /// Shared words, of English.
    Words(LexicalIndex),
}

/// A text whose ranking is wanted: the place of its query in the work unit, and which text it is.
pub type Ask<'a> = (usize, Asked, &'a str);

impl Retriever {
    /// What a row of the output names as its source.
    pub fn name(&self) -> FoundBy {
        match self {
            Self::Vectors { .. } => FoundBy::Index,
            Self::Words(_) => FoundBy::Bm25,
        }
    }

    /// Whether a query may be ranked as it was asked: words are matched in English only.
    pub fn ranks_question(&self, query: &Query) -> bool {
        match self {
            Self::Vectors { .. } => true,
            Self::Words(_) => query.lang.is_none_or(|lang: Lang| lang.code() == "en"),
        }
    }

    /// The number of passages.
    pub fn len(&self) -> usize {
        match self {
            Self::Vectors { index, .. } => index.len(),
            Self::Words(lexical) => lexical.len(),
        }
    }

    /// Ranks texts to a depth, and gives each query of a unit its rankings.
    pub fn rank(&self, asks: &[Ask], queries: usize, depth: usize) -> Result<Vec<Vec<Ranking>>> {
        let texts: Vec<&str> = asks.iter().map(|ask| ask.2).collect();
        let depth = depth.min(self.len());
        let hits = match self {
            Self::Vectors { index, opened } => rank_vectors(index, opened, &texts, depth)?,
            Self::Words(lexical) => lexical.search(&texts, depth)?,
        };
        let mut rankings: Vec<Vec<Ranking>> = vec![Vec::new(); queries];
        for (&(query, asked, _), hits) in asks.iter().zip(hits) {
            rankings[query].push(Ranking { asked, hits });
        }
        Ok(rankings)
    }

    /// The passages of some rows, in their order.
    pub fn passages(&self, rows: &[u32]) -> Result<Vec<Passage>> {
        Ok(match self {
            Self::Vectors { index, .. } => index.passages(rows)?,
            Self::Words(lexical) => lexical.passages(rows)?,
        })
    }

    /// The rows of some docids, as far as they are there.
    pub fn rows_of(&self, docids: &BTreeSet<&str>) -> Result<BTreeMap<String, u32>> {
        let mut rows = BTreeMap::new();
        match self {
            Self::Vectors { index, .. } => {
                let wanted = (0u32..).zip(index.ids.iter()).filter(|(_, id)| docids.contains(id));
                rows.extend(wanted.map(|(row, id)| (id.to_owned(), row)));
            }
            Self::Words(lexical) => {
                for &docid in docids {
                    rows.extend(lexical.row_of(docid)?.map(|row| (docid.to_owned(), row)));
                }
            }
        }
        Ok(rows)
    }
}

fn rank_vectors(
    index: &Index,
    opened: &Opened,
    texts: &[&str],
    k: usize,
) -> Result<Vec<Vec<(f32, u32)>>> {
    let texts: Vec<String> = texts.iter().map(|&text| text.to_owned()).collect();
    let vectors = opened.encoder.encode(Side::Query, &texts)?.vectors;
    let langs = vec![None; texts.len()];
    let options = SearchOptions {
        k,
        weights: vec![Weight::Alpha(0.0)],
        reduce: Reduce::Mean,
        renormalize: false,
        langs: LangWeights::default(),
    };
    let queries = QueryVectors { qids: &texts, langs: &langs, vectors: &vectors };
    let found = search_rows(index, queries, &options, &mut |_| {})?;
    Ok(found.into_iter().next().unwrap_or_default())
}
