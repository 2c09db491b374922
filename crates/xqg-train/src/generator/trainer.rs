//! The training loop of a generator: rows in, steps, validation, saves; and on again after a kill.

use std::path::{Path, PathBuf};
use std::time::Instant;

use xqg_data::file::{Lock, output_path, remove, writable_folder};
use xqg_kernel::dropout::{Key, Rate};
use xqg_model::checkpoint::Checkpoint;
use xqg_model::encoder::{Encoder, EncoderOptions};
use xqg_model::linear::Precision;
use xqg_model::recipe::Recipe;

use super::config::{GeneratorConfig, Output};
use super::folder::{self, About};
use super::memories::Memories;
use super::rows::{Row, Task};
use super::run::{self, Course, HeldOut, Learner, card};
use super::sampler::Sampler;
use super::vocabulary::{EOS, Ids, Vocabulary};
use crate::decoder::{Batch, Decoder, Initial, Lists, Memory, Shape, Target, TextLoss, Workspace};
use crate::error::TrainError;
use crate::gradients::Gradients;
use crate::log::{Log, Step};
use crate::optimiser::{AdamW, Optimiser, Schedule};
use crate::state::{self, Progress};

/// The validation measure's name in logs: the mean over tokens, weighted over tasks.
pub const MEASURE: &str = "held-out loss";

/// Questions that are looked at together where nothing is learned.
const AT_ONCE: usize = 128;

/// What a run tells while it goes.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The encoder reads the sources of a task, or finds that it has read them before.
    Read {
        /// The task.
        task: String,
        /// Sources whose states are there.
        done: usize,
        /// Sources in all.
        of: usize,
    },
    /// All is read; the first step follows.
    Begun {
        /// For each task its name, rows that are learned from and rows that are held out.
        tasks: Vec<(String, usize, usize)>,
        /// Sources that were cut.
        truncated: usize,
        /// Questions that are longer than the positions and were left out.
        too_long: usize,
        /// Tokens, language tags included.
        vocabulary: usize,
        /// Parameters.
        parameters: usize,
        /// Steps that an earlier run has done.
        done: u64,
        /// Steps in all.
        steps: u64,
    },
    /// A step is done.
    Stepped(Step),
    /// The held-out questions were looked at.
    Validated {
        /// After which step.
        step: u64,
        /// The measure's value.
        value: f64,
        /// The loss of each task.
        tasks: Vec<(String, f64)>,
        /// Whether it is the best so far, which was written.
        best: bool,
    },
    /// The state was saved.
    Saved {
        /// After which step.
        step: u64,
    },
    /// Nothing better came for as long as the settings wait.
    Stopped {
        /// After which step.
        step: u64,
    },
}

/// A task that is ready.
#[derive(Debug)]
struct Ready {
    name: String,
    judged: f64,
    rows: [Vec<Row>; 2],
    ids: [Vec<Ids>; 2],
    memories: Memories,
    sampler: Sampler,
}

const TRAIN: usize = 0;
const HELD_OUT: usize = 1;

/// A run that is ready for its next step.
#[derive(Debug)]
pub struct GeneratorTrainer {
    course: Course,
    contract: xqg_data::contract::EncoderContract,
    vocabulary: Vocabulary,
    tasks: Vec<Ready>,
    lists: Lists,
    decoder: Decoder,
    optimiser: Optimiser,
    gradients: Gradients,
    workspace: Workspace,
    too_long: usize,
    _lock: Lock,
}

impl GeneratorTrainer {
    /// Reads everything that a run needs, computes what the encoder says about every source, and
    /// takes up the state of an earlier run if there is one; `force` throws that away.
    ///
    /// # Errors
    /// When a file is missing, bad or of another run.
    pub fn open(
        mut config: GeneratorConfig,
        force: bool,
        tell: &mut dyn FnMut(&Event),
    ) -> Result<Self, TrainError> {
        config.check()?;
        config.out = output_path(&config.out)?;
        let lock = Lock::take(&config.out)?;
        let encoder = encoder(&config)?;
        check_heads(config.decoder.heads, encoder.hidden_size())?;
        let read = |task| Task::read(&config, task);
        let tasks: Vec<Task> = config.tasks.iter().map(read).collect::<Result<_, _>>()?;
        writable_folder(&config.out)?;
        let vocabulary = Vocabulary::open(&config, &tasks, &config.out.join("vocabulary"))?;
        let shape = shape(&config, &vocabulary, encoder.hidden_size());
        let (tasks, too_long) = ready(&config, (&encoder, &vocabulary), tasks, tell)?;
        if force {
            remove(&state::state_folder(&config.out))?;
        }
        let mut decoder = Decoder::new(shape, &initial(&config, &vocabulary)?);
        decoder.dropout = Some(rate("decoder.dropout", config.decoder.dropout)?);
        let mut optimiser = Optimiser::new(adam(&config), &decoder.parameters);
        let rows = tasks.iter().map(|t| t.rows[TRAIN].len()).sum();
        let networks = &mut [(&mut decoder.parameters, &mut optimiser)];
        let progress = state::load_run(&config.out, (&same(&config), rows), networks)?;
        let progress = progress.unwrap_or_default();
        let log = Log::open(&config.out, progress.step)?;
        let lists = lists(&config, &vocabulary);
        let gradients = Gradients::zeros(&decoder.parameters);
        Ok(Self {
            contract: encoder.contract().clone(),
            vocabulary,
            tasks,
            lists,
            decoder,
            optimiser,
            gradients,
            workspace: Workspace::default(),
            too_long,
            course: Course { schedule: schedule(&config), progress, log, config },
            _lock: lock,
        })
    }

