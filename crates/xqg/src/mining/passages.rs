//! Passages that were read and tokenized, kept from one work unit to the next as far as memory
//! allows: rankings of different queries meet in the same passages.

use std::collections::BTreeMap;

use anyhow::Result;
use rayon::prelude::*;

use super::answers::ReadPassage;
use super::retriever::Retriever;

/// The most passages kept for the next unit: about 200 MB of Wikipedia's.
const KEPT: usize = 1 << 16;

/// Passages by row.
#[derive(Debug, Default)]
pub struct Passages(BTreeMap<u32, ReadPassage>);

impl Passages {
    /// Reads those of these rows that are not there yet.
    pub fn load(&mut self, retriever: &Retriever, mut rows: Vec<u32>) -> Result<()> {
        if self.0.len() > KEPT {
            self.0.clear();
        }
        rows.sort_unstable();
        rows.dedup();
        rows.retain(|row| !self.0.contains_key(row));
        let passages = retriever.passages(&rows)?;
        let read = rows.into_par_iter().zip(passages).map(|(row, p)| (row, ReadPassage::new(p)));
        self.0.extend(read.collect::<Vec<_>>());
        Ok(())
    }

    /// A passage that was loaded.
    ///
    /// # Panics
    /// When it was not: a bug of the caller.
    pub fn get(&self, row: u32) -> &ReadPassage {
        self.0.get(&row).expect("loaded with its unit")
    }
}
