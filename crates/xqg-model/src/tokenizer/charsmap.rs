//! SentencePiece's rules of normalising characters: a darts-clone double array from sequences to
//! the places of their replacements, and the replacements, each ended by a zero byte.

/// The rules, as they lie in `precompiled_charsmap`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Charsmap<'a> {
    trie: &'a [u32],
    replacements: &'a [u8],
}

/// A double array's unit, as darts-clone packs it.
fn offset(unit: u32) -> u32 {
    (unit >> 10) << ((unit & 1 << 9) >> 6)
}

/// The two parts of a `precompiled_charsmap`: a length in bytes, so many bytes of trie, the rest.
/// An empty one has no rules.
pub fn parts(blob: &[u8]) -> Option<(Vec<u32>, &[u8])> {
    if blob.is_empty() {
        return Some(Default::default());
    }
    let (length, rest) = blob.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length) as usize / 4 * 4;
    let (trie, replacements) = rest.split_at_checked(length)?;
    let trie = trie.as_chunks::<4>().0.iter().map(|unit| u32::from_le_bytes(*unit)).collect();
    std::str::from_utf8(replacements).ok()?;
    Some((trie, replacements))
}

impl<'a> Charsmap<'a> {
    /// The rules of these parts.
    pub fn new(trie: &'a [u32], replacements: &'a [u8]) -> Self {
        Self { trie, replacements }
    }

    /// The replacement of the shortest rule that begins the text: the choice of the tokenizers
    /// crate, which asks with one grapheme or one character.
    pub fn shortest(&self, text: &[u8]) -> Option<&'a [u8]> {
        self.prefixes(text).next().map(|(_, place)| self.replacement(place))
    }

    /// The replacement of the longest rule that begins the text and the length of what it
    /// replaces: SentencePiece's choice, which asks with all the rest of the text.
    pub fn longest(&self, text: &[u8]) -> Option<(&'a [u8], usize)> {
        let (length, place) = self.prefixes(text).last()?;
        Some((self.replacement(place), length))
    }

    fn prefixes(&self, text: &[u8]) -> impl Iterator<Item = (usize, u32)> {
        let trie = self.trie;
        let mut place = trie.first().map_or(0, |&unit| offset(unit));
        let steps = text.iter().take_while(|&&byte| byte != 0).map_while(move |&byte| {
            place ^= u32::from(byte);
            let unit = *trie.get(place as usize)?;
            let label = unit & (1 << 31 | 0xff);
            place ^= offset(unit);
            let value = || trie.get(place as usize).map(|value| value & !(1 << 31));
            (label == u32::from(byte)).then(|| if unit >> 8 & 1 == 1 { value() } else { None })
        });
        steps.enumerate().filter_map(|(i, value)| Some((i + 1, value?)))
    }

    fn replacement(&self, place: u32) -> &'a [u8] {
        let rest = self.replacements.get(place as usize..).unwrap_or_default();
        rest.split(|&byte| byte == 0).next().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_can_be_asked(
            trie in prop::collection::vec(any::<u32>(), 0..300),
            replacements in prop::collection::vec(any::<u8>(), 0..50),
            text in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let charsmap = Charsmap::new(&trie, &replacements);
            let longest = charsmap.longest(&text);
            prop_assert_eq!(charsmap.shortest(&text).is_some(), longest.is_some());
            prop_assert!(longest.is_none_or(|(_, length)| length <= text.len()));
        }

        #[test]
        fn any_blob_is_parted_or_refused(blob in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Some((trie, rest)) = parts(&blob) {
                let header = if blob.is_empty() { 0 } else { 4 };
                prop_assert_eq!(header + trie.len() * 4 + rest.len(), blob.len());
            }
        }
    }
}