    /// Where the run lies.
    pub fn out(&self) -> &Path {
        &self.course.config.out
    }

    /// Steps until the run is done; returns how far it came.
    ///
    /// # Errors
    /// When a loss is no number, or the disk refuses; the last saved state is good.
    pub fn run(self, tell: &mut dyn FnMut(&Event)) -> Result<Progress, TrainError> {
        run::run(self, tell)
    }

    /// What a step sees: each task's rows, then their sources' states.
    fn batch(&mut self, step: u64) -> Batch {
        let key = Key::new(self.course.config.run.seed).part(2).part(step);
        let share = self.course.config.decoder.source_dropout;
        let mut batch = Batch::default();
        for (number, task) in self.tasks.iter_mut().enumerate() {
            let rows = task.sampler.step(step);
            let key = key.part(number as u64);
            let drop = (share > 0.0).then_some((key.part(u64::MAX), share));
            let about = (&self.vocabulary, &self.course.config);
            task.add(TRAIN, &rows, about, (key, drop), &mut batch);
        }
        batch
    }

    fn broken(&mut self, step: u64, loss: f64) -> TrainError {
        let named = |t: &mut Ready| {
            let rows = t.sampler.step(step);
            rows.first().map(|&row| format!("`{}`", t.rows[TRAIN][row].text))
        };
        let texts: Vec<String> = self.tasks.iter_mut().filter_map(named).collect();
        TrainError::NotFinite { step: step + 1, loss, queries: texts.join(", ") }
    }

    /// The mean loss over tokens of a task's first held-out questions; `None` where there are none.
    fn held_out_loss(&mut self, number: usize) -> Option<f64> {
        let task = &self.tasks[number];
        let count = task.rows[HELD_OUT].len().min(self.course.config.run.validate_on);
        let (mut total, mut tokens) = (0.0, 0);
        for start in (0..count).step_by(AT_ONCE) {
            let rows: Vec<usize> = (start..count.min(start + AT_ONCE)).collect();
            let (mut batch, about) = (Batch::default(), (&self.vocabulary, &self.course.config));
            task.add(HELD_OUT, &rows, about, (Key::new(0), None), &mut batch);
            let settings = (&self.lists, 0.0);
            let loss: TextLoss = self.decoder.loss(&batch, settings, &mut self.workspace);
            total += loss.plain * loss.tokens as f64;
            tokens += loss.tokens;
        }
        (tokens > 0).then(|| total / tokens as f64)
    }
}

impl Learner for GeneratorTrainer {
    fn course(&mut self) -> &mut Course {
        &mut self.course
    }

    fn begun(&self) -> Event {
        let counts = |t: &Ready| (t.name.clone(), t.rows[TRAIN].len(), t.rows[HELD_OUT].len());
        Event::Begun {
            tasks: self.tasks.iter().map(counts).collect(),
            truncated: self.tasks.iter().map(|t| t.memories.truncated).sum(),
            too_long: self.too_long,
            vocabulary: self.vocabulary.size(),
            parameters: self.decoder.parameters.count(),
            done: self.course.progress.step,
            steps: self.course.schedule.steps,
        }
    }

