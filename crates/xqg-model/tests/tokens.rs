//! Our own tokenizer against the `tokenizers` crate: the same ids for everything, in every shape of
//! `tokenizer.json` that it takes on, and on real data with the real vocabulary of XLM-R.

// A test that cannot read its golden files should stop there; the proofs say what they compared.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use rayon::prelude::*;
use serde_json::{Value, json};
use xqg_model::tokenizer::Tokenizer;

/// Fragments that have gone wrong in one tokenizer or another.
const FRAGMENTS: [&str; 64] = [
    "",
    " ",
    "  ",
    "   ",
    "\t",
    "\n",
    "\r\n",
    "\r",
    "\0",
    "\u{1}",
    "\u{7f}",
    "\u{85}",
    "\u{a0}",
    "\u{ad}",
    "\u{200b}",
    "\u{200d}",
    "\u{200e}",
    "\u{2028}",
    "\u{3000}",
    "\u{feff}",
    "\u{fffd}",
    "▁",
    "▁▁",
    " ▁",
    "<s>",
    "</s>",
    "<mask>",
    " <mask> ",
    "<pad>",
    "<unk>",
    "<s",
    "<mask",
    "<S>",
    "＜s＞",
    "e\u{301}",
    "é",
    "\u{301}",
    "a\u{300}\u{301}\u{302}",
    "ﬁ",
    "Å",
    "™\u{1e}g",
    "①",
    "½",
    "ｶﾞ",
    "が",
    "か\u{3099}",
    "한국어",
    "\u{1112}\u{1161}\u{11ab}",
    "क्षि",
    "ক্ষ",
    "కి",
    "ไทยกำ",
    "ك\u{64b}",
    "👩‍👩‍👧‍👦",
    "🇫🇮🇯🇵🇺",
    "👍🏽",
    "𝒳",
    "hello",
    "world.",
    "日本語",
    "Привет",
    "العربية",
    "\u{a0}\u{301}",
    "xn--a",
];

fn fragment() -> impl Strategy<Value = String> {
    let range = |from: u32, to: u32| {
        let char = (from..to).prop_filter_map("no surrogates", char::from_u32);
        prop::collection::vec(char, 1..8).prop_map(String::from_iter)
    };
    prop_oneof![
        8 => prop::sample::select(FRAGMENTS.as_slice()).prop_map(str::to_owned),
        3 => range(0x20, 0x7f),
        1 => range(0, 0x250),
        1 => range(0x250, 0x3000),
        1 => range(0x3000, 0xffff),
        1 => range(0, 0x11_0000),
        1 => Just("x".repeat(300)),
    ]
}

/// Strings that no text looks like, the same ones in every run.
fn nasty_strings(count: usize) -> Vec<String> {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let text = prop::collection::vec(fragment(), 0..12).prop_map(|parts| parts.concat());
    (0..count).map(|_| text.new_tree(&mut runner).unwrap().current()).collect()
}

/// A tokenizer opened both ways.
struct Both {
    own: Tokenizer,
    by_crate: Tokenizer,
}

/// Greatest lengths: none, some, and more than any text has.
const LIMITS: [usize; 4] = [0, 3, 8, 100_000];

/// How many of the texts got other ids than from the crate; says the first ones.
fn differences(both: &Both, prefix: &str, texts: &[String], limits: &[usize]) -> usize {
    let Both { own, by_crate } = both;
    let differs = |text: &&String| {
        limits.iter().any(|&most| {
            let texts = std::slice::from_ref(*text);
            own.encode(prefix, texts, most).unwrap()
                != by_crate.encode(prefix, texts, most).unwrap()
        })
    };
    let found: Vec<&String> = texts.par_iter().filter(differs).collect();
    for text in found.iter().take(5) {
        let ids = |t: &Tokenizer| t.encode(prefix, &[text.to_string()], 99).unwrap()[0].ids.clone();
        eprintln!("{prefix:?} {text:?}\n  own   {:?}\n  crate {:?}", ids(own), ids(by_crate));
    }
    found.len()
}

fn golden(name: &str) -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    serde_json::from_slice(&fs::read(folder.join("tokenizer.json")).unwrap()).unwrap()
}

/// Opens a tokenizer both ways.
fn both(tokenizer: &Value) -> Both {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    fs::write(&path, serde_json::to_vec(tokenizer).unwrap()).unwrap();
    let own = Tokenizer::open(folder.path()).unwrap();
    Both { own, by_crate: Tokenizer::open_by_crate(&path).unwrap() }
}

fn changed(name: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut tokenizer = golden(name);
    change(&mut tokenizer);
    tokenizer
}

fn charsmap() -> Value {
    golden("xlmr")["normalizer"].clone()
}

