//! Which passage holds an answer, by the word tokens that R@kt counts. Two questions are asked of
//! each passage. Is it a positive: does its text, without the title, hold an answer exactly? And
//! is it too near to be a negative: does its title or text name an answer at all, in whatever case?

use xqg_data::passage::Passage;
use xqg_measure::passages::JoinedTokens;
use xqg_measure::words::word_tokenize;

/// Answers that name no passage: XOR-TyDi's for questions of yes and no, and for unanswered ones.
const NAMES_NOTHING: [&str; 3] = ["yes", "no", "unknown"];

/// From this many characters on, an answer within a longer word keeps a passage from being a
/// negative; shorter ones, such as `2`, occur within words nearly everywhere.
const LONG_ENOUGH: usize = 4;

/// What it takes to hold an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// The answer's word tokens in a row.
    Words,
    /// The answer's characters in a row, as R@kt has it: `7` is in `1970`.
    Characters,
}

/// A passage made ready to be asked.
#[derive(Debug)]
pub struct ReadPassage {
    /// The passage.
    pub passage: Passage,
    /// The text's word tokens, with a space before and behind each.
    words: String,
    /// Title's and text's, in lower case.
    lower: String,
}

impl ReadPassage {
    /// Tokenizes a passage.
    pub fn new(passage: Passage) -> Self {
        let words = spaced(&passage.text);
        let lower = format!("{}{words}", spaced(&passage.title)).to_lowercase();
        Self { passage, words, lower }
    }
}

/// The answers of one query, made ready to be looked for.
#[derive(Debug)]
pub struct Answers {
    rule: Rule,
    wanted: Vec<Wanted>,
}

#[derive(Debug)]
struct Wanted {
    answer: String,
    words: String,
    lower_words: String,
    lower: String,
}

impl Answers {
    /// Takes the answers that name something and have at least `shortest` characters.
    pub fn new(answers: &[String], rule: Rule, shortest: usize) -> Self {
        let named = answers.iter().map(|answer| answer.trim()).filter(|answer| {
            let nothing = NAMES_NOTHING.contains(&answer.to_lowercase().as_str());
            !nothing && !answer.is_empty() && answer.chars().count() >= shortest
        });
        Self { rule, wanted: named.map(Wanted::new).collect() }
    }

    /// Whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.wanted.is_empty()
    }

    /// The first answer that the passage's text holds.
    pub fn held_by(&self, passage: &ReadPassage) -> Option<&str> {
        let holds = |w: &&Wanted| match self.rule {
            Rule::Words => passage.words.contains(&w.words),
            Rule::Characters => passage.words.contains(&w.answer),
        };
        self.wanted.iter().find(holds).map(|w| w.answer.as_str())
    }

    /// Whether the passage names any answer, so that it must not be a negative.
    pub fn named_by(&self, passage: &ReadPassage) -> bool {
        let names = |w: &Wanted| {
            let long = w.lower.chars().count() >= LONG_ENOUGH;
            passage.lower.contains(&w.lower_words) || long && passage.lower.contains(&w.lower)
        };
        self.wanted.iter().any(names) || self.held_by(passage).is_some()
    }
}

impl Wanted {
    fn new(answer: &str) -> Self {
        let words = spaced(answer);
        let (lower_words, lower) = (words.to_lowercase(), answer.to_lowercase());
        Self { answer: answer.to_owned(), words, lower_words, lower }
    }
}

/// ` word word word `: a run of words is found by a plain search.
fn spaced(text: &str) -> String {
    format!(" {} ", JoinedTokens::of(text, word_tokenize).text())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(title: &str, text: &str) -> ReadPassage {
        let (docid, title, text) = ("p".to_owned(), title.to_owned(), text.to_owned());
        ReadPassage::new(Passage { docid, title, text })
    }

    fn answers(all: &[&str], rule: Rule) -> Answers {
        let all: Vec<String> = all.iter().map(|&a| a.to_owned()).collect();
        Answers::new(&all, rule, 1)
    }

    #[test]
    fn a_positive_holds_the_words_of_an_answer() {
        let passage = read("Germany", "In 1970, the U.S. (and Spain's king) won 7-0.");
        for (answer, words, characters) in [
            ("1970", true, true),
            ("197", false, true),
            ("Spain", true, true),
            ("Spa", false, true),
            ("spain", false, false),
            ("Germany", false, false),
            ("king", true, true),
            ("1970 the", false, false),
            ("1970, the", true, false),
        ] {
            let holds = |rule| answers(&[answer], rule).held_by(&passage).is_some();
            assert_eq!(holds(Rule::Words), words, "{answer} as words");
            assert_eq!(holds(Rule::Characters), characters, "{answer} as characters");
        }
    }

    #[test]
    fn a_negative_names_no_answer_in_any_case_nor_in_its_title() {
        let passage = read("Germany", "The king won in 1970.");
        for (answer, named) in [
            ("germany", true),
            ("King", true),
            ("Kin", false),
            ("german", true),
            ("9", false),
            ("queen", false),
        ] {
            assert_eq!(answers(&[answer], Rule::Words).named_by(&passage), named, "{answer}");
        }
        assert!(answers(&["9"], Rule::Characters).named_by(&passage));
    }

    #[test]
    fn what_names_nothing_is_not_looked_for() {
        assert!(answers(&["yes", "No", "unknown", " ", ""], Rule::Words).is_empty());
        let passage = read("", "There is no way known.");
        assert_eq!(answers(&["no", "way"], Rule::Words).held_by(&passage), Some("way"));
        assert!(Answers::new(&["12".to_owned()], Rule::Words, 3).is_empty());
    }

    proptest! {
        #[test]
        fn what_holds_words_names_them(
            text in "[ab1 .,'A-]{0,30}", answer in "[ab1.,'A-]{1,4}( [ab1]{1,3})?",
        ) {
            let passage = read("t", &text);
            for rule in [Rule::Words, Rule::Characters] {
                let answers = answers(&[&answer], rule);
                if answers.held_by(&passage).is_some() {
                    prop_assert!(answers.named_by(&passage));
                }
            }
        }
    }
}
