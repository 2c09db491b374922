//! `xqg train generator` with the real binary: a run that is killed ends with the same bytes, and bad
//! input is refused before the first step.
#![cfg(unix)]
#![allow(clippy::unwrap_used)] // a test that cannot set up its files should stop there

mod support;

use serde_json::{Value, json};
use support::Space;
use support::training::{TOPICS, kill_in_the_middle, log, losses};

const LINE: &str = "xqg train generator --config generator.toml";

const RUN: &str = "[decoder]\nlayers = 2\nheads = 4\nsource_dropout = 0.1\n[batch]\nquestions = 8\n\
    [run]\nsteps = 20\nsave_every = 5\nvalidate_every = 10\n";

/// A space with a tiny XLM-RoBERTa encoder, two tasks and settings that end with the given lines.
fn space(more: &str) -> Space {
    let space = Space::new();
    support::copy_model("bgem3", &space.path("xlmr"));
    let passage = |(i, topic): (usize, &&str)| {
        let row = json!({"_id": format!("p{i}"), "text": format!("all about the {topic}")});
        format!("{row}\n")
    };
    space.write("corpus.jsonl", TOPICS.iter().enumerate().map(passage).collect::<String>());
    let pair = |i: usize| {
        let (lang, text) = (["en", "fi"][i % 2], format!("what is the {} {i}?", TOPICS[i % 6]));
        format!("{}\n", json!({"docid": format!("p{}", i % 6), "lang": lang, "text": text}))
    };
    space.write("pairs.jsonl", (0..40).map(pair).collect::<String>());
    let same = |i: usize| {
        let text = format!("where is the {} {i}", TOPICS[i % 6]);
        format!("{}\n", json!({"source": text, "lang": "fi", "text": text}))
    };
    space.write("same.jsonl", (0..30).map(same).collect::<String>());
    configure(&space, more);
    space
}

fn configure(space: &Space, more: &str) {
    let settings = "encoder = \"xlmr\"\nout = \"RUN\"\nlangs = [\"en\", \"fi\"]\n\
        [[tasks]]\nname = \"pairs\"\nfiles = [\"pairs.jsonl\"]\ncorpus = \"corpus.jsonl\"\n\
        side = \"passage\"\nweight = 2.0\n\
        [[tasks]]\nname = \"same\"\nfiles = [\"same.jsonl\"]\nside = \"query\"\n\
        [data]\nheld_out = 0.2\n";
    space.write("generator.toml", format!("{settings}{more}"));
}

#[test]
fn a_killed_run_ends_with_the_same_bytes_and_writes_both_models() {
    let whole = killed_or_not(LINE);
    let config: Value = serde_json::from_slice(&whole.read("RUN/best/config.json")).unwrap();
    let (vocabulary, tags) = (config["vocab_size"].as_u64().unwrap(), &config["start_ids"]);
    assert_eq!(
        (tags["en"].as_u64(), tags["fi"].as_u64()),
        (Some(vocabulary - 2), Some(vocabulary - 1))
    );
    assert_eq!(config["encoder"]["dim"], config["hidden_size"]);
    let (full, small) = ("RUN/last/model.safetensors", "RUN/last-int8/model.safetensors");
    assert!(whole.read(small).len() * 2 < whole.read(full).len());
    let card = String::from_utf8(whole.read("RUN/best/README.md")).unwrap();
    assert!(card.contains("| pairs |") && card.contains("base_model: xlmr"), "{card}");
    assert!(whole.read("RUN/log.svg").starts_with(b"<svg"));
}

#[test]
fn so_it_does_with_the_operations_of_a_gpu() {
    killed_or_not(&format!("{LINE} --device cpu-composed"));
}

/// A run as a whole, after it was compared with one that was killed in its middle.
fn killed_or_not(line: &str) -> Space {
    let (whole, killed) = (space(RUN), space(RUN));
    whole.works(line);
    kill_in_the_middle(&killed, line, 10);
    let done = killed.works(line);
    assert!(done.err.contains("going on after step"), "{}", done.err);
    for file in ["last/model.safetensors", "best/model.safetensors", "last-int8/model.safetensors"]
    {
        let path = format!("RUN/{file}");
        assert!(whole.read(&path) == killed.read(&path), "{file} bit for bit");
    }
    assert_eq!(log(&whole), log(&killed));
    let losses = losses(&whole);
    assert!(losses[19] < losses[0], "it learns: {losses:?}");
    whole
}

#[test]
fn the_operations_of_a_gpu_take_the_same_steps() {
    let losses = |line: &str| -> Vec<f64> {
        let space = space(&RUN.replace("steps = 20", "steps = 4"));
        space.works(line);
        losses(&space)
    };
    let kernels = losses(LINE);
    let composed = losses(&format!("{LINE} --device cpu-composed"));
    for (a, b) in kernels.iter().zip(&composed) {
        assert!((a - b).abs() < 1e-4, "{kernels:?} {composed:?}");
    }
    let bf16 = losses(&format!("{LINE} --device cpu-composed --precision bf16"));
    assert!(bf16 != composed && (bf16[0] - composed[0]).abs() < 0.05, "{bf16:?} {composed:?}");
}

