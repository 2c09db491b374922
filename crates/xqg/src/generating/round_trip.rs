//! The round trip: a question is worth keeping if the retriever finds its passage with it, among all
//! passages and without any questions' help. Doc2Query-- (Gospodinov, MacAvaney and Macdonald, ECIR
//! 2023) filters by a relevance model and keeps a share of all questions; here the share is of each
//! language, for similarities of different languages are not comparable.

use anyhow::{Result, bail};
use xqg_data::embeddings::Side;
use xqg_data::passage::Passage;
use xqg_index::fuse::{LangWeights, Reduce, Weight};
use xqg_index::index::Index;
use xqg_index::search::{QueryVectors, SearchOptions, search_rows};

use super::gate::Block;
use super::judged::{Judged, Reason};
use crate::encoding::Opened;

/// A retriever that is asked.
pub struct RoundTrip<'a> {
    index: &'a Index,
    opened: &'a Opened,
    within: usize,
    /// Rows in the order of their docids, to find a docid's row.
    by_docid: Vec<u32>,
}

impl<'a> RoundTrip<'a> {
    /// A round trip through an index: a passage has to be among the first `within`.
    pub fn new(index: &'a Index, opened: &'a Opened, within: usize) -> Self {
        let within = within.min(index.len());
        Self { index, opened, within, by_docid: sorted_rows(index) }
    }

    /// The row of a docid.
    ///
    /// # Errors
    /// When the index does not have it.
    pub fn row(&self, docid: &str) -> Result<u32> {
        row_of(self.index, &self.by_docid, docid)
    }

    /// The passages of some docids, in their order.
    ///
    /// # Errors
    /// When the index does not have one, or its file is damaged.
    pub fn passages(&self, docids: &[&str]) -> Result<Vec<Passage>> {
        let rows = docids.iter().map(|docid| self.row(docid)).collect::<Result<Vec<u32>>>()?;
        Ok(self.index.passages(&rows)?)
    }

    /// Ranks for each question that passes its own passage, and rejects those that are too far down.
    ///
    /// # Errors
    /// When a passage is not in the index, or the encoder fails.
    pub fn judge(&self, blocks: &mut [Block]) -> Result<()> {
        let mut passing: Vec<&mut Judged> = blocks
            .iter_mut()
            .flat_map(|(_, block)| block.iter_mut())
            .filter(|judged| judged.reason.is_none())
            .collect();
        let texts: Vec<String> = passing.iter().map(|j| j.question.text.clone()).collect();
        let vectors = self.opened.encoder.encode(Side::Query, &texts)?.vectors;
        let langs = vec![None; texts.len()];
        let queries = QueryVectors { qids: &texts, langs: &langs, vectors: &vectors };
        let found = search_rows(self.index, queries, &self.options(), &mut |_| ())?;
        let rankings = found.into_iter().next().unwrap_or_default();
        for (judged, hits) in passing.iter_mut().zip(rankings) {
            let row = self.row(&judged.question.docid)?;
            match hits.iter().position(|hit| hit.1 == row) {
                Some(place) => judged.found(place + 1, hits[place].0),
                None => judged.reject(Reason::RoundTrip),
            }
        }
        Ok(())
    }

    fn options(&self) -> SearchOptions {
        SearchOptions {
            k: self.within,
            weights: vec![Weight::Alpha(0.0)],
            reduce: Reduce::Mean,
            renormalize: false,
            langs: LangWeights::default(),
        }
    }
}

/// An index's rows in the order of their docids.
pub fn sorted_rows(index: &Index) -> Vec<u32> {
    let mut rows: Vec<u32> = (0u32..).take(index.len()).collect();
    rows.sort_by(|a, b| index.ids.get(*a).cmp(index.ids.get(*b)));
    rows
}

/// The row of a docid, among rows in the order of their docids.
///
/// # Errors
/// When the index does not have it.
pub fn row_of(index: &Index, sorted: &[u32], docid: &str) -> Result<u32> {
    match sorted.binary_search_by(|row| index.ids.get(*row).cmp(docid)) {
        Ok(at) => Ok(sorted[at]),
        Err(_) => bail!(
            "asking {}: expected the passages of the questions, found none with the docid `{docid}`\n\
             hint: build the index from the passages that the questions are for",
            index.folder().display()
        ),
    }
}
