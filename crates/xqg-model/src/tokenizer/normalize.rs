//! Normalising as the steps of a `tokenizer.json` say: strings in, strings out, without the
//! offsets that the tokenizers crate keeps.

use std::borrow::Cow;

use memchr::memmem;
use unicode_segmentation::UnicodeSegmentation;

use super::charsmap::Charsmap;
use super::settings::Step;

/// The longest grapheme, in bytes, that is looked up as one, exclusive.
const GRAPHEME_BYTES: usize = 6;

/// The charsmap with what is known of ASCII: most text is left as it is.
#[derive(Debug, Clone, Copy)]
pub struct CharRules<'a> {
    charsmap: Charsmap<'a>,
    kept: &'a [bool; 128],
}

/// Which ASCII characters the charsmap leaves as they are. Carriage return is asked each time, for
/// it is one grapheme with a line feed.
pub fn kept_ascii(charsmap: Charsmap) -> [bool; 128] {
    let kept = |byte: u8| byte != b'\r' && charsmap.shortest(&[byte]).is_none();
    std::array::from_fn(|i| kept(i as u8))
}

impl<'a> CharRules<'a> {
    /// The rules, with [`kept_ascii`] of the same charsmap.
    pub fn new(charsmap: Charsmap<'a>, kept: &'a [bool; 128]) -> Self {
        Self { charsmap, kept }
    }

    /// Normalises a text by the rule of the tokenizers crate: each grapheme that has a replacement
    /// and is short is replaced as one, all others character by character.
    pub fn apply(&self, mut text: &str, out: &mut Vec<u8>) {
        loop {
            let (run, rest) = text.split_at(self.kept_run(text.as_bytes()));
            out.extend_from_slice(run.as_bytes());
            let (part, rest) = rest.split_at(lone_start(rest));
            if part.is_empty() {
                return;
            }
            if is_lone_char(part) {
                self.push_char(part.as_bytes(), out);
            } else {
                part.graphemes(true).for_each(|grapheme| self.push_grapheme(grapheme, out));
            }
            text = rest;
        }
    }

    /// How many ASCII characters at the beginning stay as they are, without one that a mark might
    /// follow.
    fn kept_run(&self, text: &[u8]) -> usize {
        let kept = |byte: &u8| self.kept.get(usize::from(*byte)) == Some(&true);
        let run = text.iter().take_while(|byte| kept(byte)).count();
        let ascii_follows = text.get(run).is_none_or(u8::is_ascii);
        if ascii_follows { run } else { run.saturating_sub(1) }
    }

    fn push_grapheme(&self, grapheme: &str, out: &mut Vec<u8>) {
        let short = grapheme.len() < GRAPHEME_BYTES;
        match self.charsmap.shortest(grapheme.as_bytes()).filter(|_| short) {
            Some(replacement) => out.extend_from_slice(replacement),
            None => {
                let mut buffer = [0; 4];
                grapheme
                    .chars()
                    .for_each(|c| self.push_char(c.encode_utf8(&mut buffer).as_bytes(), out));
            }
        }
    }

    fn push_char(&self, char: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(self.charsmap.shortest(char).unwrap_or(char));
    }
}

fn is_lone_char(part: &str) -> bool {
    let mut chars = part.chars();
    chars.next().is_some_and(stands_alone) && chars.next().is_none()
}

/// The length of a part of the text after which a grapheme surely ends: to between two characters
/// that both stand alone.
fn lone_start(text: &str) -> usize {
    let mut before = false;
    for (at, c) in text.char_indices() {
        let alone = stands_alone(c);
        if alone && before {
            return at;
        }
        before = alone;
    }
    text.len()
}

/// Whether a grapheme begins before and ends after this character when its neighbours are such
/// characters too: no marks, joiners, prefixes, regional indicators or single jamo. Not all of
/// them, but most of most texts.
fn stands_alone(c: char) -> bool {
    matches!(u32::from(c),
        0x20..=0x7e | 0xa1..=0xac | 0xae..=0x2ff | 0x370..=0x377 | 0x384..=0x482 | 0x48a..=0x52f
        | 0x5d0..=0x5ea | 0x620..=0x64a | 0x660..=0x66f | 0x671..=0x6d5 | 0x6ee..=0x6ff
        | 0x904..=0x939 | 0x985..=0x9b9 | 0xe01..=0xe30 | 0xe40..=0xe46 | 0x1e00..=0x1fbc
        | 0x2010..=0x2027 | 0x2030..=0x205e | 0x2190..=0x23ff | 0x2580..=0x259f
        | 0x3000..=0x3029 | 0x3041..=0x3096 | 0x309b..=0x30ff | 0x3400..=0x4dbf | 0x4e00..=0x9fff
        | 0xac00..=0xd7a3 | 0xff01..=0xff9d)
}