    fn step(&mut self, number: u64) -> Result<Step, TrainError> {
        let begun = Instant::now();
        let batch = self.batch(number);
        let smoothing = self.course.config.loss.label_smoothing;
        self.gradients.clear();
        let loss = self.decoder.learn(
            &batch,
            (&self.lists, smoothing),
            &mut self.gradients,
            &mut self.workspace,
        );
        let norm = self.gradients.norm();
        if !loss.smoothed.is_finite() || !norm.is_finite() {
            return Err(self.broken(number, loss.smoothed));
        }
        let rate = self.course.schedule.rate(number);
        let parameters = &mut self.decoder.parameters;
        self.optimiser.step_of_norm(parameters, &self.gradients, (norm, rate));
        let examples_per_second = batch.targets.len() as f64 / begun.elapsed().as_secs_f64();
        let (step, loss) = (number + 1, loss.smoothed);
        Ok(Step { step, loss, rate, norm, examples_per_second })
    }

    fn held_out(&mut self) -> Result<Vec<HeldOut>, TrainError> {
        let mut found = Vec::new();
        for number in 0..self.tasks.len() {
            if let Some(loss) = self.held_out_loss(number) {
                let Ready { name, judged, .. } = &self.tasks[number];
                found.push(HeldOut { name: name.clone(), loss, judged: *judged });
            }
        }
        Ok(found)
    }

    fn save(&self) -> Result<(), TrainError> {
        let Course { config, progress, .. } = &self.course;
        let rows = self.tasks.iter().map(|t| t.rows[TRAIN].len()).sum();
        let networks = [(&self.decoder.parameters, &self.optimiser)];
        state::save_run(&config.out, (&same(config), rows), &networks, progress)
    }

    /// Writes the model twice: in f32, and in 8 bits beside it.
    fn write(&self, name: &str) -> Result<(), TrainError> {
        let card = self.card();
        let config = &self.course.config;
        let about =
            About { config, vocabulary: &self.vocabulary, contract: &self.contract, card: &card };
        folder::write(&config.out.join(name), &self.decoder, about, false)?;
        folder::write(&config.out.join(format!("{name}-int8")), &self.decoder, about, true)
    }
}

impl GeneratorTrainer {
    fn card(&self) -> String {
        let base = &self.contract.model;
        let count = |t: &Ready| (t.name.clone(), t.rows[TRAIN].len(), t.rows[HELD_OUT].len());
        let tasks: Vec<_> = self.tasks.iter().map(count).collect();
        let how = format!(
            "over {base}\n\nA decoder over the token states of `{base}`, which stays as it is"
        );
        card(&self.course, base, &how, &tasks)
    }
}

impl Ready {
    /// Adds rows to a batch, each new source with its states.
    fn add(
        &self,
        part: usize,
        rows: &[usize],
        (vocabulary, config): (&Vocabulary, &GeneratorConfig),
        (key, drop): (Key, Option<(Key, f32)>),
        batch: &mut Batch,
    ) {
        let mut known = None;
        for (i, &row) in rows.iter().enumerate() {
            let Row { source, lang, .. } = self.rows[part][row];
            if known != Some(source) {
                let mut memory = Memory::default();
                let drop = drop.map(|(key, share)| (key.part(i as u64), share));
                self.memories.read(source, drop, &mut memory.rows);
                batch.memories.push(memory);
                known = Some(source);
            }
            let ids = std::iter::once(vocabulary.tag(lang)).chain(self.ids[part][row].clone());
            batch.targets.push(Target {
                memory: batch.memories.len() - 1,
                ids: ids.collect(),
                list: if config.loss.output == Output::Full { 0 } else { lang },
                key: key.part(i as u64),
            });
        }
    }
}

fn encoder(config: &GeneratorConfig) -> Result<Encoder, TrainError> {
    let precision = Precision::named(&config.data.precision);
    let precision = precision.ok_or_else(|| TrainError::Setting {
        name: "data.precision",
        expected: "f32 or int8",
        found: config.data.precision.clone(),
    })?;
    let options = EncoderOptions { precision, keep_packed: false, ..EncoderOptions::default() };
    Ok(Encoder::open(&config.encoder, &options)?)
}

