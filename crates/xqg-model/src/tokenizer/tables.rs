//! The tables of a unigram tokenizer, in one piece of memory that can be a mapped file: header,
//! settings as JSON, trie, scores, charsmap. Numbers are in the machine's own order; a file from
//! another kind of machine is refused by its first number.

use memmap2::Mmap;

use super::charsmap::{self, Charsmap};
use super::double_array;
use super::settings::Settings;

/// "xqg-tok" and the version of the format. Raise it whenever tables or settings change.
const MAGIC: u64 = u64::from_be_bytes(*b"xqg-tok\x01");
/// Magic, hash of all that follows the hash (4), key of the source (6), lengths of the sections.
const HASH: std::ops::Range<usize> = 1..5;
const KEY: std::ops::Range<usize> = 5..11;
const LENGTHS: std::ops::Range<usize> = 11..16;

/// What a tokenizer is built from.
#[derive(Debug)]
pub struct Source {
    /// The pieces' texts and log probabilities by their ids; an empty text is never found.
    pub pieces: Vec<(String, f64)>,
    /// SentencePiece's `precompiled_charsmap`, or nothing.
    pub charsmap: Vec<u8>,
    /// All else.
    pub settings: Settings,
}

/// Which file the tables were made from: size and time of change, and the hash of its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Key {
    /// The size in bytes.
    pub size: u64,
    /// Nanoseconds from 1970 to the last change.
    pub changed: u64,
    /// The blake3 hash.
    pub hash: [u8; 32],
}

enum Memory {
    Built(Vec<u64>),
    Mapped(Mmap),
}

/// Tables in memory that this program or an earlier run of it built.
pub struct Tables {
    memory: Memory,
    sections: Sections,
    /// The small part.
    pub settings: Settings,
    /// What the tables were built from.
    pub key: Key,
}

/// The places of the sections, in words of eight bytes from the beginning, checked once.
#[derive(Debug, Clone, Copy)]
struct Sections {
    settings: (usize, usize),
    trie: (usize, usize),
    scores: (usize, usize),
    rules: (usize, usize),
    replacements: (usize, usize),
    replacement_bytes: usize,
}

impl std::fmt::Debug for Tables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tables").field("sections", &self.sections).finish_non_exhaustive()
    }
}

impl Tables {
    /// Builds the tables. `None` where the charsmap is none or the pieces are too many.
    pub fn build(source: &Source, key: Key) -> Option<Self> {
        let trie = double_array::build(&sorted_pieces(source))?;
        let scores = source.pieces.iter().map(|(_, score)| score.to_bits());
        let (rules, replacements) = charsmap::parts(&source.charsmap)?;
        let rules: &[u8] = bytemuck::cast_slice(&rules);
        let settings = serde_json::to_vec(&source.settings).ok()?;
        let lengths =
            [settings.len(), trie.len(), source.pieces.len(), rules.len(), replacements.len()];
        let mut words = header(key, lengths);
        push_bytes(&mut words, &settings);
        words.extend(trie);
        words.extend(scores);
        push_bytes(&mut words, rules);
        push_bytes(&mut words, replacements);
        let hash = checksum(&words)?;
        words[HASH].copy_from_slice(&hash);
        Self::open(Memory::Built(words))
    }

    /// The tables in a mapped file. `None` where it does not hold what an equal program wrote.
    pub fn map(file: Mmap) -> Option<Self> {
        Self::open(Memory::Mapped(file))
    }

    fn open(memory: Memory) -> Option<Self> {
        let words = memory.words();
        if words.first() != Some(&MAGIC) || words.get(HASH)? != checksum(words)?.as_slice() {
            return None;
        }
        let [size, changed, hash @ ..]: [u64; 6] = words.get(KEY)?.try_into().ok()?;
        let key = Key { size, changed, hash: bytemuck::cast(hash) };
        let (sections, length) = Sections::read(words)?;
        let (from, to) = sections.settings;
        let text: &[u8] = bytemuck::cast_slice(words.get(from..to)?);
        let settings = serde_json::from_slice(text.get(..length)?).ok()?;
        Some(Self { sections, settings, key, memory })
    }

    /// All bytes, as they go to a file.
    pub fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(self.memory.words())
    }

    /// The units of the trie from pieces to ids.
    pub fn trie(&self) -> double_array::DoubleArray<'_> {
        double_array::DoubleArray::new(self.section(self.sections.trie))
    }

    /// The pieces' log probabilities.
    pub fn scores(&self) -> &[f64] {
        bytemuck::cast_slice(self.section(self.sections.scores))
    }

    /// The rules of normalising.
    pub fn charsmap(&self) -> Charsmap<'_> {
        let rules = bytemuck::cast_slice(self.section(self.sections.rules));
        let bytes: &[u8] = bytemuck::cast_slice(self.section(self.sections.replacements));
        let replacements = bytes.get(..self.sections.replacement_bytes).unwrap_or_default();
        Charsmap::new(rules, replacements)
    }

    fn section(&self, (from, to): (usize, usize)) -> &[u64] {
        self.memory.words().get(from..to).unwrap_or_default()
    }
}

impl Sections {
    /// The places, and the length of the settings in bytes; together they are all the words.
    fn read(words: &[u64]) -> Option<(Self, usize)> {
        let lengths: [u64; 5] = words.get(LENGTHS)?.try_into().ok()?;
        let [length, trie, scores, rules, replacement_bytes] = lengths.map(|n| n as usize);
        let mut end = LENGTHS.end;
        let mut next = |width: usize| {
            let from = end;
            end = end.checked_add(width)?;
            Some((from, end))
        };
        let sections = Self {
            settings: next(length.div_ceil(8))?,
            trie: next(trie)?,
            scores: next(scores)?,
            rules: next(rules.div_ceil(8))?,
            replacements: next(replacement_bytes.div_ceil(8))?,
            replacement_bytes,
        };
        (end == words.len()).then_some((sections, length))
    }
}

impl Memory {
    fn words(&self) -> &[u64] {
        match self {
            Self::Built(words) => words,
            Self::Mapped(map) => bytemuck::try_cast_slice(map).unwrap_or_default(),
        }
    }
}

/// The pieces in the order of their bytes. Of equal ones the last counts; nameless ones do not.
fn sorted_pieces(source: &Source) -> Vec<(&[u8], u32)> {
    let mut pieces: Vec<(&[u8], u32)> =
        (0..).zip(&source.pieces).map(|(id, (text, _))| (text.as_bytes(), id)).collect();
    pieces.sort_unstable_by(|a, b| a.0.cmp(b.0).then(b.1.cmp(&a.1)));
    pieces.dedup_by_key(|(text, _)| *text);
    pieces.retain(|(text, _)| !text.is_empty());
    pieces
}

/// The words before the sections, with zeros for the hash.
fn header(key: Key, lengths: [usize; 5]) -> Vec<u64> {
    let mut words = vec![MAGIC, 0, 0, 0, 0, key.size, key.changed];
    words.extend(bytemuck::cast::<_, [u64; 4]>(key.hash));
    words.extend(lengths.map(|length| length as u64));
    words
}

fn push_bytes(words: &mut Vec<u64>, bytes: &[u8]) {
    words.extend(bytes.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_ne_bytes(word)
    }));
}

/// The hash of all that follows the hash's own place.
fn checksum(words: &[u64]) -> Option<[u64; 4]> {
    let bytes: &[u8] = bytemuck::cast_slice(words.get(HASH.end..)?);
    Some(bytemuck::cast(*blake3::hash(bytes).as_bytes()))
}
