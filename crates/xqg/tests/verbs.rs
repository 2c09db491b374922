//! The verbs as people and scripts type them, through the real binary: the command lines that must
//! work exactly, the forms that their output must have, and the identities between them.
// A test that cannot set up its files should stop there; one that is skipped says so.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod support;

use std::collections::BTreeMap;

use serde_json::{Value, json as of_json};
use support::{
    LANGS, Space, assert_same, beir_queries, files, passages, queries, question, questions, succeed,
};

const INDEX: &str = "xqg index --model e5like --corpus corpus.jsonl";

/// A space with an index of all questions, `INDEX`, and one without any, `PLAIN`.
fn indexed() -> Space {
    let space = Space::new();
    space.works(&format!("{INDEX} --queries generated.jsonl --out INDEX"));
    space.works(&format!("{INDEX} --out PLAIN"));
    space
}

fn search(space: &Space, rest: &str, run: &str) -> Vec<u8> {
    space.works(&format!("xqg search {rest} --out {run}"));
    space.read(run)
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// The scores of a run by query and passage.
fn scores(run: &[u8]) -> BTreeMap<(String, String), f64> {
    let line = |line: &str| {
        let columns: Vec<&str> = line.split(' ').collect();
        let [qid, "Q0", docid, _, score, "xqg"] = columns[..] else { panic!("{line}") };
        ((qid.to_owned(), docid.to_owned()), score.parse().unwrap())
    };
    std::str::from_utf8(run).unwrap().lines().map(line).collect()
}

fn assert_close(a: &[u8], b: &[u8], tolerance: f64) {
    let (a, b) = (scores(a), scores(b));
    assert!(!a.is_empty() && a.keys().eq(b.keys()), "the runs hold the same passages");
    for (key, score) in &a {
        assert!((score - b[key]).abs() <= tolerance, "{key:?}: {score} and {}", b[key]);
    }
}

#[test]
fn the_way_from_files_to_figures() {
    let space = Space::new();
    space.works(&format!("{INDEX} --queries generated.jsonl --out INDEX"));
    let line =
        "xqg search --index INDEX --queries queries.jsonl -k 150 --out run.trec --share 0.25";
    space.works(line);
    assert_eq!(scores(&space.read("run.trec")).len(), 12 * 12, "all passages, for k is greater");
    let line = "xqg evaluate --run run.trec --queries queries.jsonl --corpus corpus.jsonl \
                --measures R@2kt,R@5kt --json";
    check_evaluation(&space.works(line).out, &["R@2kt", "R@5kt"], &["ar", "ko", "te"]);
    let line = "xqg evaluate --run run.trec --qrels qrels.tsv --measures RR@10,nDCG@10 --json";
    check_evaluation(&space.works(line).out, &["RR@10", "nDCG@10"], &["und"]);
    search(&space, "--index INDEX --queries queries.jsonl --share 0", "plain.trec");
    let line = "xqg compare --baseline plain.trec --run run.trec --queries queries.jsonl \
                --corpus corpus.jsonl --measures R@2kt --json";
    let compared = json(&space.works(line).out);
    assert_eq!(compared["baseline"], "plain");
    let measure = &compared["runs"][0]["measures"]["R@2kt"];
    assert_eq!(measure["n"], 12, "{compared}");
    for key in ["baseline", "run", "difference"] {
        assert!(measure[key]["mean"].is_f64() && measure[key]["macro"].is_f64(), "{compared}");
    }
    for part in measure["by_lang"].as_object().unwrap().values().chain([measure]) {
        let bounds = part["interval"].as_array().unwrap();
        let [low, high] = [&bounds[0], &bounds[1]].map(|bound| bound.as_f64().unwrap());
        let difference = &part["difference"];
        let difference = difference["macro"].as_f64().or(difference.as_f64()).unwrap();
        assert!((low..=high).contains(&difference), "{compared}");
    }
    assert!(measure["p"].as_f64().unwrap() <= 1.0 && compared["warnings"].is_array(), "{compared}");
}

/// The form of `evaluate --json`: exactly these keys, values from 0 to 1, all queries counted.
fn check_evaluation(text: &str, measures: &[&str], langs: &[&str]) {
    let all = json(text);
    let keys = |v: &Value| v.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&all), ["measures", "warnings"]);
    assert!(all["warnings"].as_array().unwrap().iter().all(Value::is_string), "{text}");
    assert_eq!(keys(&all["measures"]), measures);
    for measure in all["measures"].as_object().unwrap().values() {
        assert_eq!(keys(measure), ["mean", "macro", "by_lang"]);
        assert_eq!(keys(&measure["by_lang"]), langs);
        let by_lang = measure["by_lang"].as_object().unwrap();
        for lang in by_lang.values() {
            assert_eq!(keys(lang), ["mean", "n"]);
        }
        let means = by_lang.values().chain([measure]).map(|m| m["mean"].as_f64().unwrap());
        assert!(means.into_iter().all(|mean| (0.0..=1.0).contains(&mean)), "{text}");
        assert_eq!(by_lang.values().map(|l| l["n"].as_u64().unwrap()).sum::<u64>(), 12);
    }
}