fn metaspace(scheme: &str, split: bool) -> Value {
    json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split})
}

/// The published shapes, and what else the reader takes on.
fn known_shapes() -> Vec<(&'static str, Value)> {
    let spaces = |content: &str| json!({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": content});
    let strip = |left: bool| json!({"type": "Strip", "strip_left": left, "strip_right": true});
    let steps = |steps: Value| json!({"type": "Sequence", "normalizers": steps});
    vec![
        ("XLM-R", golden("xlmr")),
        ("multilingual-e5", golden("e5like")),
        ("BGE-M3", golden("bgem3")),
        ("first", changed("bgem3", |t| t["pre_tokenizer"] = metaspace("first", true))),
        ("never", changed("bgem3", |t| t["pre_tokenizer"] = metaspace("never", true))),
        ("whole", changed("bgem3", |t| t["pre_tokenizer"] = metaspace("always", false))),
        ("first, whole", changed("bgem3", |t| t["pre_tokenizer"] = metaspace("first", false))),
        (
            "newer XLM-R",
            changed("xlmr", |t| {
                t["normalizer"] = steps(json!([charsmap(), strip(false), spaces("▁")]));
                t["pre_tokenizer"] = metaspace("always", true);
            }),
        ),
        (
            "stripped",
            changed("xlmr", |t| {
                let quotes =
                    json!({"type": "Replace", "pattern": {"String": "''"}, "content": "\""});
                t["normalizer"] = steps(json!([quotes, strip(true), charsmap(), spaces(" ")]));
            }),
        ),
        ("no rules", changed("xlmr", |t| t["normalizer"] = Value::Null)),
        ("no frame", changed("xlmr", |t| t["post_processor"] = Value::Null)),
        (
            "RoBERTa's frame",
            changed("xlmr", |t| {
                t["post_processor"] = json!({"type": "RobertaProcessing", "sep": ["</s>", 2],
                "cls": ["<s>", 0], "trim_offsets": true, "add_prefix_space": true});
            }),
        ),
        (
            "mT5",
            changed("xlmr", |t| {
                t["post_processor"]["single"] = json!([{"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "</s>", "type_id": 0}}]);
            }),
        ),
        ("normalized mask", changed("bgem3", |t| t["added_tokens"][4]["normalized"] = json!(true))),
        (
            "mask to the right",
            changed("xlmr", |t| {
                t["added_tokens"][4]["rstrip"] = json!(true);
                t["added_tokens"][4]["normalized"] = json!(true);
            }),
        ),
        (
            "new tokens",
            changed("xlmr", |t| {
                let added = t["added_tokens"].as_array_mut().unwrap();
                added.push(
                    json!({"id": 280, "content": "hell", "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": true, "special": false}),
                );
                added.push(
                    json!({"id": 281, "content": "日本", "single_word": false, "lstrip": true,
                "rstrip": true, "normalized": false, "special": false}),
                );
            }),
        ),
    ]
}

#[test]
fn every_known_shape_equals_the_crate() {
    let texts = nasty_strings(2000);
    for (name, tokenizer) in known_shapes() {
        let both = both(&tokenizer);
        assert!(both.own.is_own(), "{name}");
        assert_eq!(both.own.hash(), both.by_crate.hash(), "{name}");
        for prefix in ["", "query: "] {
            assert_eq!(differences(&both, prefix, &texts, &LIMITS), 0, "{name}, {prefix:?}");
        }
    }
}

#[test]
fn unknown_shapes_are_left_to_the_crate() {
    let shapes = [
        golden("labse"),
        changed("xlmr", |t| t["normalizer"] = json!({"type": "NFKC"})),
        changed("xlmr", |t| t["pre_tokenizer"] = Value::Null),
        changed("xlmr", |t| t["pre_tokenizer"] = json!({"type": "Whitespace"})),
        changed("xlmr", |t| t["model"]["byte_fallback"] = json!(true)),
        changed("xlmr", |t| t["added_tokens"][4]["single_word"] = json!(true)),
        changed("xlmr", |t| t["added_tokens"][4]["id"] = json!(4)),
        changed("xlmr", |t| t["pre_tokenizer"]["pretokenizers"][1] = metaspace("first", true)),
    ];
    let texts = nasty_strings(100);
    for tokenizer in shapes {
        let both = both(&tokenizer);
        assert!(!both.own.is_own());
        assert_eq!(differences(&both, "", &texts, &LIMITS), 0);
    }
}

/// All texts in a folder of JSON lines, tables and plain lines.
fn texts_below(folder: &Path, texts: &mut Vec<String>) {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        let ending = path.extension().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            texts_below(&path, texts);
        } else {
            let content = fs::read_to_string(&path).unwrap();
            let lines = content.lines();
            match ending.as_str() {
                "jsonl" => lines.for_each(|l| strings(&serde_json::from_str(l).unwrap(), texts)),
                "tsv" => lines.for_each(|l| texts.extend(l.split('\t').map(str::to_owned))),
                _ => texts.extend(lines.map(str::to_owned)),
            }
        }
    }
}

fn strings(value: &Value, texts: &mut Vec<String>) {
    match value {
        Value::String(text) => texts.push(text.clone()),
        Value::Array(inner) => inner.iter().for_each(|value| strings(value, texts)),
        Value::Object(inner) => inner.values().for_each(|value| strings(value, texts)),
        _ => {}
    }
}

/// `XQG_TEST_E5=MODEL XQG_TEST_DATA=FOLDER cargo test --release -p xqg-model --test tokens -- --ignored`
#[test]
#[ignore = "takes the real model and the data"]
fn the_real_vocabulary_equals_the_crate_on_real_text_and_nasty_strings() {
    let model = PathBuf::from(std::env::var_os("XQG_TEST_E5").unwrap());
    let data = PathBuf::from(std::env::var_os("XQG_TEST_DATA").unwrap());
    let open = || {
        let by_crate = Tokenizer::open_by_crate(&model.join("tokenizer.json")).unwrap();
        Both { own: Tokenizer::open(&model).unwrap(), by_crate }
    };
    let mut texts = Vec::new();
    texts_below(&data, &mut texts);
    let nasty = nasty_strings(10_000);
    let _ = fs::remove_dir_all(model.join(".xqg"));
    let check = |both: &Both, name: &str, texts: &[String], limits: &[usize]| {
        assert!(both.own.is_own() && both.own.hash() == both.by_crate.hash());
        for prefix in ["", "query: "] {
            let found = differences(both, prefix, texts, limits);
            eprintln!("{} {name} texts, {found} differ, prefix {prefix:?}", texts.len());
            assert_eq!(found, 0);
        }
    };
    check(&open(), "nasty", &nasty, &LIMITS);
    let kept = open();
    check(&kept, "nasty", &nasty, &LIMITS);
    check(&kept, "real", &texts, &[100_000]);
}

/// A folder with these files.
fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(folder.path().join(name), content).unwrap();
    }
    folder
}

fn spiece() -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/spiece");
    fs::read(folder.join("spiece.model")).unwrap()
}

