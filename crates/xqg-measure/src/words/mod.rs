//! Words as NLTK's `word_tokenize` cuts them (nltk 3.9.4, English): Punkt finds the sentences, the
//! Treebank-style rules of `NLTKWordTokenizer` cut each into words. The XOR-TyDi retrieval measures
//! count these tokens. `ci/nltk_proof.py` compares with NLTK itself. No other language's
//! parameters are here, and nothing is trained.

mod boundary;
mod chars;
mod contractions;
mod parameters;
mod punkt;
mod treebank;

/// The tokens of `text`, those of `nltk.word_tokenize(text)` one for one.
///
/// Each is a slice of `text` but for the double quote, which becomes two backticks or two single
/// quotes. Takes any text, in time linear in its length.
pub fn word_tokenize(text: &str) -> Vec<&str> {
    let mut out = Vec::with_capacity(text.len() / 5);
    for sentence in punkt::sentences(text) {
        treebank::push_words(sentence, &mut out);
    }
    out
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::chars::is_space;
    use super::word_tokenize;

    // Made by tests/golden/make_words.py with nltk 3.9.4.
    const GOLDEN: &str = include_str!("../../tests/golden/words.json");

    #[test]
    fn tokens_are_those_of_nltk() {
        let cases: serde_json::Value = serde_json::from_str(GOLDEN).unwrap();
        let cases = cases.as_array().unwrap();
        assert_eq!(cases.len(), 18);
        for case in cases {
            let text = case["text"].as_str().unwrap();
            let wanted: Vec<&str> =
                case["tokens"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
            assert_eq!(word_tokenize(text), wanted, "{text:?}");
        }
    }

    #[test]
    fn a_text_of_many_megabytes_takes_linear_time() {
        let parts =
            [".", ". ", "'", "\"", "-", "`", ",", "a", "a. ", "?!", " ", "\u{85}", "'tis-", "A.)"];
        let began = Instant::now();
        for part in parts {
            let text = part.repeat(2_000_000 / part.len());
            assert_eq!(letters(&word_tokenize(&text).concat()), letters(&text), "{part:?}");
        }
        // Quadratic time would be hours; linear time is seconds even without optimisation.
        assert!(began.elapsed() < Duration::from_secs(120));
    }

    /// The text without white space, and with one sign for each half of every kind of quote.
    fn letters(text: &str) -> String {
        let text = text.replace('"', "''").replace('`', "'");
        text.chars().filter(|&c| !is_space(c)).collect()
    }

    proptest! {
        #[test]
        fn any_text_keeps_all_but_its_white_space(text in any::<String>()) {
            let tokens = word_tokenize(&text);
            prop_assert!(tokens.iter().all(|t| !t.is_empty() && !t.contains(is_space)));
            prop_assert_eq!(letters(&tokens.concat()), letters(&text));
        }

        #[test]
        fn marks_and_letters_keep_all_but_white_space(
            text in "([.?!,:;'\"`()*& -]|--|[.]{2}|[aAdsTn1²éक्\u{85}\u{1c}–“’]|can't|Mr[.]|'tis){0,40}"
        ) {
            let tokens = word_tokenize(&text);
            prop_assert_eq!(letters(&tokens.concat()), letters(&text));
        }
    }
}