#[test]
fn per_query_values_and_tables() {
    let space = indexed();
    search(&space, "--index INDEX --queries queries.jsonl", "run.trec");
    let judge = "--qrels qrels.tsv --queries queries.jsonl --measures RR@10";
    let out = space.works(&format!("xqg evaluate --run run.trec {judge} --json --per-query")).out;
    let value = json(&out);
    assert_eq!(value["per_query"]["RR@10"].as_object().unwrap().len(), 12, "{out}");
    let table = space.works(&format!("xqg evaluate --run run.trec run.trec {judge}")).out;
    assert!(table.contains("RR@10") && table.contains("te") && table.matches("run ").count() == 2);
    let table = space.works(&format!("xqg compare --baseline run.trec --run run.trec {judge}")).out;
    assert!(table.contains("RR@10") && table.contains("run"), "{table}");
}

#[test]
fn queries_of_both_kinds_and_compressed_files_give_the_same() {
    let space = indexed();
    for name in ["corpus.jsonl", "generated.jsonl", "queries.jsonl"] {
        space.write(&format!("{name}.gz"), space.read(name));
    }
    space.write("beir.jsonl", beir_queries(12));
    let line = "xqg index --model e5like --corpus corpus.jsonl.gz --queries generated.jsonl.gz";
    space.works(&format!("{line} --out GZ"));
    let run = search(&space, "--index INDEX --queries queries.jsonl", "a.trec");
    assert_eq!(run, search(&space, "--index GZ --queries queries.jsonl.gz", "b.trec"));
    assert_eq!(run, search(&space, "--index INDEX --queries beir.jsonl", "c.trec"));
    space.write("a.trec.gz", &run);
    space.write("qrels.tsv.gz", space.read("qrels.tsv"));
    let line = |run: &str, qrels: &str| {
        format!("xqg evaluate --run {run} --qrels {qrels} --measures MAP --json")
    };
    let plain = space.works(&line("a.trec", "qrels.tsv")).out;
    assert_eq!(plain, space.works(&line("a.trec.gz", "qrels.tsv.gz")).out);
}

#[test]
fn encoded_queries_are_numpy_files_and_search_the_same() {
    let space = indexed();
    let line = "xqg encode --model e5like --queries queries.jsonl --out Q --shard-rows 5";
    let said = space.works(line).err;
    assert!(said.contains("\nencoded 12 queries, "), "{said}");
    assert!(said.contains(" queries/s, ") && said.contains(" tokens/s\n"), "{said}");
    let names: Vec<String> = files(&space.path("Q")).into_keys().collect();
    let shards =
        ["00000", "00001", "00002"].map(|n| [format!("shard-{n}.ids"), format!("shard-{n}.npy")]);
    let expected = ["manifest.json".to_owned()].into_iter().chain(shards.into_iter().flatten());
    assert_eq!(names, expected.collect::<Vec<_>>());
    check_npy(&space.read("Q/shard-00000.npy"), "<f4", 5);
    check_npy(&space.read("Q/shard-00002.npy"), "<f4", 2);
    assert_eq!(space.read("Q/shard-00001.ids"), b"q5\nq6\nq7\nq8\nq9\n");
    let run = search(&space, "--index INDEX --queries queries.jsonl", "a.trec");
    assert_eq!(run, search(&space, "--index INDEX --query-embeddings Q", "b.trec"));
    space.works("xqg encode --model e5like --corpus corpus.jsonl --out P --dtype f16");
    check_npy(&space.read("P/shard-00000.npy"), "<f2", 12);
}

