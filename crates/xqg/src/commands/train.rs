//! `xqg train`: reads the configuration, runs the trainer and tells how it goes.

use std::path::PathBuf;

use anyhow::Result;
use xqg_train::composed::device::Compute;
use xqg_train::config::TrainConfig;
use xqg_train::generator::config::GeneratorConfig;
use xqg_train::generator::event::{Event as GeneratorEvent, MEASURE};
use xqg_train::generator::t5::T5Trainer;
use xqg_train::generator::trainer::GeneratorTrainer;
use xqg_train::trainer::{Event, Trainer};

use super::model::fetch;
use crate::args::{TrainGeneratorArgs, TrainRetrieverArgs};
use crate::judging::Judge;
use crate::output;
use crate::progress::Display;

/// Trains a retriever and prints the folder of its best checkpoint.
pub fn retriever(args: &TrainRetrieverArgs) -> Result<()> {
    let mut config = TrainConfig::read(&args.config)?;
    let named = config.model.to_string_lossy().into_owned();
    config.model = fetch(args.model.as_ref().unwrap_or(&named))?;
    if let Some(out) = &args.out {
        config.out.clone_from(out);
    }
    let compute = Compute { place: args.device, precision: args.precision };
    let trainer = Trainer::open(config, compute, args.force)?;
    let out = trainer.out().to_path_buf();
    let mut teller = Teller { display: Display::new(), steps: 0 };
    let mut judge = Judge::default();
    let progress =
        trainer.run(&mut |ranked| judge.recall(ranked), &mut |event| teller.tell(event))?;
    teller.display.finish();
    let folder = out.join(if progress.best.is_some() { "best" } else { "last" });
    output::line(folder.display())
}

/// Shows events.
struct Teller {
    display: Display,
    steps: u64,
}

impl Teller {
    fn tell(&mut self, event: &Event) {
        match event {
            Event::Begun { rows, held_out, truncated, done, steps } => {
                self.steps = *steps;
                output::note(format_args!("{rows} rows to learn from, {held_out} held out"));
                if *truncated > 0 {
                    output::warn(format_args!(
                        "{truncated} texts were cut to their greatest length"
                    ));
                }
                if *done > 0 {
                    output::note(format_args!("going on after step {done} of {steps}"));
                }
            }
            Event::Stepped(step) => {
                self.display.remark(format!(
                    "loss {:.4}, rate {:.2e}, {:.1} queries/s",
                    step.loss, step.rate, step.examples_per_second
                ));
                self.display.show("training", "steps", step.step, Some(self.steps));
            }
            Event::Validated { step, measure, value, best } => {
                self.display.finish();
                let mark = if *best { ", the best so far" } else { "" };
                output::note(format_args!("step {step}: {measure} {value:.4}{mark}"));
            }
            Event::Saved { step } => output::note(format_args!("step {step}: saved")),
            _ => {}
        }
    }
}

/// Trains a generator and prints the folder of its best model.
pub fn generator(args: &TrainGeneratorArgs) -> Result<()> {
    let mut config = GeneratorConfig::read(&args.config)?;
    if let Some(encoder) = &args.encoder {
        config.encoder = PathBuf::from(encoder);
    }
    if let Some(out) = &args.out {
        config.out.clone_from(out);
    }
    config.check()?;
    let mut teller = GeneratorTeller { display: Display::new(), steps: 0 };
    let tell = &mut |event: &GeneratorEvent| teller.tell(event);
    let compute = Compute { place: args.device, precision: args.precision };
    let (out, progress) = if let Some(named) = config.model.clone() {
        let base = fetch(&named.to_string_lossy())?;
        let trainer = T5Trainer::open(config, &base, compute, args.force)?;
        (trainer.out().to_path_buf(), trainer.run(tell)?)
    } else {
        config.encoder = fetch(&config.encoder.to_string_lossy())?;
        let trainer = GeneratorTrainer::open(config, compute, args.force, tell)?;
        (trainer.out().to_path_buf(), trainer.run(tell)?)
    };
    teller.display.finish();
    output::line(out.join(if progress.best.is_some() { "best" } else { "last" }).display())
}

/// Shows the events of a generator's run.
struct GeneratorTeller {
    display: Display,
    steps: u64,
}

impl GeneratorTeller {
    fn tell(&mut self, event: &GeneratorEvent) {
        use GeneratorEvent as Event;
        match event {
            Event::Read { task, done, of } => {
                let what = format!("reading the sources of {task}");
                self.display.show(&what, "sources", *done as u64, Some(*of as u64));
            }
            Event::Begun { .. } => self.begun(event),
            Event::Stepped(step) => {
                self.display.remark(format!(
                    "loss {:.4}, rate {:.2e}, {:.1} questions/s",
                    step.loss, step.rate, step.examples_per_second
                ));
                self.display.show("training", "steps", step.step, Some(self.steps));
            }
            Event::Validated { step, value, tasks, best } => {
                self.display.finish();
                let mark = if *best { ", the best so far" } else { "" };
                let each: Vec<String> =
                    tasks.iter().map(|(name, loss)| format!("{name} {loss:.3}")).collect();
                output::note(format_args!(
                    "step {step}: {} {value:.4}{mark} ({})",
                    MEASURE,
                    each.join(", ")
                ));
            }
            Event::Saved { step } => output::note(format_args!("step {step}: saved")),
            Event::Stopped { step } => {
                output::note(format_args!(
                    "step {step}: nothing better came, so the run ends here"
                ));
            }
            _ => {}
        }
    }

    fn begun(&mut self, event: &GeneratorEvent) {
        let GeneratorEvent::Begun {
            tasks,
            truncated,
            too_long,
            vocabulary,
            parameters,
            done,
            steps,
        } = event
        else {
            return;
        };
        self.display.finish();
        self.steps = *steps;
        for (name, train, held_out) in tasks {
            output::note(format_args!("{name}: {train} rows to learn from, {held_out} held out"));
        }
        output::note(format_args!("{vocabulary} tokens, {parameters} parameters"));
        if *truncated > 0 {
            output::warn(format_args!("{truncated} sources were cut to their greatest length"));
        }
        if *too_long > 0 {
            output::warn(format_args!("{too_long} questions are longer than decoder.positions"));
        }
        if *done > 0 {
            output::note(format_args!("going on after step {done} of {steps}"));
        }
    }
}
