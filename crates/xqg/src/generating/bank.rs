//! The question bank: no generator at all. Each passage is given those questions of a log of real
//! ones whose embeddings lie nearest to its own, by language, above a floor. The cheapest thing that
//! works where there are logs, and the baseline that a generator has to beat.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use rayon::prelude::*;
use xqg_data::embeddings::{Side, has_shard, write_shard};
use xqg_data::error::DataError;
use xqg_data::file::writable_folder;
use xqg_data::lang::Lang;
use xqg_data::npy::{Dtype, Matrix};
use xqg_data::passage::Passage;
use xqg_data::question_log::{log_files, read_question_log};
use xqg_kernel::dense;
use xqg_kernel::isa::Isa;

use super::writer::{Question, QuestionWriter, Written};
use crate::encoding::Opened;

/// Questions encoded between two looks at the clock, and kept when the work is killed.
const SHARD_QUESTIONS: usize = 2048;
/// Passages that a thread compares at a time with `QUESTION_BLOCK` questions: their scores stay in
/// its cache.
const PASSAGE_BLOCK: usize = 32;
const QUESTION_BLOCK: usize = 512;

/// A log of questions, by language, each question once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QuestionLog(BTreeMap<Lang, Vec<String>>);

impl QuestionLog {
    /// Reads files and folders; repeated questions of a language count once.
    ///
    /// # Errors
    /// On bad lines, or where a language that is wanted has no question.
    pub fn read(paths: &[PathBuf], langs: &[Lang]) -> Result<Self> {
        let (mut all, mut seen) = (BTreeMap::<Lang, Vec<String>>::new(), BTreeSet::new());
        for file in files(paths)? {
            for question in read_question_log(&file)? {
                let question = question?;
                if seen.insert((question.lang, question.text.trim().to_lowercase())) {
                    all.entry(question.lang).or_default().push(question.text);
                }
            }
        }
        if let Some(missing) = langs.iter().find(|lang| !all.contains_key(lang)) {
            let known: Vec<&str> = all.keys().map(Lang::code).collect();
            let found = format!("questions in [{}]", known.join(", "));
            let expected = format!("questions in {missing}");
            return Err(DataError::unexpected(&paths[0], expected, found).into());
        }
        all.retain(|lang, _| langs.contains(lang));
        Ok(Self(all))
    }

    /// How many questions there are.
    pub fn len(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    fn texts(&self) -> Vec<String> {
        self.0.values().flatten().cloned().collect()
    }
}

/// The files that paths of files and folders stand for.
pub fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for path in paths {
        all.extend(log_files(path)?);
    }
    Ok(all)
}

/// How questions are chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Nearest {
    /// The most questions of a passage in one language.
    pub n: usize,
    /// The least similarity of question and passage.
    pub floor: f32,
}

/// The questions of one language, encoded.
struct Shelf {
    lang: Lang,
    texts: Vec<String>,
    vectors: Vec<f32>,
}

/// A bank: a log, encoded, and the encoder for the passages.
pub struct Bank<'a> {
    opened: &'a Opened,
    shelves: Vec<Shelf>,
    nearest: Nearest,
}

impl<'a> Bank<'a> {
    /// Encodes a log, shard by shard into `folder`, so that a killed run does not begin anew.
    ///
    /// # Errors
    /// When the encoder fails or the disk refuses.
    pub fn open(
        opened: &'a Opened,
        log: QuestionLog,
        nearest: Nearest,
        folder: &Path,
        report: &mut dyn FnMut(u64),
    ) -> Result<Self> {
        let vectors = encode(opened, &log.texts(), folder, report)?;
        let (mut rest, dim) = (vectors.as_slice(), opened.encoder.dim());
        let mut shelves = Vec::new();
        for (lang, texts) in log.0 {
            let (own, others) = rest.split_at(texts.len() * dim);
            shelves.push(Shelf { lang, texts, vectors: own.to_vec() });
            rest = others;
        }
        Ok(Self { opened, shelves, nearest })
    }

    fn shelf(&self, lang: Lang) -> Result<&Shelf> {
        match self.shelves.iter().find(|shelf| shelf.lang == lang) {
            Some(shelf) => Ok(shelf),
            None => bail!("the bank has no questions in {lang}"),
        }
    }
}

impl QuestionWriter for Bank<'_> {
    fn batch(&self) -> usize {
        256
    }

    fn write(&mut self, passages: &[Passage], langs: &[Lang]) -> Result<Vec<Written>> {
        let texts: Vec<String> = passages.iter().map(Passage::encoder_text).collect();
        let encoded = self.opened.encoder.encode(Side::Passage, &texts)?;
        let tokens = self.opened.encoder.tokens(Side::Passage, &texts)?;
        let mut all: Vec<Written> = tokens
            .iter()
            .map(|t| Written { truncated: t.truncated, ..Written::default() })
            .collect();
        for &lang in langs {
            let shelf = self.shelf(lang)?;
            let dim = self.opened.encoder.dim();
            let found = find(&encoded.vectors, &shelf.vectors, dim, self.nearest);
            for (written, best) in all.iter_mut().zip(found) {
                let question = |(score, at): (f32, usize)| Question {
                    lang,
                    text: shelf.texts[at].clone(),
                    logprob: None,
                    similarity: Some(score),
                    cut: false,
                };
                written.questions.extend(best.into_iter().map(question));
            }
        }
        Ok(all)
    }
}

