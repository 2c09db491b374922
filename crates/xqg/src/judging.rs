//! The recall of answers for training's validation: training ranks, measuring counts word tokens,
//! and only the binary knows both.

use std::collections::BTreeMap;

use xqg_measure::answer_recall::holds_an_answer;
use xqg_measure::passages::JoinedTokens;
use xqg_measure::words::word_tokenize;
use xqg_train::validate::Ranked;

/// Word tokens that are looked through.
const LIMIT: usize = 2000;

/// Measures rankings; what it tokenized once it keeps.
#[derive(Default)]
pub struct Judge {
    read: BTreeMap<String, JoinedTokens>,
}

impl Judge {
    /// R@2kt as a share, the mean over the languages' means; `None` where no query has an answer.
    pub fn recall(&mut self, ranked: &[Ranked<'_>]) -> Option<f64> {
        let mut langs: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for one in ranked {
            let Some(hit) = self.hit(one) else { continue };
            let (hits, all) = langs.entry(one.lang.unwrap_or("und")).or_default();
            *hits += usize::from(hit);
            *all += 1;
        }
        let total: f64 = langs.values().map(|&(hits, all)| hits as f64 / all as f64).sum();
        (!langs.is_empty()).then(|| total / langs.len() as f64)
    }

    /// Whether an answer lies in the first tokens; `None` without one to look for.
    fn hit(&mut self, one: &Ranked<'_>) -> Option<bool> {
        for &text in &one.texts {
            if !self.read.contains_key(text) {
                self.read.insert(text.to_owned(), JoinedTokens::of(text, word_tokenize));
            }
            // Most rankings fill the limit long before their end; tokenizing stops there.
            if self.filled(one) {
                break;
            }
        }
        let passages = one.texts.iter().map_while(|&text| self.read.get(text));
        holds_an_answer(passages, one.answers, LIMIT)
    }

    fn filled(&self, one: &Ranked<'_>) -> bool {
        let counts = one.texts.iter().map_while(|&text| self.read.get(text)).map(|t| t.count());
        counts.sum::<usize>() >= LIMIT
    }
}
