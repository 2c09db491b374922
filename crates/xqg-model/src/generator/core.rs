//! What both kinds of generator share: the decoder, the output layers of the languages, and the way
//! from passages to questions over all threads. Each thread takes passages as it gets through with
//! its own; which one writes a question does not show in it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

use rayon::prelude::*;
use xqg_data::lang::Lang;
use xqg_data::passage::Passage;

use super::attend::Slot;
use super::batch::{Batch, Job, ROWS, Raw, samples};
use super::decoder::Decoder;
use super::output::Output;
use super::pieces::Pieces;
use super::{Decoding, Method, Question, Written};
use crate::encoder::Reading;
use crate::error::ModelError;

/// A language as a model speaks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spoken {
    /// The language.
    pub lang: Lang,
    /// The decoder's first token.
    pub start: u32,
    /// The number of its output layer.
    pub output: Option<usize>,
}

/// The shared parts of a generator.
#[derive(Debug)]
pub(crate) struct Core {
    /// The decoder.
    pub decoder: Decoder,
    /// What states are multiplied by before the output layer.
    pub score_scale: f32,
    /// The output layer of all tokens, then those of shortlists, which may be made when they are
    /// first asked for.
    pub outputs: Vec<OnceLock<Output>>,
    /// The text of tokens.
    pub pieces: Pieces,
    /// The end token.
    pub end: u32,
    /// The most places that the decoder can tell apart.
    pub max_positions: Option<usize>,
}

/// Reads a passage, for the languages of a job.
pub(crate) trait Reader: Sync {
    /// Whether one reading serves all languages.
    fn serves_all(&self) -> bool;

    /// The token states of passage `index` of its batch.
    ///
    /// # Errors
    /// When the tokenizer does not fit the network.
    fn read(
        &self,
        index: usize,
        passage: &Passage,
        langs: &[Spoken],
        team: usize,
    ) -> Result<Reading, ModelError>;
}

/// A reading without its states, and the questions.
pub(crate) struct Finished {
    /// Whether the passage was cut.
    pub truncated: bool,
    /// Tokens that were read.
    pub tokens: usize,
    /// The passage's embedding.
    pub embedding: Vec<f32>,
    questions: Vec<Vec<Raw>>,
}

impl Core {
    /// An empty past for questions of at most so many tokens.
    pub fn slot(&self, max_tokens: usize) -> Slot {
        Slot::new(&self.decoder.shapes, self.decoder.layers.len(), max_tokens)
    }

    /// The output layer of that number; without a number that of all tokens.
    ///
    /// # Panics
    /// When it was not made: a number is given out for one that was.
    pub fn output(&self, number: Option<usize>) -> &Output {
        self.outputs[number.unwrap_or(0)].get().expect("an output layer that was made")
    }

    /// Refuses tokens that the network has no row for.
    ///
    /// # Errors
    /// [`ModelError::Token`], with the place of their text.
    pub fn check_ids(&self, index: usize, ids: &[u32]) -> Result<(), ModelError> {
        let words = self.output(None).len();
        match ids.iter().find(|&&id| id as usize >= words) {
            None => Ok(()),
            Some(id) => {
                let expected = format!("token ids below {words}, the rows of the embedding");
                Err(ModelError::Token { index, expected, found: id.to_string() })
            }
        }
    }

