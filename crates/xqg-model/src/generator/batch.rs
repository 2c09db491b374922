//! The running batch of one thread. Passages are read one after the other and each leaves a memory
//! and some questions to be written; all questions in the batch take their next token together. What
//! is finished leaves, and as there is room the next passage joins: questions may be at different
//! places, for each has its own past.

use std::collections::BTreeMap;

use super::attend::{Memory, Slot};
use super::beam::{Beam, Hypothesis};
use super::choose::{kept, next_token, sample_key};
use super::core::{Core, Spoken};
use super::decoder::{Cursor, Scratch};
use super::output::Seen;
use super::{Decoding, Method};
use crate::encoder::Reading;
use crate::linear::Rows;

/// Questions that one thread writes at a time: eight tiles of the products' kernels.
pub(crate) const ROWS: usize = 96;

/// A passage and the languages that one reading of it serves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job<'a> {
    /// The job's place in the order of the results.
    pub index: usize,
    /// The passage's identifier.
    pub docid: &'a str,
    /// The languages.
    pub langs: &'a [Spoken],
}

/// A question as tokens.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Raw {
    /// The tokens, the end token included where there is one.
    pub tokens: Vec<u32>,
    /// The sum of their log-probabilities.
    pub logprob: f32,
}

/// The questions of a job, languages in order, each with its samples in order.
pub(crate) type Done = (usize, Vec<Vec<Raw>>);

/// A question that is being written; for beam search, a hypothesis.
#[derive(Debug)]
struct Row {
    cursor: Cursor,
    /// For samples: what they have, and where it goes.
    raw: Raw,
    sample: usize,
}

/// A job's questions in one language.
#[derive(Debug)]
struct Task {
    lang: Spoken,
    rows: Vec<Row>,
    beam: Option<Beam>,
    done: Vec<Raw>,
}

/// A job in the batch.
#[derive(Debug)]
struct Live<'a> {
    job: Job<'a>,
    memory: Memory,
    tasks: Vec<Task>,
}

/// What one thread writes at a time.
pub(crate) struct Batch<'a> {
    core: &'a Core,
    how: &'a Decoding,
    live: Vec<Live<'a>>,
    spare: Vec<Slot>,
    /// Memory for steps.
    pub scratch: Scratch,
    scored: Vec<f32>,
    gathered: Vec<f32>,
}

impl<'a> Batch<'a> {
    /// An empty batch whose products a team of threads shares.
    pub fn new(core: &'a Core, how: &'a Decoding, team: usize) -> Self {
        let mut scratch = Scratch::default();
        scratch.worker.team = team;
        let (live, spare) = (Vec::new(), Vec::new());
        Self { core, how, live, spare, scratch, scored: Vec::new(), gathered: Vec::new() }
    }

    /// The number of questions, or hypotheses, in the batch.
    pub fn rows(&self) -> usize {
        self.live.iter().flat_map(|l| &l.tasks).map(|t| t.rows.len()).sum()
    }

    /// Takes in a passage that was read.
    pub fn admit(&mut self, job: Job<'a>, reading: &Reading) {
        let states = Rows { data: &reading.states, stride: reading.stride };
        let memory = self.core.decoder.remember(states, reading.count, &mut self.scratch);
        let tasks = job.langs.iter().map(|&lang| self.task(lang)).collect();
        self.live.push(Live { job, memory, tasks });
    }

    /// The rows that begin a task: one for each sample; a search begins with one.
    fn task(&mut self, lang: Spoken) -> Task {
        let n = samples(self.how);
        let rows = (0..n).map(|sample| {
            let cursor = Cursor { token: lang.start, at: 0, slot: self.slot() };
            Row { cursor, raw: Raw::default(), sample }
        });
        let rows = rows.collect();
        let beam = match self.how.method {
            Method::Beam { width } => Some(Beam::new(width, self.how.max_tokens, self.core.end)),
            _ => None,
        };
        Task { lang, rows, beam, done: vec![Raw::default(); n] }
    }

    fn slot(&mut self) -> Slot {
        let new = || self.core.slot(self.how.max_tokens);
        self.spare.pop().unwrap_or_else(new)
    }

    /// Writes one token of every question and returns the jobs that are thereby finished.
    pub fn step(&mut self) -> Vec<Done> {
        let seen = self.score();
        let mut seen = seen.as_slice();
        for live in &mut self.live {
            for task in &mut live.tasks {
                let (own, rest) = seen.split_at(task.rows.len());
                task.advance((self.core, self.how, live.job.docid), own, &mut self.spare);
                seen = rest;
            }
        }
        self.retire()
    }

    /// Takes out the jobs that have no running question left.
    fn retire(&mut self) -> Vec<Done> {
        let is_done = |l: &mut Live| l.tasks.iter().all(|t| t.rows.is_empty());
        let done = self.live.extract_if(.., is_done);
        let questions = |l: Live| (l.job.index, l.tasks.into_iter().map(|t| t.done).collect());
        done.map(questions).collect()
    }

