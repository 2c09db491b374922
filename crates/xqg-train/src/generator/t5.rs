//! Training a T5 or mT5 to write questions: the rows of a generator's tasks, each source behind a
//! prompt that names the language, through encoder and decoder (Zhuang et al. 2023, section 4).

use std::path::{Path, PathBuf};
use std::time::Instant;

use candle_core::Device;
use xqg_data::embeddings::Side;
use xqg_data::error::DataError;
use xqg_data::file::{
    Lock, output_path, partial_path, remove, replace_folder, writable_folder, write_whole,
};
use xqg_kernel::dropout::{Key, Rate};
use xqg_model::checkpoint::Checkpoint;
use xqg_model::error::ModelError;
use xqg_model::generator::prompt;
use xqg_model::t5_config::T5Config;
use xqg_model::tokenizer::{Tokenizer, Tokens};

use super::config::{GeneratorConfig, TaskConfig};
use super::rows::{Row, Task};
use super::run::{self, Course, HeldOut, Learner, card};
use super::sampler::Sampler;
use super::trainer::{Event, adam, rate, same, schedule};
use super::vocabulary::Ids;
use crate::composed::decoding::{Losses, Pairs, Share};
use crate::composed::device::Compute;
use crate::composed::t5::T5;
use crate::error::TrainError;
use crate::folder::copy_small;
use crate::gradients::Gradients;
use crate::log::{Log, Step};
use crate::optimiser::Optimiser;
use crate::state::{self, Progress};

const TRAIN: usize = 0;
const HELD_OUT: usize = 1;

/// A task that is ready.
#[derive(Debug)]
struct Ready {
    name: String,
    side: Side,
    judged: f64,
    sources: Vec<String>,
    rows: [Vec<Row>; 2],
    targets: [Vec<Ids>; 2],
    sampler: Sampler,
}

/// Texts to tokens.
#[derive(Debug)]
struct Reader {
    tokenizer: Tokenizer,
    /// Tokens of prompt and source at most.
    most: usize,
    /// Tokens that the network knows.
    known: usize,
}

/// A run that is ready for its next step.
#[derive(Debug)]
pub struct T5Trainer {
    course: Course,
    base: PathBuf,
    reader: Reader,
    tasks: Vec<Ready>,
    t5: T5,
    dropout: Rate,
    optimiser: Optimiser,
    gradients: Gradients,
    too_long: usize,
    truncated: usize,
    _lock: Lock,
}

