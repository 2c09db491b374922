//! How likely a generator finds a question that is there already, for each of some passages: what a query
//! generator says as the teacher of a ranking (Sachan et al. 2022, arXiv 2204.07496, eq. 2; Ren et
//! al. 2022, arXiv 2303.14991, QuiCK). Nothing is drawn: the question's tokens are given to the decoder one after the other,
//! for all passages side by side.

use xqg_data::lang::Lang;
use xqg_data::passage::Passage;

use super::attend::Memory;
use super::core::{Core, Reader, Spoken};
use super::decoder::{Cursor, Scratch};
use super::output::Output;
use crate::error::ModelError;
use crate::linear::Rows;

/// A question and the passages that it may be about.
#[derive(Debug, Clone, Copy)]
pub struct Candidates<'a> {
    /// The question.
    pub question: &'a str,
    /// Its language.
    pub lang: Lang,
    /// The passages.
    pub passages: &'a [Passage],
}

/// What a generator says of a question's passages.
#[derive(Debug, Clone, PartialEq)]
pub struct Likelihoods {
    /// For each passage the mean of the natural logarithms of the probabilities of the question's tokens, its
    /// end included.
    pub values: Vec<f32>,
    /// Whether the question has more tokens than the decoder can tell apart; its first ones were judged.
    pub cut: bool,
    /// How many of the passages are longer than what is read of them.
    pub truncated: usize,
}

impl Core {
    /// The likelihoods of a question given as tokens, without its end.
    ///
    /// # Errors
    /// When a passage cannot be read.
    pub fn likelihoods(
        &self,
        reader: &dyn Reader,
        passages: &[Passage],
        spoken: Spoken,
        mut tokens: Vec<u32>,
    ) -> Result<Likelihoods, ModelError> {
        let most = self.max_positions.unwrap_or(usize::from(u16::MAX));
        let cut = tokens.len() >= most;
        if cut {
            tokens.truncate(most);
        } else {
            tokens.push(self.end);
        }
        let mut scratch = Scratch::default();
        let (memories, truncated) = self.memories(reader, passages, (spoken, &mut scratch))?;
        let groups: Vec<_> = memories.iter().map(|memory| (1, memory)).collect();
        let begin =
            |_: &Passage| Cursor { token: spoken.start, at: 0, slot: self.slot(tokens.len()) };
        let mut cursors: Vec<Cursor> = passages.iter().map(begin).collect();
        let output = self.output_of(spoken, &tokens);
        let (mut sums, mut states, mut scores) =
            (vec![0.0f64; passages.len()], Vec::new(), Vec::new());
        let stride = self.decoder.stride();
        for (at, &token) in tokens.iter().enumerate() {
            let mut rows: Vec<&mut Cursor> = cursors.iter_mut().collect();
            states.clear();
            states.extend_from_slice(self.decoder.step(&mut rows, &groups, &mut scratch));
            states.iter_mut().for_each(|x| *x *= self.score_scale);
            let rows = (passages.len(), Rows { data: &states, stride });
            let logs = output.logs(rows, token, &mut scratch.worker, &mut scores);
            sums.iter_mut().zip(logs).for_each(|(sum, log)| *sum += log);
            for cursor in &mut cursors {
                (cursor.token, cursor.at) = (token, at + 1);
            }
        }
        let mean = |sum: f64| (sum / tokens.len() as f64) as f32;
        Ok(Likelihoods { values: sums.into_iter().map(mean).collect(), cut, truncated })
    }

    /// What the decoder remembers of each passage, and how many of these were cut.
    fn memories(
        &self,
        reader: &dyn Reader,
        passages: &[Passage],
        (spoken, scratch): (Spoken, &mut Scratch),
    ) -> Result<(Vec<Memory>, usize), ModelError> {
        let (mut memories, mut truncated) = (Vec::new(), 0);
        for (i, passage) in passages.iter().enumerate() {
            let reading = reader.read(i, passage, &[spoken], 1)?;
            let states = Rows { data: &reading.states, stride: reading.stride };
            truncated += usize::from(reading.truncated);
            memories.push(self.decoder.remember(states, reading.count, scratch));
        }
        Ok((memories, truncated))
    }

    /// The language's own output layer where all tokens are in it, else that of all tokens.
    fn output_of(&self, spoken: Spoken, tokens: &[u32]) -> &Output {
        let own = self.output(spoken.output);
        let holds = |token: &u32| own.place(*token).is_some();
        if tokens.iter().all(holds) { own } else { self.output(None) }
    }
}
