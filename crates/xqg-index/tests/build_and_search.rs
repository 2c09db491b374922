//! An index from files to ranking, with a made-up encoder: resumed and sharded builds give the same
//! bytes, and every search equals the plainly fused vectors of the paper's formula.

#![allow(clippy::unwrap_used)] // a test that cannot set up its files should stop there

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use xqg_data::contract::EncoderContract;
use xqg_data::embeddings::Side;
use xqg_data::lines::BadLines;
use xqg_data::npy::Dtype;
use xqg_index::add::{AddOptions, add};
use xqg_index::build::{BuildOptions, Encode, Summary, Vectors, build};
use xqg_index::error::{IndexError, Result};
use xqg_index::fuse::{LangSum, LangWeights, Reduce, Weight, fuse, reduce_questions};
use xqg_index::index::Index;
use xqg_index::manifest::Shard;
use xqg_index::merge::merge;
use xqg_index::search::{QueryVectors, SearchOptions, dot, search, search_rows};

const DIM: usize = 24;

fn contract() -> EncoderContract {
    EncoderContract {
        model: "made-up".into(),
        weights: "w".into(),
        tokenizer: "t".into(),
        pooling: "mean".into(),
        normalize: false,
        query_prefix: "q: ".into(),
        passage_prefix: "p: ".into(),
        query_max_tokens: 8,
        passage_max_tokens: 8,
        dim: DIM,
        precision: "f32".into(),
        passage_weights: None,
    }
}

/// A vector that depends on the text and the side alone.
fn vector(side: Side, text: &str) -> Vec<f32> {
    let key = blake3::hash(format!("{side:?} {text}").as_bytes());
    let mut bytes = [0u8; DIM * 2];
    blake3::Hasher::new().update(key.as_bytes()).finalize_xof().fill(&mut bytes);
    let number = |b: &[u8]| f32::from(i16::from_le_bytes([b[0], b[1]])) / 32768.0;
    bytes.chunks_exact(2).map(number).collect()
}

fn encode_with(
    fail_after: &Cell<usize>,
    side: Side,
    texts: &[String],
) -> std::result::Result<Vectors, Box<dyn std::error::Error + Send + Sync>> {
    if fail_after.get() == 0 {
        return Err("killed".into());
    }
    fail_after.set(fail_after.get() - 1);
    let values = texts.iter().flat_map(|t| vector(side, t)).collect();
    Ok(Vectors { values, truncated: 0 })
}

struct Collection {
    folder: tempfile::TempDir,
    passages: usize,
    questions: Vec<(usize, &'static str, String)>,
}

impl Collection {
    /// `passages` passages; question i goes to passage `i * 7 % passages`, so they come unordered,
    /// and the last passage has none.
    fn new(passages: usize, questions: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let corpus: String = (0..passages)
            .map(|i| format!("{{\"_id\":\"p{i}\",\"title\":\"T{i}\",\"text\":\"text {i}\"}}\n"))
            .collect();
        fs::write(folder.path().join("corpus.jsonl"), corpus).unwrap();
        let langs = ["te", "ar", "ko"];
        let question = |i: usize| (i * 7 % (passages - 1), langs[i % 3], format!("question {i}"));
        let questions: Vec<_> = (0..questions).map(question).collect();
        let this = Self { folder, passages, questions };
        this.write_questions("questions.jsonl", |_| true);
        this
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write_questions(&self, name: &str, keep: impl Fn(&str) -> bool) {
        let kept = self.questions.iter().filter(|(_, lang, _)| keep(lang));
        let line = |(row, lang, text): &(usize, &str, String)| {
            format!("{{\"docid\":\"p{row}\",\"lang\":\"{lang}\",\"text\":\"{text}\"}}\n")
        };
        fs::write(self.path(name), kept.map(line).collect::<String>()).unwrap();
    }

    fn options(&self, queries: Option<&str>) -> BuildOptions {
        BuildOptions {
            corpus: self.path("corpus.jsonl"),
            queries: queries.map(|q| self.path(q)),
            side: Side::Query,
            dtype: Dtype::F32,
            unit_rows: 8,
            shard: Shard::WHOLE,
            bad_lines: BadLines::Stop,
            force: false,
        }
    }

    fn build(&self, out: &str, options: &BuildOptions, batches: usize) -> Result<Summary> {
        let left = Cell::new(batches);
        let run = |side: Side, texts: &[String]| encode_with(&left, side, texts);
        let contract = contract();
        let encode = Encode { contract: &contract, model_path: Path::new("m"), run: &run };
        build(&self.path(out), options, encode, &mut |_| ())
    }

    fn add(&self, index: &str, queries: &str, batches: usize) -> Result<Summary> {
        let left = Cell::new(batches);
        let run = |side: Side, texts: &[String]| encode_with(&left, side, texts);
        let contract = contract();
        let encode = Encode { contract: &contract, model_path: Path::new("m"), run: &run };
        let queries = self.path(queries);
        let (side, bad_lines) = (Side::Query, BadLines::Stop);
        let options = AddOptions { queries, side, bad_lines, force: false };
        add(&self.path(index), &options, encode, &mut |_| ())
    }

    /// The fused vector of a passage by the plain formula.
    fn fused(
        &self,
        row: usize,
        alpha: f32,
        options: &SearchOptions,
        query: Option<&str>,
    ) -> Vec<f32> {
        let d = vector(Side::Passage, &format!("T{row} text {row}"));
        let mut sums: BTreeMap<&str, (Vec<f32>, u32)> = BTreeMap::new();
        for (_, lang, text) in self.questions.iter().filter(|q| q.0 == row) {
            let (sum, n) = sums.entry(lang).or_insert((vec![0.0; DIM], 0));
            sum.iter_mut().zip(vector(Side::Query, text)).for_each(|(s, x)| *s += x);
            *n += 1;
        }
        let query = query.map(|q| q.parse().unwrap());
        let parts: Vec<LangSum> = sums
            .iter()
            .map(|(lang, (sum, count))| {
                let weight = options.langs.weight(lang.parse().unwrap(), query);
                LangSum { weight, sum, count: *count }
            })
            .collect();
        let mut questions = vec![0.0; DIM];
        reduce_questions(parts, options.reduce, &mut questions);
        fuse(&d, &questions, alpha, options.renormalize)
    }
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            let below = files(&path).into_iter().map(|(n, b)| (format!("{name}/{n}"), b));
            all.extend(below);
        } else {
            all.insert(name, fs::read(&path).unwrap());
        }
    }
    all
}