    /// The likeliest next tokens of every question.
    fn score(&mut self) -> Vec<Seen> {
        let (mut cursors, mut groups, mut langs) = (Vec::new(), Vec::new(), Vec::new());
        for Live { memory, tasks, .. } in &mut self.live {
            groups.push((tasks.iter().map(|t| t.rows.len()).sum(), &*memory));
            for task in tasks {
                langs.extend(std::iter::repeat_n(task.lang, task.rows.len()));
                cursors.extend(task.rows.iter_mut().map(|r| &mut r.cursor));
            }
        }
        let stride = self.core.decoder.stride();
        let states = self.core.decoder.step(&mut cursors, &groups, &mut self.scratch);
        self.gathered.clear();
        self.gathered.extend_from_slice(states);
        self.gathered.iter_mut().for_each(|x| *x *= self.core.score_scale);
        let mut by_output: BTreeMap<Option<usize>, Vec<usize>> = BTreeMap::new();
        for (row, lang) in langs.iter().enumerate() {
            let output = lang.output.filter(|_| self.how.shortlist);
            by_output.entry(output).or_default().push(row);
        }
        let keep = kept(self.how.method);
        if let [(&output, _)] = by_output.iter().collect::<Vec<_>>()[..] {
            let rows = (langs.len(), Rows { data: &self.gathered, stride });
            let output = self.core.output(output);
            return output.score(rows, keep, &mut self.scratch.worker, &mut self.scored);
        }
        let mut seen: Vec<Option<Seen>> = vec![None; langs.len()];
        for (output, rows) in by_output {
            let part = |&row: &usize| &self.gathered[row * stride..][..stride];
            let some: Vec<f32> = rows.iter().flat_map(part).copied().collect();
            let x = (rows.len(), Rows { data: &some, stride });
            let (output, worker) = (self.core.output(output), &mut self.scratch.worker);
            let found = output.score(x, keep, worker, &mut self.scored);
            rows.iter().zip(found).for_each(|(&row, found)| seen[row] = Some(found));
        }
        seen.into_iter().flatten().collect()
    }
}

/// Questions of a passage and language that are written side by side.
pub(crate) fn samples(how: &Decoding) -> usize {
    if matches!(how.method, Method::Sample { .. }) { how.n } else { 1 }
}

impl Task {
    fn advance(
        &mut self,
        (core, how, docid): (&Core, &Decoding, &str),
        seen: &[Seen],
        spare: &mut Vec<Slot>,
    ) {
        if self.beam.is_some() {
            self.advance_beam(how.n, seen, spare);
            return;
        }
        let mut rest = Vec::with_capacity(self.rows.len());
        for (mut row, seen) in self.rows.drain(..).zip(seen) {
            let key = sample_key(how.seed, docid, self.lang.lang.code(), row.sample);
            let (log, token) = next_token(how.method, seen, key, row.cursor.at);
            row.raw.tokens.push(token);
            row.raw.logprob += log;
            if token == core.end || row.raw.tokens.len() >= how.max_tokens {
                self.done[row.sample] = row.raw;
                spare.push(row.cursor.slot);
            } else {
                row.cursor = Cursor { token, at: row.cursor.at + 1, slot: row.cursor.slot };
                rest.push(row);
            }
        }
        self.rows = rest;
    }

    fn advance_beam(&mut self, n: usize, seen: &[Seen], spare: &mut Vec<Slot>) {
        let Some(beam) = &mut self.beam else { return };
        let next = beam.advance(seen);
        let at = self.rows.first().map_or(0, |row| row.cursor.at) + 1;
        let mut pasts: Vec<Option<Slot>> =
            self.rows.drain(..).map(|row| Some(row.cursor.slot)).collect();
        for (i, going) in next.iter().enumerate() {
            let again = next[i + 1..].iter().any(|other| other.parent == going.parent);
            let slot = if again {
                let past = pasts[going.parent].as_ref();
                past.map(|past| copied(past, spare))
            } else {
                pasts[going.parent].take()
            };
            let cursors = slot.map(|slot| Cursor { token: going.token, at, slot });
            let row = |cursor| Row { cursor, raw: Raw::default(), sample: 0 };
            self.rows.extend(cursors.map(row));
        }
        spare.extend(pasts.into_iter().flatten());
        if self.rows.is_empty() {
            let raw = |h: Hypothesis| Raw { tokens: h.tokens, logprob: h.sum };
            self.done = self.beam.take().into_iter().flat_map(|b| b.best(n)).map(raw).collect();
        }
    }
}

/// A copy of a past, in memory that is no longer used if there is some.
fn copied(past: &Slot, spare: &mut Vec<Slot>) -> Slot {
    match spare.pop() {
        Some(mut slot) => {
            slot.copy_from(past);
            slot
        }
        None => past.clone(),
    }
}