    /// Refuses a way of decoding that makes no sense for this model.
    ///
    /// # Errors
    /// [`ModelError::Decoding`].
    pub fn check(&self, langs: &[Lang], how: &Decoding) -> Result<(), ModelError> {
        let refuse = |what: &'static str, expected: String, found: String| {
            Err(ModelError::Decoding { what, expected, found })
        };
        if langs.is_empty() {
            return refuse("languages", "1 or more".into(), "none".into());
        }
        if how.n == 0 {
            return refuse("questions for each language", "1 or more".into(), "0".into());
        }
        let most = self.max_positions.unwrap_or(usize::from(u16::MAX));
        if !(1..=most).contains(&how.max_tokens) {
            let expected = format!("1 to {most}");
            return refuse("the most tokens of a question", expected, how.max_tokens.to_string());
        }
        match how.method {
            Method::Sample { temperature, .. } if !(temperature > 0.0 && temperature < 1e6) => {
                refuse("the temperature", "a number above 0".into(), temperature.to_string())
            }
            Method::Sample { top_p, .. } if !(top_p > 0.0 && top_p <= 1.0) => {
                refuse("top-p", "a number above 0, at most 1".into(), top_p.to_string())
            }
            Method::Beam { width } if width < how.n => {
                let expected = format!("{} or more, for as many questions", how.n);
                refuse("the width of the beam", expected, width.to_string())
            }
            _ => Ok(()),
        }
    }

    /// What was read and written for each job: a passage, or a passage and a language where a reading
    /// serves one.
    ///
    /// # Errors
    /// When a passage cannot be read; the first one's error.
    pub fn run(
        &self,
        reader: &dyn Reader,
        passages: &[Passage],
        langs: &[Spoken],
        how: &Decoding,
    ) -> Result<Vec<Finished>, ModelError> {
        let jobs = asked(passages, langs, reader.serves_all());
        let threads = rayon::current_num_threads().min(jobs.len()).max(1);
        let queue = Queue { reader, jobs: &jobs, next: AtomicUsize::new(0), threads };
        let finished: Mutex<Vec<(usize, Finished)>> = Mutex::default();
        let work = |_| self.work(&queue, how, &finished);
        (0..threads).into_par_iter().with_max_len(1).try_for_each(work)?;
        let mut finished = finished.into_inner().expect("no panic while locked");
        finished.sort_by_key(|f| f.0);
        Ok(finished.into_iter().map(|f| f.1).collect())
    }

    /// One thread's work: takes passages while there is room, writes a token of every question.
    fn work(
        &self,
        queue: &Queue,
        how: &Decoding,
        finished: &Mutex<Vec<(usize, Finished)>>,
    ) -> Result<(), ModelError> {
        // A job alone has all threads for itself.
        let team = if queue.jobs.len() == 1 { rayon::current_num_threads() } else { 1 };
        let mut batch = Batch::new(self, how, team);
        let mut read: Vec<(usize, Finished)> = Vec::new();
        let each = samples(how) * queue.jobs.first().map_or(1, |job| job.langs.len());
        let fair = queue.jobs.len().div_ceil(queue.threads) * each;
        loop {
            while batch.rows() == 0 || batch.rows() + each <= ROWS.min(fair) {
                let Some(&Asked { index, text, passage, langs }) = queue.take() else { break };
                let reading = queue.reader.read(text, passage, langs, team)?;
                batch.admit(Job { index, docid: &passage.docid, langs }, &reading);
                read.push((index, Finished::of(reading)));
            }
            if batch.rows() == 0 {
                break;
            }
            for (index, questions) in batch.step() {
                let at = read.iter().position(|r| r.0 == index);
                let Some(mut found) = at.map(|at| read.swap_remove(at)) else { continue };
                found.1.questions = questions;
                finished.lock().expect("no panic while locked").push(found);
            }
        }
        Ok(())
    }

    /// The questions of one passage from its jobs.
    pub fn written(&self, langs: &[Lang], jobs: &[Finished]) -> Written {
        let by_lang = jobs.iter().flat_map(|job| &job.questions);
        let questions = langs
            .iter()
            .zip(by_lang)
            .flat_map(|(&lang, raws)| raws.iter().map(move |raw| self.question(lang, raw)));
        Written { questions: questions.collect(), truncated: jobs.iter().any(|job| job.truncated) }
    }

    fn question(&self, lang: Lang, raw: &Raw) -> Question {
        let tokens = raw.tokens.strip_suffix(&[self.end]);
        let (cut, tokens) = (tokens.is_none(), tokens.unwrap_or(&raw.tokens));
        let text = self.pieces.text(tokens);
        Question { lang, text, logprob: raw.logprob, tokens: tokens.len(), cut }
    }
}

/// A job: a passage, `text` in its batch, for some languages; `index` is its place in the results.
struct Asked<'a> {
    index: usize,
    text: usize,
    passage: &'a Passage,
    langs: &'a [Spoken],
}

/// The jobs in the order in which they are done. Where a reading serves one language, one language
/// comes after the other: what is written side by side then shares an output layer.
fn asked<'a>(passages: &'a [Passage], langs: &'a [Spoken], serves_all: bool) -> Vec<Asked<'a>> {
    let size = if serves_all { langs.len().max(1) } else { 1 };
    let each = langs.len().div_ceil(size);
    let parts = langs.chunks(size).enumerate();
    let jobs = parts.flat_map(|(part, langs)| {
        let job = move |(text, passage)| Asked { index: text * each + part, text, passage, langs };
        passages.iter().enumerate().map(job)
    });
    jobs.collect()
}

/// The jobs and how far they are given out.
struct Queue<'a> {
    reader: &'a dyn Reader,
    jobs: &'a [Asked<'a>],
    next: AtomicUsize,
    threads: usize,
}

impl<'a> Queue<'a> {
    fn take(&self) -> Option<&'a Asked<'a>> {
        self.jobs.get(self.next.fetch_add(1, Ordering::Relaxed))
    }
}

impl Finished {
    fn of(reading: Reading) -> Self {
        let Reading { truncated, embedding, count, .. } = reading;
        Self { truncated, tokens: count, embedding, questions: Vec::new() }
    }
}
