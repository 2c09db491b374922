//! Normalised text to words, as the pre-tokenizers WhitespaceSplit and Metaspace do it.

use super::normalize::as_str;
use super::settings::{Prepend, Split};

/// Calls for each word until told to stop by `false`. `first` says whether the text is the
/// beginning of what was to be encoded; `marked` is memory.
pub fn split_words(
    split: &Split,
    first: bool,
    text: &[u8],
    marked: &mut Vec<u8>,
    mut each: impl FnMut(&[u8]) -> bool,
) -> bool {
    if !split.whitespace {
        return split_marked(split, first, text, marked, &mut each);
    }
    let text = as_str(text);
    let mut parts = text.split(char::is_whitespace).filter(|part| !part.is_empty());
    parts.all(|part| split_marked(split, first, part.as_bytes(), marked, &mut each))
}

/// Metaspace: a marker for each space and one in front, and a word from each marker on.
fn split_marked(
    split: &Split,
    first: bool,
    text: &[u8],
    marked: &mut Vec<u8>,
    each: &mut impl FnMut(&[u8]) -> bool,
) -> bool {
    if text.is_empty() {
        return true;
    }
    let marker = split.marker.as_bytes();
    mark(split, first, text, marked);
    if !split.split {
        return each(marked);
    }
    let mut from = 0;
    while let Some(length) = memchr::memmem::find(&marked[from + 1..], marker) {
        let next = from + 1 + length;
        if !each(&marked[from..next]) {
            return false;
        }
        from = next;
    }
    each(&marked[from..])
}

fn mark(split: &Split, first: bool, text: &[u8], marked: &mut Vec<u8>) {
    let marker = split.marker.as_bytes();
    marked.clear();
    let has_marker = text.starts_with(b" ") || text.starts_with(marker);
    let wanted = match split.prepend {
        Prepend::Always => true,
        Prepend::First => first,
        Prepend::Never => false,
    };
    if wanted && !has_marker {
        marked.extend_from_slice(marker);
    }
    let mut parts = text.split(|&byte| byte == b' ');
    marked.extend_from_slice(parts.next().unwrap_or_default());
    for part in parts {
        marked.extend_from_slice(marker);
        marked.extend_from_slice(part);
    }
}
