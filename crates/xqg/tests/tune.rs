//! `xqg index tune` and the defaults in an index's manifest, and `xqg search --expand`, through the real
//! binary.
#![allow(clippy::unwrap_used)] // a test that cannot set up its files should stop there

mod support;

use serde_json::{Value, json};
use support::server::{Reply, Server};
use support::{Space, check_message, end};

fn manifest(space: &Space, name: &str) -> Value {
    serde_json::from_slice(&space.read(&format!("{name}/manifest.json"))).unwrap()
}

fn run(space: &Space, rest: &str) -> Vec<u8> {
    space
        .works(&format!("xqg search --index INDEX --queries queries.jsonl --force --out r {rest}"));
    space.read("r")
}

#[test]
fn an_index_remembers_how_its_questions_are_fused() {
    let space = Space::indexed();
    let first = manifest(&space, "INDEX");
    assert_eq!(first["defaults"], json!({"share": 0.4, "reduce": "mean"}));
    assert!(run(&space, "") == run(&space, "--share 0.4 --reduce mean"));
    // An index of an earlier version says nothing, and is searched as it was.
    let mut old = first.clone();
    old.as_object_mut().unwrap().remove("defaults");
    space.write("INDEX/manifest.json", old.to_string());
    assert!(run(&space, "") == run(&space, "--share 0.4 --reduce mean"));
    let mut tuned = first;
    tuned["defaults"] = json!({"share": 0.15, "reduce": "sum"});
    space.write("INDEX/manifest.json", tuned.to_string());
    assert!(run(&space, "") == run(&space, "--share 0.15 --reduce sum"));
    assert!(run(&space, "--share 0.3") == run(&space, "--share 0.3 --reduce sum"));
    assert!(run(&space, "--reduce mean") == run(&space, "--share 0.15 --reduce mean"));
    // Questions that are added leave it.
    space.write("more.jsonl", support::questions(3, |lang| lang == "ar"));
    space.works("xqg index add --index INDEX --queries more.jsonl");
    assert_eq!(manifest(&space, "INDEX")["defaults"]["share"], 0.15);
    // An index without questions has no defaults until it gets some.
    space.works("xqg index --model e5like --corpus corpus.jsonl --out PLAIN");
    assert!(manifest(&space, "PLAIN")["defaults"].is_null());
    space.works("xqg index add --index PLAIN --queries generated.jsonl");
    assert_eq!(manifest(&space, "PLAIN")["defaults"]["share"].as_f64(), Some(0.4));
}

#[test]
fn tuning_takes_the_best_of_what_evaluate_finds() {
    let space = Space::indexed();
    let tune =
        "xqg index tune --index INDEX --queries queries.jsonl --qrels qrels.tsv --measure RR@10";
    let done = space.works(&format!("{tune} --shares 0:0.9:0.3 --json --dry-run"));
    assert_eq!(manifest(&space, "INDEX")["defaults"]["share"].as_f64(), Some(0.4), "a dry run");
    let all: Value = serde_json::from_str(&done.out).unwrap();
    let trials = all["trials"].as_array().unwrap();
    assert_eq!((trials.len(), &all["measure"]), (8, &"RR@10".into()));
    for trial in trials {
        let (share, reduce) = (&trial["share"], trial["reduce"].as_str().unwrap());
        run(&space, &format!("--share {share} --reduce {reduce}"));
        let line = "xqg evaluate --run r --qrels qrels.tsv --queries queries.jsonl --measures RR@10 --json";
        let value: Value = serde_json::from_str(&space.works(line).out).unwrap();
        let (a, b) = (&value["measures"]["RR@10"]["macro"], &trial["macro"]);
        assert!((a.as_f64().unwrap() - b.as_f64().unwrap()).abs() < 1e-9, "{share} {reduce}");
    }
    let values = trials.iter().map(|t| t["macro"].as_f64().unwrap());
    let best = values.clone().fold(0.0, f64::max);
    let first = &trials[values.clone().position(|v| v == best).unwrap()];
    assert_eq!(
        (&all["best"]["share"], &all["best"]["reduce"]),
        (&first["share"], &first["reduce"])
    );
    let done = space.works(&format!("{tune} --shares 0:0.9:0.3"));
    assert!(done.out.contains("best") && done.out.contains("macro"), "{}", done.out);
    assert_eq!(manifest(&space, "INDEX")["defaults"]["share"], first["share"]);
    let answers =
        "xqg index tune --index INDEX --queries queries.jsonl --corpus corpus.jsonl --json";
    let all: Value = serde_json::from_str(&space.works(answers).out).unwrap();
    assert_eq!(all["measure"], "R@2kt");
}

