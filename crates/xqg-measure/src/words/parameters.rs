//! What Punkt knows of English: abbreviations, frequent sentence starters, collocations, and how
//! words are written. Read once from `data/punkt-english.txt`; the script beside it makes it.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

static TABLE: &str = include_str!("../../data/punkt-english.txt");
static ENGLISH: LazyLock<Parameters> = LazyLock::new(|| Parameters::parse(TABLE));

/// What is known of one word type; all false for an unknown one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Word {
    /// The type is an abbreviation.
    pub abbreviation: bool,
    /// It often starts sentences.
    pub starter: bool,
    /// It was seen in lower case.
    pub lower: bool,
    /// A capital on it starts a sentence: seen in lower case, never capital inside a sentence.
    pub capital_starts: bool,
    /// In lower case it may start a sentence: it did, and was never seen with a capital.
    pub lower_may_start: bool,
}

impl Word {
    fn parse(marks: &str) -> Self {
        Self {
            abbreviation: marks.contains('a'),
            starter: marks.contains('s'),
            lower: marks.contains(['l', 'c', 'b']),
            capital_starts: marks.contains(['c', 'b']),
            lower_may_start: marks.contains('b'),
        }
    }
}

/// The parameters of one language.
#[derive(Debug, Default)]
pub(super) struct Parameters {
    words: HashMap<&'static str, Word>,
    collocations: HashSet<(&'static str, &'static str)>,
}

impl Parameters {
    /// The English ones, read at the first call.
    pub fn english() -> &'static Self {
        &ENGLISH
    }

    /// What is known of a type (lower case, a number as `##number##`).
    pub fn word(&self, typ: &str) -> Word {
        self.words.get(typ).copied().unwrap_or_default()
    }

    /// Whether a full stop between these two types ends no sentence.
    pub fn collocation(&self, left: &str, right: &str) -> bool {
        self.collocations.contains(&(left, right))
    }

    // The opening comment has no tab, so it falls out by itself.
    fn parse(table: &'static str) -> Self {
        let mut found = Self { words: HashMap::with_capacity(1 << 14), ..Self::default() };
        for (entry, marks) in table.lines().filter_map(|line| line.split_once('\t')) {
            if marks != "p" {
                found.words.insert(entry, Word::parse(marks));
            } else if let Some(pair) = entry.split_once(' ') {
                found.collocations.insert(pair);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counts_are_those_of_the_parameters_of_nltk() {
        let english = Parameters::english();
        let count = |which: fn(&Word) -> bool| english.words.values().filter(|w| which(w)).count();
        assert_eq!(count(|w| w.abbreviation), 156);
        assert_eq!(count(|w| w.starter), 39);
        assert_eq!(english.collocations.len(), 37);
        assert_eq!(count(|w| w.lower), 12_344 + 2_354 + 4);
        assert_eq!(count(|w| w.capital_starts), 12_344 + 4);
        assert_eq!(count(|w| w.lower_may_start), 4);
    }

    #[test]
    fn the_spaced_ellipsis_is_an_abbreviation() {
        assert!(Parameters::english().word(". . ").abbreviation);
        assert!(Parameters::english().collocation("##number##", "pay-fone"));
        assert_eq!(Parameters::english().word("zyzzyva"), Word::default());
    }
}
