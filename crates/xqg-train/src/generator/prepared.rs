//! A task that is ready for its steps, whatever is trained: its rows as tokens, and the order in which
//! steps take them.

use xqg_kernel::dropout::Key;

use super::config::GeneratorConfig;
use super::rows::Row;
use super::run::HeldOut;
use super::sampler::Sampler;
use super::vocabulary::Ids;
use crate::error::TrainError;

/// The place of the rows that are learned from.
pub const TRAIN: usize = 0;
/// The place of those that are held out.
pub const HELD_OUT: usize = 1;

/// Turns the questions of rows into tokens.
pub type Tokens<'a> = &'a dyn Fn(&[Row]) -> Result<Vec<Ids>, TrainError>;

/// A task's rows, with the tokens of their questions.
#[derive(Debug)]
pub struct Prepared {
    /// Its name in the log.
    pub name: String,
    /// Rows that are learned from, and rows that are held out.
    pub rows: [Vec<Row>; 2],
    /// The tokens of each row's question.
    pub ids: [Vec<Ids>; 2],
    /// Questions that were left out, as they have too many tokens.
    pub too_long: usize,
    judged: f64,
    sampler: Sampler,
}

impl Prepared {
    /// Prepares task number `number` of a configuration: `tokens` turns questions into tokens, and
    /// those of more than `most` are left out.
    ///
    /// # Errors
    /// When the tokenizer refuses a text, or nothing is left to learn from.
    pub fn new(
        config: &GeneratorConfig,
        number: usize,
        [train, held_out]: [Vec<Row>; 2],
        (most, tokens): (usize, Tokens),
    ) -> Result<Self, TrainError> {
        let said = &config.tasks[number];
        let all = train.len() + held_out.len();
        let fitting = |rows: Vec<Row>| -> Result<(Vec<Row>, Vec<Ids>), TrainError> {
            let ids = tokens(&rows)?;
            Ok(rows.into_iter().zip(ids).filter(|(_, ids)| ids.len() <= most).unzip())
        };
        let (train, train_ids) = fitting(train)?;
        let (held_out, held_out_ids) = fitting(held_out)?;
        if train.is_empty() {
            let limit = config.decoder.positions;
            return Err(TrainError::Setting {
                name: "decoder.positions",
                expected: "room for some questions of each task",
                found: format!("{limit}, and every question of {} is longer", said.name),
            });
        }
        let total: f64 = config.tasks.iter().map(|t| t.weight).sum();
        let key = Key::new(config.run.seed).part(1).part(number as u64);
        let share = said.weight / total * config.batch.questions as f64;
        Ok(Self {
            name: said.name.clone(),
            judged: said.judged.unwrap_or(said.weight),
            sampler: Sampler::new(key, &train, share),
            too_long: all - train.len() - held_out.len(),
            rows: [train, held_out],
            ids: [train_ids, held_out_ids],
        })
    }

    /// The rows of a step, from 0.
    pub fn step(&mut self, step: u64) -> Vec<usize> {
        self.sampler.step(step)
    }

    /// Its name, the rows that are learned from, and those that are held out.
    pub fn counts(&self) -> (String, usize, usize) {
        (self.name.clone(), self.rows[TRAIN].len(), self.rows[HELD_OUT].len())
    }

    /// How many held-out rows a validation looks at.
    pub fn looked_at(&self, config: &GeneratorConfig) -> usize {
        self.rows[HELD_OUT].len().min(config.run.validate_on)
    }

    /// What a validation found, given the loss of all tokens; `None` where nothing was held out.
    pub fn held_out(&self, (total, tokens): (f64, usize)) -> Option<HeldOut> {
        let (name, judged) = (self.name.clone(), self.judged);
        (tokens > 0).then(|| HeldOut { name, loss: total / tokens as f64, judged })
    }
}
