//! The gate: which questions are worth an index's memory, by what their text alone and the passage's
//! tell. A question is rejected for its length, for going round in circles, for being in another
//! language, for being there already, and for being the passage's own words.

use std::collections::BTreeSet;

use anyhow::Result;
use rayon::prelude::*;
use xqg_data::passage::Passage;

use super::judged::{Judged, Reason};
use super::language::Languages;
use super::round_trip::RoundTrip;

/// From this similarity on (shared groups of three characters over all of both) two questions of a
/// passage are nearly the same.
const NEARLY: f64 = 0.85;
/// From this part on of a question's groups of five characters that are the passage's, it is a copy.
const COPIED: f64 = 0.9;
/// Shorter ones may well be a name that stands in the passage.
const LEAST_COPY: usize = 12;

/// The limits of length, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lengths {
    /// Letters and digits that a question has at least.
    pub shortest: usize,
    /// Characters that it has at most.
    pub longest: usize,
}

/// All that questions are asked.
pub struct Gate<'a> {
    /// Their length.
    pub lengths: Lengths,
    /// Their language; not asked where there is none.
    pub languages: Option<Languages>,
    /// Whether the retriever finds their passage; not asked where there is none.
    pub round_trip: Option<RoundTrip<'a>>,
}

/// The questions of a passage, and the passage where it is known.
pub type Block<'a> = (Option<&'a Passage>, Vec<Judged>);

impl Gate<'_> {
    /// Judges the questions of some passages; the order stays.
    ///
    /// # Errors
    /// When the retriever fails or does not know a passage.
    pub fn judge(&self, blocks: &mut [Block]) -> Result<()> {
        blocks.par_iter_mut().for_each(|(passage, block)| {
            block.iter_mut().for_each(|judged| self.judge_text(judged));
            reject_repeated(block);
            if let Some(passage) = passage {
                reject_copies(passage, block);
            }
        });
        match &self.round_trip {
            Some(round_trip) => round_trip.judge(blocks),
            None => Ok(()),
        }
    }

    fn judge_text(&self, judged: &mut Judged) {
        let text = judged.question.text.as_str();
        let reason = if bare(text).chars().count() < self.lengths.shortest {
            Some(Reason::Short)
        } else if text.chars().count() > self.lengths.longest {
            Some(Reason::Long)
        } else if is_loop(text) {
            Some(Reason::Loop)
        } else {
            let languages = self.languages.as_ref();
            let other = languages.and_then(|l| l.other_than(text, judged.question.lang));
            if let Some(other) = &other {
                judged.line.insert("found".into(), serde_json::json!(other));
            }
            other.map(|_| Reason::Language)
        };
        if let Some(reason) = reason {
            judged.reject(reason);
        }
    }
}

/// Letters and digits in lower case, nothing else.
fn bare(text: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric();
    text.chars().filter(kept).flat_map(char::to_lowercase).collect()
}

/// Groups of `n` characters in a row.
fn groups(text: &str, n: usize) -> BTreeSet<Vec<char>> {
    let chars: Vec<char> = text.chars().collect();
    chars.windows(n).map(<[char]>::to_vec).collect()
}

fn reject_repeated(block: &mut [Judged]) {
    let mut kept: Vec<(usize, String, BTreeSet<Vec<char>>)> = Vec::new();
    for i in 0..block.len() {
        if block[i].reason.is_some() {
            continue;
        }
        let text = bare(&block[i].question.text);
        let own = groups(&text, 3);
        let lang = block[i].question.lang;
        let before = || kept.iter().filter(|(j, _, _)| block[*j].question.lang == lang);
        let same = before().any(|(_, other, _)| *other == text);
        let near = same || before().any(|(_, _, other)| similarity(&own, other) >= NEARLY);
        match (same, near) {
            (true, _) => block[i].reject(Reason::Duplicate),
            (_, true) => block[i].reject(Reason::NearDuplicate),
            _ => kept.push((i, text, own)),
        }
    }
}

