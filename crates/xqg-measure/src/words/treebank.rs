//! Cuts one sentence into words like NLTK's `NLTKWordTokenizer.tokenize` (nltk 3.9.4).
//!
//! NLTK runs some thirty substitutions one after another, nearly all of which only put spaces
//! around something. Here one scan finds the same cuts, so every token is a slice of the sentence;
//! only a double quote becomes another string. Where a rule sees the spaces that an earlier one
//! put in, the comment at the place says so.

use super::chars::{fold, is_decimal, is_space, is_word, word_ends};
use super::contractions::push_pieces;

const OPENING: &str = "``";
const CLOSING: &str = "''";
/// Opening quotes that NLTK puts spaces around before it looks at straight double quotes.
const QUOTES: [char; 5] = ['«', '“', '‘', '„', '`'];
/// What may stand between the last full stop of a sentence and its end.
const CLOSERS: [char; 10] = [']', ')', '}', '>', '"', '\'', '»', '”', '’', ' '];

/// Appends the tokens of one sentence, which does not end with white space.
pub(super) fn push_words<'a>(sentence: &'a str, out: &mut Vec<&'a str>) {
    let mut scan = Scan {
        text: sentence,
        out,
        start: 0,
        at: 0,
        paired: usize::MAX,
        stop: final_stop(sentence),
    };
    while let Some(&byte) = sentence.as_bytes().get(scan.at) {
        scan.step(byte);
    }
    scan.flush(sentence.len());
}

struct Scan<'a, 'o> {
    text: &'a str,
    out: &'o mut Vec<&'a str>,
    /// Where the token that is being read began.
    start: usize,
    /// Where the scan is.
    at: usize,
    /// The colon or comma that the one before it used up as its neighbour.
    paired: usize,
    /// The full stop that ends the sentence and so is a token.
    stop: Option<usize>,
}

impl<'a> Scan<'a, '_> {
    fn step(&mut self, byte: u8) {
        match byte {
            b' ' | b'\t'..=b'\r' | 0x1c..=0x1f => self.skip(1),
            b';' | b'@' | b'#' | b'$' | b'%' | b'&' | b'?' | b'!' | b'*' => self.single(1),
            b'(' | b')' | b'[' | b']' | b'{' | b'}' | b'<' | b'>' => self.single(1),
            b'.' => self.stops(),
            b',' | b':' => self.comma(),
            b'\'' => self.quotes(),
            b'"' => self.double_quote(),
            b'`' | b'-' => self.pairs(byte),
            // The first bytes of all that is white space or punctuation here outside ASCII.
            0xc2 | 0xe1..=0xe3 => self.wide(),
            _ => self.at += 1,
        }
    }

    /// Ends the token that is being read at `end`.
    fn flush(&mut self, end: usize) {
        if self.start < end {
            push_pieces(&self.text[self.start..end], self.out);
        }
        self.start = end;
    }

    /// Ends the token, and goes over `length` bytes that belong to none.
    fn skip(&mut self, length: usize) {
        self.flush(self.at);
        self.at += length;
        self.start = self.at;
    }

    /// Makes the next `length` bytes a token.
    fn single(&mut self, length: usize) {
        self.replaced(length, &self.text[self.at..self.at + length]);
    }

    fn replaced(&mut self, length: usize, token: &'a str) {
        self.skip(length);
        self.out.push(token);
    }

    fn wide(&mut self) {
        let Some(c) = self.text[self.at..].chars().next() else {
            return;
        };
        if is_space(c) {
            self.skip(c.len_utf8());
        } else if matches!(c, '«' | '“' | '‘' | '„' | '»' | '”' | '’') || is_long_dash(c)
        {
            self.single(c.len_utf8());
        } else {
            self.at += c.len_utf8();
        }
    }

    /// Full stops: the last one of the sentence and runs are tokens, others are part of a word.
    fn stops(&mut self) {
        let run = run_length(self.text, self.at);
        if run > 1 || self.stop == Some(self.at) {
            self.single(run);
        } else {
            self.at += 1;
        }
    }

    /// A colon or comma is a token unless a digit follows. It uses up the character after it, so
    /// the second of `,,` is not looked at: it stays with what follows.
    fn comma(&mut self) {
        let last = self.at + 1 == self.text.len();
        if last || (self.paired != self.at && cuts_comma(self.text, self.at)) {
            self.single(1);
            self.paired = self.at;
        } else {
            self.at += 1;
        }
    }

    fn double_quote(&mut self) {
        let opens = self.at == 0 || opens_quote(self.text, self.at);
        self.replaced(1, if opens { OPENING } else { CLOSING });
    }

    /// Pairs of backticks and of dashes are tokens. A backtick left over is one too; a dash left
    /// over belongs to what follows, and a dash alone is part of its word.
    fn pairs(&mut self, byte: u8) {
        let run = run_length(self.text, self.at);
        if byte == b'-' && run == 1 {
            self.at += 1;
            return;
        }
        for _ in 0..run / 2 {
            self.single(2);
        }
        if run % 2 == 1 && byte == b'`' {
            self.single(1);
        } else {
            self.at += run % 2;
        }
    }

    /// A run of single quotes: two may open a quotation, further pairs close one, and one alone or
    /// left over belongs to a word, unless the spaces that other rules put around it cut it off.
    fn quotes(&mut self) {
        let mut left = run_length(self.text, self.at);
        if left > 1 && opens_quote(self.text, self.at) {
            self.replaced(2, OPENING);
            left -= 2;
        }
        for _ in 0..left / 2 {
            self.replaced(2, CLOSING);
        }
        if left % 2 == 1 {
            self.quote();
        }
    }

    /// The last quote of a run. One before a letter that stands alone is cut from it; then, or with
    /// a space after it for another reason, it is cut from what stands before it too.
    fn quote(&mut self) {
        let after = self.at + 1;
        let lone = before_lone_letter(&self.text[after..]);
        if lone || self.space_follows(after) {
            self.flush(self.at);
        }
        self.at = after;
        if lone {
            self.flush(after);
        }
    }

    /// Whether NLTK has a space (no other white space) at `at` when it cuts single quotes off:
    /// one of the text, or one put in by the rules before it.
    fn space_follows(&self, at: usize) -> bool {
        let rest = &self.text[at..];
        match rest.as_bytes() {
            [b' ' | b'`' | b';' | b'@' | b'#' | b'$' | b'%' | b'&' | b'?' | b'!', ..] => true,
            [b':' | b','] | [b'.', b'.', ..] => true,
            [b':' | b',', ..] => cuts_comma(self.text, at),
            [b'.', ..] => self.stop == Some(at),
            _ => rest.chars().next().is_some_and(|c| QUOTES.contains(&c) || is_long_dash(c)),
        }
    }
}

