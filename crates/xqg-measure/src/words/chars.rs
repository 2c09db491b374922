//! What Python calls white space, a word character and a digit, where Rust's own answers differ.
//! The rules of NLTK are Python regular expressions, so these classes decide where words are cut.
//! Newly assigned characters may differ from an older Python, whose Unicode tables are older.

use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory};

/// White space as Python's `str.isspace` and `\s` have it: Unicode's `White_Space` and also the
/// four separator controls U+001C to U+001F.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// A character of Python's `\w`: a letter, a number of any kind, or the underscore. Unlike Rust's
/// `is_alphanumeric` it leaves out the vowel signs of many scripts, which are marks.
pub(super) fn is_word(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_alphanumeric() || c == '_';
    }
    let group = c.general_category_group();
    matches!(group, GeneralCategoryGroup::Letter | GeneralCategoryGroup::Number)
}

/// A character of Python's `\d`: a decimal digit of any script.
pub(super) fn is_decimal(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_digit();
    }
    c.general_category() == GeneralCategory::DecimalNumber
}

/// The lower-case ASCII letter that `c` equals under Python's `(?i)`; other characters stay.
pub(super) fn fold(c: char) -> char {
    match c {
        'İ' | 'ı' => 'i',
        'ſ' => 's',
        _ => c.to_ascii_lowercase(),
    }
}

/// The bytes at the start of `text` that equal `pattern` (lower-case ASCII) without regard to case.
pub(super) fn folded_prefix(text: &str, pattern: &str) -> Option<usize> {
    let mut rest = text.chars();
    for wanted in pattern.chars() {
        if fold(rest.next()?) != wanted {
            return None;
        }
    }
    Some(text.len() - rest.as_str().len())
}

/// Whether a word ends where `rest` begins: `\b` after a word character.
pub(super) fn word_ends(rest: &str) -> bool {
    !rest.chars().next().is_some_and(is_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separator_controls_are_space_and_the_zero_width_space_is_not() {
        for c in ['\u{1c}', '\u{1f}', '\u{85}', '\u{a0}', '\u{2028}', '\u{3000}'] {
            assert!(is_space(c), "{c:?}");
        }
        assert!(!is_space('\u{200b}') && !is_space('\u{180e}') && !is_space('\u{1b}'));
    }

    #[test]
    fn vowel_signs_are_no_word_characters() {
        assert!(is_word('क') && is_word('²') && is_word('Ⅷ') && is_word('_'));
        assert!(!is_word('ा') && !is_word('ⓐ') && !is_word('-'));
        assert!(is_decimal('٣') && !is_decimal('²'));
    }

    #[test]
    fn dotless_i_and_long_s_fold_to_ascii() {
        assert_eq!(folded_prefix("GıMme", "gim"), Some(4));
        assert_eq!(folded_prefix("ſo", "so"), Some(3));
        assert_eq!(folded_prefix("gi", "gim"), None);
    }
}
