//! What a run learns from: rows with their passages, or questions over a whole corpus. The trainer
//! asks for the next batch and for the held-out rankings, and need not know which it is.

use xqg_kernel::dropout::Key;

use crate::batch::Batch;
use crate::cache::Chunks;
use crate::config::TrainConfig;
use crate::corpus::Corpus;
use crate::error::TrainError;
use crate::examples::Examples;
use crate::folder::{Base, Reader};
use crate::sampler::Sampler;
use crate::towers::Towers;
use crate::validate::{Judge, Value, over_corpus, over_rows};

/// What is learned from.
#[derive(Debug)]
pub enum Material {
    /// Training rows.
    Rows(Examples),
    /// Questions over a corpus.
    Corpus(Box<Corpus>),
}

/// What a batch gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Learned {
    /// Its loss.
    pub loss: f64,
    /// Number of its queries.
    pub queries: usize,
    /// The ids of the first of them.
    pub names: String,
}

impl Material {
    /// Reads what a configuration names.
    ///
    /// # Errors
    /// When a file cannot be read or has nothing to learn from.
    pub fn read(config: &TrainConfig, base: &Base) -> Result<Self, TrainError> {
        let reader = Reader::open(base, config)?;
        match &config.corpus {
            Some(corpus) => {
                Ok(Self::Corpus(Box::new(Corpus::read(config, corpus, (base, &reader))?)))
            }
            None => Ok(Self::Rows(Examples::read(config, &reader)?)),
        }
    }

    /// Queries that are learned from, queries that are held out, and texts that were cut.
    pub fn counts(&self) -> [usize; 3] {
        match self {
            Self::Rows(rows) => [rows.train.len(), rows.held_out.len(), rows.truncated],
            Self::Corpus(all) => [all.train.len(), all.held_out.len(), all.truncated],
        }
    }

    /// Bytes that it needs during a run with so many queries a batch, beside the networks.
    pub fn bytes(&self, queries: usize) -> u64 {
        match self {
            Self::Rows(_) => 0,
            Self::Corpus(all) => {
                let (lasting, each) = all.bytes();
                lasting + each * queries as u64
            }
        }
    }

    /// Adds the gradients of batch `number` of the run.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn learn(
        &self,
        number: u64,
        config: &TrainConfig,
        sampler: &mut Sampler,
        (towers, chunks): (&mut Towers, Chunks),
    ) -> Result<Learned, TrainError> {
        let (batch, parts) = (&config.batch, config.batch.accumulate);
        let key = Key::new(config.run.seed).part(2).part(number);
        match self {
            Self::Rows(rows) => {
                let drawn = sampler.batch(number, &rows.train, batch.passages);
                let batch = Batch::new(rows, &drawn, &config.loss, key);
                let loss = towers.learn(&batch, &config.loss, chunks, parts)?;
                Ok(Learned { loss, queries: batch.queries.len(), names: batch.names })
            }
            Self::Corpus(all) => {
                let batch = all.batch(sampler.places(number), key);
                let settings = (&config.loss, config.corpus.as_ref().expect("it was read by it"));
                let what = (&batch, &all.passages[..]);
                let loss = towers.learn_corpus(what, settings, chunks, parts)?;
                Ok(Learned { loss, queries: batch.queries.len(), names: batch.names })
            }
        }
    }

    /// The measures of the held-out queries, the one that decides first; empty where nothing was held out,
    /// `None` where embeddings are no numbers. With the towers comes how many tokens are encoded at once.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn validate(
        &self,
        towers: (&mut Towers, usize),
        judge: &mut Judge<'_>,
    ) -> Result<Option<Vec<Value>>, TrainError> {
        match self {
            Self::Rows(rows) => over_rows(rows, towers, judge),
            Self::Corpus(all) => over_corpus(all, towers, judge),
        }
    }
}
