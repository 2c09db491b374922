//! The links as their library wrote them, read where they lie. Its file is mapped and walked in place:
//! no second copy on the disk or in memory, and the search ([`super::walk`]) can be one that asks for
//! memory before it needs it, which the library's own does not.
//!
//! ```text
//! rows u32, bytes u32, rows x bytes     the codes, by slot: the order in which they were linked
//! 64 bytes                              "usearch", its version, types, counts
//! five u64                              rows, room for links on a higher level, on level 0, top level, entry slot
//! rows x i16                            the highest level of each slot
//! each slot: row u64, level i16, and for each of its levels from 0 up: count u32, that room of u32
//! ```

use std::path::Path;

use xqg_data::error::DataError;
use xqg_data::map::MappedFile;

use crate::error::Result;

/// Bytes of the library's own heading.
const HEADING: usize = 64;
/// How it begins: the library's name and the version of its format.
const NAME: &[u8] = b"usearch\x02\x00";
/// Bytes of a slot before its links.
const OWNER: usize = 10;
/// No graph has more links than this; with it no size below can overflow.
const MOST: usize = 1 << 16;

/// A file of links, mapped.
#[derive(Debug)]
pub(super) struct LinksFile {
    file: MappedFile,
    code: usize,
    /// Where the slots begin.
    slots: usize,
    /// Bytes of a slot with level 0 alone, and of each level more.
    sizes: [usize; 2],
    /// How many higher levels all slots before this one have together; one more entry than rows.
    levels: Vec<u32>,
    entry: u32,
    top: usize,
}

impl LinksFile {
    /// Maps links between codes of `code` bytes.
    ///
    /// # Errors
    /// When the file is none of links, or of other codes, or its sizes do not fit each other.
    pub(super) fn open(path: &Path, code: usize) -> Result<Self> {
        let file = MappedFile::open(path)?;
        file.expect_scattered(true);
        let expected = || format!("links between codes of {code} bytes");
        Self::read(file, code)
            .map_err(|found| DataError::unexpected(path, expected(), found).into())
    }

    fn read(file: MappedFile, code: usize) -> std::result::Result<Self, &'static str> {
        const SHORT: &str = "a file that ends too early";
        let bytes = file.bytes();
        let (rows, found) = (word(bytes, 0).ok_or(SHORT)?, word(bytes, 4).ok_or(SHORT)?);
        if found as usize != code {
            return Err("codes of another length");
        }
        let rows = rows as usize;
        let heading = 8 + rows * code;
        if !bytes.get(heading..).is_some_and(|rest| rest.starts_with(NAME)) {
            return Err("another file, or links of another version");
        }
        let graph = heading + HEADING;
        let number = |i: usize| long(bytes, graph + 8 * i).map(|n| n.min(1 << 48) as usize);
        let [Some(slots), Some(upper), Some(lowest), Some(top), Some(entry)] =
            [0, 1, 2, 3, 4].map(number)
        else {
            return Err(SHORT);
        };
        if slots != rows || upper.max(lowest) > MOST {
            return Err("counts that do not fit each other");
        }
        let heights = graph + 40;
        let levels = bytes.get(heights..heights + 2 * rows).and_then(levels).ok_or(SHORT)?;
        let sizes = [OWNER + 4 + 4 * lowest, 4 + 4 * upper];
        let links =
            Self { code, slots: heights + 2 * rows, sizes, levels, entry: entry as u32, top, file };
        links.check(entry).then_some(links).ok_or("sizes that do not fit each other")
    }

    /// Whether all slots lie in the file, and the entry has the top level.
    fn check(&self, entry: usize) -> bool {
        let (rows, levels) = (self.rows(), self.levels.last().map_or(0, |&n| n as usize));
        let end = self.slots + rows * self.sizes[0] + levels * self.sizes[1];
        let enters = rows == 0 || (entry < rows && self.top <= self.height(entry as u32));
        enters && end == self.file.bytes().len()
    }

    /// How many codes are linked.
    pub(super) fn rows(&self) -> usize {
        self.levels.len() - 1
    }

    /// Where a search begins: a slot and its level, the highest of all.
    pub(super) fn entry(&self) -> (u32, usize) {
        (self.entry, self.top)
    }

    /// A slot's code.
    #[inline]
    pub(super) fn code(&self, slot: u32) -> &[i8] {
        bytemuck::cast_slice(&self.file.bytes()[8 + slot as usize * self.code..][..self.code])
    }

    /// The row that a slot is of.
    pub(super) fn row(&self, slot: u32) -> Option<u32> {
        let row = long(self.file.bytes(), self.slot(slot))?;
        u32::try_from(row).ok().filter(|&row| (row as usize) < self.rows())
    }

    /// The bytes that a slot's links on level 0 lie in.
    #[inline]
    pub(super) fn place(&self, slot: u32) -> &[i8] {
        bytemuck::cast_slice(&self.file.bytes()[self.slot(slot)..][..self.sizes[0]])
    }

    /// The slots that a slot is linked to on one of its levels.
    #[inline]
    pub(super) fn links(&self, slot: u32, level: usize) -> impl Iterator<Item = u32> + '_ {
        let (rows, begin) = (self.rows(), self.slot(slot));
        let (at, size) = match level {
            0 => (begin + OWNER, self.sizes[0] - OWNER),
            _ if level > self.height(slot) => (0, 0),
            _ => (begin + self.sizes[0] + (level - 1) * self.sizes[1], self.sizes[1]),
        };
        let (words, _) = self.file.bytes()[at..][..size].as_chunks::<4>();
        let mut words = words.iter().map(|word| u32::from_le_bytes(*word));
        let count = words.next().unwrap_or(0) as usize;
        words.take(count).filter(move |&slot| (slot as usize) < rows)
    }

    fn slot(&self, slot: u32) -> usize {
        let slot = slot as usize;
        self.slots + slot * self.sizes[0] + self.levels[slot] as usize * self.sizes[1]
    }

    fn height(&self, slot: u32) -> usize {
        let slot = slot as usize;
        (self.levels[slot + 1] - self.levels[slot]) as usize
    }
}