#[test]
fn a_sentencepiece_model_gives_the_ids_of_the_sentencepiece_package() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/spiece/ids.json");
    let rows: Vec<Value> = serde_json::from_slice(&fs::read(golden).unwrap()).unwrap();
    let t5 = folder(&[("spiece.model", &spiece()), ("config.json", br#"{"model_type": "mt5"}"#)]);
    let xlm_r = folder(&[("sentencepiece.bpe.model", &spiece())]);
    let [t5, xlm_r] = [t5, xlm_r].map(|folder| Tokenizer::open(folder.path()).unwrap());
    for row in &rows {
        let text = row["text"].as_str().unwrap().to_owned();
        let ids: Vec<u32> = serde_json::from_value(row["ids"].clone()).unwrap();
        let found = |tokenizer: &Tokenizer| {
            tokenizer.encode("", std::slice::from_ref(&text), 999).unwrap()[0].ids.clone()
        };
        assert_eq!(found(&t5), ids, "{text:?}");
        let (end, pieces) = ids.split_last().unwrap();
        assert_eq!(*end, 2);
        let shifted = [vec![0], pieces.iter().map(|id| id + 1).collect(), vec![2]].concat();
        assert_eq!(found(&xlm_r), shifted, "{text:?}");
    }
}

#[test]
fn other_sentencepiece_models_are_refused() {
    // A piece "a", and training by byte pairs.
    let bpe = [0x0a, 3, 0x0a, 1, b'a', 0x12, 2, 0x18, 2, 0x1a, 0];
    let refused =
        |files: &[(&str, &[u8])]| Tokenizer::open(folder(files).path()).unwrap_err().to_string();
    let error = refused(&[("spiece.model", &bpe)]);
    assert!(error.contains("expected a model of type unigram, found bpe"), "{error}");
    let albert = br#"{"model_type": "albert"}"#;
    let error = refused(&[("spiece.model", &spiece()), ("config.json", albert)]);
    assert!(error.contains("expected a model_type of t5, mt5, umt5"), "{error}");
    let model = spiece();
    for length in (0..model.len()).step_by(61) {
        let error = refused(&[("spiece.model", &model[..length])]);
        assert!(error.contains("expected "), "{error}");
    }
    let error = refused(&[]);
    assert!(error.contains("the folder needs a tokenizer.json"), "{error}");
}
