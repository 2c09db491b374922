//! What is refused though no input line is bad: wrong usage (exit code 2), folders that are none,
//! results that exist, work that was begun from something else, another encoder.
#![allow(clippy::unwrap_used)] // a test that cannot set up its files should stop there

mod support;

use support::{Space, assert_same, copy_model, end, files};

const INDEX: &str = "xqg index --model e5like --corpus corpus.jsonl";
const SEARCH: &str = "xqg search --index INDEX";

#[test]
fn folders_that_are_none() {
    let space = Space::indexed();
    std::fs::create_dir(space.path("folder")).unwrap();
    for (line, word) in [
        ("xqg search --index none --text x", "reading none/manifest.json: No such file"),
        ("xqg search --index folder --text x", "reading folder/manifest.json: No such file"),
        (
            "xqg search --index corpus.jsonl --text x",
            "reading corpus.jsonl/manifest.json: Not a dir",
        ),
        (
            "xqg search --index INDEX --query-embeddings folder --out NEW",
            "reading folder/manifest.json",
        ),
        (
            "xqg search --index INDEX --query-embeddings INDEX --out NEW",
            "found xqg-index version 1",
        ),
        ("xqg index add --index none --queries generated.jsonl", "reading none/manifest.json"),
        ("xqg index merge --out NEW INDEX none", "reading none/manifest.json: No such file"),
        (
            "xqg index merge --out NEW INDEX INDEX",
            "using INDEX: expected the parts 1 to 1, found 1, 1",
        ),
        ("xqg search --index INDEX --text x --model none", "expected a model folder, an id of the"),
        ("xqg search --index INDEX --text x --model folder", "reading "),
        (
            "xqg encode --model a/b --queries queries.jsonl --out NEW",
            "fetching `a/b` offline: expected",
        ),
        ("xqg encode --model e5like --queries queries.jsonl --out corpus.jsonl/below", "Not a dir"),
        ("xqg man --out corpus.jsonl/below", "Not a dir"),
    ] {
        space.fails(1, line, &["error: ", word]);
    }
}

#[test]
fn wrong_usage_ends_with_two() {
    let space = Space::indexed();
    let evaluate = "xqg evaluate --run run.trec";
    for (line, word) in [
        (format!("{INDEX} --out NEW --shard 0/3"), "expected I/N with I from 1 to N, found `0/3`"),
        (format!("{INDEX} --out NEW --shard 4/3"), "found `4/3`"),
        (format!("{INDEX} --out NEW --unit-rows 0"), "expected a whole number from 1, found `0`"),
        (format!("{INDEX} --out NEW --unit-rows 9999999"), "--unit-rows: expected 1 to 1048576"),
        ("xqg index --model e5like --out NEW".to_owned(), "--corpus <FILE>"),
        (
            format!("{SEARCH} --text x --share 1.5"),
            "'--share <SHARE>': expected a number from 0 to 1",
        ),
        (format!("{SEARCH} --text x --alpha nan"), "expected a number from 0 to 1, found `nan`"),
        (format!("{SEARCH} --text x --share 0.1 --alpha 0.1"), "cannot be used with"),
        (
            format!("{SEARCH} --text x --out N --sweep nonsense"),
            "expected A:B:STEP such as 0:0.6:0.05",
        ),
        (format!("{SEARCH} --text x --sweep 0:1:0.5"), "expected --out RUN"),
        (format!("{SEARCH} --queries queries.jsonl"), "expected --out RUN, found nowhere to write"),
        (
            format!("{SEARCH} --text x --lang-weights te=-1"),
            "expected a weight of 0 or more, found `te=-1`",
        ),
        (
            format!("{SEARCH} --text x --lang-weights te"),
            "expected LANG=WEIGHT such as te=0.5, found `te`",
        ),
        (
            format!("{SEARCH} --text x --lang klingon"),
            "expected an ISO 639 language code, found `klingon`",
        ),
        (
            format!("{SEARCH} --out N"),
            "--queries <FILE>|--text <TEXT>|--query-embeddings <DIR|FILE>",
        ),
        (format!("{SEARCH} --text x -k 0"), "expected a whole number from 1, found `0`"),
        (format!("{evaluate} --measures nonsense"), "expected one of nDCG@10, R@100"),
        (
            format!("{evaluate} --measures R@2kt --queries queries.jsonl"),
            "R@2kt: expected --corpus FILE",
        ),
        (
            format!("{evaluate} --measures R@2kt --corpus corpus.jsonl"),
            "R@2kt: expected --queries FILE",
        ),
        (format!("{evaluate} --measures MAP"), "evaluating MAP: expected --qrels FILE"),
        (
            format!("{evaluate} run.trec --measures MAP --qrels qrels.tsv --json"),
            "--json: expected one run",
        ),
        ("xqg nonsense".to_owned(), "unrecognized subcommand 'nonsense'"),
        (
            "xqg search --index INDEX --text x --threads 0".to_owned(),
            "whole number from 1, found `0`",
        ),
    ] {
        space.fails(2, &line, &["error: ", word]);
    }
    let mut command = space.command(&format!("{SEARCH} --text"));
    command.arg("  ");
    assert_eq!(end(command).code, Some(2), "a blank query");
}

