//! Which scripts a language is written in.

use std::collections::BTreeSet;

use unicode_script::{Script, UnicodeScript as _};

/// The scripts of a language by its ISO 639 code; `None` where that is not known here.
pub fn scripts(lang: &str) -> Option<&'static [Script]> {
    Some(match lang {
        "ar" | "fa" | "ur" | "ug" | "ps" | "sd" | "ckb" => &[Script::Arabic],
        "be" | "bg" | "kk" | "ky" | "mk" | "mn" | "ru" | "tg" | "tt" | "uk" => &[Script::Cyrillic],
        "sr" | "bs" => &[Script::Cyrillic, Script::Latin],
        "bn" | "as" => &[Script::Bengali],
        "hi" | "mr" | "ne" | "sa" => &[Script::Devanagari],
        "am" | "ti" => &[Script::Ethiopic],
        "el" => &[Script::Greek],
        "gu" => &[Script::Gujarati],
        "pa" => &[Script::Gurmukhi],
        "he" | "yi" => &[Script::Hebrew],
        "hy" => &[Script::Armenian],
        "ja" => &[Script::Han, Script::Hiragana, Script::Katakana],
        "ka" => &[Script::Georgian],
        "km" => &[Script::Khmer],
        "kn" => &[Script::Kannada],
        "ko" => &[Script::Hangul, Script::Han],
        "lo" => &[Script::Lao],
        "ml" => &[Script::Malayalam],
        "my" => &[Script::Myanmar],
        "or" => &[Script::Oriya],
        "si" => &[Script::Sinhala],
        "ta" => &[Script::Tamil],
        "te" => &[Script::Telugu],
        "th" => &[Script::Thai],
        "zh" => &[Script::Han, Script::Bopomofo],
        "af" | "az" | "ca" | "cs" | "cy" | "da" | "de" | "en" | "eo" | "es" | "et" | "eu"
        | "fi" | "fr" | "ga" | "gl" | "ha" | "hr" | "hu" | "id" | "ig" | "is" | "it" | "jv"
        | "la" | "lt" | "lv" | "mg" | "ms" | "mt" | "nl" | "no" | "nb" | "nn" | "pl" | "pt"
        | "ro" | "sk" | "sl" | "so" | "sq" | "su" | "sv" | "sw" | "tl" | "tr" | "uz" | "vi"
        | "xh" | "yo" | "zu" => &[Script::Latin],
        _ => return None,
    })
}

/// Whether a character may stand in a text of these scripts: one of theirs, or one that all scripts
/// share, like digits and signs.
pub fn is_in(c: char, scripts: &BTreeSet<&str>) -> bool {
    let script = c.script();
    matches!(script, Script::Common | Script::Inherited) || scripts.contains(script.full_name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_of_a_script_and_shared_ones() {
        let telugu: BTreeSet<&str> = scripts("te").unwrap().iter().map(|s| s.full_name()).collect();
        for c in ['త', '7', '?', '▁', ' '] {
            assert!(is_in(c, &telugu), "{c}");
        }
        for c in ['a', 'я', '東'] {
            assert!(!is_in(c, &telugu), "{c}");
        }
        assert!(scripts("xx").is_none());
    }
}