/// The levels before each slot, of each slot's own.
fn levels(heights: &[u8]) -> Option<Vec<u32>> {
    let (heights, _) = heights.as_chunks::<2>();
    let mut before = Vec::with_capacity(heights.len() + 1);
    before.push(0u32);
    for (slot, height) in heights.iter().enumerate() {
        let height = u32::try_from(i16::from_le_bytes(*height)).ok()?;
        before.push(before[slot].checked_add(height)?);
    }
    Some(before)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Three slots of codes of two bytes, the second with one level more; a slot links to the next.
    fn small() -> Vec<u8> {
        let mut bytes = [3u32, 2].map(u32::to_le_bytes).concat();
        bytes.extend([1, 2, 3, 4, 5, 6]);
        bytes.extend(NAME);
        bytes.resize(14 + HEADING, 0);
        bytes.extend([3u64, 2, 4, 1, 1].map(u64::to_le_bytes).concat());
        bytes.extend([0i16, 1, 0].map(i16::to_le_bytes).concat());
        for (slot, level) in [(0u32, 0i16), (1, 1), (2, 0)] {
            bytes.extend(u64::from(2 - slot).to_le_bytes());
            bytes.extend(level.to_le_bytes());
            bytes.extend([1, (slot + 1) % 3, 0, 0, 0].map(u32::to_le_bytes).concat());
            bytes.extend([2u32, 0, 2].map(u32::to_le_bytes).concat().repeat(level as usize));
        }
        bytes
    }

    fn open(bytes: &[u8]) -> Result<LinksFile> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        LinksFile::open(file.path(), 2)
    }

    #[test]
    fn slots_are_found_behind_those_with_more_levels() {
        let links = open(&small()).unwrap();
        assert_eq!((links.rows(), links.entry()), (3, (1, 1)));
        assert_eq!(links.code(2), [5, 6]);
        assert_eq!([0, 1, 2].map(|slot| links.row(slot)), [Some(2), Some(1), Some(0)]);
        let on = |slot, level| links.links(slot, level).collect::<Vec<_>>();
        assert_eq!([on(0, 0), on(1, 0), on(2, 0)], [[1], [2], [0]]);
        assert_eq!((on(1, 1), on(2, 1)), (vec![0, 2], vec![]));
    }

    #[test]
    fn other_codes_and_versions_are_refused() {
        let refused = |at: usize, byte| {
            let mut bytes = small();
            bytes[at] = byte;
            open(&bytes).unwrap_err().to_string()
        };
        assert!(refused(4, 7).contains("another length"));
        assert!(refused(14 + 7, 3).contains("another version"));
        assert!(refused(0, 4).contains("another version"));
    }

    proptest! {
        /// Whatever a file says, nothing beyond it is read and nothing panics.
        #[test]
        fn damage_is_refused_or_harmless(
            at in 0usize..220, byte in any::<u8>(), length in 0usize..220
        ) {
            let mut bytes = small();
            let length = if at % 2 == 0 { bytes.len() } else { length.min(bytes.len()) };
            let at = at.min(bytes.len() - 1);
            bytes[at] = byte;
            if let Ok(links) = open(&bytes[..length]) {
                for slot in 0..links.rows() as u32 {
                    let all = (0..=links.entry().1 + 1).flat_map(|level| links.links(slot, level));
                    prop_assert!(all.into_iter().all(|slot| (slot as usize) < links.rows()));
                    prop_assert!(links.row(slot).is_none_or(|row| (row as usize) < links.rows()));
                    let _ = (links.code(slot), links.place(slot));
                }
            }
        }
    }
}