fn plain(alphas: &[f32]) -> SearchOptions {
    SearchOptions {
        k: 10,
        weights: alphas.iter().map(|&a| Weight::Alpha(a)).collect(),
        reduce: Reduce::Mean,
        renormalize: true,
        langs: LangWeights::default(),
    }
}

fn queries(n: usize) -> (Vec<String>, Vec<Option<xqg_data::lang::Lang>>, Vec<f32>) {
    let qids = (0..n).map(|i| format!("q{i}")).collect();
    let langs = (0..n).map(|i| [Some("te"), Some("ko"), None][i % 3].map(|l| l.parse().unwrap()));
    let vectors = (0..n).flat_map(|i| vector(Side::Query, &format!("asked {i}"))).collect();
    (qids, langs.collect(), vectors)
}

#[test]
fn a_build_killed_at_any_batch_ends_with_the_same_bytes() {
    let collection = Collection::new(30, 50);
    let options = collection.options(Some("questions.jsonl"));
    let whole = collection.build("whole", &options, usize::MAX).unwrap();
    assert_eq!((whole.passages, whole.questions, whole.encoded), (30, 50, 80));
    for batches in 0..8 {
        let out = format!("killed-{batches}");
        assert!(collection.build(&out, &options, batches).is_err());
        assert!(!collection.path(&out).exists(), "an unfinished index is not there yet");
        let rest = collection.build(&out, &options, usize::MAX).unwrap();
        assert!(batches == 0 || rest.encoded < 80, "finished units are not encoded again");
        assert_eq!(files(&collection.path(&out)), files(&collection.path("whole")));
    }
}

#[test]
fn shards_merge_to_the_same_bytes() {
    let collection = Collection::new(30, 50);
    let options = collection.options(Some("questions.jsonl"));
    collection.build("whole", &options, usize::MAX).unwrap();
    let parts: Vec<PathBuf> = (1..=3)
        .map(|number| {
            let shard = Shard { number, of: 3 };
            let part = BuildOptions { shard, ..options.clone() };
            collection.build(&format!("part-{number}"), &part, usize::MAX).unwrap();
            collection.path(&format!("part-{number}"))
        })
        .collect();
    assert!(merge(&collection.path("two"), &parts[..2], false).is_err());
    assert!(!collection.path("two").exists());
    merge(&collection.path("merged"), &parts, false).unwrap();
    assert_eq!(files(&collection.path("merged")), files(&collection.path("whole")));
}

#[test]
fn added_questions_count_like_built_ones_and_touch_nothing() {
    let collection = Collection::new(20, 40);
    collection.write_questions("first.jsonl", |lang| lang != "te");
    collection.write_questions("second.jsonl", |lang| lang == "te");
    collection.build("whole", &collection.options(Some("questions.jsonl")), 99).unwrap();
    collection.build("grown", &collection.options(Some("first.jsonl")), 99).unwrap();
    let before = files(&collection.path("grown"));
    assert!(collection.add("grown", "second.jsonl", 1).is_err(), "killed");
    collection.add("grown", "second.jsonl", 99).unwrap();
    let after = files(&collection.path("grown"));
    for (name, bytes) in before.iter().filter(|(name, _)| *name != "manifest.json") {
        assert_eq!(after.get(name), Some(bytes), "{name} must not change");
    }
    let names: Vec<&String> = after.keys().filter(|n| !n.starts_with("units")).collect();
    assert_eq!(names, ["manifest.json"], "nothing is left over");
    let (qids, langs, vectors) = queries(6);
    let asked = QueryVectors { qids: &qids, langs: &langs, vectors: &vectors };
    let [whole, grown] = ["whole", "grown"].map(|name| {
        let index = Index::open(&collection.path(name)).unwrap();
        search(&index, asked, &plain(&[0.4]), &mut |_| ()).unwrap().remove(0)
    });
    for (qid, docs) in whole.iter() {
        for (a, b) in docs.iter().zip(grown.get(qid).unwrap()) {
            assert!(a.docid == b.docid && (a.score - b.score).abs() < 1e-6);
        }
    }
}

