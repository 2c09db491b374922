//! The choice of a sample's next token. Random numbers are counted, not streamed: a draw is a function
//! of seed, docid, language, sample and step, so it is the same whatever is written beside it.

use xqg_kernel::dropout::Key;

use super::Method;
use super::output::Seen;

/// The key of one sample of one passage's questions in one language.
pub(crate) fn sample_key(seed: u64, docid: &str, lang: &str, sample: usize) -> Key {
    let named = |name: &str| {
        let hash = blake3::hash(name.as_bytes());
        u64::from_le_bytes(*hash.as_bytes().first_chunk().expect("a hash has 32 bytes"))
    };
    Key::new(seed).part(named(docid)).part(named(lang)).part(sample as u64)
}

/// How many of the likeliest tokens a way of decoding looks at.
pub(crate) fn kept(method: Method) -> usize {
    match method {
        Method::Greedy => 1,
        Method::Sample { top_k: 0, .. } => usize::MAX,
        Method::Sample { top_k, .. } => top_k,
        Method::Beam { width } => 2 * width,
    }
}

/// The next token of a sample and the logarithm of its probability, before temperature, top-k and
/// top-p: drawn, or without sampling the likeliest. As transformers: the temperature first, then
/// top-k, then top-p over what is left (Holtzman et al. 2020, section 3.1).
pub(crate) fn next_token(method: Method, seen: &Seen, key: Key, step: usize) -> (f32, u32) {
    let Method::Sample { top_p, temperature, .. } = method else {
        return seen.top().next().unwrap_or_default();
    };
    let first = seen.top().next().map_or(0.0, |t| t.0);
    let weight = |log: f32| (f64::from(log - first) / f64::from(temperature)).exp();
    let total: f64 = seen.top().map(|t| weight(t.0)).sum();
    let limit = f64::from(top_p) * total;
    let mut before = 0.0;
    let nucleus = seen.top().take_while(|t| {
        let inside = before < limit;
        before += weight(t.0);
        inside
    });
    let nucleus: Vec<(f32, u32)> = nucleus.collect();
    let total: f64 = nucleus.iter().map(|t| weight(t.0)).sum();
    let mut left = uniform(key.part(step as u64)) * total;
    let drawn = nucleus.iter().find(|t| {
        left -= weight(t.0);
        left < 0.0
    });
    *drawn.or(nucleus.last()).unwrap_or(&(0.0, 0))
}

/// A number from 0 to below 1.
fn uniform(key: Key) -> f64 {
    (key.number() >> 11) as f64 / (1u64 << 53) as f64
}
