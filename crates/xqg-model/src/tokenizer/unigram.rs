//! A unigram tokenizer over its tables: added tokens, normalising, words, segmentation.

use std::sync::Mutex;

use super::added::{self, Part};
use super::lattice::{Lattice, Unigram};
use super::normalize::{CharRules, as_str, kept_ascii, normalize};
use super::settings::{Split, Words};
use super::spiece_text;
use super::tables::Tables;
use super::words::split_words;

/// A tokenizer of our own.
#[derive(Debug)]
pub struct UnigramTokenizer {
    tables: Tables,
    kept: [bool; 128],
    spare: Mutex<Vec<Scratch>>,
}

/// Memory for one text at a time, kept from text to text.
#[derive(Debug, Default)]
struct Scratch {
    text: String,
    normalized: Vec<u8>,
    spare: Vec<u8>,
    marked: Vec<u8>,
    lattice: Lattice,
}

/// A tokenizer with its memory, for one thread; the memory is given back in the end. Fetching it is
/// what threads wait for each other with, so it is done once for many texts.
#[derive(Debug)]
pub struct Borrowed<'t> {
    from: &'t UnigramTokenizer,
    scratch: Scratch,
}

impl Borrowed<'_> {
    /// Adds the ids of the parts of a text joined, at most `max_tokens` with what stands around;
    /// whether ids were cut off.
    pub fn encode(&mut self, parts: &[&str], max_tokens: usize, ids: &mut Vec<u32>) -> bool {
        let Self { from, scratch } = self;
        let mut text = std::mem::take(&mut scratch.text);
        text.clear();
        text.extend(parts.iter().copied());
        let truncated = from.encode_text(&text, max_tokens, scratch, ids);
        scratch.text = text;
        truncated
    }
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        // After a panic in another thread the memory is not worth a second one.
        if let Ok(mut spare) = self.from.spare.lock() {
            spare.push(std::mem::take(&mut self.scratch));
        }
    }
}

/// Where the ids of a text go, and how many at most.
struct Target<'i> {
    ids: &'i mut Vec<u32>,
    full: usize,
}

impl Target<'_> {
    /// Whether more ids would only be cut off.
    fn is_over(&self) -> bool {
        self.ids.len() > self.full
    }
}

impl UnigramTokenizer {
    /// A tokenizer over these tables.
    pub fn new(tables: Tables) -> Self {
        let kept = kept_ascii(tables.charsmap());
        Self { tables, kept, spare: Mutex::default() }
    }

    /// The tokenizer with memory for one text after another.
    pub fn borrow(&self) -> Borrowed<'_> {
        let spare = self.spare.lock().expect("no panic while locked").pop();
        Borrowed { from: self, scratch: spare.unwrap_or_default() }
    }

    fn encode_text(
        &self,
        text: &str,
        max_tokens: usize,
        scratch: &mut Scratch,
        ids: &mut Vec<u32>,
    ) -> bool {
        let settings = &self.tables.settings;
        let room = max_tokens.saturating_sub(settings.front.len() + settings.back.len());
        ids.extend_from_slice(&settings.front);
        let full = ids.len().saturating_add(room);
        let mut target = Target { ids, full };
        added::split(text, &settings.added, |part| {
            match part {
                Part::Token(id) => target.ids.push(id),
                Part::Text(at, text) => self.section(text, at == 0, scratch, &mut target),
            }
            !target.is_over()
        });
        let truncated = target.is_over();
        ids.truncate(full);
        ids.extend_from_slice(&settings.back);
        truncated
    }

    /// A part of the text without added tokens.
    fn section(&self, text: &str, first: bool, scratch: &mut Scratch, target: &mut Target) {
        let charsmap = self.tables.charsmap();
        match &self.tables.settings.words {
            Words::Spiece(rules) => {
                let Scratch { normalized, lattice, .. } = scratch;
                spiece_text::normalize(rules, charsmap, text, normalized);
                self.model(true).segment(normalized, lattice, target.ids);
            }
            Words::Json { steps, split } => {
                let mut normalized = std::mem::take(&mut scratch.normalized);
                let rules = CharRules::new(charsmap, &self.kept);
                normalize(steps, rules, text, &mut normalized, &mut scratch.spare);
                self.normalized(split, first, &normalized, scratch, target);
                scratch.normalized = normalized;
            }
        }
    }

    fn normalized(
        &self,
        split: &Split,
        first: bool,
        text: &[u8],
        scratch: &mut Scratch,
        target: &mut Target,
    ) {
        let model = self.model(false);
        let Scratch { marked, lattice, .. } = scratch;
        let mut words = |text: &[u8], target: &mut Target| {
            split_words(split, first, text, marked, |word| {
                model.segment(word, lattice, target.ids);
                !target.is_over()
            })
        };
        let added = &self.tables.settings.added_normalized;
        if added.is_empty() {
            words(text, target);
            return;
        }
        added::split(&as_str(text), added, |part| {
            match part {
                Part::Token(id) => target.ids.push(id),
                Part::Text(_, text) => {
                    words(text.as_bytes(), target);
                }
            }
            !target.is_over()
        });
    }

    fn model(&self, single: bool) -> Unigram<'_> {
        let settings = &self.tables.settings;
        Unigram {
            trie: self.tables.trie(),
            scores: self.tables.scores(),
            unknown: settings.unknown,
            unknown_score: settings.unknown_score,
            bytes: &settings.bytes,
            single,
        }
    }
}
