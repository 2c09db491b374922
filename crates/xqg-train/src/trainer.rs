//! The training loop: batches in, steps, validation, saves; and on again after a kill.

use std::path::Path;
use std::time::Instant;

use xqg_data::file::{Lock, output_path, remove, writable_folder};
use xqg_model::recipe::QuerySide;

use crate::cache::Chunks;
use crate::card::card;
use crate::composed::device::{Compute, Opened};
use crate::config::TrainConfig;
use crate::engine::Tower;
use crate::error::TrainError;
use crate::folder::Base;
use crate::log::{Log, Step};
use crate::material::{Learned, Material};
use crate::memory::Need;
use crate::network::pass::Keep;
use crate::optimiser::{AdamW, Schedule};
use crate::sampler::Sampler;
use crate::state::{self, Progress};
use crate::towers::Towers;
use crate::validate::{ANSWER_RECALL, Judge, RECIPROCAL_RANK};

/// What a run tells while it goes.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// All is read; the first step follows.
    Begun {
        /// Rows that are learned from.
        rows: usize,
        /// Rows that are held out.
        held_out: usize,
        /// Texts that were cut.
        truncated: usize,
        /// Steps that an earlier run has done.
        done: u64,
        /// Steps in all.
        steps: u64,
    },
    /// A step is done.
    Stepped(Step),
    /// The held-out queries were asked.
    Validated {
        /// After which step.
        step: u64,
        /// The measure's name.
        measure: &'static str,
        /// The measure's value.
        value: f64,
        /// Whether it is the best so far, which was saved.
        best: bool,
    },
    /// The state was saved.
    Saved {
        /// After which step.
        step: u64,
    },
}

/// A run that is ready for its next step.
#[derive(Debug)]
pub struct Trainer {
    config: TrainConfig,
    base: Base,
    material: Material,
    /// A hash of the files of the material.
    data: String,
    side: Option<QuerySide>,
    towers: Towers,
    sampler: Sampler,
    schedule: Schedule,
    progress: Progress,
    log: Log,
    _lock: Lock,
}

impl Trainer {
    /// Reads everything that a run needs, and the state of an earlier run if there is one; `force`
    /// throws that away. Steps are computed where `compute` says.
    ///
    /// # Errors
    /// When a file is missing, bad or of another run, there is no such device, or the batch does not
    /// fit into the memory.
    pub fn open(
        mut config: TrainConfig,
        compute: Compute,
        force: bool,
    ) -> Result<Self, TrainError> {
        config.check()?;
        let device = compute.open()?;
        config.out = output_path(&config.out)?;
        let lock = Lock::take(&config.out)?;
        let base = Base::open(&config)?;
        let material = Material::read(&config, &base)?;
        let data = state::hash_files(config.files())?;
        let side = query_side(&base, &config)?;
        let mut towers = towers(&base, &config)?;
        let [query, passage] = base.lengths(&config)?;
        let lengths = [query, if config.corpus.is_some() { 0 } else { passage }];
        let kept = material.bytes(config.batch.queries);
        fits(&config, &towers, (device.as_ref(), kept), lengths)?;
        writable_folder(&config.out)?;
        if force {
            remove(&state::state_folder(&config.out))?;
        }
        let [rows, ..] = material.counts();
        let progress = state::load(&config, &data, &mut towers)?.unwrap_or_default();
        device.iter().try_for_each(|device| towers.place(device))?;
        let sampler = Sampler::new(config.run.seed, rows, config.batch.queries);
        let schedule = schedule(&config, sampler.batches());
        let log = Log::open(&config.out, progress.step)?;
        Ok(Self {
            config,
            base,
            material,
            data,
            side,
            towers,
            sampler,
            schedule,
            progress,
            log,
            _lock: lock,
        })
    }

    /// Steps until the run is done, with `judge` for the recall of answers; returns how far it came.
    ///
    /// # Errors
    /// When a loss is no number, or the disk refuses; the last saved state is good.
    pub fn run(
        mut self,
        judge: &mut Judge<'_>,
        tell: &mut dyn FnMut(&Event),
    ) -> Result<Progress, TrainError> {
        tell(&self.begun());
        while self.progress.step < self.schedule.steps {
            let step = self.step(tell)?;
            self.log.step(&step)?;
            tell(&Event::Stepped(step));
            let last = self.progress.step == self.schedule.steps;
            if last || self.progress.step.is_multiple_of(self.config.run.validate_every) {
                self.validate(judge, tell)?;
            }
            if last {
                // There is no next step to see that what this one made gives numbers.
                self.gradient()?;
                self.save(tell)?;
            }
        }
        self.write_model("last")?;
        self.log.plot(&[ANSWER_RECALL, RECIPROCAL_RANK])?;
        Ok(self.progress)
    }

    fn begun(&self) -> Event {
        let [rows, held_out, truncated] = self.material.counts();
        Event::Begun {
            rows,
            held_out,
            truncated,
            done: self.progress.step,
            steps: self.schedule.steps,
        }
    }

    /// A step. What the last one made is saved, where it is time, only now that its loss and gradient are
    /// seen to be numbers.
    fn step(&mut self, tell: &mut dyn FnMut(&Event)) -> Result<Step, TrainError> {
        let begun = Instant::now();
        let (loss, norm, queries) = self.gradient()?;
        let mut seconds = begun.elapsed().as_secs_f64();
        let number = self.progress.step;
        if number > 0 && number.is_multiple_of(self.config.run.save_every) {
            self.save(tell)?;
        }
        let (begun, rate) = (Instant::now(), self.schedule.rate(number));
        self.towers.step(norm, rate)?;
        seconds += begun.elapsed().as_secs_f64();
        self.progress.step += 1;
        let examples_per_second = queries as f64 / seconds;
        Ok(Step { step: self.progress.step, loss, rate, norm, examples_per_second })
    }

