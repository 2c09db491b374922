//! The log of a run: one JSON object a line for each step and each validation, and a plot of it. A
//! run that goes on forgets what was logged after the saved step, for it happens again.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use xqg_data::error::DataError;
use xqg_data::file::write_whole;

/// What happened in a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Which, from 1.
    pub step: u64,
    /// Its loss.
    pub loss: f64,
    /// Its learning rate.
    pub rate: f64,
    /// The norm of its gradients.
    pub norm: f64,
    /// Queries a second.
    pub examples_per_second: f64,
}

/// An open log.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    /// Opens the log of a run that has done so many steps.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn open(out: &Path, done: u64) -> Result<Self, DataError> {
        let path = out.join("log.jsonl");
        let old = std::fs::read_to_string(&path).unwrap_or_default();
        let before = |line: &&str| {
            let value: Option<Value> = serde_json::from_str(line).ok();
            value.and_then(|v| v["step"].as_u64()).is_some_and(|step| step <= done)
        };
        let kept: String = old.lines().filter(before).flat_map(|l| [l, "\n"]).collect();
        write_whole(&path, kept.as_bytes())?;
        let file = OpenOptions::new().append(true).open(&path);
        Ok(Self { file: file.map_err(DataError::io("opening", &path))?, path })
    }

    /// Logs a step.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn step(&mut self, step: &Step) -> Result<(), DataError> {
        self.line(&json!({
            "step": step.step,
            "loss": step.loss,
            "learning_rate": step.rate,
            "gradient_norm": step.norm,
            "examples_per_second": (step.examples_per_second * 100.0).round() / 100.0,
        }))
    }

    /// Logs a validation.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn validation(&mut self, step: u64, measure: &str, value: f64) -> Result<(), DataError> {
        self.line(&json!({"step": step, measure: value}))
    }

    fn line(&mut self, value: &Value) -> Result<(), DataError> {
        writeln!(self.file, "{value}").map_err(DataError::io("writing", &self.path))
    }

    /// Draws the loss and the measures that were taken over the steps as `log.svg` beside the log.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn plot(&self, measures: &[&str]) -> Result<(), DataError> {
        let text = std::fs::read_to_string(&self.path);
        let text = text.map_err(DataError::io("reading", &self.path))?;
        let rows: Vec<Value> = text.lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
        let points = |key: &str| -> Vec<(f64, f64)> {
            let point = |row: &Value| Some((row["step"].as_f64()?, row[key].as_f64()?));
            rows.iter().filter_map(point).collect()
        };
        let panels: Vec<(&str, Vec<(f64, f64)>)> = std::iter::once(&"loss")
            .chain(measures)
            .map(|&name| (name, points(name)))
            .filter(|(name, points)| *name == "loss" || !points.is_empty())
            .collect();
        let svg = svg(&panels);
        write_whole(&self.path.with_extension("svg"), svg.as_bytes())
    }
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 240.0;
const EDGE: f64 = 40.0;

/// One panel below the other, each with its own range.
fn svg(panels: &[(&str, Vec<(f64, f64)>)]) -> String {
    let total = HEIGHT * panels.len() as f64;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {total}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n"
    );
    for (i, (name, points)) in panels.iter().enumerate() {
        let _ = writeln!(out, "<g transform=\"translate(0 {})\">", HEIGHT * i as f64);
        panel(&mut out, name, points);
        out.push_str("</g>\n");
    }
    out.push_str("</svg>\n");
    out
}

fn panel(out: &mut String, name: &str, points: &[(f64, f64)]) {
    let range = |values: &mut dyn Iterator<Item = f64>| {
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), x| (a.min(x), b.max(x)))
    };
    let (_, last) = range(&mut points.iter().map(|p| p.0));
    let (low, high) = range(&mut points.iter().map(|p| p.1));
    let span = if high > low { high - low } else { 1.0 };
    let x = |step: f64| EDGE + (WIDTH - 2.0 * EDGE) * step / last.max(1.0);
    let y = |value: f64| HEIGHT - EDGE - (HEIGHT - 2.0 * EDGE) * (value - low) / span;
    let line: Vec<String> =
        points.iter().map(|&(a, b)| format!("{:.1},{:.1}", x(a), y(b))).collect();
    let _ = writeln!(out, "<text x=\"{EDGE}\" y=\"20\">{name}</text>");
    if points.is_empty() {
        return;
    }
    let line = line.join(" ");
    let _ = writeln!(out, "<polyline fill=\"none\" stroke=\"#1f5fa8\" points=\"{line}\"/>");
    for (value, at) in [(high, y(high)), (low, y(low))] {
        let _ = writeln!(out, "<text x=\"2\" y=\"{at:.1}\">{value:.3}</text>");
    }
    let (right, bottom) = (WIDTH - 2.0 * EDGE, HEIGHT - 20.0);
    let _ = writeln!(out, "<text x=\"{right}\" y=\"{bottom}\">step {last}</text>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_goes_on_forgets_what_will_happen_again() {
        let out = tempfile::tempdir().unwrap();
        let step = |step| Step { step, loss: 1.0, rate: 0.1, norm: 2.0, examples_per_second: 3.0 };
        let mut log = Log::open(out.path(), 0).unwrap();
        (1..=4).for_each(|i| log.step(&step(i)).unwrap());
        log.validation(4, "MRR@10", 0.5).unwrap();
        let mut log = Log::open(out.path(), 2).unwrap();
        log.step(&step(3)).unwrap();
        log.plot(&["MRR@10"]).unwrap();
        let text = std::fs::read_to_string(out.path().join("log.jsonl")).unwrap();
        let steps: Vec<u64> = text
            .lines()
            .map(|l| serde_json::from_str::<Value>(l).unwrap()["step"].as_u64().unwrap())
            .collect();
        assert_eq!(steps, [1, 2, 3]);
        let svg = std::fs::read_to_string(out.path().join("log.svg")).unwrap();
        assert_eq!(svg.matches("polyline").count(), 1, "no validation is left to draw");
    }
}
