//! The best segmentation of a word: Viterbi's search over the pieces of a unigram language model
//! (Kudo 2018, section 3.2), in the arithmetic of the program that the model comes from.

use super::double_array::DoubleArray;

/// Where no path has come yet.
const NOWHERE: u32 = u32::MAX;

/// A unigram model over its tables.
#[derive(Debug, Clone, Copy)]
pub struct Unigram<'a> {
    /// From pieces to their places in the vocabulary.
    pub trie: DoubleArray<'a>,
    /// The log probability of each piece.
    pub scores: &'a [f64],
    /// The id of what is in no piece.
    pub unknown: u32,
    /// The score of one unknown character.
    pub unknown_score: f64,
    /// The ids of the 256 bytes, or none.
    pub bytes: &'a [u32],
    /// Whether the sums are SentencePiece's, in single precision, or the tokenizers crate's.
    pub single: bool,
}

/// The best way to the end of a part of the word.
#[derive(Debug, Clone, Copy)]
struct End {
    score: f64,
    start: u32,
    id: u32,
}

/// Memory of the search, kept from word to word.
#[derive(Debug, Default)]
pub struct Lattice {
    ends: Vec<End>,
}

impl Unigram<'_> {
    /// Adds the ids of a word's best segmentation.
    pub fn segment(&self, word: &[u8], lattice: &mut Lattice, ids: &mut Vec<u32>) {
        lattice.ends.clear();
        lattice.ends.resize(word.len() + 1, End { score: 0.0, start: NOWHERE, id: 0 });
        let mut at = 0;
        while at < word.len() {
            at += self.extend(word, at, &mut lattice.ends);
        }
        let from = ids.len();
        self.walk_back(word, &lattice.ends, ids);
        ids[from..].reverse();
    }

    /// Tries all pieces that begin here; the length of the character here.
    fn extend(&self, word: &[u8], at: usize, ends: &mut [End]) -> usize {
        let rest = &word[at..];
        let so_far = ends[at].score;
        let length = char_length(rest);
        let mut alone = false;
        let mut node = self.trie.root();
        for (&byte, (n, end)) in rest.iter().zip((1..).zip(&mut ends[at + 1..])) {
            let Some(next) = self.trie.child(node, byte) else { break };
            node = next;
            let Some(id) = node.value() else { continue };
            let Some(score) = self.scores.get(id as usize) else { continue };
            self.offer(end, End { score: score + so_far, start: at as u32, id });
            alone |= n == length;
        }
        if !alone {
            let score = self.rounded(self.unknown_score + so_far);
            self.offer(&mut ends[at + length], End { score, start: at as u32, id: self.unknown });
        }
        length
    }

    fn offer(&self, end: &mut End, way: End) {
        if end.start == NOWHERE || way.score > end.score {
            *end = End { score: self.rounded(way.score), ..way };
        }
    }

    /// SentencePiece compares sums in double precision and keeps them in single.
    fn rounded(&self, score: f64) -> f64 {
        if self.single { f64::from(score as f32) } else { score }
    }

    /// The ids from the end to the beginning; unknown characters side by side are one token.
    fn walk_back(&self, word: &[u8], ends: &[End], ids: &mut Vec<u32>) {
        let mut at = word.len();
        let mut unknown_to = None;
        while at > 0 && ends[at].start != NOWHERE {
            let End { start, id, .. } = ends[at];
            if id == self.unknown {
                unknown_to = unknown_to.or(Some(at));
            } else {
                if let Some(to) = unknown_to.take() {
                    self.push_unknown(&word[at..to], ids);
                }
                ids.push(id);
            }
            at = start as usize;
        }
        if let Some(to) = unknown_to {
            self.push_unknown(&word[at..to], ids);
        }
    }

    fn push_unknown(&self, part: &[u8], ids: &mut Vec<u32>) {
        // The tokenizers crate looks the joined characters up; SentencePiece does not.
        let whole = if self.single { None } else { self.trie.get(part) };
        let byte_id = |&byte: &u8| self.bytes.get(usize::from(byte)).copied();
        match whole {
            Some(id) => ids.push(id),
            None if self.bytes.is_empty() => ids.push(self.unknown),
            None => ids.extend(part.iter().rev().filter_map(byte_id)),
        }
    }
}

/// The length in bytes of the first character of a text in UTF-8, never beyond the text.
pub fn char_length(text: &[u8]) -> usize {
    let length = match text.first() {
        None | Some(0..0xc0) => 1,
        Some(0xc0..0xe0) => 2,
        Some(0xe0..0xf0) => 3,
        Some(0xf0..) => 4,
    };
    length.min(text.len())
}
