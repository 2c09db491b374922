//! The worker of `bench/train` and `bench/gpu`: training steps of a retriever on made-up batches, one a line of
//! standard input. Prints for each the seconds and the loss.
//!
//! usage: step_worker MODEL_DIR PAIRS QUERY_TOKENS PASSAGE_TOKENS VOCAB DROPOUT RAGGED CHUNK_TOKENS
//!     [DEVICE [PRECISION]]

use std::error::Error;
use std::io::{BufRead as _, Write as _, stdin, stdout};
use std::path::Path;
use std::time::Instant;

use xqg_kernel::dropout::{Key, Rate};
use xqg_model::checkpoint::Checkpoint;
use xqg_model::config::Config;
use xqg_model::recipe::Pooling;
use xqg_train::batch::Batch;
use xqg_train::cache::{Chunks, keyed};
use xqg_train::composed::device::Compute;
use xqg_train::config::LossConfig;
use xqg_train::engine::Tower;
use xqg_train::loss::contrastive::Targets;
use xqg_train::network::pass::Keep;
use xqg_train::network::{Dropout, Encoder, Head};
use xqg_train::optimiser::AdamW;
use xqg_train::towers::Towers;

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
    let [model, pairs, query, passage, vocab, dropout, ragged, chunk, on @ ..] = &args[..] else {
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
    let mut towers = Towers::new(vec![Tower::new(encoder, AdamW::default())]);
    if let Some(device) = compute(on)?.open()? {
        towers.place(&device)?;
    }
    let (mut lcg, chunks) = (Lcg(1), Chunks { tokens, keep: Keep::All });
    for (step, line) in stdin().lock().lines().enumerate() {
        line?;
        let q = lcg.texts(pairs, query, vocab, ragged);
        let p = lcg.texts(pairs, passage, vocab, ragged);
        let start = Instant::now();
        let batch = batch((q, p), Key::new(7).part(step as u64));
        let loss = towers.learn(&batch, &LossConfig::default(), chunks, 1)?;
        let norm = towers.norm()?;
        towers.step(norm, 2e-5)?;
        // What a device still computes belongs to the step.
        towers.wait()?;
        let mut out = stdout().lock();
        writeln!(out, "{} {loss}", start.elapsed().as_secs_f64())?;
        out.flush()?;
    }
    Ok(())
}

/// Device and precision, where they are given.
fn compute(on: &[String]) -> Result<Compute, String> {
    let place = on.first().map(|name| name.parse()).transpose()?.unwrap_or_default();
    Ok(Compute { place, precision: on.get(1).map(|name| name.parse()).transpose()? })
}

/// Query i's positive is passage i, and all other passages are its negatives.
fn batch((queries, passages): (Vec<Vec<u32>>, Vec<Vec<u32>>), key: Key) -> Batch {
    let positives = (0..queries.len()).collect();
    Batch {
        queries: keyed(queries, key.part(0)),
        passages: keyed(passages, key.part(1)),
        targets: Targets { positives, ignored: Vec::new() },
        teacher: Vec::new(),
        pairs: Vec::new(),
        names: String::new(),
    }
}

/// Keeps the first rows of the word embedding.
fn cut(encoder: &mut Encoder, vocab: usize) {
    let words = &mut encoder.parameters.0[0];
    words.shape[0] = vocab;
    words.values.truncate(vocab * words.shape[1]);
    words.values.shrink_to_fit();
}
