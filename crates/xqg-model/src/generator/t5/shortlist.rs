//! The tokens that a T5 may write in a language: those whose characters are of the language's scripts
//! or shared by all scripts, as digits and signs are. In other scripts than Latin also Latin tokens of
//! up to three letters, so that names can be spelled, and in all languages single bytes.
//!
//! Exact about it is this: the scores of the tokens that are left are, bit for bit, those of the whole
//! output layer. Probabilities are among the tokens left; so a text of the likeliest tokens is the
//! same with and without the list as long as all of it is in the list.

use unicode_script::Script;
use xqg_data::lang::Lang;

use crate::generator::core::Core;
use crate::generator::output::Output;
use crate::generator::pieces::{Piece, Pieces};
use crate::scripts::{WRITTEN, is_in, row};

/// Letters of Latin tokens that are written in every script.
const SPELLED: usize = 3;

/// What the spare tokens are called with which T5 was pre-trained; nobody writes them.
const SENTINEL: &str = "<extra_id_";

/// Which output layers there may be.
#[derive(Debug)]
pub(super) struct Shortlists {
    tokens: usize,
    end: u32,
}

impl Shortlists {
    /// The lists of a model of so many tokens, of which one ends a text.
    pub fn new(tokens: usize, end: u32) -> Self {
        Self { tokens, end }
    }

    /// The number of a language's output layer, which is made if it is not there; `None` where its
    /// scripts are not known or the pieces of the tokenizer are not.
    pub fn output(&self, core: &Core, lang: Lang) -> Option<usize> {
        let row = row(lang.code())?;
        let Pieces::Own(pieces) = &core.pieces else { return None };
        core.outputs.get(1 + row)?.get_or_init(|| {
            let (whole, ids) = (core.output(None), self.ids(pieces, WRITTEN[row].0));
            Output { linear: whole.linear.select(&ids), ids: Some(ids), isa: whole.isa }
        });
        Some(1 + row)
    }

    /// The tokens of texts in these scripts, in ascending order, the end token among them.
    fn ids(&self, pieces: &[Piece], written: &[Script]) -> Vec<u32> {
        let known = pieces.iter().take(self.tokens).enumerate();
        let ids = known.filter(|&(id, piece)| id == self.end as usize || fits(piece, written));
        ids.map(|(id, _)| id as u32).collect()
    }
}

fn fits(piece: &Piece, written: &[Script]) -> bool {
    match piece {
        Piece::Text(text) if text.contains(SENTINEL) => false,
        Piece::Text(text) => {
            let own = text.chars().all(|c| is_in(c, written));
            own || text.chars().filter(|&c| c != '▁').all(|c| c.is_ascii_alphabetic())
                && text.chars().filter(|&c| c != '▁').count() <= SPELLED
        }
        Piece::Byte(_) => true,
        Piece::Special => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripts::scripts;

    #[test]
    fn pieces_are_of_the_languages_scripts_or_short() {
        let piece = |text: &str| Piece::Text(text.to_owned());
        let fit = |text: &str, lang: &str| fits(&piece(text), scripts(lang).unwrap());
        for (text, telugu, finnish, japanese) in [
            ("▁తెలుగు", true, false, false),
            ("▁kuka", false, true, false),
            ("▁NBA", true, true, true),
            ("äiti", false, true, false),
            ("1984?", true, true, true),
            ("とは東", false, false, true),
            ("▁", true, true, true),
            ("ru東", false, false, false),
            ("▁<extra_id_7>", false, false, false),
        ] {
            assert_eq!(fit(text, "te"), telugu, "{text}");
            assert_eq!(fit(text, "fi"), finnish, "{text}");
            assert_eq!(fit(text, "ja"), japanese, "{text}");
        }
        assert!(fits(&Piece::Byte(7), &[]) && !fits(&Piece::Special, &[]));
        let lists = Shortlists::new(3, 1);
        let pieces = [piece("a"), Piece::Special, piece("東京"), piece("7")];
        assert_eq!(lists.ids(&pieces, scripts("fi").unwrap()), [0, 1]);
        assert_eq!(lists.ids(&pieces, scripts("zh").unwrap()), [0, 1, 2]);
    }
}