/// Shared groups over all groups (Jaccard).
fn similarity(a: &BTreeSet<Vec<char>>, b: &BTreeSet<Vec<char>>) -> f64 {
    let both = a.intersection(b).count();
    both as f64 / (a.len() + b.len() - both).max(1) as f64
}

fn reject_copies(passage: &Passage, block: &mut [Judged]) {
    let whole = bare(&passage.encoder_text());
    let pieces = groups(&whole, 5);
    for judged in block.iter_mut().filter(|judged| judged.reason.is_none()) {
        let text = bare(&judged.question.text);
        if text.chars().count() < LEAST_COPY {
            continue;
        }
        let own = groups(&text, 5);
        let shared = own.intersection(&pieces).count();
        if shared as f64 >= COPIED * own.len() as f64 {
            judged.reject(Reason::Copy);
        }
    }
}

/// Whether a text goes round in circles: something comes three times in a row and fills nine
/// characters, one character comes six times in a row, or few of its groups of three are new.
fn is_loop(text: &str) -> bool {
    let chars: Vec<char> = text.to_lowercase().chars().collect();
    let repeated = |period: usize| {
        // The sign between the second and the third time is not there behind the last.
        let least = if period == 1 { 6 } else { (3 * period - 1).max(9) };
        let mut run = period;
        for i in period..chars.len() {
            run = if chars[i] == chars[i - period] { run + 1 } else { period };
            if run >= least && chars[i].is_alphanumeric() {
                return true;
            }
        }
        false
    };
    let spread = chars.len() >= 24 && 2 * groups(text, 3).len() < chars.len() - 2;
    spread || (1..=chars.len().div_ceil(3)).any(repeated)
}

#[cfg(test)]
mod tests {
    use super::super::judged::tests::judged;
    use super::*;

    fn reasons(passage: &str, texts: &[&str]) -> Vec<Option<Reason>> {
        let (docid, title) = ("p".to_owned(), String::new());
        let passage = Passage { docid, title, text: passage.to_owned() };
        let lengths = Lengths { shortest: 3, longest: 60 };
        let gate = Gate { lengths, languages: None, round_trip: None };
        let block = texts.iter().map(|text| judged("p", "en", text)).collect();
        let mut blocks = [(Some(&passage), block)];
        gate.judge(&mut blocks).unwrap();
        blocks[0].1.iter().map(|j| j.reason).collect()
    }

    #[test]
    fn each_fault_has_its_reason() {
        let long = "who was it ".repeat(9);
        let passage = "The theremin was invented by Leon Theremin in 1920.";
        let found = reasons(
            passage,
            &[
                "Who invented the theremin?",
                "who invented the Theremin",
                "Who invented the theremins?",
                "Who invented it?",
                "Theremin was invented by Leon Theremin",
                "Leon?",
                "??!",
                &long,
                "the the the the who?",
                "aaaaaaaa is what?",
                "Leon Theremin?",
            ],
        );
        use Reason::{Copy, Duplicate, Long, Loop, NearDuplicate, Short};
        let wanted = [
            None,
            Some(Duplicate),
            Some(NearDuplicate),
            None,
            Some(Copy),
            None,
            Some(Short),
            Some(Long),
            Some(Loop),
            Some(Loop),
            Some(Copy),
        ];
        assert_eq!(found, wanted);
    }

    #[test]
    fn the_same_question_in_two_languages_is_two() {
        let gate = Gate {
            lengths: Lengths { shortest: 1, longest: 99 },
            languages: None,
            round_trip: None,
        };
        let mut blocks = [(None, vec![judged("p", "de", "Wo?"), judged("p", "en", "Wo?")])];
        gate.judge(&mut blocks).unwrap();
        assert!(blocks[0].1.iter().all(|j| j.reason.is_none()));
    }

    #[test]
    fn what_only_sounds_repetitive_passes() {
        for text in
            ["ますますの意味は?", "Mikä on tutut tutun tutkinto?", "How many bees make honey?"]
        {
            assert!(!is_loop(text), "{text}");
        }
        for text in ["何何何何何何ですか", "what is what is what is", "నది నది నది నది"]
        {
            assert!(is_loop(text), "{text}");
        }
    }
}