/// numpy's rules: magic, version 1.0, a padded header with these three keys, then the data.
fn check_npy(bytes: &[u8], descr: &str, rows: usize) {
    assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
    let length = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = std::str::from_utf8(&bytes[10..10 + length]).unwrap();
    let fields = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({rows}, 32), }}");
    assert_eq!(header.trim_end(), fields);
    assert!(header.ends_with('\n') && (10 + length) % 64 == 0, "padded to 64 bytes");
    let size = if descr == "<f4" { 4 } else { 2 };
    assert_eq!(bytes.len(), 10 + length + rows * 32 * size);
}

#[test]
fn a_sweep_writes_one_run_for_each_share() {
    let space = indexed();
    let search = |rest: &str| space.works(&format!("xqg search --queries queries.jsonl {rest}"));
    search("--index INDEX --out run.trec --sweep 0:0.5:0.25");
    search("--index INDEX --out single.trec --share 0.25");
    search("--index PLAIN --out plain.trec");
    assert!(!space.path("run.trec").exists() && space.path("run.share-0.5.trec").exists());
    assert_eq!(space.read("run.share-0.25.trec"), space.read("single.trec"));
    assert_eq!(space.read("run.share-0.trec"), space.read("plain.trec"), "share 0: no questions");
    assert_ne!(space.read("run.share-0.5.trec"), space.read("single.trec"));
    search("--index INDEX --out sum.trec --reduce sum --alpha 0.1 --renormalize no");
    assert_ne!(space.read("sum.trec"), space.read("single.trec"));
}

#[test]
fn an_explanation_is_the_nearest_question_and_its_language() {
    let space = indexed();
    for (i, lang) in [(3, "ko"), (7, "te"), (10, "ar")] {
        let asked = question(i, lang);
        let mut command = space.command("xqg search --index INDEX -k 12 --explain --json --text");
        command.arg(&asked);
        let value = json(&succeed(command, &asked).out);
        let hits = value["hits"].as_array().unwrap();
        let docid = format!("p{i}");
        let because = &hits.iter().find(|hit| hit["docid"] == docid.as_str()).unwrap()["because"];
        assert_eq!((&because["question"], &because["lang"]), (&of_json!(asked), &of_json!(lang)));
        assert!((because["score"].as_f64().unwrap() - 1.0).abs() < 1e-4, "{because}");
        let bare = hits.iter().find(|hit| hit["docid"] == "p11").unwrap();
        assert!(bare.get("because").is_none(), "p11 has no question");
    }
}

#[test]
fn a_typed_query_shows_its_hits() {
    let space = indexed();
    let out = space.works("xqg search --index INDEX --text river --lang te --explain").out;
    assert_eq!(out.matches("matched because [").count(), 5, "{out}");
    assert!(out.starts_with("  1. ") && out.contains("\n  5. ") && !out.contains("\n  6. "));
    let out =
        space.works("xqg search --index INDEX --queries queries.jsonl --explain --show 2").out;
    assert_eq!(out.matches("\n  2. ").count(), 12, "{out}");
    let out = space.works("xqg search --index INDEX --queries queries.jsonl --json").out;
    assert!(
        out.lines().count() == 12 && out.lines().all(|l| json(l)["hits"][2]["text"].is_string())
    );
}