#[test]
fn what_exists_is_replaced_only_by_force() {
    let space = Space::indexed();
    space.works("xqg encode --model e5like --queries queries.jsonl --out Q");
    let before = files(&space.path("."));
    for line in [
        "xqg index --model e5like --corpus corpus.jsonl --queries generated.jsonl --out INDEX",
        "xqg index merge --out INDEX INDEX",
        "xqg encode --model e5like --queries queries.jsonl --out Q",
        "xqg search --index INDEX --queries queries.jsonl --out run.trec",
    ] {
        let words = ["expected a new path, found an existing one\nhint: --force replaces it"];
        space.fails(1, line, &words);
        space.works(&format!("{line} --force"));
        assert_same(&files(&space.path(".")), &before, "the same inputs, the same bytes");
    }
}

#[test]
fn an_unfinished_build_of_other_inputs_is_not_gone_on_with() {
    let space = Space::new();
    // What a kill leaves behind: the folder as it was begun, here with a setting of its own.
    for (verb, rest) in [("index", "--unit-rows 7"), ("encode", "--shard-rows 7")] {
        let line = format!("xqg {verb} --model e5like --corpus corpus.jsonl --out NEW");
        space.works(&format!("{line} {rest}"));
        std::fs::rename(space.path("NEW"), space.path("NEW.partial")).unwrap();
        if verb == "index" {
            let manifest: serde_json::Value =
                serde_json::from_slice(&space.read("NEW.partial/manifest.json")).unwrap();
            let mut begun = manifest.clone();
            begun["shard"] = serde_json::json!({"number": 1, "of": 1});
            begun["queries"] = serde_json::Value::Null;
            begun["side"] = "query".into();
            space.write("NEW.partial/begun.json", begun.to_string());
        }
        let words =
            ["error: resuming NEW.partial: expected the input", "found others", "\nhint: --force"];
        space.fails(1, &line, &words);
        space.works(&format!("{line} --force"));
        assert!(!space.path("NEW.partial").exists());
        std::fs::remove_dir_all(space.path("NEW")).unwrap();
    }
}

#[test]
fn another_encoder_is_refused_with_both_shown() {
    let space = Space::indexed();
    copy_model("e5like", &space.path("other"));
    let mut weights = space.read("other/model.safetensors");
    let last = weights.len() - 2;
    weights[last] ^= 0x10;
    space.write("other/model.safetensors", weights);
    copy_model("e5like", &space.path("prefixed"));
    let prompts = space.read("prefixed/config_sentence_transformers.json");
    let prompts = String::from_utf8(prompts).unwrap().replace("\"query: \"", "\"ask: \"");
    space.write("prefixed/config_sentence_transformers.json", prompts);
    space.works("xqg encode --model other --queries queries.jsonl --out Q");
    space.works("xqg encode --model prefixed --queries queries.jsonl --out P");
    let refused = "expected the same encoder contract, found another";
    let what = ["searching INDEX: ", "adding questions: "];
    for (line, what, word) in [
        ("search --index INDEX --text x --model other", what[0], "e5like | other\n* weights "),
        ("search --index INDEX --query-embeddings Q --out N", what[0], "\n* weights "),
        (
            "search --index INDEX --query-embeddings P --out N",
            what[0],
            "* query prefix         `query: ` | `ask: `",
        ),
        (
            "index add --index INDEX --queries generated.jsonl --model other",
            what[1],
            "\n* weights ",
        ),
    ] {
        let words =
            [what, refused, word, "  tokenizer ", "\nhint: use the model that made the index"];
        space.fails(1, &format!("xqg {line}"), &words);
    }
    std::fs::remove_dir_all(space.path("e5like")).unwrap();
    let words = ["searching INDEX: expected the model at ", "found no folder\nhint: --model says"];
    space.fails(1, "xqg search --index INDEX --text x", &words);
}