#[test]
fn bad_settings_and_rows_are_refused_and_another_run_is_not_overwritten() {
    let space = space("[run]\nsteps = 1\n[decoder]\nheads = 4\n");
    for (more, words) in [
        ("[decoder]\nheds = 3\n", ["generator.toml", "heds"]),
        ("[decoder]\nheads = 5\n", ["decoder.heads", "divides"]),
        ("precision = \"f8\"\n", ["data.precision", "int8"]),
    ] {
        configure(&space, more);
        space.fails(1, LINE, &words);
    }
    configure(&space, "[run]\nsteps = 1\n[decoder]\nheads = 4\n");
    let good = space.read("pairs.jsonl");
    for (row, word) in [
        (json!({"docid": "p99", "lang": "fi", "text": "x"}), "p99"),
        (json!({"docid": "p1", "lang": "te", "text": "x"}), "langs"),
        (json!({"docid": "p1", "lang": "fi"}), "`text`"),
    ] {
        space.write("pairs.jsonl", format!("{row}\n"));
        let done = space.run(LINE);
        assert!(done.code == Some(1) && done.err.contains(word), "{word}: {}", done.err);
    }
    space.write("pairs.jsonl", good);
    space.works(LINE);
    configure(&space, "[run]\nsteps = 2\n[decoder]\nheads = 4\n");
    let done = space.run(LINE);
    assert!(done.code == Some(1) && done.err.contains("another run"), "{}", done.err);
    space.works(&format!("{LINE} --force"));
}

#[test]
fn a_run_ends_early_where_held_out_questions_gain_nothing_more() {
    let space = space(
        "[decoder]\nlayers = 1\nheads = 4\n[batch]\nquestions = 8\n[optimiser]\nlearning_rate = 1e-12\n\
         [run]\nsteps = 40\nvalidate_every = 2\npatience = 3\n",
    );
    let done = space.works(LINE);
    let steps = losses(&space).len();
    assert!((8..40).contains(&steps) && steps.is_multiple_of(2), "{steps} steps: {}", done.err);
    let best = log(&space).into_iter().filter_map(|row| row["held-out loss"].as_f64());
    let best: Vec<f64> = best.collect();
    let least = best.iter().copied().fold(f64::INFINITY, f64::min);
    let at = best.iter().position(|loss| *loss == least).unwrap();
    assert_eq!(best.len() - 1 - at, 3, "three after the best: {best:?}");
}

/// The settings of [`space`] for the tiny mT5 in place of a decoder over an encoder.
fn configure_t5(space: &Space, more: &str) {
    configure(space, more);
    let settings = String::from_utf8(space.read("generator.toml")).unwrap();
    space.write("generator.toml", settings.replace("encoder = \"xlmr\"", "model = \"mt5\""));
}

#[test]
fn a_t5_learns_is_killed_and_writes_questions() {
    let run = "[batch]\nquestions = 8\nat_once = 3\n[optimiser]\nlearning_rate = 3e-3\n\
        [run]\nsteps = 20\nsave_every = 5\nvalidate_every = 10\n";
    let begin = || {
        let space = space("");
        support::copy_model("generator-mt5", &space.path("mt5"));
        configure_t5(&space, run);
        space
    };
    let (whole, killed) = (begin(), begin());
    whole.works(LINE);
    kill_in_the_middle(&killed, LINE, 10);
    killed.works(LINE);
    for file in ["last/model.safetensors", "best/model.safetensors"] {
        let path = format!("RUN/{file}");
        assert!(whole.read(&path) == killed.read(&path), "{file} bit for bit");
    }
    assert_eq!(log(&whole), log(&killed));
    let losses = losses(&whole);
    assert!(losses[19] < losses[0] * 0.8, "it learns: {losses:?}");
    let card = String::from_utf8(whole.read("RUN/best/README.md")).unwrap();
    assert!(card.contains("| pairs |") && card.contains("base_model: mt5"), "{card}");
    let line = "xqg generate --corpus corpus.jsonl --langs en,fi -n 2 --max-tokens 9";
    let write = |model: &str| {
        whole.works(&format!("{line} --model {model} --out q.jsonl --force"));
        whole.read("q.jsonl")
    };
    assert!(write("RUN/best") != write("mt5"), "and writes with what it learned");
}

#[test]
fn a_t5_is_trained_alone_and_with_its_whole_softmax() {
    let space = space("");
    support::copy_model("generator-mt5", &space.path("mt5"));
    let refused = |words: [&str; 2]| {
        space.fails(1, LINE, &words);
    };
    configure_t5(&space, "[loss]\noutput = \"shortlist\"\n");
    refused(["loss.output", "full, for a T5"]);
    let settings = String::from_utf8(space.read("generator.toml")).unwrap();
    space.write("generator.toml", format!("encoder = \"xlmr\"\n{settings}"));
    refused(["either `encoder`", "both"]);
    space.write("generator.toml", settings.replace("model = \"mt5\"\n", ""));
    refused(["either `encoder`", "neither"]);
    configure_t5(&space, "");
    let done = space.run(&format!("{LINE} --device cpu-compose"));
    assert!(done.code == Some(2) && done.err.contains("--device"), "{}", done.err);
    let settings = String::from_utf8(space.read("generator.toml")).unwrap();
    space.write("generator.toml", settings.replace("\"mt5\"", "\"xlmr\""));
    refused(["xlmr/config.json", "model_type"]);
}
