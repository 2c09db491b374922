//! Training a T5 or mT5 to write questions: the rows of a generator's tasks, each source behind a
//! prompt that names the language, through encoder and decoder (Zhuang et al. 2023, section 4).

use std::path::{Path, PathBuf};

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

use super::config::GeneratorConfig;
use super::event::Event;
use super::prepared::{HELD_OUT, Prepared, TRAIN};
use super::rows::{Row, Task};
use super::run::{self, Asked, Course, HeldOut, Learner, adam, card, rate};
use super::vocabulary::Ids;
use crate::composed::decoding::{Losses, Pairs, Share};
use crate::composed::device::Compute;
use crate::composed::t5::T5;
use crate::error::TrainError;
use crate::folder::copy_small;
use crate::gradients::Gradients;
use crate::optimiser::Optimiser;
use crate::state::Progress;

/// A task that is ready.
#[derive(Debug)]
struct Ready {
    task: Prepared,
    side: Side,
    sources: Vec<String>,
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
        let device = compute.open_composed()?;
        config.out = output_path(&config.out)?;
        let lock = Lock::take(&config.out)?;
        let shape = T5Config::read(base)?;
        let dropout = rate("decoder.dropout", config.decoder.dropout)?;
        let (tokenizer, most) = (Tokenizer::open(base)?, config.data.prompt_tokens);
        let reader = Reader { tokenizer, most, known: shape.vocab_size };
        let tasks = (0..config.tasks.len()).map(|number| Ready::read(&config, number, &reader));
        let tasks: Vec<Ready> = tasks.collect::<Result<_, _>>()?;
        let mut truncated = 0;
        for task in &tasks {
            truncated += reader.truncated(task, &config)?;
        }
        writable_folder(&config.out)?;
        let mut t5 = T5::load(&Checkpoint::open(base)?, shape, device)?;
        let mut optimiser = Optimiser::new(adam(&config), &t5.parameters);
        let course = Course::open(config, (&mut t5.parameters, &mut optimiser), force)?;
        t5.refresh()?;
        let gradients = Gradients::zeros(&t5.parameters);
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
        tasks.flat_map(|(i, t)| t.task.step(step).into_iter().map(move |row| (i, row))).collect()
    }

    /// Inputs and targets of some rows.
    fn pairs(&self, part: usize, rows: &[(usize, usize)]) -> Result<Pairs, TrainError> {
        let langs = &self.course.config.langs;
        let mut pairs = Pairs::default();
        for &(task, row) in rows {
            let task = &self.tasks[task];
            let Row { source, lang, .. } = &task.task.rows[part][row];
            let prompt = prompted(task.side, &prompt(langs[*lang]), langs[*lang].name());
            pairs.inputs.push(self.reader.input(&prompt, &task.sources[*source])?.ids);
            pairs.targets.push(task.task.ids[part][row].clone());
        }
        Ok(pairs)
    }

    fn learn(&mut self, number: u64, rows: &[(usize, usize)]) -> Result<Losses, TrainError> {
        let config = &self.course.config;
        let (at_once, seed) = (config.batch.at_once, config.run.seed);
        let smoothing = f64::from(config.loss.label_smoothing);
        let length = |&(task, row): &(usize, usize)| self.tasks[task].task.ids[TRAIN][row].len();
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

    /// The loss of a task's first held-out questions, all tokens together, and the tokens.
    fn held_out_loss(&self, number: usize) -> Result<(f64, usize), TrainError> {
        let config = &self.course.config;
        let count = self.tasks[number].task.looked_at(config);
        let rows: Vec<(usize, usize)> = (0..count).map(|row| (number, row)).collect();
        let (mut total, mut tokens) = (0.0, 0);
        for some in rows.chunks(config.batch.at_once) {
            let pairs = self.pairs(HELD_OUT, some)?;
            let sums = self.t5.log_probabilities(&pairs)?;
            total -= sums.iter().map(|&sum| f64::from(sum)).sum::<f64>();
            tokens += pairs.targets.iter().map(Vec::len).sum::<usize>();
        }
        Ok((total, tokens))
    }

    fn broken(&self, number: u64, rows: &[(usize, usize)], loss: f64) -> TrainError {
        let text = |&(task, row): &(usize, usize)| {
            format!("`{}`", self.tasks[task].task.rows[TRAIN][row].text)
        };
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
            tasks: self.tasks.iter().map(|t| t.task.counts()).collect(),
            truncated: self.truncated,
            too_long: self.tasks.iter().map(|t| t.task.too_long).sum(),
            vocabulary: self.reader.known,
            parameters: self.t5.parameters.count(),
            done: self.course.progress.step,
            steps: self.course.schedule.steps,
        }
    }

    fn gradient(&mut self, number: u64) -> Result<Asked, TrainError> {
        let rows = self.rows(number);
        self.gradients.clear();
        let loss = self.learn(number, &rows)?.smoothed;
        let norm = self.gradients.norm();
        if !loss.is_finite() || !norm.is_finite() {
            return Err(self.broken(number, &rows, loss));
        }
        Ok(Asked { loss, norm, questions: rows.len() })
    }

    fn update(&mut self, norm: f64, rate: f64) -> Result<(), TrainError> {
        self.optimiser.step_of_norm(&mut self.t5.parameters, &self.gradients, (norm, rate));
        self.t5.refresh()
    }

    fn held_out(&mut self) -> Result<Vec<HeldOut>, TrainError> {
        let mut found = Vec::new();
        for (number, task) in self.tasks.iter().enumerate() {
            found.extend(task.task.held_out(self.held_out_loss(number)?));
        }
        Ok(found)
    }

    fn save(&mut self) -> Result<(), TrainError> {
        self.course.save((&self.t5.parameters, &self.optimiser))
    }

    /// Writes the model as the base's folder has it, with the weights of now.
    fn write(&mut self, name: &str) -> Result<(), TrainError> {
        let to = self.course.config.out.join(name);
        let partial = partial_path(&to);
        remove(&partial)?;
        std::fs::create_dir_all(&partial).map_err(DataError::io("creating", &partial))?;
        copy_small(&self.base, &partial)?;
        let base = self.base.file_name().unwrap_or_default().to_string_lossy();
        let tasks: Vec<_> = self.tasks.iter().map(|t| t.task.counts()).collect();
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

    /// The tokens of some rows' questions, ends included.
    fn targets(&self, rows: &[Row]) -> Result<Vec<Ids>, TrainError> {
        let texts: Vec<String> = rows.iter().map(|row| row.text.clone()).collect();
        let ids = self.tokenizer.encode("", &texts, usize::MAX)?;
        ids.iter().try_for_each(|tokens| self.check(&tokens.ids))?;
        Ok(ids.into_iter().map(|tokens| tokens.ids).collect())
    }
}

impl Ready {
    fn read(config: &GeneratorConfig, number: usize, reader: &Reader) -> Result<Self, TrainError> {
        let said = &config.tasks[number];
        let Task { sources, train, held_out } = Task::read(config, said)?;
        let tokens = |rows: &[Row]| reader.targets(rows);
        let room = (config.decoder.positions, &tokens as &dyn Fn(&[Row]) -> _);
        let task = Prepared::new(config, number, [train, held_out], room)?;
        Ok(Self { task, side: said.side.into(), sources })
    }
}
