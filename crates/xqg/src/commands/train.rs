//! `xqg train retriever`: reads the configuration, runs the trainer and tells how it goes.

use anyhow::Result;
use xqg_train::config::TrainConfig;
use xqg_train::trainer::{Event, Trainer};

use super::model::fetch;
use crate::args::TrainRetrieverArgs;
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
    let trainer = Trainer::open(config, args.force)?;
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