/// Normalises a text; `out` is cleared first. `spare` is memory for the steps in between.
pub fn normalize(
    steps: &[Step],
    rules: CharRules,
    text: &str,
    out: &mut Vec<u8>,
    spare: &mut Vec<u8>,
) {
    out.clear();
    let rest = match steps.split_first() {
        Some((Step::Charsmap, rest)) => {
            rules.apply(text, out);
            rest
        }
        _ => {
            out.extend_from_slice(text.as_bytes());
            steps
        }
    };
    for step in rest {
        apply_step(step, rules, out, spare);
    }
}

fn apply_step(step: &Step, rules: CharRules, text: &mut Vec<u8>, spare: &mut Vec<u8>) {
    spare.clear();
    match step {
        Step::Charsmap => rules.apply(&as_str(text), spare),
        Step::Strip { left, right } => {
            let whole = as_str(text);
            let part = if *left { whole.trim_start() } else { &whole };
            let part = if *right { part.trim_end() } else { part };
            spare.extend_from_slice(part.as_bytes());
        }
        Step::Replace { pattern, content } => replace(text, pattern, content, spare),
        Step::Spaces { content } if memmem::find(text, b"  ").is_some() => {
            replace_spaces(text, content, spare);
        }
        Step::Spaces { .. } => return,
    }
    std::mem::swap(text, spare);
}

fn replace(text: &[u8], pattern: &str, content: &str, out: &mut Vec<u8>) {
    let mut from = 0;
    for at in memmem::find_iter(text, pattern) {
        out.extend_from_slice(&text[from..at]);
        out.extend_from_slice(content.as_bytes());
        from = at + pattern.len();
    }
    out.extend_from_slice(&text[from..]);
}

fn replace_spaces(text: &[u8], content: &str, out: &mut Vec<u8>) {
    for run in text.chunk_by(|&a, &b| (a == b' ') == (b == b' ')) {
        let many = run.len() > 1 && run[0] == b' ';
        out.extend_from_slice(if many { content.as_bytes() } else { run });
    }
}

/// Normalised text as a string. Only a charsmap that cuts characters in two makes it other than
/// UTF-8.
pub fn as_str(text: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn characters_that_stand_alone_do_so_beside_any_other() {
        // One of each kind among them: others, and the two kinds of Hangul syllables.
        let kinds = ['a', '日', '가', '각', '©', 'क'];
        for c in (0..=0xffff).filter_map(char::from_u32).filter(|&c| stands_alone(c)) {
            for pair in kinds.iter().flat_map(|&kind| [[c, kind], [kind, c], [c, c]]) {
                let text = String::from_iter(pair);
                assert_eq!(text.graphemes(true).count(), 2, "{c:?} in {text:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn parts_end_where_graphemes_end(text in "(\\PC|[a-c]|[\u{300}-\u{303}\u{200d}👍🇫क्षি한가])*") {
            let ends: Vec<usize> =
                text.grapheme_indices(true).map(|(at, part)| at + part.len()).collect();
            let mut at = 0;
            while at < text.len() {
                at += lone_start(&text[at..]);
                prop_assert!(ends.contains(&at), "{text:?} at {at}");
            }
        }

        #[test]
        fn steps_equal_the_standard_library(text in "[ a]{0,12}", content in "[▁x]{0,2}") {
            let (mut out, mut spare) = (Vec::new(), Vec::new());
            let kept = [true; 128];
            let rules = CharRules::new(Charsmap::default(), &kept);
            let mut run = |step: Step| {
                normalize(&[step], rules, &text, &mut out, &mut spare);
                as_str(&out).into_owned()
            };
            let replaced = run(Step::Replace { pattern: "a ".into(), content: content.clone() });
            prop_assert_eq!(replaced, text.replace("a ", &content));
            prop_assert_eq!(run(Step::Strip { left: true, right: false }), text.trim_start());
            let squeezed = run(Step::Spaces { content: " ".into() });
            prop_assert!(!squeezed.contains("  "));
            prop_assert_eq!(squeezed.replace(' ', ""), text.replace(' ', ""));
        }
    }
}
