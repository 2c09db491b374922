//! Cuts a text into sentences like NLTK's `PunktSentenceTokenizer.tokenize` with the English
//! parameters: every `.`, `?` or `!` is a candidate, the words around it decide, and closing
//! punctuation after it goes to the sentence it closes. Trains nothing.

use std::ops::Range;

use super::boundary::{Decider, is_non_word};
use super::chars::is_space;

/// The sentences of `text` in order, without the white space between them. White space before the
/// first sentence stays in it; none ends with white space.
pub(super) fn sentences(text: &str) -> Vec<&str> {
    realigned(text, &slices(text))
}

/// A mark that may end a sentence, and the stretch of text that decides on it.
struct Candidate {
    /// Where the deciding stretch begins: usually the start of the word before the mark.
    from: usize,
    /// Where the mark is; it is one byte long.
    mark: usize,
    /// Where the deciding stretch ends: after the next word or one sign of punctuation.
    to: usize,
    /// Where the next sentence would begin.
    next: usize,
}

/// The marks that are followed by punctuation, or by white space and more text
/// (`_period_context_fmt`), one for each run of overlapping stretches
/// (`_match_potential_end_contexts`).
fn candidates(text: &str) -> Vec<Candidate> {
    let mut kept: Vec<Candidate> = Vec::new();
    let (mut from, mut mark) = (0, 0);
    let mut last: Option<Candidate> = None;
    for at in marks(text) {
        let Some((to, next)) = after_mark(text, at + 1) else {
            continue;
        };
        // A space right at the last mark counts as none, for it is at index 0 of the search.
        let start = match last_ascii_space(&text.as_bytes()[mark..at]) {
            0 => from,
            space => mark + space + 1,
        };
        if start >= mark {
            kept.extend(last.take());
        }
        (from, mark) = (start, at);
        last = Some(Candidate { from, mark, to, next });
    }
    kept.extend(last);
    kept
}

fn marks(text: &str) -> impl Iterator<Item = usize> {
    let bytes = text.bytes().enumerate();
    bytes.filter(|(_, b)| matches!(b, b'.' | b'?' | b'!')).map(|(at, _)| at)
}

/// Where the context after a mark ends, and where the next sentence would begin.
fn after_mark(text: &str, at: usize) -> Option<(usize, usize)> {
    let rest = &text[at..];
    let first = rest.chars().next()?;
    if is_non_word(first) {
        return Some((at + first.len_utf8(), at));
    }
    if !is_space(first) {
        return None;
    }
    let word = rest.trim_start_matches(is_space);
    let next = text.len() - word.len();
    let length = word.find(is_space).unwrap_or(word.len());
    (length > 0).then_some((next + length, next))
}

/// The index of the last ASCII white space (Python's `string.whitespace`), 0 if there is none.
fn last_ascii_space(before: &[u8]) -> usize {
    before.iter().rposition(|b| matches!(b, b' ' | b'\t'..=b'\r')).unwrap_or(0)
}

fn slices(text: &str) -> Vec<Range<usize>> {
    let mut decider = Decider::english();
    let mut found = Vec::new();
    let mut start = 0;
    for candidate in candidates(text) {
        if decider.has_sentence_end(&text[candidate.from..candidate.to]) {
            found.push(start..candidate.mark + 1);
            start = candidate.next;
        }
    }
    found.push(start..text.trim_end_matches(is_space).len());
    found
}

/// Moves quotes and brackets that open a sentence to the end of the sentence before.
fn realigned<'a>(text: &'a str, slices: &[Range<usize>]) -> Vec<&'a str> {
    let mut found = Vec::with_capacity(slices.len());
    let mut moved = 0;
    for (at, slice) in slices.iter().enumerate() {
        let start = slice.start + moved;
        let next = slices.get(at + 1);
        let closed = next.and_then(|next| closing(text.get(next.clone())?));
        let end = match (closed, next) {
            (Some((length, _)), Some(next)) => next.start + length,
            _ => slice.end,
        };
        moved = closed.map_or(0, |(_, moved)| moved);
        found.extend(text.get(start..end).filter(|sentence| !sentence.is_empty()));
    }
    found
}

/// The bytes of the closing punctuation that opens a sentence, without and with the white space
/// after it, if a new word, a double dash or nothing follows (`re_boundary_realignment`).
fn closing(sentence: &str) -> Option<(usize, usize)> {
    let rest = sentence.trim_start_matches(['"', '\'', ')', ']', '}']);
    let after = rest.trim_start_matches(is_space);
    let cut = rest.is_empty() || rest.starts_with("--") || after.len() < rest.len();
    let length = sentence.len() - rest.len();
    (cut && length > 0).then_some((length, sentence.len() - after.len()))
}

#[cfg(test)]
mod tests {
    use super::sentences;

    // Each from nltk.sent_tokenize of nltk 3.9.4.
    #[test]
    fn abbreviations_and_initials_do_not_end_a_sentence() {
        assert_eq!(
            sentences("Dr. J. Smith of Smith Inc. left. He ran 4. 5 times?  Yes! "),
            ["Dr. J. Smith of Smith Inc. left.", "He ran 4.", "5 times?", "Yes!"]
        );
    }

    #[test]
    fn closing_punctuation_goes_to_the_sentence_that_it_closes() {
        assert_eq!(
            sentences("(He left.) Then \"he came.\" --So it was."),
            ["(He left.)", "Then \"he came.\"", "--So it was."]
        );
    }

    #[test]
    fn white_space_only_and_unbroken_marks() {
        assert!(sentences(" \u{a0}\n").is_empty());
        assert_eq!(sentences("No!!! Never."), ["No!!!", "Never."]);
        assert_eq!(sentences("a.b.c"), ["a.b.c"]);
    }
}