/// Figure dash to horizontal bar.
fn is_long_dash(c: char) -> bool {
    ('\u{2012}'..='\u{2015}').contains(&c)
}

/// How often the byte at `at` is repeated.
fn run_length(text: &str, at: usize) -> usize {
    let rest = &text.as_bytes()[at..];
    rest.iter().take_while(|&b| Some(b) == rest.first()).count()
}

/// Whether something other than a digit follows the colon or comma at `at`.
fn cuts_comma(text: &str, at: usize) -> bool {
    text[at + 1..].chars().next().is_some_and(|c| !is_decimal(c))
}

/// Whether a straight quote at `at` opens a quotation: after a space or bracket of the text, or
/// after a quote that has got a space by then (a double quote at the very start has).
fn opens_quote(text: &str, at: usize) -> bool {
    let before = &text[..at];
    before == "\"" || before.ends_with([' ', '(', '[', '{', '<']) || before.ends_with(QUOTES)
}

/// Whether `rest` begins with a word of one character that is no clitic (`m t s d n`).
fn before_lone_letter(rest: &str) -> bool {
    let mut chars = rest.chars();
    let letter = chars.next().filter(|&c| is_word(c));
    letter.is_some_and(|c| !"mtsdn".contains(fold(c))) && word_ends(chars.as_str())
}

/// The last full stop, if only closing punctuation follows it and no full stop stands before it.
/// A quote that opens a quotation is no closing punctuation, for it is replaced by then.
fn final_stop(sentence: &str) -> Option<usize> {
    let body = sentence.trim_end_matches(CLOSERS).strip_suffix('.')?;
    let tail = body.len() + 1;
    let opens = |at: usize| opens_quote(sentence, tail + at);
    let quotes = |quote| sentence[tail..].match_indices(quote).map(|(at, _)| at);
    let opened = quotes("\"").chain(quotes("''")).any(opens);
    (!body.is_empty() && !body.ends_with('.') && !opened).then_some(body.len())
}

#[cfg(test)]
mod tests {
    use super::push_words;

    fn words(sentence: &str) -> Vec<&str> {
        let mut out = Vec::new();
        push_words(sentence, &mut out);
        out
    }

    // Each from NLTKWordTokenizer().tokenize of nltk 3.9.4.
    #[test]
    fn only_the_last_full_stop_is_a_token() {
        assert_eq!(
            words("He met Mr. X (of Y.)"),
            "He met Mr. X ( of Y . )".split(' ').collect::<Vec<_>>()
        );
        assert_eq!(words("Wait... what.."), ["Wait", "...", "what", ".."]);
        assert_eq!(words("He said. ''"), ["He", "said.", "``"]);
    }

    #[test]
    fn double_quotes_open_after_a_space_or_bracket() {
        assert_eq!(
            words("\"a\" (\"b\") c\"d"),
            ["``", "a", "''", "(", "``", "b", "''", ")", "c", "''", "d"]
        );
        assert_eq!(words("\"\" \"\""), ["``", "``", "``", "''"]);
    }

    #[test]
    fn a_quote_before_a_space_that_nltk_put_in_is_cut_twice() {
        assert_eq!(words("a's' b"), ["a", "'s", "'", "b"]);
        assert_eq!(words("a's'; b"), ["a", "'s", "'", ";", "b"]);
        assert_eq!(words("a's',"), ["a", "'s", "'", ","]);
        assert_eq!(words("a's'–b"), ["a", "'s", "'", "–", "b"]);
        assert_eq!(words("a's'\tb"), ["a's", "'", "b"]);
        assert_eq!(words("x'y z"), ["x", "'", "y", "z"]);
    }

    #[test]
    fn commas_use_up_their_neighbour() {
        assert_eq!(
            words("1,000:5 a,b ,,c ,,,d"),
            ["1,000:5", "a", ",", "b", ",", ",c", ",", ",", ",", "d"]
        );
    }

    #[test]
    fn dashes_and_backticks_go_in_pairs() {
        assert_eq!(words("a---b ```c x-y"), ["a", "--", "-b", "``", "`", "c", "x-y"]);
    }
}
