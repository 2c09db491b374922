//! The loop of a generator's run, whatever is trained: steps, validations, saves, and the end.

use std::path::PathBuf;
use std::time::Instant;

use xqg_data::file::remove;
use xqg_kernel::dropout::Rate;

use super::config::{GeneratorConfig, GeneratorRun, SourcesConfig};
use super::event::{Event, MEASURE};
use crate::error::TrainError;
use crate::log::{Log, Step};
use crate::optimiser::{AdamW, Optimiser, Schedule};
use crate::parameters::Parameters;
use crate::state::{self, Progress};

/// What a run has beside what it trains.
#[derive(Debug)]
pub struct Course {
    /// Its settings.
    pub config: GeneratorConfig,
    /// The rates of its steps.
    pub schedule: Schedule,
    /// How far it is.
    pub progress: Progress,
    /// Where it is written down.
    pub log: Log,
    /// A hash of the files that are learned from.
    data: String,
}

impl Course {
    /// Takes up the state of an earlier run over the same files, if there is one; `force` throws it
    /// away.
    ///
    /// # Errors
    /// When there is the state of another run, or a damaged one, or a file cannot be read.
    pub fn open(
        config: GeneratorConfig,
        network: (&mut Parameters, &mut Optimiser),
        force: bool,
    ) -> Result<Self, TrainError> {
        if force {
            remove(&state::state_folder(&config.out))?;
        }
        let files = config.tasks.iter().flat_map(|task| task.files.iter().chain(&task.corpus));
        let data = state::hash_files(files)?;
        let progress = state::load_run(&config.out, (&same(&config), &data), &mut [network])?;
        let progress = progress.unwrap_or_default();
        let log = Log::open(&config.out, progress.step)?;
        Ok(Self { schedule: schedule(&config), progress, log, data, config })
    }

    /// Saves the state.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn save(&self, network: (&Parameters, &Optimiser)) -> Result<(), TrainError> {
        let settings = same(&self.config);
        state::save_run(&self.config.out, (&settings, &self.data), &[network], &self.progress)
    }

    fn run(&self) -> &GeneratorRun {
        &self.config.run
    }

    /// Whether the best validation lies as far back as the settings wait.
    fn waited_enough(&self) -> bool {
        let (run, step) = (self.run(), self.progress.step);
        let waited = |(_, best): (f64, u64)| step - best >= run.patience * run.validate_every;
        run.patience > 0 && self.progress.best.is_some_and(waited)
    }
}

/// A task's loss on held-out questions.
#[derive(Debug, Clone, PartialEq)]
pub struct HeldOut {
    /// The task.
    pub name: String,
    /// The mean over tokens.
    pub loss: f64,
    /// Its weight in the measure.
    pub judged: f64,
}

/// What the rows of a step ask of the parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Asked {
    /// The loss.
    pub loss: f64,
    /// The norm of the gradients.
    pub norm: f64,
    /// Number of questions.
    pub questions: usize,
}

/// What is trained.
pub trait Learner {
    /// The run's course.
    fn course(&mut self) -> &mut Course;

    /// What is told before the first step.
    fn begun(&self) -> Event;

    /// The gradients of the rows of step `number`, from 0.
    ///
    /// # Errors
    /// When a loss is no number, or a device refuses.
    fn gradient(&mut self, number: u64) -> Result<Asked, TrainError>;

    /// Changes the parameters by these gradients of that norm.
    ///
    /// # Errors
    /// When a device refuses.
    fn update(&mut self, norm: f64, rate: f64) -> Result<(), TrainError>;

    /// The losses of the tasks that have held-out questions.
    ///
    /// # Errors
    /// When a device refuses.
    fn held_out(&mut self) -> Result<Vec<HeldOut>, TrainError>;

    /// Saves the state.
    ///
    /// # Errors
    /// When the disk refuses.
    fn save(&mut self) -> Result<(), TrainError>;

    /// Writes the model under a name.
    ///
    /// # Errors
    /// When the disk refuses.
    fn write(&mut self, name: &str) -> Result<(), TrainError>;
}

/// Steps until the run is done; returns how far it came.
///
/// # Errors
/// When a loss is no number, or the disk refuses; the last saved state is good.
pub fn run(
    mut learner: impl Learner,
    tell: &mut dyn FnMut(&Event),
) -> Result<Progress, TrainError> {
    tell(&learner.begun());
    let steps = learner.course().schedule.steps;
    let mut stopped = learner.course().waited_enough();
    while learner.course().progress.step < steps && !stopped {
        let step = step(&mut learner, tell)?;
        let course = learner.course();
        course.progress.step = step.step;
        course.log.step(&step)?;
        let (now, last) = (step.step, step.step == steps);
        let validate_every = course.run().validate_every;
        tell(&Event::Stepped(step));
        if last || now.is_multiple_of(validate_every) {
            validate(&mut learner, tell)?;
            stopped = learner.course().waited_enough();
        }
        if last || stopped {
            learner.gradient(now)?;
            save(&mut learner, tell)?;
        }
    }
    let course = learner.course();
    let (progress, step) = (course.progress.clone(), course.progress.step);
    if stopped {
        tell(&Event::Stopped { step });
    }
    learner.write("last")?;
    learner.course().log.plot(&[MEASURE])?;
    Ok(progress)
}