#[test]
fn what_cannot_be_tuned() {
    let space = Space::indexed();
    space.works("xqg index --model e5like --corpus corpus.jsonl --out PLAIN");
    space.write("other.jsonl", support::passages(3));
    let tune = "xqg index tune --queries queries.jsonl";
    for (code, line, word) in [
        (1, format!("{tune} --index PLAIN --qrels qrels.tsv"), "found one without questions"),
        (1, format!("{tune} --index INDEX --corpus other.jsonl"), "a file of another content"),
        (1, format!("{tune} --index none --qrels qrels.tsv"), "reading none/manifest.json"),
        (2, format!("{tune} --index INDEX"), "--corpus"),
        (1, format!("{tune} --index INDEX --corpus corpus.jsonl --measure RR@10"), "RR@10"),
    ] {
        space.fails(code, &line, &[word]);
    }
}

#[test]
fn a_query_is_expanded_by_a_passage() {
    let space = Space::indexed();
    // For each query the passage that it asks for: `castle 1?` is answered by number 1.
    let server = Server::start(|_, asked| {
        let query = asked.prompt().lines().last().unwrap().trim_end_matches('?');
        let (topic, number) = query.split_once(' ').unwrap();
        Reply::Text(format!(
            "<think>Hm</think>The {topic} {number} Number {number} is a {topic} near"
        ))
    });
    let search = |mode: &str| {
        format!(
            "xqg search --index INDEX --queries queries.jsonl --share 0 --force --out x.trec --expand \
             openai:tiny --endpoint {} --expand-mode {mode}",
            server.url
        )
    };
    let done = space.works(&search("replace"));
    assert!(done.err.contains("expansion: 12 queries, "), "{}", done.err);
    let replaced = space.read("x.trec");
    let text = String::from_utf8(replaced.clone()).unwrap();
    let first = text.lines().filter(|l| l.split(' ').nth(3) == Some("1")).filter(|l| {
        let mut columns = l.split(' ');
        columns.next().unwrap()[1..] == columns.nth(1).unwrap()[1..]
    });
    assert!(first.count() >= 10, "the passages themselves are found\n{text}");
    space.works(&search("concat"));
    assert!(space.read("x.trec") != replaced);
    let prompt = server.asked()[0].prompt().to_owned();
    assert!(prompt.contains("a passage in English"), "{prompt}");
    // What cannot be expanded is searched as it is.
    let silent = Server::start(|_, _| Reply::Text(String::new()));
    let line = format!(
        "xqg search --index INDEX --text river --json --expand openai:tiny --endpoint {} --retries 0",
        silent.url
    );
    assert!(space.works(&line).err.contains("1 queries got no passage"));
    let gone = "xqg search --index INDEX --text river --expand openai:tiny --retries 0 --endpoint \
                http://127.0.0.1:9";
    check_message(&end(space.command(gone)), 1, gone, &["asking http://127.0.0.1:9", "hint: "]);
    for (rest, word) in
        [("--expand openai:x", "--endpoint"), ("--expand x --endpoint http://h", "openai:NAME")]
    {
        space.fails(2, &format!("xqg search --index INDEX --text x {rest}"), &[word]);
    }
}