/// Tokens and states of all tasks; and how many questions were too long.
fn ready(
    config: &GeneratorConfig,
    (encoder, vocabulary): (&Encoder, &Vocabulary),
    tasks: Vec<Task>,
    tell: &mut dyn FnMut(&Event),
) -> Result<(Vec<Ready>, usize), TrainError> {
    let states = config.data.states.clone().unwrap_or_else(|| config.out.join("states"));
    let total: f64 = config.tasks.iter().map(|t| t.weight).sum();
    let mut too_long = 0;
    let mut all = Vec::new();
    for (number, (said, task)) in config.tasks.iter().zip(tasks).enumerate() {
        let of = task.sources.len();
        let mut told = |done: usize| tell(&Event::Read { task: said.name.clone(), done, of });
        let sources = (said.side.into(), &task.sources[..]);
        let memories = Memories::open(encoder, sources, &states, &mut told)?;
        let limit = config.decoder.positions;
        let mut fitting = |rows: Vec<Row>| -> Result<(Vec<Row>, Vec<Ids>), TrainError> {
            let ids = vocabulary.tokens(&rows)?;
            let all = rows.len();
            let kept: Vec<_> = rows.into_iter().zip(ids).filter(|(_, i)| i.len() < limit).collect();
            too_long += all - kept.len();
            Ok(kept.into_iter().unzip())
        };
        let (train, train_ids) = fitting(task.train)?;
        let (held_out, held_out_ids) = fitting(task.held_out)?;
        if train.is_empty() {
            return Err(TrainError::Setting {
                name: "decoder.positions",
                expected: "room for some questions of each task",
                found: format!("{limit}, and every question of {} is longer", said.name),
            });
        }
        let key = Key::new(config.run.seed).part(1).part(number as u64);
        let share = said.weight / total * config.batch.questions as f64;
        all.push(Ready {
            name: said.name.clone(),
            judged: said.judged.unwrap_or(said.weight),
            sampler: Sampler::new(key, &train, share),
            rows: [train, held_out],
            ids: [train_ids, held_out_ids],
            memories,
        });
    }
    Ok((all, too_long))
}

/// Heads must fit the encoder, which is known only once it is open.
fn check_heads(heads: usize, hidden: usize) -> Result<(), TrainError> {
    if hidden.is_multiple_of(heads) {
        return Ok(());
    }
    Err(TrainError::Setting {
        name: "decoder.heads",
        expected: "a number that divides the encoder's hidden size",
        found: format!("{heads}, with a hidden size of {hidden}"),
    })
}

fn shape(config: &GeneratorConfig, vocabulary: &Vocabulary, hidden: usize) -> Shape {
    let decoder = &config.decoder;
    Shape {
        hidden,
        layers: decoder.layers,
        heads: decoder.heads,
        inner: decoder.inner.unwrap_or(4 * hidden),
        positions: decoder.positions,
        vocabulary: vocabulary.size(),
        embed_scale: (hidden as f32).sqrt(),
        logit_scale: 1.0,
        norm_eps: 1e-5,
    }
}

/// The encoder's rows of the kept words.
fn initial(config: &GeneratorConfig, vocabulary: &Vocabulary) -> Result<Initial, TrainError> {
    let checkpoint = Checkpoint::open(&Recipe::read(&config.encoder)?.network)?;
    let named = |name: &&str| name.ends_with("embeddings.word_embeddings.weight");
    let name = checkpoint.names().find(named).unwrap_or("embeddings.word_embeddings.weight");
    let shape = checkpoint.shape(name).unwrap_or_default().to_vec();
    let table = checkpoint.tensor(name, &shape)?;
    let width = shape.get(1).copied().unwrap_or_default();
    let row = |&id: &u32| table.get(id as usize * width..(id as usize + 1) * width);
    let words =
        vocabulary.kept.iter().flat_map(|id| row(id).unwrap_or_default()).copied().collect();
    Ok(Initial { words, counts: vocabulary.counts.clone(), seed: config.run.seed })
}

fn lists(config: &GeneratorConfig, vocabulary: &Vocabulary) -> Lists {
    let lists = match config.loss.output {
        Output::Full => vec![(0..vocabulary.size() as u32).collect()],
        Output::Shortlist => vocabulary.shortlists.clone(),
    };
    Lists { lists, eos: EOS }
}

pub(super) fn rate(name: &'static str, share: f32) -> Result<Rate, TrainError> {
    Rate::new(share).ok_or_else(|| TrainError::Setting {
        name,
        expected: "0 or more and below 1",
        found: share.to_string(),
    })
}

pub(super) fn adam(config: &GeneratorConfig) -> AdamW {
    let o = &config.optimiser;
    let [beta1, beta2] = o.betas;
    AdamW { beta1, beta2, eps: o.eps, decay: o.weight_decay, clip: o.clip }
}

pub(super) fn schedule(config: &GeneratorConfig) -> Schedule {
    let (steps, o) = (config.run.steps, &config.optimiser);
    let warmup = (o.warmup * steps as f64).round() as u64;
    Schedule { peak: o.learning_rate, warmup, steps, decay: o.decay }
}

/// The settings that make a run the same one, wherever it lies.
pub(super) fn same(config: &GeneratorConfig) -> GeneratorConfig {
    let data = super::config::SourcesConfig { states: None, ..config.data.clone() };
    GeneratorConfig { out: PathBuf::new(), data, ..config.clone() }
}
