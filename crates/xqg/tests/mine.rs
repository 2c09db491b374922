//! `xqg mine` through the real binary: what it finds in a small collection, that its rows can be
//! read, that the same inputs give the same bytes, and what it refuses.
#![allow(clippy::unwrap_used)] // a test that cannot set up its files should stop there

mod support;

use serde_json::Value;
use support::Space;

const MINE: &str = "xqg mine --queries queries.jsonl --index INDEX --positives-to 12 --luck 1";
const WORDS: &str = "xqg mine --queries queries.jsonl --bm25 --corpus corpus.jsonl --luck 1";

/// The JSON objects of a file's lines.
fn rows(space: &Space, name: &str) -> Vec<Value> {
    let text = String::from_utf8(space.read(name)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn docids(row: &Value, key: &str) -> Vec<String> {
    let passages = row[key].as_array().unwrap();
    passages.iter().map(|p| p["docid"].as_str().unwrap().to_owned()).collect()
}

/// English for the queries that are kept: the first three by text, the others by id.
fn translations(space: &Space, keep: impl Fn(usize) -> bool) {
    let topics = ["river", "castle", "planet", "violin", "bridge", "falcon"];
    let line = |i: usize| {
        let key = if i < 3 { format!("{}  {i}?", topics[i]) } else { format!("q{i}") };
        format!("{key}\tWhen was the {} number {i} built?\n", topics[i])
    };
    space.write("en.tsv", (0..6).filter(|&i| keep(i)).map(line).collect::<String>());
}

#[test]
fn each_query_gets_the_passage_that_holds_its_answer() {
    let space = Space::indexed();
    space.works(&format!("{MINE} --out m.jsonl --from 2 --negatives 4"));
    let rows = rows(&space, "m.jsonl");
    assert_eq!(rows.len(), 12);
    for (i, row) in rows.iter().enumerate() {
        assert_eq!(row["query_id"], format!("q{i}"));
        assert_eq!(row["answers"], serde_json::json!([(1500 + i).to_string()]));
        assert_eq!(docids(row, "positive_passages"), [format!("p{i}")]);
        let source = &row["positive_passages"][0]["source"];
        assert_eq!((&source["by"], &source["asked"]), (&"index".into(), &"question".into()));
        assert_eq!(source["answer"], (1500 + i).to_string());
        let negatives = docids(row, "negative_passages");
        assert_eq!(negatives.len(), 4);
        assert!(!negatives.contains(&format!("p{i}")));
        let ranks = row["negative_passages"].as_array().unwrap().iter();
        let ranks: Vec<u64> = ranks.map(|n| n["source"]["rank"].as_u64().unwrap()).collect();
        assert!(ranks[0] >= 2 && ranks.windows(2).all(|w| w[0] < w[1]), "{ranks:?}");
    }
    assert_eq!(rows[1]["lang"], "ar");
    assert!(!space.path("m.jsonl.units.partial").exists());
}

#[test]
fn the_same_command_gives_the_same_bytes() {
    let space = Space::indexed();
    translations(&space, |_| true);
    let line = format!("{MINE} --translations en.tsv --negatives 3 --from 1");
    space.works(&format!("{line} --out a.jsonl"));
    let sound = space.read("a.jsonl");
    space.works(&format!("{line} --out b.jsonl --threads 1"));
    assert!(space.read("b.jsonl") == sound, "one thread");
    space.works(&format!("{line} --out c.jsonl --unit-queries 5"));
    assert!(space.read("c.jsonl") == sound, "units of another size");
    space.works(&format!("{line} --out d.jsonl.gz"));
    let mut text = Vec::new();
    let packed = space.read("d.jsonl.gz");
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&packed[..]), &mut text).unwrap();
    assert!(text == sound, "compressed");
    space.works(&format!("{line} --out e.jsonl --seed 7"));
    assert!(space.read("e.jsonl") != sound, "another seed draws others");
    space.write("packed.jsonl.gz", space.read("queries.jsonl"));
    let packed = line.replace("queries.jsonl", "packed.jsonl.gz");
    space.works(&format!("{packed} --out f.jsonl"));
    assert!(space.read("f.jsonl") == sound, "compressed queries");
}

#[test]
fn words_find_what_is_asked_in_english() {
    let space = Space::new();
    translations(&space, |i| i < 4);
    let line = format!("{WORDS} --translations en.tsv --from 1 --json");
    let done = space.works(&format!("{line} --out m.jsonl"));
    let summary: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(summary["total"]["queries"], 12);
    assert_eq!(summary["total"]["not_ranked"], 8, "neither English nor translated");
    assert_eq!(summary["languages"]["te"]["queries"], 4);
    let rows = rows(&space, "m.jsonl");
    assert_eq!(summary["total"]["rows"], rows.len());
    assert_eq!(rows.len(), 4);
    for row in &rows {
        let source = &row["positive_passages"][0]["source"];
        assert_eq!((&source["by"], &source["asked"]), (&"bm25".into(), &"translation".into()));
        assert_eq!(source["rank"], 1, "the only passage with topic and number");
    }
}

#[test]
fn what_may_be_luck_is_no_positive() {
    let space = Space::indexed();
    // One of twelve passages holds the year, and all hold "near": at rank 1 the chances are 1/12, 1.
    let row = |id: &str, answer: &str| {
        serde_json::json!({"id": id, "question": "river 0?", "answers": [answer]}).to_string()
    };
    space.write("queries.jsonl", row("a", "near") + "\n" + &row("b", "1500"));
    let line = MINE.replace("--luck 1", "--json");
    let mined = |luck: &str, out: &str| -> Value {
        let done = space.works(&format!("{line} --luck {luck} --out {out}"));
        serde_json::from_str(&done.out).unwrap()
    };
    assert_eq!(mined("1", "all.jsonl")["total"]["rows"], 2);
    let strict = mined("0.99", "strict.jsonl");
    assert_eq!((&strict["total"]["rows"], &strict["total"]["no_passage"]), (&1.into(), &1.into()));
    assert_eq!(rows(&space, "strict.jsonl")[0]["query_id"], "b");
}

