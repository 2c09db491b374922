//! How much memory a run needs, worked out before its first step from shapes alone.

use crate::config::TrainConfig;
use crate::error::TrainError;
use crate::network::Encoder;
use crate::network::pass::Keep;
use crate::parameters::Kind;

/// Bytes that the tokenizer, rows and the rest of the process take.
const REST: u64 = 200 << 20;

/// The parts of a run's memory in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// Parameters, gradients and moments.
    pub fixed: u64,
    /// Each token of a chunk.
    pub per_token: u64,
}

impl Need {
    /// What encoders of one shape need, `towers` of them, keeping so much.
    pub fn new(encoder: &Encoder, towers: usize, keep: Keep) -> Self {
        let copies = |kind: Kind| match kind {
            // Value, gradient and two moments.
            Kind::Weight | Kind::Plain => 4,
            // A run touches some part of a vocabulary; an eighth is much for one of 250,000.
            Kind::Table => 2,
            Kind::Frozen => 1,
        };
        let numbers: usize =
            encoder.parameters.0.iter().map(|p| p.values.len() * copies(p.kind)).sum();
        let c = encoder.config();
        let (h, f, layers) = (c.hidden_size, c.intermediate_size, c.num_hidden_layers);
        let layer = 6 * h + f + 2;
        let kept = match keep {
            Keep::All => layers * layer,
            Keep::Inputs => layers * h + layer,
            Keep::Nothing => layer,
        };
        // The way back holds the gradients of one layer beside what is kept.
        let back = 10 * h + f;
        Self { fixed: (numbers * towers * 4) as u64, per_token: ((kept + back) * 4) as u64 }
    }

    /// Refuses a run that the memory cannot hold, and says which would fit.
    ///
    /// # Errors
    /// [`TrainError::Memory`].
    pub fn check(self, config: &TrainConfig) -> Result<(), TrainError> {
        let Some(limit) = config.batch.memory_mb.or_else(free_mb) else { return Ok(()) };
        let batch = &config.batch;
        let longest = batch.queries * (batch.query_tokens + batch.passages * batch.passage_tokens);
        // Both sides are kept at once where each fits into a chunk.
        let tokens = longest.min(2 * batch.chunk_tokens.max(batch.passage_tokens)) as u64;
        let needed = (self.fixed + REST + tokens * self.per_token) >> 20;
        if needed <= limit {
            return Ok(());
        }
        let left = (limit << 20).saturating_sub(self.fixed + REST);
        let fits = left / self.per_token / 2;
        let hint = if fits >= batch.passage_tokens as u64 {
            format!("batch.chunk_tokens = {fits} fits and gives the same gradient")
        } else if !batch.checkpoint_layers {
            "try batch.checkpoint_layers = true, encoder.freeze_embeddings = true, or a pruned \
             vocabulary (xqg model prune-vocab)"
                .to_owned()
        } else {
            "the model itself is too large; prune its vocabulary (xqg model prune-vocab)".to_owned()
        };
        Err(TrainError::Memory { limit, needed, hint })
    }
}

/// Memory that the machine could give, in MB; `None` where it does not say.
fn free_mb() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes >> 10)
}
