//! `xqg model prune-vocab` with the real binary: smaller models whose embeddings are the same bits.
#![allow(clippy::unwrap_used)] // a test that cannot set up its files should stop there

mod support;

use support::{Space, copy_model};

/// The embeddings of the space's queries and passages by a model, as bytes.
fn vectors(space: &Space, model: &str) -> Vec<Vec<u8>> {
    let of = |side: &str, file: &str| {
        let out = format!("{model}-{file}");
        space.works(&format!(
            "xqg encode --model {model} --pooling mean --{side} {file} --out {out}"
        ));
        space.read(&format!("{out}/shard-00000.npy"))
    };
    vec![of("queries", "queries.jsonl"), of("corpus", "corpus.jsonl")]
}

fn rows(space: &Space, model: &str) -> u64 {
    let config = space.read(&format!("{model}/config.json"));
    serde_json::from_slice::<serde_json::Value>(&config).unwrap()["vocab_size"].as_u64().unwrap()
}

#[test]
fn kept_texts_have_the_same_embeddings_bit_for_bit() {
    let space = Space::new();
    for model in ["mbert", "xlmr"] {
        copy_model(model, &space.path(model));
    }
    for model in ["e5like", "mbert", "xlmr"] {
        let keep = "--keep-corpus corpus.jsonl --keep-queries queries.jsonl";
        let small = format!("{model}-small");
        space.works(&format!("xqg model prune-vocab {model} {keep} --to {small}"));
        assert!(rows(&space, &small) < rows(&space, model), "{model} is smaller");
        assert!(vectors(&space, model) == vectors(&space, &small), "{model}");
    }
}

#[test]
fn a_language_is_kept_whole() {
    let space = Space::new();
    space.works("xqg model prune-vocab e5like --keep-languages en --to small");
    assert!(rows(&space, "small") < rows(&space, "e5like"));
    assert!(vectors(&space, "e5like") == vectors(&space, "small"));
}

#[test]
fn prefixes_that_only_the_name_says_come_along() {
    let space = Space::new();
    copy_model("e5like", &space.path("multilingual-e5-tiny"));
    let settings = space.path("multilingual-e5-tiny/config_sentence_transformers.json");
    if settings.exists() {
        std::fs::remove_file(&settings).unwrap();
    }
    let keep = "--keep-corpus corpus.jsonl --keep-queries queries.jsonl";
    space.works(&format!("xqg model prune-vocab multilingual-e5-tiny {keep} --to small"));
    let said = String::from_utf8(space.read("small/config_sentence_transformers.json")).unwrap();
    assert!(said.contains("query: ") && said.contains("passage: "), "{said}");
    assert!(vectors(&space, "multilingual-e5-tiny") == vectors(&space, "small"));
}

#[test]
fn what_is_there_is_not_overwritten() {
    let space = Space::new();
    let line = "xqg model prune-vocab e5like --keep-languages en --to";
    space.fails(1, &format!("{line} e5like"), &["expected a new folder", "hint:"]);
    space.fails(1, &format!("{line} e5like --force"), &["another model's"]);
    space.fails(1, "xqg model prune-vocab nowhere --keep-languages en --to x", &["nowhere"]);
    space.fails(2, "xqg model prune-vocab e5like --to x", &["--keep-languages"]);
}
