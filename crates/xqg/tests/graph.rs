//! The graph of an index and searching by it, through the real binary: what it proposes is scored as
//! exact search scores, it knows what it is of, and killed at any moment the index is intact.
#![cfg(unix)]
#![allow(clippy::unwrap_used)] // a test that cannot set up its files should stop there

mod support;

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Space, assert_same, files, passages, queries, questions};

const GRAPH: &str = "xqg index graph --index INDEX";
const ASKED: &str = "xqg search --index INDEX --queries queries.jsonl";

/// A space with 3,000 passages, questions for the first thousand, and their index.
fn large() -> Space {
    let space = Space::new();
    space.write("corpus.jsonl", passages(3000));
    space.write("generated.jsonl", questions(1000, |_| true));
    space.write("queries.jsonl", queries(60));
    let line = "xqg index --model e5like --corpus corpus.jsonl --queries generated.jsonl";
    space.works(&format!("{line} --out INDEX"));
    space
}

/// The docids and scores of a run's queries, in order.
fn ranked(run: &[u8]) -> Vec<(String, String, f64)> {
    let line = |line: &str| {
        let columns: Vec<&str> = line.split(' ').collect();
        (columns[0].to_owned(), columns[2].to_owned(), columns[4].parse().unwrap())
    };
    std::str::from_utf8(run).unwrap().lines().map(line).collect()
}

#[test]
fn with_enough_effort_every_share_gives_the_exact_run() {
    let space = large();
    // By one thread: links that two threads make at once differ from run to run.
    let done = space.works(&format!("{GRAPH} --share 0.3 --seed 7 --threads 1"));
    assert!(done.err.contains("graph of 3000 passages, 3000 linked by this run"), "{}", done.err);
    assert!(done.err.contains("(share 0.3, mean, renormalised)"), "{}", done.err);
    assert!(done.err.contains("over 200 queries of the index, seed 7"), "{}", done.err);
    let settings = [
        "--share 0.3",
        "--share 0",
        "--share 0.8 --lang-weights te=0.5,ar=0",
        "--share 0.5 --lang-match",
        "--alpha 0.2 --reduce sum --renormalize no",
        "--share 0.4 --reduce sum",
    ];
    for setting in settings {
        space.works(&format!("{ASKED} -k 5 {setting} --out exact.trec --force"));
        let line =
            format!("{ASKED} -k 5 {setting} --approximate --effort 3000 --out by.trec --force");
        space.works(&line);
        let [exact, by] = ["exact.trec", "by.trec"].map(|run| ranked(&space.read(run)));
        assert_eq!(exact.len(), by.len(), "{setting}");
        let same = |(a, b): &(&(String, String, f64), &(String, String, f64))| {
            a.0 == b.0 && (a.2 - b.2).abs() < 2e-6
        };
        let found = exact.iter().zip(&by).filter(same).count();
        // Under its own setting a few candidates are enough, and a near tie may not be among them.
        let least = if setting == "--share 0.3" { exact.len() * 98 / 100 } else { exact.len() };
        assert!(found >= least, "{setting}: {found} of {}", exact.len());
    }
}

#[test]
fn a_sweep_a_typed_query_and_json_say_that_a_graph_proposed() {
    let space = large();
    space.works(GRAPH);
    let sweep = format!("{ASKED} --approximate --sweep 0:0.4:0.2 --out run.trec");
    let done = space.works(&sweep);
    assert!(
        done.err.contains("approximate search, effort 256, graph of share 0.4"),
        "{}",
        done.err
    );
    assert!(space.path("run.share-0.2.trec").exists());
    let line = "xqg search --index INDEX --text river --approximate --effort 64 --json --explain";
    let hits: Value = serde_json::from_str(&space.works(line).out).unwrap();
    assert_eq!(hits["approximate"]["effort"], 64);
    assert_eq!(hits["hits"].as_array().unwrap().len(), 5);
    let exact = space.works("xqg search --index INDEX --text river --json").out;
    assert!(serde_json::from_str::<Value>(&exact).unwrap().get("approximate").is_none());
}