/// The embeddings of all questions, read where an earlier run wrote them.
fn encode(
    opened: &Opened,
    texts: &[String],
    folder: &Path,
    report: &mut dyn FnMut(u64),
) -> Result<Vec<f32>> {
    writable_folder(folder)?;
    let mut vectors = Vec::with_capacity(texts.len() * opened.encoder.dim());
    for (unit, some) in texts.chunks(SHARD_QUESTIONS).enumerate() {
        report((unit * SHARD_QUESTIONS) as u64);
        if has_shard(folder, unit) {
            let stored = Matrix::open(&folder.join(format!("shard-{unit:05}.npy")))?;
            let before = vectors.len();
            vectors.resize(before + stored.rows() * stored.dim(), 0.0);
            stored.read_rows(0, &mut vectors[before..]);
            continue;
        }
        let fresh = opened.encoder.encode(Side::Query, some)?.vectors;
        let ids: Vec<String> = (0..some.len()).map(|i| i.to_string()).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        write_shard(folder, unit, Dtype::F32, &ids, &fresh)?;
        vectors.extend(fresh);
    }
    Ok(vectors)
}

/// For each passage the best questions, best first; among equals the one that the log has first. The
/// scores have the same bits on every machine, whatever is compared beside.
fn find(passages: &[f32], questions: &[f32], dim: usize, how: Nearest) -> Vec<Vec<(f32, usize)>> {
    let block = |passages: &[f32]| find_block(passages, questions, dim, how);
    passages.par_chunks(PASSAGE_BLOCK * dim).flat_map(block).collect()
}

fn find_block(
    passages: &[f32],
    questions: &[f32],
    dim: usize,
    how: Nearest,
) -> Vec<Vec<(f32, usize)>> {
    let mut best: Vec<Vec<(f32, usize)>> = vec![Vec::new(); passages.len() / dim];
    let (isa, mut scores) = (Isa::detect(), Vec::new());
    for (i, some) in questions.chunks(QUESTION_BLOCK * dim).enumerate() {
        let count = some.len() / dim;
        scores.clear();
        scores.resize(best.len() * count, 0.0);
        dense::dots(isa, dim, passages, some, &mut scores);
        for (best, scores) in best.iter_mut().zip(scores.chunks_exact(count)) {
            let first = i * QUESTION_BLOCK;
            scores.iter().enumerate().for_each(|(j, &s)| keep(best, (s, first + j), how));
        }
    }
    best
}

/// Puts a question into its place among the best, if it has one.
fn keep(best: &mut Vec<(f32, usize)>, new: (f32, usize), how: Nearest) {
    let full = best.len() == how.n;
    if new.0 < how.floor || full && best.last().is_none_or(|last| new.0 <= last.0) {
        return;
    }
    let place = best.partition_point(|old| old.0 >= new.0);
    best.insert(place, new);
    best.truncate(how.n);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_nearest_equal_a_full_sort_with_the_logs_order_for_ties(
            numbers in proptest::collection::vec(-2i8..3, 2 * 1300), n in 1usize..5, floor in -3f32..3.0,
        ) {
            let questions: Vec<f32> = numbers.iter().map(|&x| f32::from(x)).collect();
            let passages = [1.0, 0.5, -1.0, 1.0, 0.0, 0.0];
            let found = find(&passages, &questions, 2, Nearest { n, floor });
            for (passage, found) in passages.chunks(2).zip(found) {
                let mut all: Vec<(f32, usize)> = questions
                    .chunks(2)
                    .enumerate()
                    .map(|(i, q)| (dense::dot(passage, q), i))
                    .filter(|(score, _)| *score >= floor)
                    .collect();
                all.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
                all.truncate(n);
                prop_assert_eq!(found, all);
            }
        }
    }

    #[test]
    fn a_log_counts_a_question_once_and_misses_no_language() {
        let folder = tempfile::tempdir().unwrap();
        let (te, fi) = ("te".parse().unwrap(), "fi".parse().unwrap());
        std::fs::write(folder.path().join("fi.txt"), "Kuka?\nkuka? \nMikä?\n").unwrap();
        let paths = [folder.path().to_path_buf()];
        assert_eq!(QuestionLog::read(&paths, &[fi]).unwrap().len(), 2);
        let error = QuestionLog::read(&paths, &[fi, te]).unwrap_err().to_string();
        assert!(error.contains("expected questions in te, found questions in [fi]"), "{error}");
    }
}