/// A step. What the last one made is saved, where it is time, only now that its loss and gradient are seen
/// to be numbers.
fn step(learner: &mut impl Learner, tell: &mut dyn FnMut(&Event)) -> Result<Step, TrainError> {
    let course = learner.course();
    let (number, save_every) = (course.progress.step, course.run().save_every);
    let begun = Instant::now();
    let Asked { loss, norm, questions } = learner.gradient(number)?;
    let mut seconds = begun.elapsed().as_secs_f64();
    if number > 0 && number.is_multiple_of(save_every) {
        save(learner, tell)?;
    }
    let (begun, rate) = (Instant::now(), learner.course().schedule.rate(number));
    learner.update(norm, rate)?;
    seconds += begun.elapsed().as_secs_f64();
    let examples_per_second = questions as f64 / seconds;
    Ok(Step { step: number + 1, loss, rate, norm, examples_per_second })
}

fn save(learner: &mut impl Learner, tell: &mut dyn FnMut(&Event)) -> Result<(), TrainError> {
    learner.save()?;
    tell(&Event::Saved { step: learner.course().progress.step });
    Ok(())
}

fn validate(learner: &mut impl Learner, tell: &mut dyn FnMut(&Event)) -> Result<(), TrainError> {
    let found = learner.held_out()?;
    let weights: f64 = found.iter().map(|task| task.judged).sum();
    if weights == 0.0 {
        return Ok(());
    }
    let total: f64 = found.iter().map(|task| task.loss * task.judged).sum();
    let value = total / weights;
    let course = learner.course();
    let step = course.progress.step;
    if !value.is_finite() {
        let queries = "that are held out".to_owned();
        return Err(TrainError::NotFinite { step, loss: value, queries });
    }
    for HeldOut { name, loss, .. } in &found {
        course.log.validation(step, &format!("held-out loss of {name}"), *loss)?;
    }
    course.log.validation(step, MEASURE, value)?;
    let best = course.progress.best.is_none_or(|(before, _)| value < before);
    if best {
        course.progress.best = Some((value, step));
        learner.write("best")?;
    }
    let tasks = found.into_iter().map(|task| (task.name, task.loss)).collect();
    tell(&Event::Validated { step, value, tasks, best });
    Ok(learner.course().log.plot(&[MEASURE])?)
}

/// What a model card says of a run, under its title and its first paragraph.
pub fn card(course: &Course, base: &str, how: &str, tasks: &[(String, usize, usize)]) -> String {
    let best = match course.progress.best {
        Some((value, step)) => format!("Held-out loss {value:.4} a token after step {step}"),
        None => "Nothing was held out, so nothing was measured".to_owned(),
    };
    let row = |(name, learned, held): &(String, usize, usize)| {
        format!("| {name} | {learned} | {held} |\n")
    };
    let tasks: String = tasks.iter().map(row).collect();
    let config = &course.config;
    let langs: Vec<&str> = config.langs.iter().map(|lang| lang.code()).collect();
    let licence = config.data.licence.as_deref().unwrap_or("not stated");
    let config = GeneratorConfig { out: PathBuf::new(), ..config.clone() };
    let settings = toml::to_string(&config).expect("a configuration is TOML");
    format!(
        "---\nbase_model: {base}\npipeline_tag: text-generation\n---\n\
         # Questions in {} for passages, {how}; trained with `xqg train generator`, {} steps, and \
         used with `xqg generate`.\n\n\
         - {best}. Sources and questions are held out by a hash of their text.\n\
         - Licence of the training data: {licence}. The base model's licence holds too.\n\n\
         | task | questions learned from | held out |\n|---|---|---|\n{tasks}\n\
         Settings:\n\n```toml\n{settings}```\n",
        langs.join(", "),
        course.progress.step,
    )
}

/// A share that dropout may have.
///
/// # Errors
/// When it is below 0 or not below 1.
pub fn rate(name: &'static str, share: f32) -> Result<Rate, TrainError> {
    Rate::new(share).ok_or_else(|| TrainError::Setting {
        name,
        expected: "0 or more and below 1",
        found: share.to_string(),
    })
}

/// The optimiser's settings.
pub fn adam(config: &GeneratorConfig) -> AdamW {
    let o = &config.optimiser;
    let [beta1, beta2] = o.betas;
    AdamW { beta1, beta2, eps: o.eps, decay: o.weight_decay, clip: o.clip }
}

fn schedule(config: &GeneratorConfig) -> Schedule {
    let (steps, o) = (config.run.steps, &config.optimiser);
    let warmup = (o.warmup * steps as f64).round() as u64;
    Schedule { peak: o.learning_rate, warmup, steps, decay: o.decay }
}

/// The settings that make a run the same one, wherever it lies.
fn same(config: &GeneratorConfig) -> GeneratorConfig {
    let data = SourcesConfig { states: None, ..config.data.clone() };
    GeneratorConfig { out: PathBuf::new(), data, ..config.clone() }
}
