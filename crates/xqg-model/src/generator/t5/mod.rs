//! T5 and mT5 as generators of questions: the published checkpoints of Google and those of Zhuang et
//! al. (2023), which were trained to answer a prompt that names the language in English.
//!
//! The encoder reads a prompt once for all its samples; the decoder is the one of all generators.

mod encoder;
mod load;
mod shortlist;

use std::path::Path;
use std::sync::{Mutex, OnceLock};

use xqg_data::lang::Lang;
use xqg_data::passage::Passage;
use xqg_kernel::isa::Isa;

use self::encoder::{Encoder, Scratch};
use self::load::{Parts, QUESTION_TOKENS};
use self::shortlist::Shortlists;
use super::GeneratorOptions;
use super::core::{Core, Reader, Spoken};
use super::pieces::Pieces;
use crate::encoder::{PASSAGE_TOKENS, Reading};
use crate::error::ModelError;
use crate::linear::Arithmetic;
use crate::scripts::WRITTEN;
use crate::t5_config::T5Config;
use crate::tokenizer::Tokenizer;

/// Tokens of prompt and passage at most, where nobody says a number: a passage of
/// [`PASSAGE_TOKENS`], and room for the words of the prompt.
const PROMPT_TOKENS: usize = PASSAGE_TOKENS + 32;

/// The most that may be said: beyond it nothing but memory would be filled.
const MOST_TOKENS: usize = 8192;

/// A T5 or mT5.
#[derive(Debug)]
pub(crate) struct T5 {
    /// The shared parts.
    pub core: Core,
    encoder: Encoder,
    tokenizer: Tokenizer,
    shortlists: Shortlists,
    /// The decoder's first token.
    start: u32,
    max_tokens: usize,
    spare: Mutex<Vec<Scratch>>,
}

impl T5 {
    /// Opens a Hugging Face folder.
    ///
    /// # Errors
    /// When a file is missing or damaged, or does not fit the configuration.
    pub fn open(folder: &Path, options: &GeneratorOptions) -> Result<Self, ModelError> {
        let config = T5Config::read(folder)?;
        let max_tokens = options.passage_max_tokens.unwrap_or(PROMPT_TOKENS);
        if max_tokens > MOST_TOKENS {
            let (path, limit, asked) = (folder.to_path_buf(), MOST_TOKENS, max_tokens);
            let hint = "T5 was trained with 512 at most";
            return Err(ModelError::TooLong { path, limit, asked, hint });
        }
        let isa = options.isa.unwrap_or_else(Isa::detect);
        let how = Arithmetic { isa, precision: options.precision };
        // The vocabulary and the weights take about as long to read, so they are read side by side.
        let (texts, parts) = rayon::join(
            || Ok::<_, ModelError>((Tokenizer::open(folder)?, Pieces::open(folder)?)),
            || load::load(folder, &config, max_tokens, (how, options.keep_packed)),
        );
        let ((tokenizer, pieces), Parts { encoder, decoder, output }) = (texts?, parts?);
        let shortlists = Shortlists::new(config.vocab_size, config.eos_token_id);
        let mut outputs = vec![OnceLock::from(output)];
        outputs.resize_with(1 + WRITTEN.len(), OnceLock::new);
        let core = Core {
            decoder,
            score_scale: if config.scales() { (config.d_model as f32).powf(-0.5) } else { 1.0 },
            outputs,
            pieces,
            end: config.eos_token_id,
            max_positions: Some(QUESTION_TOKENS),
        };
        let (start, spare) = (config.decoder_start_token_id, Mutex::default());
        Ok(Self { core, encoder, tokenizer, shortlists, start, max_tokens, spare })
    }

    /// The languages as the model speaks them; `shortlist` says whether their own output layers are
    /// wanted. They are made when a language is first asked for, and kept.
    pub fn spoken(&self, langs: &[Lang], shortlist: bool) -> Vec<Spoken> {
        let output = |lang: &Lang| self.shortlists.output(&self.core, *lang).filter(|_| shortlist);
        let spoken = |lang: &Lang| Spoken { lang: *lang, start: self.start, output: output(lang) };
        langs.iter().map(spoken).collect()
    }

    /// The tokens of a question, without its end.
    ///
    /// # Errors
    /// When the tokenizer refuses it, or does not fit the network.
    pub fn tokens(&self, index: usize, question: &str) -> Result<Vec<u32>, ModelError> {
        let tokens = self.tokenizer.session().encode("", question, usize::MAX);
        let mut ids = tokens.map_err(|source| ModelError::Tokenize { index, source })?.ids;
        ids.pop_if(|id| *id == self.core.end);
        self.core.check_ids(index, &ids)?;
        Ok(ids)
    }

    fn forward(&self, ids: &[u32], team: usize) -> Vec<f32> {
        let spare = || self.spare.lock().expect("no panic while locked");
        let mut scratch = spare().pop().unwrap_or_default();
        scratch.worker.team = team;
        let states = self.encoder.forward(&self.core.decoder.words, ids, &mut scratch).to_vec();
        spare().push(scratch);
        states
    }
}

/// The words before the passage (Zhuang et al. 2023, section 4): the language by its English name.
pub fn prompt(lang: Lang) -> String {
    format!("Generate a {} question for this passage: ", lang.name())
}

impl Reader for T5 {
    fn serves_all(&self) -> bool {
        false
    }

    fn read(
        &self,
        index: usize,
        passage: &Passage,
        langs: &[Spoken],
        team: usize,
    ) -> Result<Reading, ModelError> {
        let prefix = langs.first().map(|spoken| prompt(spoken.lang)).unwrap_or_default();
        let mut session = self.tokenizer.session();
        let tokens = session.encode(&prefix, &passage.encoder_text(), self.max_tokens);
        let tokens = tokens.map_err(|source| ModelError::Tokenize { index, source })?;
        drop(session);
        self.core.check_ids(index, &tokens.ids)?;
        Ok(Reading {
            states: self.forward(&tokens.ids, team),
            stride: self.encoder.stride(),
            count: tokens.ids.len(),
            truncated: tokens.truncated,
            embedding: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests;