#[test]
fn a_graph_knows_what_it_is_of() {
    let space = Space::indexed();
    let search = "xqg search --index INDEX --text river --approximate";
    let words = ["searching INDEX approximately", "expected a graph", "\nhint: xqg index graph"];
    space.fails(1, search, &words);
    space.works(GRAPH);
    let built = files(&space.path("INDEX"));
    let again = space.works(GRAPH);
    assert!(again.err.contains("0 linked by this run"), "{}", again.err);
    assert_same(&files(&space.path("INDEX")), &built, "nothing to do");
    space.fails(1, &format!("{GRAPH} --share 0.1"), &["INDEX/graph", "\nhint: --force"]);
    space.works(&format!("{GRAPH} --share 0.1 --force"));
    space.write("more.jsonl", questions(5, |lang| lang == "te").replace("river", "brook"));
    space.works("xqg index add --index INDEX --queries more.jsonl");
    let stale = space.works(search);
    assert!(stale.err.contains("warning: the graph is older than questions"), "{}", stale.err);
    assert!(stale.err.contains("xqg index graph --index INDEX --force rebuilds it"));
    space.works(&format!("{GRAPH} --force"));
    assert!(!space.works(search).err.contains("older"), "rebuilt");
    space.write("fewer.jsonl", passages(7));
    space.works("xqg index --model e5like --corpus fewer.jsonl --out FEWER");
    fs::create_dir(space.path("FEWER/graph")).unwrap();
    for name in ["manifest.json", "links.usearch", "centre.npy"] {
        space.write(&format!("FEWER/graph/{name}"), space.read(&format!("INDEX/graph/{name}")));
    }
    let other = "xqg search --index FEWER --text river --approximate";
    space.fails(1, other, &["expected a graph of its passages, found one of other passages"]);
}

#[test]
fn a_damaged_graph_is_refused_by_name() {
    let space = Space::indexed();
    space.works(GRAPH);
    let search = "xqg search --index INDEX --text river --approximate";
    for name in ["links.usearch", "manifest.json", "centre.npy"] {
        let path = format!("INDEX/graph/{name}");
        let sound = space.read(&path);
        for at in [0, sound.len() / 2, sound.len() - 1] {
            let mut bytes = sound.clone();
            bytes[at] ^= 0x55;
            space.write(&path, &bytes[..]);
            if name == "links.usearch" {
                space.fails(1, search, &["the graph's links, found a damaged file"]);
            }
            assert!(!space.run(search).err.contains("panicked"), "{name} at {at}");
        }
        space.write(&path, &sound[..sound.len() / 2]);
        space.fails(1, search, &["INDEX"]);
        space.write(&path, &sound);
    }
    space.works(search);
}

#[test]
fn settings_out_of_range_are_refused() {
    let space = Space::indexed();
    let cases = [
        ("--neighbours 1", "--neighbours: expected 2 to 256 links, found 1"),
        ("--neighbours 0", "'--neighbours <NEIGHBOURS>'"),
        ("--effort 100000", "--effort: expected 1 to 65536 paths, found 100000"),
        ("--share 2", "'--share <SHARE>'"),
        ("--share 0.1 --alpha 0.1", "cannot be used with"),
    ];
    for (setting, words) in cases {
        space.fails(2, &format!("{GRAPH} {setting}"), &[words]);
    }
    space.fails(2, "xqg search --index INDEX --text x --effort 9", &["--approximate"]);
    space.fails(1, "xqg index graph --index NONE", &["reading NONE/manifest.json"]);
}

/// Starts a command and kills it when a file is there; says whether the kill came in time.
fn kill_at(space: &Space, line: &str, file: &str) -> bool {
    let mut command = space.std_command(line);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let (path, begun) = (space.path(file), Instant::now());
    while !path.exists() && child.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(60), "no {file}");
        std::thread::yield_now();
    }
    child.kill().unwrap();
    !child.wait().unwrap().success()
}

#[test]
fn a_killed_build_goes_on_and_leaves_the_index_alone() {
    let space = large();
    let before = files(&space.path("INDEX"));
    let line = format!("{GRAPH} --checkpoint-rows 300");
    for moment in ["begun.json", "centre.npy", "links.usearch.partial", "links.usearch"] {
        kill_at(&space, &line, &format!("INDEX/graph.partial/{moment}"));
        if space.path("INDEX/graph").exists() {
            fs::remove_dir_all(space.path("INDEX/graph")).unwrap();
        }
        let now = files(&space.path("INDEX"));
        let kept = now.into_iter().filter(|(name, _)| !name.starts_with("graph")).collect();
        assert_same(&kept, &before, moment);
    }
    if space.path("INDEX/graph.partial/links.usearch").exists() {
        let other = format!("{GRAPH} --share 0.9");
        space.fails(1, &other, &["resuming INDEX/graph.partial", "\nhint: --force"]);
        let done = space.works(&line);
        let linked = done.err.split(" linked by").next().unwrap().rsplit(' ').next().unwrap();
        let linked: usize = linked.parse().unwrap();
        assert!(linked < 3000 && linked.is_multiple_of(300), "{}", done.err);
    } else {
        space.works(&line);
    }
    assert!(!space.path("INDEX/graph.partial").exists());
    space.works(&format!("{ASKED} --approximate --out run.trec"));
    assert_eq!(ranked(&space.read("run.trec")).len(), 6000);
}
