//! What the tests of training share: the topics of their rows, the log, the losses in it, and a run
//! that was killed in its middle.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Space;

pub const TOPICS: [&str; 6] = ["river", "castle", "planet", "violin", "bridge", "falcon"];

/// The log without what depends on the clock.
pub fn log(space: &Space) -> Vec<Value> {
    let text = String::from_utf8(space.read("RUN/log.jsonl")).unwrap();
    let row = |line: &str| {
        let mut row: Value = serde_json::from_str(line).unwrap();
        row.as_object_mut().unwrap().remove("examples_per_second");
        row
    };
    text.lines().map(row).collect()
}

/// The loss of each step.
pub fn losses(space: &Space) -> Vec<f64> {
    log(space).iter().filter_map(|row| row["loss"].as_f64()).collect()
}

/// Kills a run after its save of `step` or a later one; begins anew where it ended before that.
pub fn kill_in_the_middle(space: &Space, line: &str, step: u64) {
    for _ in 0..9 {
        if kill_after(space, line, step) {
            return;
        }
        fs::remove_dir_all(space.path("RUN")).unwrap();
    }
    panic!("nine times too late");
}

/// Whether the run was still going on when it was killed.
fn kill_after(space: &Space, line: &str, step: u64) -> bool {
    let mut command = space.std_command(line);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let (path, begun) = (space.path("RUN/state/state.json"), Instant::now());
    let saved = || -> Option<u64> {
        let state: Value = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
        state["progress"]["step"].as_u64()
    };
    while saved().is_none_or(|s| s < step) && child.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(120), "no save after step {step}");
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap().signal() == Some(9)
}
