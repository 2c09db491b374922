//! Long work tells where it is: a bar with rate and time left on a terminal, otherwise one line an
//! interval, so that logs stay readable.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::output;

/// Between two lines where standard error is no terminal.
const INTERVAL: Duration = Duration::from_secs(10);

/// The progress of one stage of work after another.
pub struct Display {
    stage: String,
    bar: Option<ProgressBar>,
    terminal: bool,
    begun: Instant,
    first: u64,
    told: Instant,
    remark: String,
}

impl Display {
    /// Nothing is shown yet.
    pub fn new() -> Self {
        let (now, terminal) = (Instant::now(), std::io::stderr().is_terminal());
        Self {
            stage: String::new(),
            bar: None,
            terminal,
            begun: now,
            first: 0,
            told: now,
            remark: String::new(),
        }
    }

    /// What the next [`show`](Self::show) says beside the numbers.
    pub fn remark(&mut self, text: String) {
        self.remark = text;
    }

    /// Shows that `done` of `total` things of a stage are done.
    pub fn show(&mut self, stage: &str, unit: &str, done: u64, total: Option<u64>) {
        if self.stage != stage {
            self.enter(stage, unit, done, total);
        }
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            if !self.remark.is_empty() {
                bar.set_message(format!("{stage}: {}", self.remark));
            }
        } else if self.told.elapsed() >= INTERVAL {
            self.told = Instant::now();
            let line = self.plain_line(stage, unit, done, total);
            let remark = if self.remark.is_empty() { "" } else { "; " };
            output::note(format_args!("{line}{remark}{}", self.remark));
        }
    }

    fn enter(&mut self, stage: &str, unit: &str, done: u64, total: Option<u64>) {
        self.finish();
        self.stage = stage.to_owned();
        (self.begun, self.told, self.first) = (Instant::now(), Instant::now(), done);
        if self.terminal {
            let bar = total.map_or_else(ProgressBar::no_length, ProgressBar::new);
            let bytes = unit == "bytes";
            let template = match (total.is_some(), bytes) {
                (true, true) => {
                    "{msg} [{bar:30}] {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left"
                }
                (false, true) => "{msg} {bytes}, {bytes_per_sec}",
                (true, false) => "{msg} [{bar:30}] {pos}/{len}, {per_sec}, {eta} left",
                (false, false) => "{msg} {pos}, {per_sec}",
            };
            let style = ProgressStyle::with_template(template).expect("a template of ours");
            self.bar =
                Some(bar.with_style(style.progress_chars("=> ")).with_message(stage.to_owned()));
        }
    }

    fn plain_line(&self, stage: &str, unit: &str, done: u64, total: Option<u64>) -> String {
        let seconds = self.begun.elapsed().as_secs_f64().max(1e-9);
        let rate = (done - self.first.min(done)) as f64 / seconds;
        match total {
            Some(total) if rate > 0.0 => {
                let left =
                    Duration::from_secs_f64((total.saturating_sub(done) as f64 / rate).min(1e9));
                let part = 100.0 * done as f64 / total.max(1) as f64;
                format!(
                    "{stage}: {done} of {total} {unit} ({part:.0} %), {rate:.0}/s, {} left",
                    clock(left)
                )
            }
            _ => format!("{stage}: {done} {unit}, {rate:.0}/s"),
        }
    }

    /// Takes the bar away.
    pub fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        self.stage.clear();
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        self.finish();
    }
}

/// `1:02:03`, or `2:03` below an hour.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if h > 0 { format!("{h}:{m:02}:{s:02}") } else { format!("{m}:{s:02}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_like_a_clock() {
        assert_eq!(clock(Duration::from_secs(3723)), "1:02:03");
        assert_eq!(clock(Duration::from_secs(63)), "1:03");
    }

    #[test]
    fn a_plain_line_has_rate_and_time_left() {
        let mut display = Display::new();
        display.begun = Instant::now() - Duration::from_secs(10);
        let line = display.plain_line("encoding", "passages", 100, Some(300));
        assert!(line.starts_with("encoding: 100 of 300 passages (33 %), 10/s, 0:"), "{line}");
        assert!(display.plain_line("reading", "lines", 50, None).starts_with("reading: 50 lines"));
    }
}
