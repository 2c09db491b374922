//! The loop of a generator's run, whatever is trained: steps, validations, saves, and the end.

use std::path::PathBuf;

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
    /// Rows that are learned from.
    rows: usize,
}

impl Course {
    /// Takes up the state of an earlier run over so many rows, if there is one; `force` throws it
    /// away.
    ///
    /// # Errors
    /// When there is the state of another run, or a damaged one.
    pub fn open(
        config: GeneratorConfig,
        rows: usize,
        network: (&mut Parameters, &mut Optimiser),
        force: bool,
    ) -> Result<Self, TrainError> {
        if force {
            remove(&state::state_folder(&config.out))?;
        }
        let progress = state::load_run(&config.out, (&same(&config), rows), &mut [network])?;
        let progress = progress.unwrap_or_default();
        let log = Log::open(&config.out, progress.step)?;
        Ok(Self { schedule: schedule(&config), progress, log, rows, config })
    }

    /// Saves the state.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn save(&self, network: (&Parameters, &Optimiser)) -> Result<(), TrainError> {
        let settings = same(&self.config);
        state::save_run(&self.config.out, (&settings, self.rows), &[network], &self.progress)
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

/// What is trained.
pub trait Learner {
    /// The run's course.
    fn course(&mut self) -> &mut Course;

    /// What is told before the first step.
    fn begun(&self) -> Event;

    /// Learns from the rows of step `number`, from 0.
    ///
    /// # Errors
    /// When a loss is no number, or a device refuses.
    fn step(&mut self, number: u64) -> Result<Step, TrainError>;

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
        let number = learner.course().progress.step;
        let step = learner.step(number)?;
        let course = learner.course();
        course.progress.step = step.step;
        course.log.step(&step)?;
        let (now, last) = (step.step, step.step == steps);
        let GeneratorRun { validate_every, save_every, .. } = *course.run();
        tell(&Event::Stepped(step));
        if last || now.is_multiple_of(validate_every) {
            validate(&mut learner, tell)?;
            stopped = learner.course().waited_enough();
        }
        if last || stopped || now.is_multiple_of(save_every) {
            learner.save()?;
            tell(&Event::Saved { step: now });
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
    Ok(())
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