#[test]
fn languages_can_be_matched_and_weighed() {
    let space = indexed();
    space.write("others.jsonl", questions(11, |lang| lang != "te"));
    space.works(&format!("{INDEX} --queries others.jsonl --out OTHERS"));
    let asked = "--queries queries.jsonl --share 0.4";
    let without = search(&space, &format!("--index OTHERS {asked}"), "without.trec");
    let weighed = format!("--index INDEX {asked} --lang-weights");
    assert_eq!(search(&space, &format!("{weighed} te=0"), "zero.trec"), without);
    assert_ne!(search(&space, &format!("{weighed} te=0.5,ar=2"), "some.trec"), without);
    let all_off = search(&space, &format!("{weighed} te=0,ar=0,ko=0"), "off.trec");
    let plain = search(&space, "--index PLAIN --queries queries.jsonl", "plain.trec");
    assert_close(&all_off, &plain, 1e-6);
    for lang in LANGS {
        space.write("one.jsonl", questions(11, |l| l == lang));
        space.works(&format!("{INDEX} --queries one.jsonl --out ONE --force"));
        let one = scores(&search(&space, &format!("--index ONE {asked} --force"), "one.trec"));
        let line = format!("--index INDEX {asked} --lang-match --force");
        let matched = scores(&search(&space, &line, "matched.trec"));
        let first = LANGS.iter().position(|l| *l == lang).unwrap();
        for i in (first..12).step_by(3) {
            let of = |all: &BTreeMap<(String, String), f64>| {
                all.iter()
                    .filter(|(key, _)| key.0 == format!("q{i}"))
                    .map(|(_, s)| *s)
                    .collect::<Vec<_>>()
            };
            assert!(of(&one) == of(&matched), "q{i} uses the questions in {lang} alone");
        }
    }
}

#[test]
fn half_precision_is_near_and_half_as_large() {
    let space = indexed();
    space.works(&format!("{INDEX} --queries generated.jsonl --out HALF --dtype f16"));
    let asked = "--queries queries.jsonl --share 0.4";
    let whole = search(&space, &format!("--index INDEX {asked}"), "whole.trec");
    assert_close(&search(&space, &format!("--index HALF {asked}"), "half.trec"), &whole, 2e-3);
    let size = |name: &str| space.read(name).len() - 128;
    assert_eq!(size("HALF/units/00000/d.npy") * 2, size("INDEX/units/00000/d.npy"));
}

#[test]
fn added_questions_score_like_built_ones() {
    let space = indexed();
    space.write("first.jsonl", questions(11, |lang| lang == "ar"));
    space.write("second.jsonl", questions(11, |lang| lang != "ar"));
    space.works(&format!("{INDEX} --queries first.jsonl --out GROWN"));
    let before = files(&space.path("GROWN"));
    let done = space.works("xqg index add --index GROWN --queries second.jsonl");
    assert!(done.err.contains("22 questions added"), "{}", done.err);
    let after = files(&space.path("GROWN"));
    for (name, bytes) in before.iter().filter(|(name, _)| *name != "manifest.json") {
        assert_eq!(after.get(name), Some(bytes), "{name} must not change");
    }
    let asked = "--queries queries.jsonl --share 0.4";
    let built = search(&space, &format!("--index INDEX {asked}"), "built.trec");
    assert_close(&search(&space, &format!("--index GROWN {asked}"), "grown.trec"), &built, 1e-6);
    space.works("xqg index add --index PLAIN --queries generated.jsonl");
    let grown = search(&space, &format!("--index PLAIN {asked}"), "from-none.trec");
    assert_eq!(grown, built, "one layer, the same sums");
}

#[test]
fn shards_merge_to_the_bytes_of_one_build() {
    let space = Space::new();
    space.write("corpus.jsonl", passages(100));
    space.write("generated.jsonl", questions(100, |_| true));
    let line = format!("{INDEX} --queries generated.jsonl --unit-rows 8");
    space.works(&format!("{line} --out WHOLE"));
    for i in 1..=2 {
        space.works(&format!("{line} --out PART{i} --shard {i}/3"));
    }
    let mut third = space.command(&format!("{line} --out PART3"));
    third.env("SLURM_ARRAY_TASK_ID", "3").env("SLURM_ARRAY_TASK_COUNT", "3");
    third.env("SLURM_ARRAY_TASK_MIN", "1");
    let done = succeed(third, "the shard of a Slurm array");
    assert!(done.err.contains("PART3.3-of-3"), "{}", done.err);
    space.works("xqg index merge --out MERGED PART3.3-of-3 PART1 PART2");
    let [merged, whole] = ["MERGED", "WHOLE"].map(|name| files(&space.path(name)));
    assert_same(&merged, &whole, "merged and built in one go");
}

