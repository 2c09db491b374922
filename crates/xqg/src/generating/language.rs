//! Which language is a question in? Short texts full of names are hard to tell, so a question is only
//! rejected when it is all but certain that its language is another one of those known here. On
//! questions that speakers asked this rejects at most 1.7 % of any language (`ci/languages.sh`).

use lingua::{IsoCode639_1, Language, LanguageDetector, LanguageDetectorBuilder};
use xqg_data::lang::Lang;

/// Below this probability a text is not in the language that it says.
const LEAST: f64 = 0.1;

/// The languages that can be told apart: those in which MIRACL asks.
const KNOWN: [Language; 18] = [
    Language::Arabic,
    Language::Bengali,
    Language::Chinese,
    Language::English,
    Language::Finnish,
    Language::French,
    Language::German,
    Language::Hindi,
    Language::Indonesian,
    Language::Japanese,
    Language::Korean,
    Language::Persian,
    Language::Russian,
    Language::Spanish,
    Language::Swahili,
    Language::Telugu,
    Language::Thai,
    Language::Yoruba,
];

/// Tells languages apart. All known ones are always at choice, so that a verdict does not depend on
/// the other questions.
pub struct Languages(LanguageDetector);

impl Languages {
    /// A detector.
    pub fn new() -> Self {
        Self(LanguageDetectorBuilder::from_languages(&KNOWN).build())
    }

    /// Whether questions in a language can be judged.
    pub fn knows(lang: Lang) -> bool {
        of(lang).is_some()
    }

    /// The code of the language that a text is in, where that is surely not the one it says; none
    /// where its language is not known, or where nothing in it tells.
    pub fn other_than(&self, text: &str, lang: Lang) -> Option<String> {
        let own = of(lang)?;
        let all = self.0.compute_language_confidence_values(text);
        let (best, probability) = *all.first()?;
        let of_own = all.iter().find(|(language, _)| *language == own)?.1;
        let other = probability > 0.0 && of_own < LEAST;
        other.then(|| best.iso_code_639_1().to_string())
    }
}

fn of(lang: Lang) -> Option<Language> {
    let code: IsoCode639_1 = lang.code().parse().ok()?;
    KNOWN.into_iter().find(|language| language.iso_code_639_1() == code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn other(text: &str, lang: &str) -> Option<String> {
        Languages::new().other_than(text, lang.parse().unwrap())
    }

    #[test]
    fn another_language_is_named_and_a_doubtful_one_passes() {
        assert_eq!(other("Kuka keksi puhelimen?", "fi"), None);
        assert_eq!(other("Who invented the telephone?", "fi").as_deref(), Some("en"));
        assert_eq!(other("من اخترع الهاتف؟", "ar"), None);
        assert_eq!(other("چه کسی تلفن را اختراع کرد؟", "ar").as_deref(), Some("fa"));
        assert_eq!(other("టెలిఫోన్‌ను ఎవరు కనుగొన్నారు?", "bn").as_deref(), Some("te"));
        assert_eq!(other("1920?", "te"), None, "nothing tells");
        assert_eq!(other("Quis telephonum invenit?", "la"), None, "not known");
        assert!(
            Languages::knows("yo".parse().unwrap()) && !Languages::knows("la".parse().unwrap())
        );
    }
}
