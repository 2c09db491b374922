//! The search by sketches gives the bits of the search over the stored numbers, whatever the data:
//! random, concentrated around a mean, full of duplicates and zeros, cancelling, huge and tiny.

#![allow(clippy::unwrap_used)] // a test that cannot set up its files should stop there

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use xqg_data::contract::EncoderContract;
use xqg_data::embeddings::Side;
use xqg_data::lang::Lang;
use xqg_data::lines::BadLines;
use xqg_data::npy::Dtype;
use xqg_index::add::{AddOptions, add};
use xqg_index::build::{BuildOptions, Encode, Vectors, build};
use xqg_index::fuse::{LangWeights, Reduce, Weight};
use xqg_index::index::Index;
use xqg_index::manifest::Shard;
use xqg_index::search::{Hits, QueryVectors, SearchOptions, search_rows};

/// What the made-up embeddings are like.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Random,
    Concentrated,
    Duplicates,
    Zeros,
    Cancelling,
    Huge,
    Tiny,
}

const KINDS: [Kind; 7] = [
    Kind::Random,
    Kind::Concentrated,
    Kind::Duplicates,
    Kind::Zeros,
    Kind::Cancelling,
    Kind::Huge,
    Kind::Tiny,
];

fn noise(text: &str, dim: usize) -> Vec<f32> {
    let mut bytes = vec![0u8; dim * 2];
    blake3::Hasher::new().update(text.as_bytes()).finalize_xof().fill(&mut bytes);
    let number = |b: &[u8]| f32::from(i16::from_le_bytes([b[0], b[1]])) / 32768.0;
    bytes.chunks_exact(2).map(number).collect()
}

/// A vector that depends on the text and the side alone.
fn vector(kind: Kind, dim: usize, side: Side, text: &str) -> Vec<f32> {
    let number: usize = text.split(' ').next_back().unwrap().parse().unwrap_or(0);
    let own = noise(&format!("{side:?} {text}"), dim);
    let scaled = |x: Vec<f32>, by: f32| x.into_iter().map(|x| x * by).collect::<Vec<f32>>();
    match kind {
        Kind::Random => own,
        Kind::Concentrated => {
            let near = noise("mean", dim).into_iter().zip(own);
            near.map(|(m, x)| m + 0.05 * x).collect()
        }
        Kind::Duplicates => noise(&format!("{}", number % 3), dim),
        Kind::Zeros if number.is_multiple_of(2) => vec![0.0; dim],
        Kind::Zeros => own,
        // A question says the opposite of its passage.
        Kind::Cancelling if side == Side::Passage => noise("same", dim),
        Kind::Cancelling => scaled(noise("same", dim), -1.0 + 1e-4 * own[0]),
        Kind::Huge => scaled(own, if number.is_multiple_of(5) { 1e19 } else { 1e12 }),
        Kind::Tiny => scaled(own, if number.is_multiple_of(5) { 1e-25 } else { 1e-12 }),
    }
}

struct Made {
    folder: tempfile::TempDir,
    kind: Kind,
    dim: usize,
}

impl Made {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn contract(&self) -> EncoderContract {
        EncoderContract {
            model: "made-up".into(),
            weights: "w".into(),
            tokenizer: "t".into(),
            pooling: "mean".into(),
            normalize: false,
            query_prefix: String::new(),
            passage_prefix: String::new(),
            query_max_tokens: 8,
            passage_max_tokens: 8,
            dim: self.dim,
            precision: "f32".into(),
            passage_weights: None,
        }
    }

