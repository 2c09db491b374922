//! Normalising as SentencePiece itself does it: at each place the longest rule, spaces squeezed and
//! escaped on the way.

use super::charsmap::Charsmap;
use super::lattice::char_length;
use super::settings::Spiece;

const MARKER: &[u8] = "▁".as_bytes();

/// Normalises a text; `out` is cleared first.
pub fn normalize(rules: &Spiece, charsmap: Charsmap, text: &str, out: &mut Vec<u8>) {
    out.clear();
    let rest = if rules.squeeze { skip_spaces(rules, charsmap, text) } else { text.as_bytes() };
    if rest.is_empty() {
        return;
    }
    let space = if rules.escape { MARKER } else { b" " };
    if rules.dummy && !rules.suffix {
        out.extend_from_slice(space);
    }
    push_normalized(rules, charsmap, rest, out);
    while rules.squeeze && out.ends_with(space) {
        out.truncate(out.len() - space.len());
    }
    if rules.dummy && rules.suffix {
        out.extend_from_slice(space);
    }
}

fn skip_spaces<'t>(rules: &Spiece, charsmap: Charsmap, text: &'t str) -> &'t [u8] {
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        let (replacement, length) = prefix(rules, charsmap, rest);
        if replacement != b" " {
            break;
        }
        rest = rest.get(length..).unwrap_or_default();
    }
    rest
}

fn push_normalized(rules: &Spiece, charsmap: Charsmap, text: &[u8], out: &mut Vec<u8>) {
    let space = if rules.escape { MARKER } else { b" " };
    let mut rest = text;
    let mut after_space = rules.squeeze;
    while !rest.is_empty() {
        let (mut part, length) = prefix(rules, charsmap, rest);
        while after_space && part.first() == Some(&b' ') {
            part = &part[1..];
        }
        for &byte in part {
            if byte == b' ' {
                out.extend_from_slice(space);
            } else {
                out.push(byte);
            }
        }
        if let Some(last) = part.last() {
            after_space = rules.squeeze && *last == b' ';
        }
        rest = rest.get(length..).unwrap_or_default();
    }
}

/// What stands for the beginning of the text, and how much of it.
fn prefix<'t>(rules: &Spiece, charsmap: Charsmap<'t>, text: &'t [u8]) -> (&'t [u8], usize) {
    let user = rules.user.iter().filter(|piece| text.starts_with(piece.as_bytes()));
    let length = match user.map(String::len).max() {
        Some(length) => length,
        None => match charsmap.longest(text) {
            Some(found) => return found,
            None => char_length(text),
        },
    };
    (text.split_at(length).0, length)
}
