//! How much memory a run needs, worked out before its first step from shapes alone.

use crate::composed::device::Precision;
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
    /// Numbers of an embedding.
    pub embedding: u64,
    /// What there is, in MB, where it is not the machine's own memory.
    pub limit: Option<u64>,
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
        let (fixed, embedding) = ((numbers * towers * 4) as u64, h as u64);
        Self { fixed, per_token: ((kept + back) * 4) as u64, embedding, limit: None }
    }

    /// What encoders of candle's operations need, for texts of at most these lengths: an operation's
    /// result stays as long as what was made of it.
    pub fn composed(
        encoder: &Encoder,
        towers: usize,
        keep: Keep,
        (precision, lengths): (Precision, [usize; 2]),
    ) -> Self {
        // Value, two gradients while one is added to the other, and two moments.
        let copies = |kind: Kind| if kind == Kind::Frozen { 1 } else { 5 };
        let all = &encoder.parameters.0;
        let numbers: usize = all.iter().map(|p| p.values.len() * copies(p.kind)).sum();
        let largest = all.iter().map(|p| p.values.len()).max().unwrap_or(0);
        let c = encoder.config();
        let (h, f, layers) = (c.hidden_size, c.intermediate_size, c.num_hidden_layers);
        let scores = c.num_attention_heads * lengths.into_iter().max().unwrap_or(0);
        // States before norms, inner states and probabilities in 32 bits, factors of products as asked.
        let layer = match precision {
            Precision::F32 => 8 * h + 2 * f + scores,
            Precision::Bf16 => 5 * h + f + f / 2 + scores,
        };
        let kept = match keep {
            Keep::All => layers * layer,
            Keep::Inputs => layers * h + layer,
            Keep::Nothing => layer,
        };
        // One layer's way forward, or back.
        let back = 12 * h + 6 * f + 6 * scores;
        // A step of the optimiser makes some tensors of the largest parameter's size.
        let (fixed, embedding) = (((numbers + 4 * largest) * towers * 4) as u64, h as u64);
        Self { fixed, per_token: ((kept + back) * 4) as u64, embedding, limit: None }
    }

    /// The same where so many MB are free; `None` for what the machine has.
    pub fn within(self, limit: Option<u64>) -> Self {
        Self { limit, ..self }
    }

    /// The same beside other things that stay in memory.
    pub fn beside(self, bytes: u64) -> Self {
        Self { fixed: self.fixed + bytes, ..self }
    }

    /// Bytes of the embeddings of a batch with their gradients, and of the scores of every query with every
    /// passage: as f32, as f64 and as the gradients of up to three losses. A corpus counts its own.
    fn matrix(&self, config: &TrainConfig, passage: usize) -> u64 {
        if passage == 0 {
            return 0;
        }
        let (queries, each) = (config.batch.queries as u64, config.batch.passages as u64);
        let passages = queries.saturating_mul(each);
        let scores = queries.saturating_mul(passages).saturating_mul(4 + 4 * 8);
        scores.saturating_add(queries.saturating_add(passages).saturating_mul(self.embedding * 8))
    }

    /// Refuses a run that the memory cannot hold, and says which would fit.
    ///
    /// # Errors
    /// [`TrainError::Memory`].
    pub fn check(
        self,
        config: &TrainConfig,
        [query, passage]: [usize; 2],
    ) -> Result<(), TrainError> {
        let Some(limit) = config.batch.memory_mb.or(self.limit).or_else(free_mb) else {
            return Ok(());
        };
        let batch = &config.batch;
        let each = batch.passages.saturating_mul(passage).saturating_add(query);
        let longest = batch.queries.saturating_mul(each);
        let text = query.max(passage);
        // Both sides are kept at once where each fits into a chunk.
        let tokens = longest.min(batch.chunk_tokens.max(text).saturating_mul(2)) as u64;
        let matrix = self.matrix(config, passage);
        let fixed = self.fixed.saturating_add(REST).saturating_add(matrix);
        let needed = fixed.saturating_add(tokens.saturating_mul(self.per_token)) >> 20;
        if needed <= limit {
            return Ok(());
        }
        let left = (limit << 20).saturating_sub(fixed);
        let fits = left / self.per_token / 2;
        let hint = if fits >= text as u64 {
            format!("batch.chunk_tokens = {fits} fits and gives the same gradient")
        } else if matrix >> 19 > needed {
            "the scores of all queries with all passages take most of it; try fewer batch.queries"
                .to_owned()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn config(batch: &str) -> TrainConfig {
        let text = format!("model = \"m\"\nout = \"o\"\ndata.train = [\"t\"]\n[batch]\n{batch}");
        toml::from_str(&text).unwrap()
    }

    #[test]
    fn a_batch_that_cannot_fit_names_one_that_does() {
        let need = Need { fixed: 298 << 20, per_token: 1 << 20, embedding: 384, limit: None };
        let asked = config("queries = 100\nmemory_mb = 1500\n");
        let error = need.check(&asked, [32, 128]).unwrap_err().to_string();
        // 298 + 200 MB are gone, and almost 2 for scores and embeddings; the 1,000 left are two chunks of 500
        // tokens.
        assert!(error.contains("batch.chunk_tokens = 500 fits"), "{error}");
        let fits = config("queries = 100\nmemory_mb = 1500\nchunk_tokens = 500\n");
        need.check(&fits, [32, 128]).unwrap();
        for none in [config("memory_mb = 400\n"), config("memory_mb = 1\n")] {
            let error = need.check(&none, [32, 128]).unwrap_err().to_string();
            assert!(error.contains("checkpoint_layers"), "{error}");
        }
    }

    #[test]
    fn questions_over_a_corpus_are_counted_by_their_own_length() {
        let need = Need { fixed: 300 << 20, per_token: 1 << 20, embedding: 384, limit: None };
        // No passage is encoded: half of what is left is still less than one question.
        let error = need.check(&config("memory_mb = 510\n"), [32, 0]).unwrap_err().to_string();
        assert!(error.contains("checkpoint_layers"), "{error}");
    }

    #[test]
    fn scores_of_a_great_batch_are_counted_and_no_number_overflows() {
        let need = Need { fixed: 0, per_token: 1 << 10, embedding: 384, limit: None };
        let great = config("queries = 16384\npassages = 8\nmemory_mb = 20000\n");
        let error = need.check(&great, [32, 128]).unwrap_err().to_string();
        assert!(error.contains("fewer batch.queries"), "{error}");
        let most = config("queries = 16777216\npassages = 16777216\nmemory_mb = 20000\n");
        assert!(need.check(&most, [512, 512]).is_err());
    }
}