    /// An index of two layers.
    fn build(kind: Kind, dim: usize, rows: usize, dtype: Dtype) -> Self {
        let this = Self { folder: tempfile::tempdir().unwrap(), kind, dim };
        let line = |i: usize| format!("{{\"_id\":\"p{i}\",\"text\":\"passage {i}\"}}\n");
        fs::write(this.path("corpus"), (0..rows).map(line).collect::<String>()).unwrap();
        for (name, langs) in [("first", ["te", "ar"]), ("second", ["te", "ko"])] {
            let question = |i: usize| {
                let (row, lang) = (i * 7 % rows.max(2) / 2, langs[i % 2]);
                format!("{{\"docid\":\"p{row}\",\"lang\":\"{lang}\",\"text\":\"{name} {i}\"}}\n")
            };
            fs::write(this.path(name), (0..rows).map(question).collect::<String>()).unwrap();
        }
        let encode_texts = |side: Side, texts: &[String]| {
            let values = texts.iter().flat_map(|t| vector(kind, dim, side, t)).collect();
            Ok(Vectors { values, truncated: 0 })
        };
        let contract = this.contract();
        let run = &encode_texts;
        let encode = Encode { contract: &contract, model_path: Path::new("m"), run };
        let options = BuildOptions {
            corpus: this.path("corpus"),
            queries: Some(this.path("first")),
            side: Side::Query,
            dtype,
            unit_rows: 50,
            shard: Shard::WHOLE,
            bad_lines: BadLines::Stop,
            force: false,
        };
        build(&this.path("index"), &options, encode, &mut |_| ()).unwrap();
        let queries = this.path("second");
        let (side, bad_lines) = (Side::Query, BadLines::Stop);
        let options = AddOptions { queries, side, bad_lines, force: false };
        add(&this.path("index"), &options, encode, &mut |_| ()).unwrap();
        this
    }

    fn search(&self, options: &SearchOptions, queries: usize) -> Vec<Vec<Hits>> {
        let index = Index::open(&self.path("index")).unwrap();
        let qids: Vec<String> = (0..queries).map(|i| format!("q{i}")).collect();
        let lang = |i: usize| [Some("te"), Some("ko"), None][i % 3].map(|l| l.parse().unwrap());
        let langs: Vec<Option<Lang>> = (0..queries).map(lang).collect();
        let text = |i: usize| vector(self.kind, self.dim, Side::Query, &format!("asked {i}"));
        let vectors: Vec<f32> = (0..queries).flat_map(text).collect();
        let asked = QueryVectors { qids: &qids, langs: &langs, vectors: &vectors };
        search_rows(&index, asked, options, &mut |_| ()).unwrap()
    }

    fn is_int8(&self) -> bool {
        !self.path("index/units/00000/d.npy").exists()
    }

    /// Takes the dot products away, without which every row is scored.
    fn without_sketches(&self) {
        for unit in fs::read_dir(self.path("index/units")).unwrap() {
            for file in fs::read_dir(unit.unwrap().path()).unwrap() {
                let path = file.unwrap().path();
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                if name.ends_with(".gram.npy") || (name == "d.i8" && !self.is_int8()) {
                    fs::rename(&path, path.with_extension("away")).unwrap();
                }
            }
        }
    }
}

fn bits(runs: &[Vec<Hits>]) -> Vec<Vec<Vec<(u32, u32)>>> {
    let hits = |hits: &Hits| hits.iter().map(|&(s, row)| (s.to_bits(), row)).collect();
    runs.iter().map(|run| run.iter().map(hits).collect()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn the_best_are_those_of_a_search_over_all_numbers(
        kind in proptest::sample::select(KINDS.to_vec()),
        dtype in proptest::sample::select(vec![Dtype::F32, Dtype::F16, Dtype::Int8]),
        dim in proptest::sample::select(vec![1usize, 3, 24, 65]),
        rows in 1usize..330,
        queries in proptest::sample::select(vec![1usize, 2, 4, 10, 33]),
        k in 1usize..30,
        alphas in proptest::collection::vec(0f32..=1.0, 1..3),
        (mean, renormalize, match_query) in any::<(bool, bool, bool)>(),
        te in 0f32..3.0,
        threads in 1usize..4,
    ) {
        let impossible = dtype == Dtype::F16 && matches!(kind, Kind::Huge);
        let made = Made::build(kind, dim, rows, if impossible { Dtype::F32 } else { dtype });
        let mut weights: Vec<Weight> = alphas.iter().map(|&a| Weight::Alpha(a)).collect();
        weights.push(Weight::Alpha(0.0));
        let options = SearchOptions {
            k,
            weights,
            reduce: if mean { Reduce::Mean } else { Reduce::Sum },
            renormalize,
            langs: LangWeights { weights: [("te".parse().unwrap(), te)].into(), match_query },
        };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let by_sketches = pool.install(|| made.search(&options, queries));
        made.without_sketches();
        let plain = made.search(&options, queries);
        prop_assert_eq!(bits(&by_sketches), bits(&plain), "{:?}", kind);
    }
}
