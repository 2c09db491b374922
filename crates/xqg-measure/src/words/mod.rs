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
