//! The tokens of a generator: the pieces of the encoder's tokenizer that its training questions are
//! made of, then one tag for each language; and for each language the tokens that occur in it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use xqg_data::error::DataError;
use xqg_data::file::write_whole;
use xqg_model::recipe::Recipe;
use xqg_model::tokenizer::Tokenizer;

use super::config::GeneratorConfig;
use super::rows::{Row, Task};
use crate::error::TrainError;
use crate::prune::tokenizer::Vocabulary as Pieces;

/// The ids of padding and end: those of XLM-RoBERTa's tokenizers.
pub const PAD: u32 = 1;
/// The id that ends a question.
pub const EOS: u32 = 2;

/// A question's tokens, without tag and end.
pub type Ids = Vec<u32>;

/// The tokens of a generator.
#[derive(Debug)]
pub struct Vocabulary {
    /// The pruned `tokenizer.json`.
    pub file: String,
    /// The encoder's ids of the kept pieces, in their new order.
    pub kept: Vec<u32>,
    /// How often each token is written, ends included.
    pub counts: Vec<u64>,
    /// For each language the tokens that occur in its questions, and the end.
    pub shortlists: Vec<Vec<u32>>,
    tokenizer: Tokenizer,
    special: BTreeSet<u32>,
}

impl Vocabulary {
    /// Takes the pieces of all questions; `folder` is where the pruned tokenizer may lie.
    ///
    /// # Errors
    /// When the encoder has no Unigram tokenizer of XLM-RoBERTa's ids, or the disk refuses.
    pub fn open(
        config: &GeneratorConfig,
        tasks: &[Task],
        folder: &Path,
    ) -> Result<Self, TrainError> {
        let network = Recipe::read(&config.encoder)?.network;
        let path = network.join("tokenizer.json");
        let pieces = Pieces::read(&path)?;
        check(&pieces, &path)?;
        let kept = kept(config, tasks, &pieces, &Tokenizer::open(&network)?)?;
        let file = format!("{:#}\n", pieces.pruned(&kept));
        std::fs::create_dir_all(folder).map_err(DataError::io("creating", folder))?;
        write_whole(&folder.join("tokenizer.json"), file.as_bytes())?;
        let new = |old: u32| kept.binary_search(&old).ok().map(|id| id as u32);
        let special = pieces.special().filter_map(new).collect();
        let tokenizer = Tokenizer::open(folder)?;
        let counts = vec![0; kept.len() + config.langs.len()];
        let shortlists = vec![Vec::new(); config.langs.len()];
        let mut vocabulary = Self { file, kept, counts, shortlists, tokenizer, special };
        vocabulary.count(tasks)?;
        Ok(vocabulary)
    }

    /// Tokens and language tags together.
    pub fn size(&self) -> usize {
        self.counts.len()
    }

    /// The tag of a language by its place.
    pub fn tag(&self, lang: usize) -> u32 {
        (self.kept.len() + lang) as u32
    }

    /// The tokens of some rows' questions.
    ///
    /// # Errors
    /// When the tokenizer refuses a text.
    pub fn tokens(&self, rows: &[Row]) -> Result<Vec<Ids>, TrainError> {
        let texts: Vec<String> = rows.iter().map(|row| row.text.clone()).collect();
        let tokens = self.tokenizer.encode("", &texts, usize::MAX)?;
        let plain = |t: xqg_model::tokenizer::Tokens| {
            t.ids.into_iter().filter(|id| !self.special.contains(id)).collect()
        };
        Ok(tokens.into_iter().map(plain).collect())
    }

    fn count(&mut self, tasks: &[Task]) -> Result<(), TrainError> {
        let mut lists = vec![BTreeSet::from([EOS]); self.shortlists.len()];
        for rows in tasks.iter().flat_map(|task| [&task.train, &task.held_out]) {
            for (row, ids) in rows.iter().zip(self.tokens(rows)?) {
                for id in ids.into_iter().chain([EOS]) {
                    self.counts[id as usize] += 1;
                    lists[row.lang].insert(id);
                }
            }
        }
        self.shortlists = lists.into_iter().map(|list| list.into_iter().collect()).collect();
        Ok(())
    }
}

/// The encoder's ids that are kept, in rising order: special ones, pieces that occur often enough,
/// single characters that occur at all, and what decides about unknown characters.
fn kept(
    config: &GeneratorConfig,
    tasks: &[Task],
    pieces: &Pieces,
    tokenizer: &Tokenizer,
) -> Result<Vec<u32>, TrainError> {
    let mut counts: BTreeMap<u32, u64> = BTreeMap::new();
    let mut characters = BTreeSet::new();
    for rows in tasks.iter().flat_map(|task| [&task.train, &task.held_out]) {
        let texts: Vec<String> = rows.iter().map(|row| row.text.clone()).collect();
        texts.iter().for_each(|text| characters.extend(text.chars()));
        for tokens in tokenizer.encode("", &texts, usize::MAX)? {
            tokens.ids.into_iter().for_each(|id| *counts.entry(id).or_default() += 1);
        }
    }
    characters.insert('▁');
    let single = |piece: &str| {
        let mut all = piece.chars();
        matches!((all.next(), all.next()), (Some(c), None) if characters.contains(&c))
    };
    let often = counts.into_iter().filter(|(_, n)| *n >= config.decoder.least).map(|(id, _)| id);
    let mut kept: BTreeSet<u32> = often.chain(pieces.special()).chain(pieces.needed()).collect();
    kept.extend(0..=EOS);
    kept.extend(pieces.pieces().filter(|(_, piece)| single(piece)).map(|(id, _)| id));
    Ok(kept.into_iter().collect())
}

/// The generator's end and padding are XLM-RoBERTa's.
fn check(pieces: &Pieces, path: &Path) -> Result<(), TrainError> {
    let found: Vec<&str> = pieces.pieces().take(3).map(|(_, piece)| piece).collect();
    if found == ["<s>", "<pad>", "</s>"] {
        return Ok(());
    }
    Err(TrainError::Unexpected {
        path: path.to_path_buf(),
        expected: "a tokenizer that begins with <s>, <pad>, </s>, as XLM-RoBERTa's".into(),
        found: found.join(", "),
        hint: "a shared-encoder generator stands on an encoder of XLM-RoBERTa's kind",
    })
}
