//! A SentencePiece model file (`spiece.model`, `sentencepiece.bpe.model`), for folders without a
//! `tokenizer.json`: the pieces, how text is normalised, and the ids that T5 or XLM-R give them.

use super::proto::{Field, fields};
use super::settings::{Settings, Spiece, Words};
use super::tables::Source;
use crate::generator::pieces::{Piece as Shown, byte};

/// How low an unknown character scores below the lowest piece (SentencePiece's `kUnkPenalty`).
const UNKNOWN_PENALTY: f32 = 10.0;

/// Whose ids the pieces get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// T5 and mT5: the pieces' own places; `</s>` after a text.
    T5,
    /// XLM-R: fairseq's ids, one higher, with `<s>`, `<pad>`, `</s>`, `<unk>` as 0 to 3.
    XlmR,
}

/// What a piece is for, numbered as in SentencePiece's `sentencepiece_model.proto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Normal,
    Unknown,
    Control,
    User,
    Unused,
    Byte,
}

struct Piece<'a> {
    text: &'a str,
    score: f32,
    usage: Use,
}

struct Model<'a> {
    pieces: Vec<Piece<'a>>,
    kind: u64,
    bytes: bool,
    charsmap: &'a [u8],
    text: Spiece,
    /// Whether the specifications of training and of normalising have been read: SentencePiece
    /// writes both, after the pieces, so that a file cut short lacks one.
    whole: [bool; 2],
}

/// The parts of a model file.
///
/// # Errors
/// What was expected and what was found instead, when it is no model or none of unigrams.
pub fn read(file: &[u8], family: Family) -> Result<Source, [String; 2]> {
    let said = |expected: &str, found: &str| [expected.to_owned(), found.to_owned()];
    let model = Model::read(file)
        .filter(|model| !model.pieces.is_empty())
        .ok_or_else(|| said("a SentencePiece model", "something else, or a damaged one"))?;
    if model.kind != 1 {
        let kind = ["unknown", "unigram", "bpe", "word", "char"].get(model.kind as usize);
        return Err(said("a model of type unigram", kind.unwrap_or(&"an unknown type")));
    }
    let source = model.source(family);
    source.ok_or_else(|| said("pieces for <unk>, </s> and, if any, all bytes", "fewer"))
}

/// What each id stands for in text; `None` where the file is no model.
pub fn pieces(file: &[u8], family: Family) -> Option<Vec<Shown>> {
    let model = Model::read(file)?;
    let shown = |piece: &Piece| match piece.usage {
        Use::Normal | Use::User => Shown::Text(piece.text.to_owned()),
        Use::Byte => byte(piece.text).map_or(Shown::Special, Shown::Byte),
        Use::Unknown | Use::Control | Use::Unused => Shown::Special,
    };
    let before = std::iter::repeat_n(Shown::Special, family.offset());
    let mut all: Vec<Shown> = before.chain(model.pieces.iter().map(shown)).collect();
    if family == Family::XlmR {
        // fairseq's four come first, whatever the model's own first three are.
        all.iter_mut().take(4).for_each(|piece| *piece = Shown::Special);
    }
    Some(all)
}

impl<'a> Model<'a> {
    fn read(file: &'a [u8]) -> Option<Self> {
        let text =
            Spiece { dummy: true, squeeze: true, escape: true, suffix: false, user: Vec::new() };
        let whole = [false; 2];
        let mut model =
            Model { pieces: Vec::new(), kind: 1, bytes: false, charsmap: &[], text, whole };
        fields(file, |number, field| match number {
            1 => {
                model.pieces.push(Piece::read(field.bytes()?)?);
                Some(())
            }
            2 => {
                model.whole[0] = true;
                fields(field.bytes()?, |number, field| model.training(number, field))
            }
            3 => {
                model.whole[1] = true;
                fields(field.bytes()?, |number, field| model.normalizing(number, field))
            }
            _ => Some(()),
        })?;
        let user = model.pieces.iter().filter(|piece| piece.usage == Use::User);
        model.text.user = user.map(|piece| piece.text.to_owned()).collect();
        (model.whole == [true; 2]).then_some(model)
    }

