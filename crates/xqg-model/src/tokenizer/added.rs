//! Added tokens such as `<s>`: found in a text before anything else is done with it, the leftmost
//! first and of those the longest, as the tokenizers crate finds them.

use super::settings::Added;

/// A part of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'t> {
    /// An added token, by its id.
    Token(u32),
    /// What lies between them, and where it begins.
    Text(usize, &'t str),
}

/// Calls for each part of a text in order, until told to stop by `false`; whether it came to the
/// end.
pub fn split<'t>(text: &'t str, added: &[Added], mut each: impl FnMut(Part<'t>) -> bool) -> bool {
    let (mut done, mut from) = (0, 0);
    while let Some((at, token)) = find(text, from, added) {
        from = at + token.content.len();
        let start = if token.lstrip { trimmed_end(text, at).max(done) } else { at };
        let stop = if token.rstrip { from + leading_space(&text[from..]) } else { from };
        if done < start && !each(Part::Text(done, &text[done..start])) {
            return false;
        }
        if !each(Part::Token(token.id)) {
            return false;
        }
        done = stop;
    }
    done >= text.len() || each(Part::Text(done, &text[done..]))
}

/// The next token at or after a place.
fn find<'a>(text: &str, from: usize, added: &'a [Added]) -> Option<(usize, &'a Added)> {
    let first = |byte: &u8| added.iter().any(|a| a.content.as_bytes().first() == Some(byte));
    let bytes = text.as_bytes();
    let longest = |at: usize| {
        let here = added.iter().filter(|a| bytes[at..].starts_with(a.content.as_bytes()));
        here.max_by_key(|a| a.content.len()).map(|a| (at, a))
    };
    let one = added.first().and_then(|a| a.content.bytes().next())?;
    if added.iter().all(|a| a.content.as_bytes().first() == Some(&one)) {
        return memchr::memchr_iter(one, &bytes[from..]).find_map(|at| longest(from + at));
    }
    (from..bytes.len()).filter(|&at| first(&bytes[at])).find_map(longest)
}

fn trimmed_end(text: &str, at: usize) -> usize {
    text[..at].trim_end().len()
}

fn leading_space(text: &str) -> usize {
    text.len() - text.trim_start().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(content: &str, id: u32, lstrip: bool, rstrip: bool) -> Added {
        Added { content: content.to_owned(), id, lstrip, rstrip }
    }

    fn parts<'t>(text: &'t str, added: &[Added]) -> Vec<Part<'t>> {
        let mut parts = Vec::new();
        split(text, added, |part| {
            parts.push(part);
            true
        });
        parts
    }

    #[test]
    fn the_leftmost_and_then_the_longest_is_found() {
        let tokens = [added("<a", 1, false, false), added("<a>", 2, false, false)];
        let found = parts("x<a><a<a>y", &tokens);
        let expected = [
            Part::Text(0, "x"),
            Part::Token(2),
            Part::Token(1),
            Part::Token(2),
            Part::Text(9, "y"),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn white_space_goes_where_a_token_takes_it() {
        let tokens = [added("<m>", 1, true, false), added("[r]", 2, false, true)];
        let found = parts(" a \u{3000}<m> <m>[r]  [r] ", &tokens);
        let expected =
            [Part::Text(0, " a"), Part::Token(1), Part::Token(1), Part::Token(2), Part::Token(2)];
        assert_eq!(found, expected);
        assert_eq!(parts("", &tokens), []);
        assert_eq!(parts("no", &[]), [Part::Text(0, "no")]);
    }
}
