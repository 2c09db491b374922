//! Collapsed indexes and exports through the real binary: the scores of the index that they come
//! from, refusals of what they no longer hold, and the same bytes however often they were killed.
#![cfg(unix)]
#![allow(clippy::unwrap_used)] // a test that cannot set up its files should stop there

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use support::{Space, assert_same, files, passages, questions};

/// The scores of a run by query and passage.
fn scores(run: &[u8]) -> BTreeMap<(String, String), f64> {
    let line = |line: &str| {
        let columns: Vec<&str> = line.split(' ').collect();
        ((columns[0].to_owned(), columns[2].to_owned()), columns[4].parse().unwrap())
    };
    std::str::from_utf8(run).unwrap().lines().map(line).collect()
}

fn searched(space: &Space, rest: &str) -> BTreeMap<(String, String), f64> {
    space.works(&format!("xqg search --queries queries.jsonl --out r.trec --force {rest}"));
    scores(&space.read("r.trec"))
}

#[test]
fn a_collapsed_index_gives_the_scores_of_its_share() {
    let space = Space::indexed();
    let settings =
        ["--share 0.3", "--alpha 0.1 --reduce sum --renormalize no --lang-weights te=0.5,ar=0"];
    for setting in settings {
        let whole = searched(&space, &format!("--index INDEX {setting}"));
        for (dtype, tolerance) in [("f32", 2e-6), ("f16", 2e-3), ("int8", 2e-2)] {
            let line = "xqg index collapse --index INDEX --out SMALL --force";
            space.works(&format!("{line} --dtype {dtype} {setting}"));
            let small = searched(&space, "--index SMALL");
            assert!(whole.len() == 144 && whole.keys().eq(small.keys()), "{dtype}");
            for (key, score) in &whole {
                let off = (score - small[key]).abs();
                assert!(off <= tolerance, "{dtype} {setting} {key:?}: {off}");
            }
        }
    }
    assert!(!space.path("SMALL/units/00000/q0001.jsonl").exists());
    assert_eq!(searched(&space, "--index SMALL --share 0"), searched(&space, "--index SMALL"));
}

#[test]
fn a_collapsed_index_refuses_what_it_no_longer_holds() {
    let space = Space::indexed();
    space.works("xqg index collapse --index INDEX --share 0.3 --out SMALL");
    let words = [
        "using SMALL: expected share 0",
        "(share 0.3, mean, renormalised)",
        "\nhint: use the index that it was collapsed from",
    ];
    let search = "xqg search --index SMALL --queries queries.jsonl --out NEW";
    for setting in ["--share 0.3", "--alpha 1", "--lang-weights te=0", "--lang-match"] {
        space.fails(1, &format!("{search} {setting}"), &words);
    }
    space.fails(1, &format!("{search} --sweep 0:0.2:0.1"), &words);
    space.fails(1, "xqg index add --index SMALL --queries generated.jsonl", &words);
    space.fails(1, "xqg index collapse --index SMALL --share 0.1 --out NEW", &words);
    space.fails(1, "xqg index graph --index SMALL --share 0.1", &words);
    space.fails(1, "xqg index export --index SMALL --format npy --share 1 --out NEW", &words);
    let again = "xqg index collapse --index INDEX --out SMALL";
    space.fails(1, again, &["writing SMALL", "\nhint: --force replaces it"]);
    space.works("xqg index graph --index SMALL");
    space.works("xqg search --index SMALL --text river --approximate");
}

#[test]
fn without_texts_hits_show_docids() {
    let space = Space::indexed();
    space.works("xqg index collapse --index INDEX --share 0.3 --no-texts --out SMALL");
    assert!(!space.path("SMALL/units/00000/passages.jsonl").exists());
    let [full, bare] = ["INDEX --share 0.3", "SMALL"].map(|index| {
        let out = space.works(&format!("xqg search --index {index} --text river --json")).out;
        let hits = serde_json::from_str::<serde_json::Value>(&out).unwrap()["hits"].clone();
        hits.as_array().unwrap().clone()
    });
    for (full, bare) in full.iter().zip(&bare) {
        assert_eq!(full["docid"], bare["docid"]);
        assert_eq!((bare["title"].as_str(), bare["text"].as_str()), (Some(""), Some("")));
    }
}

#[test]
fn a_killed_collapse_goes_on_and_ends_with_the_same_bytes() {
    let space = Space::new();
    space.write("corpus.jsonl", passages(3000));
    space.write("generated.jsonl", questions(1000, |_| true));
    let line = "xqg index --model e5like --corpus corpus.jsonl --queries generated.jsonl";
    space.works(&format!("{line} --unit-rows 64 --out INDEX"));
    let line = "xqg index collapse --index INDEX --share 0.4 --dtype int8";
    space.works(&format!("{line} --out SOUND"));
    let line = format!("{line} --out NEW");
    let before = files(&space.path("INDEX"));
    for moment in ["begun.json", "units/00003/ids.txt", "units/00020/d.i8"] {
        let mut command = space.std_command(&line);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let (path, begun) = (space.path(&format!("NEW.partial/{moment}")), Instant::now());
        while !path.exists() && child.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < Duration::from_secs(60), "no {moment}");
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        if space.path("NEW").exists() {
            // The kill came too late: the next one is tried on a fresh run.
            fs::remove_dir_all(space.path("NEW")).unwrap();
        }
    }
    if space.path("NEW.partial").exists() {
        let other = line.replace("0.4", "0.1");
        space.fails(1, &other, &["resuming NEW.partial", "\nhint: --force"]);
    }
    space.works(&line);
    assert_same(&files(&space.path("NEW")), &files(&space.path("SOUND")), "killed");
    assert_same(&files(&space.path("INDEX")), &before, "the source");
    // Moved to its place, but the mark is still there.
    fs::rename(space.path("NEW"), space.path("MOVED")).unwrap();
    assert!(!space.path("NEW.partial").exists());
    space.works(&line);
    assert_same(&files(&space.path("NEW")), &files(&space.path("SOUND")), "once more");
}

#[test]
fn exports_hold_the_fused_vectors_in_order() {
    let space = Space::indexed();
    for (format, name) in [("npy", "v.npy"), ("faiss", "v.faiss")] {
        let line = format!("xqg index export --index INDEX --format {format} --out {name}");
        let done = space.works(&format!("{line} --share 0 --force"));
        assert!(done.err.contains("12 x 32, share 0"), "{}", done.err);
        space.fails(1, &line, &["hint: --force replaces it"]);
        let bytes = space.read(name);
        let vectors = &bytes[bytes.len() - 12 * 32 * 4..];
        let d = space.read("INDEX/units/00000/d.npy");
        assert!(d.ends_with(vectors), "{format}: share 0 is the passages' own embeddings");
        space.works(&format!("{line} --share 0.5 --force"));
        assert!(!d.ends_with(&space.read(name)[bytes.len() - 12 * 32 * 4..]), "{format}");
    }
    assert_eq!(space.read("v.ids"), space.read("INDEX/units/00000/ids.txt"));
    assert!(space.read("v.npy").starts_with(b"\x93NUMPY"));
    let bad = "xqg index export --index INDEX --format npy --out v2.ids";
    space.fails(2, bad, &["--out: expected a name that does not end in .ids"]);
    space.fails(2, "xqg index export --index INDEX --out x", &["--format"]);
}
