//! What a generator's run tells while it goes, whatever is trained.

use crate::log::Step;

/// The validation measure's name in logs: the mean over tokens, weighted over tasks.
pub const MEASURE: &str = "held-out loss";

/// What a run tells while it goes.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The encoder reads the sources of a task, or finds that it has read them before.
    Read {
        /// The task.
        task: String,
        /// Sources whose states are there.
        done: usize,
        /// Sources in all.
        of: usize,
    },
    /// All is read; the first step follows.
    Begun {
        /// For each task its name, rows that are learned from and rows that are held out.
        tasks: Vec<(String, usize, usize)>,
        /// Sources that were cut.
        truncated: usize,
        /// Questions that are longer than the positions and were left out.
        too_long: usize,
        /// Tokens, language tags included.
        vocabulary: usize,
        /// Parameters.
        parameters: usize,
        /// Steps that an earlier run has done.
        done: u64,
        /// Steps in all.
        steps: u64,
    },
    /// A step is done.
    Stepped(Step),
    /// The held-out questions were looked at.
    Validated {
        /// After which step.
        step: u64,
        /// The measure's value.
        value: f64,
        /// The loss of each task.
        tasks: Vec<(String, f64)>,
        /// Whether it is the best so far, which was written.
        best: bool,
    },
    /// The state was saved.
    Saved {
        /// After which step.
        step: u64,
    },
    /// Nothing better came for as long as the settings wait.
    Stopped {
        /// After which step.
        step: u64,
    },
}
