//! The worker of `bench/train`: training steps of a retriever on made-up batches, one a line of
//! standard input. Prints for each the seconds and the loss.
//!
//! usage: step_worker MODEL_DIR PAIRS QUERY_TOKENS PASSAGE_TOKENS VOCAB DROPOUT RAGGED CHUNK_TOKENS

use std::error::Error;
use std::io::{BufRead as _, Write as _, stdin, stdout};
use std::path::Path;
use std::time::Instant;

use xqg_kernel::dropout::{Key, Rate};
use xqg_model::checkpoint::Checkpoint;
use xqg_model::config::Config;
use xqg_model::recipe::Pooling;
use xqg_train::cache::{Chunks, keyed};
use xqg_train::gradients::Gradients;
use xqg_train::loss::Scores;
use xqg_train::loss::contrastive::{Targets, info_nce};
use xqg_train::network::pass::{Keep, Workspace};
use xqg_train::network::{Dropout, Encoder, Head};
use xqg_train::optimiser::{AdamW, Optimiser};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The generator that the Python worker has too: Knuth's MMIX constants, upper 31 bits.
struct Lcg(u64);

impl Lcg {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (((self.0 >> 33) as f64 / 2147483648.0) * limit as f64) as usize
    }

    /// Frequent ids more often than rare ones, as in text.
    fn id(&mut self, vocab: usize) -> u32 {
        let u = self.below(1 << 30) as f64 / (1u64 << 30) as f64;
        4 + ((vocab - 4) as f64 * u * u * u) as u32
    }

    fn texts(&mut self, count: usize, tokens: usize, vocab: usize, ragged: bool) -> Vec<Vec<u32>> {
        (0..count)
            .map(|_| {
                let n = if ragged { tokens / 4 + self.below(tokens * 3 / 4 + 1) } else { tokens };
                (0..n).map(|_| self.id(vocab)).collect()
            })
            .collect()
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, pairs, query, passage, vocab, dropout, ragged, chunk] = &args[..] else {
        return Err("usage: as the head of this file says".into());
    };
    let (pairs, query, passage): (usize, usize, usize) =
        (pairs.parse()?, query.parse()?, passage.parse()?);
    let (vocab, dropout): (usize, f32) = (vocab.parse()?, dropout.parse()?);
    let (tokens, ragged) = (chunk.parse()?, ragged == "1");
    let folder = Path::new(model);
    let head = Head { pooling: Pooling::Mean, normalize: true };
    let mut encoder = Encoder::load(&Checkpoint::open(folder)?, Config::read(folder)?, head)?;
    cut(&mut encoder, vocab);
    let rate = Rate::new(dropout).ok_or("a rate")?;
    encoder.dropout = Some(Dropout { hidden: rate, attention: rate });
    let settings = AdamW::default();
    let mut optimiser = Optimiser::new(settings, &encoder.parameters);
    let mut gradients = Gradients::zeros(&encoder.parameters);
    let (mut workspace, mut lcg) = (Workspace::default(), Lcg(1));
    let chunks = Chunks { tokens, keep: Keep::All };
    let dim = encoder.config().hidden_size;
    for (step, line) in stdin().lock().lines().enumerate() {
        line?;
        let q = lcg.texts(pairs, query, vocab, ragged);
        let p = lcg.texts(pairs, passage, vocab, ragged);
        let start = Instant::now();
        let key = Key::new(7).part(step as u64);
        let (q, p) = (keyed(q, key.part(0)), keyed(p, key.part(1)));
        let qs = chunks.encode(&encoder, &q, &mut workspace);
        let ps = chunks.encode(&encoder, &p, &mut workspace);
        let scores = Scores::new(&qs.embeddings, &ps.embeddings, dim, 0.05);
        let targets = Targets { positives: (0..pairs).collect(), ignored: vec![] };
        let loss = info_nce(&scores, &targets, None);
        let (dq, dp) = scores.back(&loss.grad, &qs.embeddings, &ps.embeddings);
        chunks.back(&encoder, (&q, qs), &dq, &mut gradients, &mut workspace);
        chunks.back(&encoder, (&p, ps), &dp, &mut gradients, &mut workspace);
        optimiser.step(&mut encoder.parameters, &gradients, 2e-5);
        gradients.clear();
        let mut out = stdout().lock();
        writeln!(out, "{} {}", start.elapsed().as_secs_f64(), loss.value)?;
        out.flush()?;
    }
    Ok(())
}

/// Keeps the first rows of the word embedding.
fn cut(encoder: &mut Encoder, vocab: usize) {
    let words = &mut encoder.parameters.0[0];
    words.shape[0] = vocab;
    words.values.truncate(vocab * words.shape[1]);
    words.values.shrink_to_fit();
}
