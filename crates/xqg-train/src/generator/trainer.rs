//! The training loop of a generator: rows in, steps, validation, saves; and on again after a kill.

use std::path::Path;

use xqg_data::file::{Lock, output_path, writable_folder};
use xqg_kernel::dropout::Key;
use xqg_model::checkpoint::Checkpoint;
use xqg_model::encoder::{Encoder, EncoderOptions};
use xqg_model::linear::Precision;
use xqg_model::recipe::Recipe;

use super::config::{GeneratorConfig, Output};
use super::event::Event;
use super::folder::{self, About};
use super::learning::LearningDecoder;
use super::memories::Memories;
use super::prepared::{HELD_OUT, Prepared, TRAIN};
use super::rows::{Row, Task};
use super::run::{self, Asked, Course, HeldOut, Learner, adam, card, rate};
use super::vocabulary::{EOS, Vocabulary};
use crate::composed::device::Compute;
use crate::decoder::{Batch, Decoder, Initial, Lists, Memory, Shape, Target};
use crate::error::TrainError;
use crate::state::Progress;

/// Questions that are looked at together where nothing is learned.
const AT_ONCE: usize = 128;

/// A task that is ready, with what the encoder says of its sources.
#[derive(Debug)]
struct Ready {
    task: Prepared,
    memories: Memories,
}

/// A run that is ready for its next step.
#[derive(Debug)]
pub struct GeneratorTrainer {
    course: Course,
    contract: xqg_data::contract::EncoderContract,
    vocabulary: Vocabulary,
    tasks: Vec<Ready>,
    lists: Lists,
    learning: LearningDecoder,
    _lock: Lock,
}

impl GeneratorTrainer {
    /// Reads everything that a run needs, computes what the encoder says about every source, and
    /// takes up the state of an earlier run if there is one; `force` throws that away.
    ///
    /// # Errors
    /// When a file is missing, bad or of another run, or there is no such device.
    pub fn open(
        mut config: GeneratorConfig,
        compute: Compute,
        force: bool,
        tell: &mut dyn FnMut(&Event),
    ) -> Result<Self, TrainError> {
        config.check()?;
        let device = compute.open()?;
        config.out = output_path(&config.out)?;
        let lock = Lock::take(&config.out)?;
        let encoder = encoder(&config)?;
        check_heads(config.decoder.heads, encoder.hidden_size())?;
        let read = |task| Task::read(&config, task);
        let tasks: Vec<Task> = config.tasks.iter().map(read).collect::<Result<_, _>>()?;
        writable_folder(&config.out)?;
        let vocabulary = Vocabulary::open(&config, &tasks, &config.out.join("vocabulary"))?;
        let shape = shape(&config, &vocabulary, encoder.hidden_size());
        let tasks = ready(&config, (&encoder, &vocabulary), tasks, tell)?;
        let mut decoder = Decoder::new(shape, &initial(&config, &vocabulary)?);
        decoder.dropout = Some(rate("decoder.dropout", config.decoder.dropout)?);
        let mut learning = LearningDecoder::new(decoder, adam(&config));
        let lists = lists(&config, &vocabulary);
        let network = (&mut learning.decoder.parameters, &mut learning.optimiser);
        let course = Course::open(config, network, force)?;
        if let Some(device) = device {
            learning.place(&device)?;
        }
        let contract = encoder.contract().clone();
        Ok(Self { course, contract, vocabulary, tasks, lists, learning, _lock: lock })
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
            let rows = task.task.step(step);
            let key = key.part(number as u64);
            let drop = (share > 0.0).then_some((key.part(u64::MAX), share));
            let about = (&self.vocabulary, &self.course.config);
            task.add(TRAIN, &rows, about, (key, drop), &mut batch);
        }
        batch
    }

    fn broken(&mut self, step: u64, loss: f64) -> TrainError {
        let named = |t: &mut Ready| {
            let rows = t.task.step(step);
            rows.first().map(|&row| format!("`{}`", t.task.rows[TRAIN][row].text))
        };
        let texts: Vec<String> = self.tasks.iter_mut().filter_map(named).collect();
        TrainError::NotFinite { step: step + 1, loss, queries: texts.join(", ") }
    }

    /// The loss of a task's first held-out questions, all tokens together, and the tokens.
    fn held_out_loss(&mut self, number: usize) -> Result<(f64, usize), TrainError> {
        let task = &self.tasks[number];
        let count = task.task.looked_at(&self.course.config);
        let (mut total, mut tokens) = (0.0, 0);
        for start in (0..count).step_by(AT_ONCE) {
            let rows: Vec<usize> = (start..count.min(start + AT_ONCE)).collect();
            let (mut batch, about) = (Batch::default(), (&self.vocabulary, &self.course.config));
            task.add(HELD_OUT, &rows, about, (Key::new(0), None), &mut batch);
            let loss = self.learning.loss(&batch, &self.lists)?;
            total += loss.plain * loss.tokens as f64;
            tokens += loss.tokens;
        }
        Ok((total, tokens))
    }
}