    fn training(&mut self, number: u64, field: Field<'a>) -> Option<()> {
        match number {
            3 => self.kind = field.number()?,
            24 => self.text.suffix = field.number()? != 0,
            35 => self.bytes = field.number()? != 0,
            _ => {}
        }
        Some(())
    }

    fn normalizing(&mut self, number: u64, field: Field<'a>) -> Option<()> {
        match number {
            2 => self.charsmap = field.bytes()?,
            3 => self.text.dummy = field.number()? != 0,
            4 => self.text.squeeze = field.number()? != 0,
            5 => self.text.escape = field.number()? != 0,
            _ => {}
        }
        Some(())
    }

    fn source(self, family: Family) -> Option<Source> {
        let place = |usage, text: Option<&str>| {
            let fits = |p: &Piece| p.usage == usage && text.is_none_or(|text| p.text == text);
            self.pieces.iter().position(fits).and_then(|at| u32::try_from(at).ok())
        };
        let unknown = place(Use::Unknown, None)?;
        let (front, back, unknown) = match family {
            Family::T5 => (vec![], vec![place(Use::Control, Some("</s>"))?], unknown),
            Family::XlmR => (vec![0], vec![2], 3),
        };
        let byte_ids = if self.bytes { self.byte_ids(family)? } else { Vec::new() };
        let settings = Settings {
            words: Words::Spiece(self.text.clone()),
            added: Vec::new(),
            added_normalized: Vec::new(),
            front,
            back,
            unknown,
            unknown_score: f64::from(self.lowest() - UNKNOWN_PENALTY),
            bytes: byte_ids,
        };
        Some(Source { pieces: self.scored(family), charsmap: self.charsmap.to_vec(), settings })
    }

    fn lowest(&self) -> f32 {
        let normal = self.pieces.iter().filter(|piece| piece.usage == Use::Normal);
        normal.map(|piece| piece.score).fold(f32::MAX, f32::min)
    }

    /// The pieces that can be found in text; a nameless one in the place of each other.
    fn scored(&self, family: Family) -> Vec<(String, f64)> {
        // SentencePiece begins the greatest score at the least positive number, not the lowest.
        let normal = self.pieces.iter().filter(|piece| piece.usage == Use::Normal);
        let highest = normal.map(|piece| piece.score).fold(f32::MIN_POSITIVE, f32::max);
        let scored = |piece: &Piece| match piece.usage {
            Use::Normal => (piece.text.to_owned(), f64::from(piece.score)),
            Use::User => {
                (piece.text.to_owned(), f64::from(piece.text.len() as f32 * highest) - 0.1)
            }
            _ => (String::new(), 0.0),
        };
        let before = vec![(String::new(), 0.0); family.offset()];
        before.into_iter().chain(self.pieces.iter().map(scored)).collect()
    }

    fn byte_ids(&self, family: Family) -> Option<Vec<u32>> {
        let id = |byte: u8| {
            let name = format!("<0x{byte:02X}>");
            let fits = |piece: &Piece| piece.usage == Use::Byte && piece.text == name;
            u32::try_from(self.pieces.iter().position(fits)? + family.offset()).ok()
        };
        (0..=u8::MAX).map(id).collect()
    }
}

impl Family {
    /// How much higher the ids are than the pieces' places.
    fn offset(self) -> usize {
        match self {
            Self::T5 => 0,
            Self::XlmR => 1,
        }
    }
}

impl<'a> Piece<'a> {
    fn read(message: &'a [u8]) -> Option<Self> {
        let mut piece = Piece { text: "", score: 0.0, usage: Use::Normal };
        fields(message, |number, field| {
            match number {
                1 => piece.text = std::str::from_utf8(field.bytes()?).ok()?,
                2 => piece.score = field.float()?,
                3 => piece.usage = Use::read(field.number()?)?,
                _ => {}
            }
            Some(())
        })?;
        Some(piece)
    }
}

impl Use {
    fn read(number: u64) -> Option<Self> {
        Some(match number {
            1 => Self::Normal,
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::User,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => return None,
        })
    }
}