#[test]
fn judgments_are_positives_and_never_negatives() {
    let space = Space::indexed();
    space.write("queries.jsonl", support::beir_queries(12));
    let more = "q0 0 p5 1\nq0 0 p0 2\nq0 0 p7 0\nq1 0 p99 1\nq2 0 p1 1\n";
    space.write("qrels.trec", more);
    let line = format!("{MINE} --qrels qrels.trec --positives 2 --from 1 --to 12 --negatives 20");
    let done = space.works(&format!("{line} --out m.jsonl"));
    assert!(done.err.contains("1 of 4 judged passages are not in the corpus"), "{}", done.err);
    let rows = rows(&space, "m.jsonl");
    assert_eq!(rows.len(), 2);
    let mut positives = docids(&rows[0], "positive_passages");
    positives.sort();
    assert_eq!(positives, ["p0", "p5"]);
    assert_eq!(docids(&rows[0], "negative_passages").len(), 10);
    assert!(docids(&rows[0], "negative_passages").contains(&"p7".to_owned()));
    assert_eq!(rows[0]["positive_passages"][0]["source"]["by"], "qrels");
    assert_eq!(docids(&rows[1], "positive_passages"), ["p1"]);
}

#[test]
fn margins_and_left_out_queries() {
    let space = Space::indexed();
    space.write(
        "dev.jsonl",
        "{\"_id\":\"q3\",\"text\":\"x\"}\n{\"_id\":\"z\",\"text\":\"castle  1?\"}\n",
    );
    let line = format!("{MINE} --leave-out dev.jsonl --from 1 --to 12 --negatives 20 --json");
    let done = space.works(&format!("{line} --margin 0 --out m.jsonl"));
    let summary: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!((&summary["total"]["left_out"], &summary["total"]["rows"]), (&2.into(), &10.into()));
    for row in rows(&space, "m.jsonl") {
        let score = row["positive_passages"][0]["source"]["score"].as_f64().unwrap();
        let negatives = row["negative_passages"].as_array().unwrap();
        assert!(negatives.iter().all(|n| n["source"]["score"].as_f64().unwrap() <= score));
    }
    let done = space.works(&format!("{line} --margin 400% --out none.jsonl"));
    let summary: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(summary["total"]["negatives"], 0, "nothing is that far below");
}

#[test]
fn what_cannot_be_mined_is_refused() {
    let space = Space::indexed();
    space.write("there.jsonl", "x");
    space.write(
        "none.jsonl",
        "{\"id\":\"1\",\"question\":\"x\",\"answers\":[\"yes\"],\"lang\":\"fi\"}\n",
    );
    space.write(
        "bad.jsonl",
        "{\"id\":\"1\",\"question\":\"x\"}\n{\"id\":\"1\",\"question\":\"y\"}\n",
    );
    space.write("bad.tsv", "question only\n");
    space.write("other.jsonl", support::passages(3));
    space.write("badcorpus.jsonl", "{\"_id\":\"a\",\"text\":\"x\"}\n{\"_id\":\"a\"}\n");
    let no = |line: &str, words: &[&str]| drop(space.fails(1, line, words));
    let wrong = |line: &str, words: &[&str]| drop(space.fails(2, line, words));
    no(&format!("{MINE} --out there.jsonl"), &["writing there.jsonl: expected a new path"]);
    no(&format!("{MINE} --out INDEX"), &["the name of a file, found a folder"]);
    let none = MINE.replace("queries.jsonl", "none.jsonl");
    let words = ["expected a query with a positive, found none among 1", "no answer", "\nhint: "];
    no(&format!("{none} --out m.jsonl"), &words);
    let bad = MINE.replace("queries.jsonl", "bad.jsonl");
    no(&format!("{bad} --out m.jsonl"), &["reading bad.jsonl: line 2: expected a `id` of its own"]);
    let words =
        ["reading bad.tsv: line 1: expected question TAB translation, found `question only`"];
    no(&format!("{MINE} --translations bad.tsv --out m.jsonl"), &words);
    let words =
        ["reading other.jsonl: expected the passages that INDEX was built from", "\nhint: "];
    no(&format!("{MINE} --corpus other.jsonl --out m.jsonl"), &words);
    let words = ["reading badcorpus.jsonl: line 2: expected a `title` or a `text`"];
    no(&format!("{WORDS} --out m.jsonl").replace("corpus corpus", "corpus badcorpus"), &words);
    no(&format!("{MINE} --out m.jsonl").replace("INDEX", "e5like"), &["manifest.json"]);
    wrong(&format!("{MINE} --out m.jsonl --from 9 --to 3"), &["at most --to, 3, found 9"]);
    wrong(&format!("{MINE} --bm25 --corpus corpus.jsonl --out m.jsonl"), &["cannot be used with"]);
    wrong("xqg mine --queries queries.jsonl --bm25 --out m.jsonl", &["--corpus"]);
    wrong("xqg mine --queries queries.jsonl --out m.jsonl", &["--index"]);
    wrong(&format!("{MINE} --out m.jsonl --margin x"), &["such as 0.05, or 5%"]);
}