    /// Adds the gradients of the next step; returns its loss, the gradients' norm and the queries.
    fn gradient(&mut self) -> Result<(f64, f64, usize), TrainError> {
        let number = self.progress.step;
        let parts = self.config.batch.accumulate;
        let (mut loss, mut norm, mut queries) = (0.0, 0.0, 0);
        for part in 0..parts as u64 {
            let at = number * parts as u64 + part;
            let how = (&mut self.towers, chunks(&self.config));
            let learned = self.material.learn(at, &self.config, &mut self.sampler, how)?;
            let Learned { loss: value, queries: count, names } = learned;
            if !value.is_finite() {
                return Err(self.broken(value, names));
            }
            loss += value / parts as f64;
            queries += count;
            if part + 1 == parts as u64 {
                norm = self.towers.norm()?;
                if !norm.is_finite() {
                    return Err(self.broken(f64::NAN, names));
                }
            }
        }
        Ok((loss, norm, queries))
    }

    fn broken(&self, loss: f64, queries: String) -> TrainError {
        TrainError::NotFinite { step: self.progress.step + 1, loss, queries }
    }

    /// Measures the held-out queries; the first measure decides which checkpoint is the best.
    fn validate(
        &mut self,
        judge: &mut Judge<'_>,
        tell: &mut dyn FnMut(&Event),
    ) -> Result<(), TrainError> {
        let step = self.progress.step;
        let towers = (&mut self.towers, self.config.batch.chunk_tokens);
        let Some(values) = self.material.validate(towers, judge)? else {
            return Err(self.broken(f64::NAN, "that are held out".into()));
        };
        for (i, &(measure, value)) in values.iter().enumerate() {
            self.log.validation(step, measure, value)?;
            let best = i == 0 && self.progress.best.is_none_or(|(before, _)| value > before);
            if best {
                self.progress.best = Some((value, step));
                self.progress.measure = measure.to_owned();
                self.write_model("best")?;
            }
            tell(&Event::Validated { step, measure, value, best });
        }
        Ok(self.log.plot(&[ANSWER_RECALL, RECIPROCAL_RANK])?)
    }

    fn save(&mut self, tell: &mut dyn FnMut(&Event)) -> Result<(), TrainError> {
        self.towers.to_host()?;
        state::save(&self.config, &self.data, &self.towers, &self.progress)?;
        tell(&Event::Saved { step: self.progress.step });
        Ok(())
    }

    /// Writes the towers as model folders: one, or `query` and `passage` below.
    fn write_model(&mut self, name: &str) -> Result<(), TrainError> {
        self.towers.to_host()?;
        let folder = self.config.out.join(name);
        let card = card(&self.config, self.material.counts()[0], &self.progress);
        let more = (card.as_str(), self.side.as_ref());
        if let [tower] = &self.towers.all[..] {
            return self.base.write(&folder, &tower.encoder, more);
        }
        writable_folder(&folder)?;
        for (side, tower) in ["query", "passage"].iter().zip(&self.towers.all) {
            self.base.write(&folder.join(side), &tower.encoder, more)?;
        }
        Ok(())
    }

    /// Where the run lies.
    pub fn out(&self) -> &Path {
        &self.config.out
    }
}

/// Refuses a batch that the memory where it is computed cannot hold.
fn fits(
    config: &TrainConfig,
    towers: &Towers,
    (device, beside): (Option<&Opened>, u64),
    lengths: [usize; 2],
) -> Result<(), TrainError> {
    let (encoder, count) = (&towers.all[0].encoder, towers.all.len());
    let keep = chunks(config).keep;
    match device {
        None => Need::new(encoder, count, keep).beside(beside).check(config, lengths),
        Some(device) => {
            let need = Need::composed(encoder, count, keep, (device.precision, lengths));
            need.within(device.free_mb()).check(config, lengths)
        }
    }
}

/// Which passages the network goes with, where it learns to encode queries only.
fn query_side(base: &Base, config: &TrainConfig) -> Result<Option<QuerySide>, TrainError> {
    let Some(_) = config.corpus else { return Ok(None) };
    let contract = base.teacher(config)?.contract().clone();
    let passage_weights = contract.passage_weights.unwrap_or(contract.weights);
    Ok(Some(QuerySide { passage_weights }))
}

/// What is held in memory at once.
fn chunks(config: &TrainConfig) -> Chunks {
    let keep = if config.batch.checkpoint_layers { Keep::Inputs } else { Keep::All };
    Chunks { tokens: config.batch.chunk_tokens, keep }
}

fn towers(base: &Base, config: &TrainConfig) -> Result<Towers, TrainError> {
    let o = &config.optimiser;
    let [beta1, beta2] = o.betas;
    let settings = AdamW { beta1, beta2, eps: o.eps, decay: o.weight_decay, clip: o.clip };
    let first = base.load(config)?;
    let second = config.encoder.untied.then(|| first.clone());
    let all = std::iter::once(first).chain(second).map(|e| Tower::new(e, settings)).collect();
    Ok(Towers::new(all))
}

fn schedule(config: &TrainConfig, batches: u64) -> Schedule {
    let by_epochs = config.run.epochs * batches as f64 / config.batch.accumulate as f64;
    let steps = config.run.steps.unwrap_or(by_epochs.ceil().max(1.0) as u64);
    let warmup = (config.optimiser.warmup * steps as f64).round() as u64;
    Schedule { peak: config.optimiser.learning_rate, warmup, steps, decay: config.optimiser.decay }
}