impl Learner for GeneratorTrainer {
    fn course(&mut self) -> &mut Course {
        &mut self.course
    }

    fn begun(&self) -> Event {
        Event::Begun {
            tasks: self.tasks.iter().map(|t| t.task.counts()).collect(),
            truncated: self.tasks.iter().map(|t| t.memories.truncated).sum(),
            too_long: self.tasks.iter().map(|t| t.task.too_long).sum(),
            vocabulary: self.vocabulary.size(),
            parameters: self.learning.decoder.parameters.count(),
            done: self.course.progress.step,
            steps: self.course.schedule.steps,
        }
    }

    fn gradient(&mut self, number: u64) -> Result<Asked, TrainError> {
        let batch = self.batch(number);
        let smoothing = self.course.config.loss.label_smoothing;
        let loss = self.learning.learn(&batch, (&self.lists, smoothing))?.smoothed;
        let norm = self.learning.norm()?;
        if !loss.is_finite() || !norm.is_finite() {
            return Err(self.broken(number, loss));
        }
        Ok(Asked { loss, norm, questions: batch.targets.len() })
    }

    fn update(&mut self, norm: f64, rate: f64) -> Result<(), TrainError> {
        self.learning.step(norm, rate)
    }

    fn held_out(&mut self) -> Result<Vec<HeldOut>, TrainError> {
        let mut found = Vec::new();
        for number in 0..self.tasks.len() {
            let loss = self.held_out_loss(number)?;
            found.extend(self.tasks[number].task.held_out(loss));
        }
        Ok(found)
    }

    fn save(&mut self) -> Result<(), TrainError> {
        self.learning.to_host()?;
        let LearningDecoder { decoder, optimiser, .. } = &self.learning;
        self.course.save((&decoder.parameters, optimiser))
    }

    /// Writes the model twice: in f32, and in 8 bits beside it.
    fn write(&mut self, name: &str) -> Result<(), TrainError> {
        self.learning.to_host()?;
        let (card, decoder) = (self.card(), &self.learning.decoder);
        let config = &self.course.config;
        let about =
            About { config, vocabulary: &self.vocabulary, contract: &self.contract, card: &card };
        folder::write(&config.out.join(name), decoder, about, false)?;
        folder::write(&config.out.join(format!("{name}-int8")), decoder, about, true)
    }
}

impl GeneratorTrainer {
    fn card(&self) -> String {
        let base = &self.contract.model;
        let tasks: Vec<_> = self.tasks.iter().map(|t| t.task.counts()).collect();
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
            let Row { source, lang, .. } = self.task.rows[part][row];
            if known != Some(source) {
                let mut memory = Memory::default();
                let drop = drop.map(|(key, share)| (key.part(i as u64), share));
                self.memories.read(source, drop, &mut memory.rows);
                batch.memories.push(memory);
                known = Some(source);
            }
            let ids = std::iter::once(vocabulary.tag(lang)).chain(self.task.ids[part][row].clone());
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

/// Tokens and states of all tasks.
fn ready(
    config: &GeneratorConfig,
    (encoder, vocabulary): (&Encoder, &Vocabulary),
    tasks: Vec<Task>,
    tell: &mut dyn FnMut(&Event),
) -> Result<Vec<Ready>, TrainError> {
    let states = config.data.states.clone().unwrap_or_else(|| config.out.join("states"));
    // A question's tokens stand behind its language's.
    let most = config.decoder.positions - 1;
    let mut all = Vec::new();
    for (number, (said, task)) in config.tasks.iter().zip(tasks).enumerate() {
        let Task { sources, train, held_out } = task;
        let of = sources.len();
        let mut told = |done: usize| tell(&Event::Read { task: said.name.clone(), done, of });
        let memories =
            Memories::open(encoder, (said.side.into(), &sources[..]), &states, &mut told)?;
        let tokens = |rows: &[Row]| vocabulary.tokens(rows);
        let task = Prepared::new(config, number, [train, held_out], (most, &tokens))?;
        all.push(Ready { task, memories });
    }
    Ok(all)
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
