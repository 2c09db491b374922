//! Punkt's decision whether a stretch of text around a full stop holds a sentence end: its own
//! coarse tokens, the class of each by its type, and the heuristics over each pair (Kiss and
//! Strunk 2006, section 4; NLTK's `_annotate_first_pass` and `_second_pass_annotation`).

use super::chars::{is_decimal, is_space, is_word};
use super::parameters::{Parameters, Word};

const NUMBER: &str = "##number##";

/// Decides with the English parameters; keeps two buffers, so one decider serves a whole text.
pub(super) struct Decider {
    english: &'static Parameters,
    left: String,
    right: String,
}

/// What a token is by its type alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Break,
    Abbreviation,
    Ellipsis,
    Plain,
}

/// What the spelling of a word says on whether it starts a sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    Yes,
    No,
    Unknown,
}

impl Decider {
    /// A decider for English.
    pub fn english() -> Self {
        Self { english: Parameters::english(), left: String::new(), right: String::new() }
    }

    /// Whether any token of `context` but the last ends a sentence.
    pub fn has_sentence_end(&mut self, context: &str) -> bool {
        let mut tokens = context.split('\n').flat_map(Tokens);
        let Some(mut left) = tokens.next() else {
            return false;
        };
        for right in tokens {
            if self.ends_sentence(left, right) {
                return true;
            }
            left = right;
        }
        false
    }

    fn ends_sentence(&mut self, token: &str, next: &str) -> bool {
        if !token.ends_with('.') {
            return matches!(token, "?" | "!");
        }
        let class = self.class(token);
        let word = self.read_next(next);
        token_type(token, &mut self.left);
        let left = without_stop(&self.left);
        if self.english.collocation(left, &self.right) {
            return false;
        }
        let initial = is_initial(token);
        let start = starts_sentence(next, word);
        let short = matches!(class, Class::Abbreviation | Class::Ellipsis) && !initial;
        if short && (start == Start::Yes || (is_upper(next) && word.starter)) {
            return true;
        }
        if initial || left == NUMBER {
            let unseen = start == Start::Unknown && initial && is_upper(next) && !word.lower;
            if start == Start::No || unseen {
                return false;
            }
        }
        class == Class::Break
    }

    /// Puts the type of the token after the stop into `right` and looks it up.
    fn read_next(&mut self, next: &str) -> Word {
        let breaks = self.class(next) == Class::Break;
        token_type(next, &mut self.right);
        if breaks {
            self.right.truncate(without_stop(&self.right).len());
        }
        self.english.word(&self.right)
    }

    /// Uses `left` as a buffer. A token that ends with two full stops has nothing else.
    fn class(&mut self, token: &str) -> Class {
        if matches!(token, "." | "?" | "!") {
            return Class::Break;
        }
        let Some(body) = token.strip_suffix('.') else {
            return Class::Plain;
        };
        if body.bytes().all(|b| b == b'.') {
            return Class::Ellipsis;
        }
        lower_into(body, &mut self.left);
        let last = self.left.rsplit('-').next().unwrap_or_default();
        let known = |typ: &str| self.english.word(typ).abbreviation;
        if known(&self.left) || known(last) { Class::Abbreviation } else { Class::Break }
    }
}

fn starts_sentence(token: &str, word: Word) -> Start {
    if matches!(token, ";" | ":" | "," | "." | "!" | "?") {
        return Start::No;
    }
    let first = token.chars().next();
    if word.capital_starts && is_upper(token) {
        Start::Yes
    } else if !word.lower_may_start && first.is_some_and(char::is_lowercase) {
        Start::No
    } else {
        Start::Unknown
    }
}

fn is_upper(token: &str) -> bool {
    token.chars().next().is_some_and(char::is_uppercase)
}

/// One letter and a full stop.
fn is_initial(token: &str) -> bool {
    let mut chars = token.chars();
    let letter = chars.next().is_some_and(|c| is_word(c) && !is_decimal(c));
    letter && chars.as_str() == "."
}

/// `-?[.,]?\d[\d,.-]*\.?`
fn is_number(token: &str) -> bool {
    let rest = token.strip_prefix('-').unwrap_or(token);
    let mut chars = rest.strip_prefix(['.', ',']).unwrap_or(rest).chars();
    chars.next().is_some_and(is_decimal) && chars.all(|c| is_decimal(c) || ",.-".contains(c))
}