impl T5Trainer {
    /// Reads everything that a run needs, and takes up the state of an earlier run if there is one;
    /// `force` throws that away. `base` is the folder of the T5 to begin with.
    ///
    /// # Errors
    /// When a file is missing, bad or of another run, or there is no such device.
    pub fn open(
        mut config: GeneratorConfig,
        base: &Path,
        compute: Compute,
        force: bool,
    ) -> Result<Self, TrainError> {
        config.check()?;
        let device = compute.open()?.map_or(Device::Cpu, |opened| opened.device);
        config.out = output_path(&config.out)?;
        let lock = Lock::take(&config.out)?;
        let shape = T5Config::read(base)?;
        let dropout = rate("decoder.dropout", config.decoder.dropout)?;
        let (tokenizer, most) = (Tokenizer::open(base)?, config.data.prompt_tokens);
        let reader = Reader { tokenizer, most, known: shape.vocab_size };
        let (mut tasks, mut too_long, mut truncated) = (Vec::new(), 0, 0);
        for (number, said) in config.tasks.iter().enumerate() {
            let (task, left_out) = Ready::read(&config, (number, said), &reader)?;
            too_long += left_out;
            truncated += reader.truncated(&task, &config)?;
            tasks.push(task);
        }
        writable_folder(&config.out)?;
        if force {
            remove(&state::state_folder(&config.out))?;
        }
        let mut t5 = T5::load(&Checkpoint::open(base)?, shape, device)?;
        let mut optimiser = Optimiser::new(adam(&config), &t5.parameters);
        let rows = tasks.iter().map(|t| t.rows[TRAIN].len()).sum();
        let networks = &mut [(&mut t5.parameters, &mut optimiser)];
        let progress = state::load_run(&config.out, (&same(&config), rows), networks)?;
        t5.refresh()?;
        let progress = progress.unwrap_or_default();
        let log = Log::open(&config.out, progress.step)?;
        let gradients = Gradients::zeros(&t5.parameters);
        let course = Course { schedule: schedule(&config), progress, log, config };
        let base = base.to_path_buf();
        Ok(Self {
            course,
            base,
            reader,
            tasks,
            t5,
            dropout,
            optimiser,
            gradients,
            too_long,
            truncated,
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

    /// The rows of a step, as task and place.
    fn rows(&mut self, step: u64) -> Vec<(usize, usize)> {
        let tasks = self.tasks.iter_mut().enumerate();
        tasks.flat_map(|(i, t)| t.sampler.step(step).into_iter().map(move |row| (i, row))).collect()
    }

    /// Inputs and targets of some rows.
    fn pairs(&self, part: usize, rows: &[(usize, usize)]) -> Result<Pairs, TrainError> {
        let langs = &self.course.config.langs;
        let mut pairs = Pairs::default();
        for &(task, row) in rows {
            let task = &self.tasks[task];
            let Row { source, lang, .. } = &task.rows[part][row];
            let prompt = prompted(task.side, &prompt(langs[*lang]), langs[*lang].name());
            pairs.inputs.push(self.reader.input(&prompt, &task.sources[*source])?.ids);
            pairs.targets.push(task.targets[part][row].clone());
        }
        Ok(pairs)
    }

    fn learn(&mut self, number: u64, rows: &[(usize, usize)]) -> Result<Losses, TrainError> {
        let config = &self.course.config;
        let (at_once, seed) = (config.batch.at_once, config.run.seed);
        let smoothing = f64::from(config.loss.label_smoothing);
        let length = |&(task, row): &(usize, usize)| self.tasks[task].targets[TRAIN][row].len();
        let tokens = rows.iter().map(length).sum();
        let key = Key::new(seed).part(2).part(number);
        let mut all = Losses::default();
        for (i, some) in rows.chunks(at_once).enumerate() {
            let pairs = self.pairs(TRAIN, some)?;
            let dropout = Some((self.dropout, key.part(i as u64)));
            let share = Share { tokens, smoothing, dropout };
            let losses = self.t5.learn_part(&pairs, share, &mut self.gradients)?;
            all.smoothed += losses.smoothed;
            all.plain += losses.plain;
            all.tokens += losses.tokens;
        }
        Ok(all)
    }

    /// The mean loss over tokens of a task's first held-out questions; `None` where there are none.
    fn held_out_loss(&self, number: usize) -> Result<Option<f64>, TrainError> {
        let config = &self.course.config;
        let count = self.tasks[number].rows[HELD_OUT].len().min(config.run.validate_on);
        let rows: Vec<(usize, usize)> = (0..count).map(|row| (number, row)).collect();
        let (mut total, mut tokens) = (0.0, 0);
        for some in rows.chunks(config.batch.at_once) {
            let pairs = self.pairs(HELD_OUT, some)?;
            let sums = self.t5.log_probabilities(&pairs)?;
            total -= sums.iter().map(|&sum| f64::from(sum)).sum::<f64>();
            tokens += pairs.targets.iter().map(Vec::len).sum::<usize>();
        }
        Ok((tokens > 0).then(|| total / tokens as f64))
    }

    fn count(&self, task: &Ready) -> (String, usize, usize) {
        (task.name.clone(), task.rows[TRAIN].len(), task.rows[HELD_OUT].len())
    }

    fn broken(&self, number: u64, rows: &[(usize, usize)], loss: f64) -> TrainError {
        let text =
            |&(task, row): &(usize, usize)| format!("`{}`", self.tasks[task].rows[TRAIN][row].text);
        let texts: Vec<String> = rows.iter().take(3).map(text).collect();
        TrainError::NotFinite { step: number + 1, loss, queries: texts.join(", ") }
    }
}

impl Learner for T5Trainer {
    fn course(&mut self) -> &mut Course {
        &mut self.course
    }

    fn begun(&self) -> Event {
        Event::Begun {
            tasks: self.tasks.iter().map(|task| self.count(task)).collect(),
            truncated: self.truncated,
            too_long: self.too_long,
            vocabulary: self.reader.known,
            parameters: self.t5.parameters.count(),
            done: self.course.progress.step,
            steps: self.course.schedule.steps,
        }
    }

    fn step(&mut self, number: u64) -> Result<Step, TrainError> {
        let begun = Instant::now();
        let rows = self.rows(number);
        self.gradients.clear();
        let loss = self.learn(number, &rows)?.smoothed;
        let norm = self.gradients.norm();
        if !loss.is_finite() || !norm.is_finite() {
            return Err(self.broken(number, &rows, loss));
        }
        let rate = self.course.schedule.rate(number);
        self.optimiser.step_of_norm(&mut self.t5.parameters, &self.gradients, (norm, rate));
        self.t5.refresh()?;
        let examples_per_second = rows.len() as f64 / begun.elapsed().as_secs_f64();
        Ok(Step { step: number + 1, loss, rate, norm, examples_per_second })
    }

    fn held_out(&mut self) -> Result<Vec<HeldOut>, TrainError> {
        let mut found = Vec::new();
        for (number, Ready { name, judged, .. }) in self.tasks.iter().enumerate() {
            if let Some(loss) = self.held_out_loss(number)? {
                found.push(HeldOut { name: name.clone(), loss, judged: *judged });
            }
        }
        Ok(found)
    }

    fn save(&self) -> Result<(), TrainError> {
        let Course { config, progress, .. } = &self.course;
        let rows = self.tasks.iter().map(|t| t.rows[TRAIN].len()).sum();
        let networks = [(&self.t5.parameters, &self.optimiser)];
        state::save_run(&config.out, (&same(config), rows), &networks, progress)
    }

    /// Writes the model as the base's folder has it, with the weights of now.
    fn write(&self, name: &str) -> Result<(), TrainError> {
        let to = self.course.config.out.join(name);
        let partial = partial_path(&to);
        remove(&partial)?;
        std::fs::create_dir_all(&partial).map_err(DataError::io("creating", &partial))?;
        copy_small(&self.base, &partial)?;
        let base = self.base.file_name().unwrap_or_default().to_string_lossy();
        let tasks: Vec<_> = self.tasks.iter().map(|task| self.count(task)).collect();
        let how = format!("by {base}\n\nThe whole of `{base}`");
        write_whole(
            &partial.join("README.md"),
            card(&self.course, &base, &how, &tasks).as_bytes(),
        )?;
        self.t5.parameters.write(&partial.join("model.safetensors"), &[])?;
        Ok(replace_folder(&partial, &to)?)
    }
}

/// What stands before a source: before a passage the prompt of every T5 generator, before a question
/// one that asks for the same question.
fn prompted(side: Side, passage: &str, language: &str) -> String {
    match side {
        Side::Passage => passage.to_owned(),
        Side::Query => format!("Write this question in {language}: "),
    }
}

impl Reader {
    /// The tokens of a source behind its prompt.
    fn input(&self, prompt: &str, source: &str) -> Result<Tokens, TrainError> {
        let tokens = self.tokenizer.session().encode(prompt, source, self.most);
        let tokens = tokens.map_err(|source| ModelError::Tokenize { index: 0, source })?;
        self.check(&tokens.ids)?;
        Ok(tokens)
    }

    fn check(&self, ids: &[u32]) -> Result<(), TrainError> {
        match ids.iter().find(|&&id| id as usize >= self.known) {
            None => Ok(()),
            Some(id) => {
                let expected = format!("token ids below {}", self.known);
                Err(ModelError::Token { index: 0, expected, found: id.to_string() }.into())
            }
        }
    }

    /// Sources of a task that are cut behind the prompt of the first language.
    fn truncated(&self, task: &Ready, config: &GeneratorConfig) -> Result<usize, TrainError> {
        let lang = config.langs[0];
        let prompt = prompted(task.side, &prompt(lang), lang.name());
        let all = self.tokenizer.encode(&prompt, &task.sources, self.most)?;
        Ok(all.iter().filter(|tokens| tokens.truncated).count())
    }

    /// Rows whose questions have at most so many tokens, with the tokens.
    fn targets(&self, rows: Vec<Row>, limit: usize) -> Result<(Vec<Row>, Vec<Ids>), TrainError> {
        let texts: Vec<String> = rows.iter().map(|row| row.text.clone()).collect();
        let ids = self.tokenizer.encode("", &texts, usize::MAX)?;
        ids.iter().try_for_each(|tokens| self.check(&tokens.ids))?;
        let both = rows.into_iter().zip(ids.into_iter().map(|tokens| tokens.ids));
        Ok(both.filter(|(_, ids)| ids.len() <= limit).unzip())
    }
}

impl Ready {
    /// Reads a task; and how many questions were too long.
    fn read(
        config: &GeneratorConfig,
        (number, said): (usize, &TaskConfig),
        reader: &Reader,
    ) -> Result<(Self, usize), TrainError> {
        let Task { sources, train, held_out } = Task::read(config, said)?;
        let all = train.len() + held_out.len();
        let limit = config.decoder.positions;
        let (train, train_ids) = reader.targets(train, limit)?;
        let (held_out, held_out_ids) = reader.targets(held_out, limit)?;
        let too_long = all - train.len() - held_out.len();
        if train.is_empty() {
            return Err(TrainError::Setting {
                name: "decoder.positions",
                expected: "room for some questions of each task",
                found: format!("{limit}, and every question of {} is longer", said.name),
            });
        }
        let total: f64 = config.tasks.iter().map(|t| t.weight).sum();
        let key = Key::new(config.run.seed).part(1).part(number as u64);
        let share = said.weight / total * config.batch.questions as f64;
        let task = Self {
            name: said.name.clone(),
            side: said.side.into(),
            judged: said.judged.unwrap_or(said.weight),
            sources,
            sampler: Sampler::new(key, &train, share),
            rows: [train, held_out],
            targets: [train_ids, held_out_ids],
        };
        Ok((task, too_long))
    }
}
