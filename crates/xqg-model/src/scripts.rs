//! Which scripts a language is written in: by this a vocabulary is pruned to languages, and a T5
//! writes a language's tokens only.

use unicode_script::{Script, UnicodeScript as _};

/// Languages by their ISO 639 codes, those that are written in the same scripts together.
pub static WRITTEN: [(&[Script], &[&str]); 27] = [
    (&[Script::Arabic], &["ar", "fa", "ur", "ug", "ps", "sd", "ckb"]),
    (&[Script::Cyrillic], &["be", "bg", "kk", "ky", "mk", "mn", "ru", "tg", "tt", "uk"]),
    (&[Script::Latin, Script::Arabic], &["ku"]),
    (&[Script::Cyrillic, Script::Latin], &["sr", "bs"]),
    (&[Script::Bengali], &["bn", "as"]),
    (&[Script::Devanagari], &["hi", "mr", "ne", "sa"]),
    (&[Script::Ethiopic], &["am", "ti"]),
    (&[Script::Greek], &["el"]),
    (&[Script::Gujarati], &["gu"]),
    (&[Script::Gurmukhi], &["pa"]),
    (&[Script::Hebrew], &["he", "yi"]),
    (&[Script::Armenian], &["hy"]),
    (&[Script::Han, Script::Hiragana, Script::Katakana], &["ja"]),
    (&[Script::Georgian], &["ka"]),
    (&[Script::Khmer], &["km"]),
    (&[Script::Kannada], &["kn"]),
    (&[Script::Hangul, Script::Han], &["ko"]),
    (&[Script::Lao], &["lo"]),
    (&[Script::Malayalam], &["ml"]),
    (&[Script::Myanmar], &["my"]),
    (&[Script::Oriya], &["or"]),
    (&[Script::Sinhala], &["si"]),
    (&[Script::Tamil], &["ta"]),
    (&[Script::Telugu], &["te"]),
    (&[Script::Thai], &["th"]),
    (&[Script::Han, Script::Bopomofo], &["zh"]),
    (
        &[Script::Latin],
        &[
            "af", "az", "ca", "ceb", "co", "cs", "cy", "da", "de", "en", "eo", "es", "et", "eu",
            "fi", "fil", "fr", "fy", "ga", "gd", "gl", "ha", "haw", "hmn", "hr", "ht", "hu", "id",
            "ig", "is", "it", "jv", "la", "lb", "lt", "lv", "mg", "mi", "ms", "mt", "nb", "nl",
            "nn", "no", "ny", "pl", "pt", "ro", "sk", "sl", "sm", "sn", "so", "sq", "st", "su",
            "sv", "sw", "tl", "tr", "uz", "vi", "xh", "yo", "zu",
        ],
    ),
];

/// The row of [`WRITTEN`] that has a language; `None` where it is not known here.
pub fn row(lang: &str) -> Option<usize> {
    WRITTEN.iter().position(|(_, codes)| codes.contains(&lang))
}

/// The scripts of a language by its ISO 639 code; `None` where that is not known here.
pub fn scripts(lang: &str) -> Option<&'static [Script]> {
    row(lang).map(|row| WRITTEN[row].0)
}

/// Whether a character may stand in a text of these scripts: one of theirs, or one that all scripts
/// share, like digits and signs.
pub fn is_in(c: char, scripts: &[Script]) -> bool {
    let script = c.script();
    matches!(script, Script::Common | Script::Inherited) || scripts.contains(&script)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_of_a_script_and_shared_ones() {
        let telugu = scripts("te").unwrap();
        for c in ['త', '7', '?', '▁', ' '] {
            assert!(is_in(c, telugu), "{c}");
        }
        for c in ['a', 'я', '東'] {
            assert!(!is_in(c, telugu), "{c}");
        }
        assert!(scripts("xx").is_none());
    }
}