fn token_type(token: &str, buffer: &mut String) {
    if is_number(token) {
        buffer.clear();
        buffer.push_str(NUMBER);
    } else {
        lower_into(token, buffer);
    }
}

fn lower_into(text: &str, buffer: &mut String) {
    buffer.clear();
    if text.is_ascii() {
        buffer.push_str(text);
        buffer.make_ascii_lowercase();
    } else {
        buffer.push_str(&text.to_lowercase());
    }
}

/// A type of one character keeps its full stop.
fn without_stop(typ: &str) -> &str {
    match typ.strip_suffix('.') {
        Some(body) if !body.is_empty() => body,
        _ => typ,
    }
}

/// Punkt's tokens of one line: words keep their full stops, other punctuation is cut off.
struct Tokens<'a>(&'a str);

impl<'a> Iterator for Tokens<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let line = self.0.trim_start_matches(is_space);
        let first = line.chars().next()?;
        let end = match long_mark(line) {
            0 if starts_word(first) => word_end(line),
            0 => first.len_utf8(),
            length => length,
        };
        let (token, rest) = line.split_at(end);
        self.0 = rest;
        Some(token)
    }
}

fn starts_word(c: char) -> bool {
    !"(\"`{[:;&#*@)}]-,".contains(c)
}

fn word_end(line: &str) -> usize {
    let mut places = line.char_indices().skip(1).map(|(at, _)| at);
    places.find(|&at| ends_word(&line[at..])).unwrap_or(line.len())
}

fn ends_word(rest: &str) -> bool {
    match rest.strip_prefix(',') {
        Some(after) => after.is_empty() || ends_at(after),
        None => ends_at(rest),
    }
}

fn ends_at(rest: &str) -> bool {
    let first = rest.chars().next();
    first.is_some_and(|c| is_space(c) || is_non_word(c)) || starts_long_mark(rest)
}

/// Punctuation that is never inside a word of Punkt (`_re_non_word_chars`).
pub(super) fn is_non_word(c: char) -> bool {
    ")\";}]*:@'({[?!".contains(c)
}

fn starts_long_mark(rest: &str) -> bool {
    match rest.as_bytes() {
        [b'-', b'-', ..] | [b'.', b'.', ..] => true,
        [b'.', ..] => stop_after(rest).and_then(stop_after).is_some(),
        _ => false,
    }
}

/// The bytes of a run of dashes, a run of full stops, or three or more stops with spaces between.
fn long_mark(line: &str) -> usize {
    if !starts_long_mark(line) {
        return 0;
    }
    let run = line.len() - line.trim_start_matches(&line[..1]).len();
    if run > 1 {
        return run;
    }
    let mut last = line;
    while let Some(stop) = stop_after(last) {
        last = stop;
    }
    line.len() - last.len() + 1
}

/// What begins at the full stop that follows the one at the start of `rest` and one white space.
fn stop_after(rest: &str) -> Option<&str> {
    let mut chars = rest.strip_prefix('.')?.chars();
    chars.next().filter(|&c| is_space(c))?;
    Some(chars.as_str()).filter(|after| after.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(line: &str) -> Vec<&str> {
        Tokens(line).collect()
    }

    // Each from PunktLanguageVars().word_tokenize of nltk 3.9.4.
    #[test]
    fn tokens_are_those_of_punkt() {
        assert_eq!(
            tokens("Mr. X, (aged 3,5), left..."),
            ["Mr.", "X", ",", "(", "aged", "3,5", ")", ",", "left", "..."]
        );
        assert_eq!(tokens("a. . . b ---c d-e"), ["a", ". . .", "b", "---", "c", "d-e"]);
    }

    #[test]
    fn an_abbreviation_ends_a_sentence_only_before_a_starter() {
        let mut decider = Decider::english();
        assert!(!decider.has_sentence_end("Mr. Smith"));
        assert!(!decider.has_sentence_end("J. Bach"));
        assert!(decider.has_sentence_end("Inc. The"));
        assert!(decider.has_sentence_end("tree. Xyz"));
        assert!(!decider.has_sentence_end("tree."));
    }

    #[test]
    fn numbers_and_initials() {
        assert!(is_number("-1,000.5.") && is_number(".5") && !is_number("-.") && !is_number("5a"));
        assert!(is_initial("É.") && is_initial("_.") && !is_initial("4.") && !is_initial("ab."));
    }
}