#[test]
fn other_inputs_do_not_resume_and_bad_ones_leave_nothing() {
    let collection = Collection::new(20, 10);
    let options = collection.options(Some("questions.jsonl"));
    assert!(collection.build("out", &options, 2).is_err());
    let other = BuildOptions { dtype: Dtype::F16, ..options.clone() };
    let error = collection.build("out", &other, 99).unwrap_err();
    assert!(matches!(error, IndexError::OtherPlan { .. }), "{error}");
    collection.build("out", &BuildOptions { force: true, ..other }, 99).unwrap();
    let before = files(&collection.path("out"));
    assert!(collection.build("out", &options, 99).is_err(), "an index is there");
    fs::write(
        collection.path("questions.jsonl"),
        "{\"docid\":\"nowhere\",\"lang\":\"te\",\"text\":\"x\"}\n\
         {\"docid\":\"p1\",\"lang\":\"te\",\"text\":\"x\"}\n",
    )
    .unwrap();
    let error = collection.build("out", &BuildOptions { force: true, ..options.clone() }, 99);
    assert!(error.unwrap_err().to_string().contains("line 1: expected a docid of the passages"));
    assert_eq!(files(&collection.path("out")), before);
    let skipping = BuildOptions { bad_lines: BadLines::Skip, force: true, ..options };
    assert_eq!(collection.build("out", &skipping, 99).unwrap().skipped_questions.total, 1);
}

#[test]
fn texts_come_back_by_row() {
    let collection = Collection::new(20, 40);
    collection.build("out", &collection.options(Some("questions.jsonl")), 99).unwrap();
    let index = Index::open(&collection.path("out")).unwrap();
    let rows = [13, 2, 13, 9];
    let docids: Vec<String> = index.passages(&rows).unwrap().into_iter().map(|p| p.docid).collect();
    assert_eq!(docids, ["p13", "p2", "p13", "p9"]);
    for (row, questions) in rows.iter().zip(index.questions(&rows).unwrap()) {
        let expected = collection.questions.iter().filter(|q| q.0 == *row as usize).count();
        assert_eq!(questions.len(), expected);
    }
}

#[test]
fn alpha_zero_is_the_index_without_questions_exactly() {
    let collection = Collection::new(30, 50);
    collection.build("with", &collection.options(Some("questions.jsonl")), 99).unwrap();
    collection.build("without", &collection.options(None), 99).unwrap();
    let (qids, langs, vectors) = queries(7);
    let asked = QueryVectors { qids: &qids, langs: &langs, vectors: &vectors };
    let run = |name: &str| {
        let index = Index::open(&collection.path(name)).unwrap();
        search(&index, asked, &plain(&[0.0]), &mut |_| ()).unwrap().remove(0)
    };
    assert_eq!(run("with"), run("without"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn scores_are_those_of_the_plainly_fused_vectors(
        alphas in proptest::collection::vec(0f32..=1.0, 1..4),
        mean in any::<bool>(),
        renormalize in any::<bool>(),
        match_query in any::<bool>(),
        te in 0f32..3.0,
        passages in 2usize..40,
        asked in 1usize..9,
    ) {
        let collection = Collection::new(passages, 45);
        collection.build("out", &collection.options(Some("questions.jsonl")), 99).unwrap();
        let index = Index::open(&collection.path("out")).unwrap();
        let weights = [("te".parse().unwrap(), te)].into();
        let options = SearchOptions {
            k: 50,
            reduce: if mean { Reduce::Mean } else { Reduce::Sum },
            renormalize,
            langs: LangWeights { weights, match_query },
            ..plain(&alphas)
        };
        let (qids, langs, vectors) = queries(asked);
        let query = QueryVectors { qids: &qids, langs: &langs, vectors: &vectors };
        let runs = search_rows(&index, query, &options, &mut |_| ()).unwrap();
        for (&alpha, rankings) in alphas.iter().zip(&runs) {
            for (i, hits) in rankings.iter().enumerate() {
                prop_assert_eq!(hits.len(), collection.passages);
                prop_assert!(hits.windows(2).all(|w| w[0].0 >= w[1].0));
                for &(score, row) in hits {
                    let code = langs[i].map(|l| l.code());
                    let fused = collection.fused(row as usize, alpha, &options, code);
                    let expected = dot(&vectors[i * DIM..][..DIM], &fused);
                    prop_assert!((score - expected).abs() < 1e-5, "{} {}", score, expected);
                }
            }
        }
    }
}
