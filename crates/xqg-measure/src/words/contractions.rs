//! Cuts what English writes together: clitics (`do n't`, `John 's`) and the fixed contractions of
//! Robert MacIntyre's tokenizer (`can not`, `gon na`, `'t is`). Works on one token at a time, after
//! quotes and punctuation are cut off.

use super::chars::{folded_prefix, is_word, word_ends};

/// The two halves of each contraction that stands between word boundaries.
const HALVES: [(&str, &str); 7] = [
    ("can", "not"),
    ("d", "'ye"),
    ("gim", "me"),
    ("gon", "na"),
    ("got", "ta"),
    ("lem", "me"),
    ("more", "'n"),
];
const CLITICS: [&str; 8] = ["'ll", "'LL", "'re", "'RE", "'ve", "'VE", "n't", "N'T"];

/// Appends the pieces of `token`, which has neither white space nor a doubled single quote unless
/// it is that quote alone.
pub(super) fn push_pieces<'a>(token: &'a str, out: &mut Vec<&'a str>) {
    if token.bytes().all(|b| b.is_ascii_alphabetic()) {
        return push_word(token, out);
    }
    let (body, genitive) = cut(token, genitive_length(token));
    let length = CLITICS.iter().find(|clitic| body.ends_with(**clitic)).map_or(0, |c| c.len());
    let (body, clitic) = cut(body, length);
    push_contractions(body, out);
    out.extend(clitic);
    out.extend(genitive);
}

/// A word of ASCII letters, the usual case: it is a contraction whole or not at all.
fn push_word<'a>(word: &'a str, out: &mut Vec<&'a str>) {
    const WHOLE: [(&str, usize); 6] =
        [("cannot", 3), ("gimme", 3), ("gonna", 3), ("gotta", 3), ("lemme", 3), ("wanna", 3)];
    let found = match word.len() {
        5 | 6 => WHOLE.iter().find(|(whole, _)| word.eq_ignore_ascii_case(whole)),
        _ => None,
    };
    let (first, second) = word.split_at(found.map_or(word.len(), |(_, middle)| *middle));
    out.push(first);
    out.extend(Some(second).filter(|second| !second.is_empty()));
}

/// The bytes of `'s`, `'m`, `'d` or a lone quote at the end.
fn genitive_length(token: &str) -> usize {
    match token.as_bytes() {
        [.., b'\''] => 1,
        [.., b'\'', b's' | b'S' | b'm' | b'M' | b'd' | b'D'] => 2,
        _ => 0,
    }
}

/// Cuts the last `length` bytes off, unless a quote stands before them.
fn cut(token: &str, length: usize) -> (&str, Option<&str>) {
    let (body, tail) = token.split_at(token.len() - length);
    if length == 0 || body.ends_with('\'') {
        return (token, None);
    }
    (body, Some(tail))
}

fn push_contractions<'a>(token: &'a str, out: &mut Vec<&'a str>) {
    let mut rest = token;
    while let Some((start, middle, end)) = find_contraction(rest) {
        push_it_contractions(&rest[..start], out);
        out.extend([&rest[start..middle], &rest[middle..end]]);
        rest = &rest[end..];
    }
    push_it_contractions(rest, out);
}

/// The first contraction that begins at a word boundary: its start, middle and end.
fn find_contraction(text: &str) -> Option<(usize, usize, usize)> {
    let mut inside = false;
    for (at, c) in text.char_indices() {
        let begins = is_word(c) && !inside;
        inside = is_word(c);
        if begins && let Some((first, both)) = contraction_at(&text[at..]) {
            return Some((at, at + first, at + both));
        }
    }
    None
}

fn contraction_at(text: &str) -> Option<(usize, usize)> {
    let matched = |&(first, second): &(&str, &str)| {
        let middle = folded_prefix(text, first)?;
        let end = middle + folded_prefix(&text[middle..], second)?;
        Some((middle, end))
    };
    let whole = |&(_, end): &(usize, usize)| word_ends(&text[end..]);
    // `wanna` alone must be followed by white space, so it ends its token.
    let last = matched(&("wan", "na")).filter(|&(_, end)| end == text.len());
    HALVES.iter().filter_map(matched).find(whole).or(last)
}

/// Cuts `'tis`, then `'twas`, at the start of a piece.
fn push_it_contractions<'a>(piece: &'a str, out: &mut Vec<&'a str>) {
    let mut rest = piece;
    for verb in ["is", "was"] {
        let end = folded_prefix(rest, "'t").zip(rest.get(2..).and_then(|r| folded_prefix(r, verb)));
        if let Some((middle, length)) = end
            && word_ends(&rest[middle + length..])
        {
            out.extend([&rest[..middle], &rest[middle..middle + length]]);
            rest = &rest[middle + length..];
        }
    }
    out.extend(Some(rest).filter(|rest| !rest.is_empty()));
}

#[cfg(test)]
mod tests {
    use super::push_pieces;

    fn pieces(token: &str) -> Vec<&str> {
        let mut out = Vec::new();
        push_pieces(token, &mut out);
        out
    }

    // Each from nltk.word_tokenize of nltk 3.9.4.
    #[test]
    fn clitics() {
        assert_eq!(pieces("don't"), ["do", "n't"]);
        assert_eq!(pieces("they'll's"), ["they", "'ll", "'s"]);
        assert_eq!(pieces("dogs'"), ["dogs", "'"]);
        assert_eq!(pieces("n't"), ["n't"]);
        assert_eq!(pieces("'s"), ["'s"]);
        assert_eq!(pieces("don'T"), ["don'T"]);
    }

    #[test]
    fn contractions_stand_between_word_boundaries() {
        assert_eq!(pieces("Cannot"), ["Can", "not"]);
        assert_eq!(pieces("cannots"), ["cannots"]);
        assert_eq!(pieces("x-gonna-wanna"), ["x-", "gon", "na", "-", "wan", "na"]);
        assert_eq!(pieces("wanna-x"), ["wanna-x"]);
        assert_eq!(pieces("D'ye"), ["D", "'ye"]);
        assert_eq!(pieces("more'n"), ["more", "'n"]);
        assert_eq!(pieces("gımme"), ["gım", "me"]);
    }

    #[test]
    fn it_contractions_stand_at_the_start_of_a_token() {
        assert_eq!(pieces("'Twas"), ["'T", "was"]);
        assert_eq!(pieces("'tis'twas"), ["'t", "is", "'t", "was"]);
        assert_eq!(pieces("'twas'tis"), ["'t", "was", "'tis"]);
        assert_eq!(pieces("x'tis"), ["x'tis"]);
    }
}