#[test]
fn a_run_does_not_depend_on_the_number_of_threads() {
    let space = Space::new();
    space.write("corpus.jsonl", passages(3000));
    space.write("queries.jsonl", queries(40));
    space.write("generated.jsonl", questions(600, |_| true));
    let line = format!("{INDEX} --queries generated.jsonl");
    let asked = "--queries queries.jsonl -k 50 --share 0.3";
    let runs = [1, 2].map(|threads| {
        space.works(&format!("{line} --out INDEX{threads} --threads {threads}"));
        let line = format!("--index INDEX{threads} {asked} --threads {threads}");
        search(&space, &line, &format!("run{threads}.trec"))
    });
    assert!(runs[0] == runs[1], "runs with one and two threads differ");
    let [one, two] = ["INDEX1", "INDEX2"].map(|name| files(&space.path(name)));
    assert_same(&one, &two, "indexes built with one and two threads");
}

#[test]
fn help_version_completions_and_manual() {
    let space = Space::new();
    assert_eq!(space.works("xqg --version").out, concat!("xqg ", env!("CARGO_PKG_VERSION"), "\n"));
    let verbs = [
        "quickstart",
        "model",
        "model get",
        "encode",
        "index",
        "index add",
        "index merge",
        "index graph",
        "index collapse",
        "index export",
        "search",
        "evaluate",
        "compare",
        "completions",
        "man",
    ];
    for verb in verbs {
        let out = space.works(&format!("xqg {verb} --help")).out;
        assert!(out.contains(&format!("Usage: xqg {verb}")), "{verb}: {out}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = space.works(&format!("xqg completions {shell}")).out;
        assert!(script.contains("evaluate") && script.contains("lang-weights"), "{shell}");
    }
    space.works("xqg man --out man");
    for page in ["xqg.1", "xqg-search.1", "xqg-index-add.1"] {
        let text = space.read(&format!("man/{page}"));
        assert!(String::from_utf8(text).unwrap().contains(".SH NAME"), "{page}");
    }
}

#[test]
fn a_terminal_gets_colours_unless_no_color_is_set() {
    let space = indexed();
    let binary = env!("CARGO_BIN_EXE_xqg");
    let line = "search --index INDEX --queries queries.jsonl --explain 2>/dev/null";
    let on_terminal = |value: &str| {
        let mut script = std::process::Command::new("script");
        script.args(["-qec", &format!("{binary} {line}"), "/dev/null"]).env("NO_COLOR", value);
        script.current_dir(space.path("."));
        let output = script.output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8(output.stdout).unwrap())
    };
    let Some(coloured) = on_terminal("") else {
        return eprintln!("skipped: no `script` here that lends a terminal");
    };
    assert_eq!(coloured.matches("\x1b[1mq").count(), 12, "{coloured}");
    assert!(!on_terminal("1").unwrap().contains('\x1b'));
    let piped = space.works("xqg search --index INDEX --queries queries.jsonl --explain").out;
    assert!(!piped.contains('\x1b'), "{piped}");
}

#[test]
fn a_log_is_there_for_who_asks() {
    let space = indexed();
    let quiet = space.works("xqg search --index INDEX --text river");
    assert!(!quiet.err.contains("INFO"), "{}", quiet.err);
    let mut command = space.command("xqg search --index INDEX --text river");
    command.env("RUST_LOG", "info");
    let logged = succeed(command, "RUST_LOG=info");
    assert!(logged.err.contains("INFO") && logged.out == quiet.out, "{}", logged.err);
}

#[test]
fn the_default_share_is_said_and_a_reader_who_leaves_is_no_error() {
    let space = indexed();
    let done = space.works("xqg search --index INDEX --text river");
    assert!(done.err.contains("default share of 0.4"), "{}", done.err);
    let done = space.works("xqg search --index PLAIN --text river --share 0.2");
    assert!(done.err.contains("warning: the index has no questions"), "{}", done.err);
    let mut child = space
        .std_command("xqg completions bash")
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn the_same_questions_are_added_once_only() {
    let space = Space::new();
    space.write("corpus.jsonl", passages(10));
    space.write("generated.jsonl", questions(10, |_| true));
    space.works(&format!("{INDEX} --out INDEX/"));
    space.works("xqg index add --index INDEX --queries generated.jsonl");
    let before = files(&space.path("INDEX"));
    let mut again = space.command("xqg index add --index INDEX --queries generated.jsonl");
    let done = again.output().unwrap();
    assert_eq!(done.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&done.stderr).contains("found that of layer 1"));
    assert_same(&files(&space.path("INDEX")), &before, "a refused addition");
}
