//! `xqg train retriever` with the real binary: a run that is killed ends with the same bytes, what it
//! writes is a model, and bad input is refused before anything is lost.
#![cfg(unix)]
#![allow(clippy::unwrap_used)] // a test that cannot set up its files should stop there

mod support;

use serde_json::{Value, json};
use support::Space;
use support::training::{TOPICS, kill_in_the_middle, log, losses};

/// Rows of Tevatron's shape: query i asks for one of six topics.
fn rows(count: usize) -> String {
    let passage = |topic: &str, id: String| json!({"docid": id, "title": topic, "text": format!("all about the {topic} and more")});
    let row = |i: usize| {
        let (topic, other) = (TOPICS[i % 6], TOPICS[(i + 1 + i % 4) % 6]);
        let query = format!("what is the {topic} number {i}");
        let row = json!({
            "query_id": format!("q{i}"), "query": query, "answers": [topic],
            "positive_passages": [passage(topic, format!("p{i}"))],
            "negative_passages": [passage(other, format!("n{i}"))],
        });
        format!("{row}\n")
    };
    (0..count).map(row).collect()
}

/// A space with rows and a `train.toml` that ends with the given lines.
fn space(more: &str) -> Space {
    let space = Space::new();
    space.write("rows.jsonl", rows(60));
    configure(&space, more);
    space
}

fn configure(space: &Space, more: &str) {
    let settings = "model = \"e5like\"\nout = \"RUN\"\n[data]\ntrain = [\"rows.jsonl\"]\n";
    space.write("train.toml", format!("{settings}{more}"));
}

const SHORT: &str = "[batch]\nqueries = 6\nquery_tokens = 16\npassage_tokens = 24\n\
    [run]\nsteps = 20\nsave_every = 5\nvalidate_every = 10\n[optimiser]\nlearning_rate = 1e-3\n";

const LINE: &str = "xqg train retriever --config train.toml";

#[test]
fn twenty_steps_are_ten_a_kill_and_ten_more() {
    twenty_steps(LINE);
}

#[test]
fn so_they_are_with_the_operations_of_a_gpu() {
    twenty_steps(&format!("{LINE} --device cpu-composed"));
}

fn twenty_steps(line: &str) {
    let (whole, killed) = (space(SHORT), space(SHORT));
    whole.works(line);
    kill_in_the_middle(&killed, line, 10);
    let done = killed.works(line);
    assert!(done.err.contains("going on after step"), "{}", done.err);
    for file in ["last/model.safetensors", "state/moments-0.safetensors", "best/model.safetensors"]
    {
        let file = format!("RUN/{file}");
        assert!(whole.read(&file) == killed.read(&file), "{file} differs");
    }
    assert_eq!(log(&whole), log(&killed));
    assert_eq!(log(&whole).iter().filter(|row| row["loss"].is_number()).count(), 20);
}

#[test]
fn training_learns_and_gives_a_model() {
    let space = space(SHORT);
    let done = space.works(LINE);
    assert!(done.out.ends_with("RUN/best\n"), "{}", done.out);
    let losses = losses(&space);
    assert!(losses[15..].iter().sum::<f64>() < 0.8 * losses[..5].iter().sum::<f64>(), "{losses:?}");
    space.works("xqg encode --model RUN/last --queries queries.jsonl --out VECTORS");
    let old = space.read("e5like/tokenizer.json");
    assert!(space.read("RUN/last/tokenizer.json") == old, "the tokenizer comes along");
    let card = String::from_utf8(space.read("RUN/best/README.md")).unwrap();
    assert!(card.contains("base_model: e5like") && card.contains("R@2kt"), "{card}");
    assert!(space.read("RUN/log.svg").starts_with(b"<svg"));
}

/// A corpus of the topics and questions in two languages, and settings to learn them.
fn corpus_space(more: &str) -> Space {
    let space = Space::new();
    let passage = |(i, topic): (usize, &&str)| {
        let text = format!("all about the {topic} and answer{i}");
        format!("{}\n", json!({"_id": format!("p{i}"), "title": topic, "text": text}))
    };
    space.write("topics.jsonl", TOPICS.iter().enumerate().map(passage).collect::<String>());
    let question = |i: usize| {
        let (lang, answer) = (["fi", "ja"][i % 2], format!("answer{}", i % 6));
        let text = format!("mikä on {} {i}", TOPICS[i % 6]);
        let row =
            json!({"id": format!("q{i}"), "question": text, "answers": [answer], "lang": lang});
        format!("{row}\n")
    };
    space.write("asked.jsonl", (0..40).map(question).collect::<String>());
    let pair = |i: usize| format!("mikä on {} {i}\twhat is {}\n", TOPICS[i % 6], TOPICS[i % 6]);
    space.write("fi-en.tsv", (0..60).map(pair).collect::<String>());
    space.write("dev.jsonl", question(3));
    let settings = "model = \"e5like\"\nout = \"RUN\"\n[data]\nheld_out = 0.2\n[corpus]\n\
        texts = \"topics.jsonl\"\nquestions = [\"asked.jsonl\"]\ntranslations = [\"fi-en.tsv\"]\n\
        leave_out = [\"dev.jsonl\"]\nanswer_bonus = 1.0\nanswer_prior = 0.5\nanswer_weight = 2.0\n";
    space.write("train.toml", format!("{settings}{more}"));
    space
}

#[test]
fn queries_learn_against_a_corpus_whose_index_stays() {
    let short = SHORT.replace("passage_tokens = 24\n", "");
    let space = corpus_space(&short);
    space.works("xqg index --model e5like --corpus topics.jsonl --query-max-tokens 16 --out BASE");
    let done = space.works(LINE);
    assert!(done.err.contains("held out"), "{}", done.err);
    assert!(log(&space).iter().any(|row| row["R@2kt"].is_number()), "the measure is logged");
    let losses = losses(&space);
    assert!(losses[15..].iter().sum::<f64>() < losses[..5].iter().sum::<f64>(), "{losses:?}");
    space.works("xqg search --index BASE --model RUN/last --text castle --json");
    let wrong = space.run("xqg index --model RUN/last --corpus topics.jsonl --out OTHER");
    assert!(wrong.err.contains("queries only") && wrong.err.contains("hint:"), "{}", wrong.err);
    let again = corpus_space(&short);
    again.works(LINE);
    let file = "RUN/last/model.safetensors";
    assert!(space.read(file) == again.read(file), "the same bytes again");
}

#[test]
fn a_corpus_and_rows_together_are_refused() {
    let space = corpus_space("[loss]\nalignment = 0.5\n");
    let done = space.run(LINE);
    assert!(done.code == Some(1) && done.err.contains("alignment"), "{}", done.err);
}

#[test]
fn every_setting_trains() {
    for more in [
        "[encoder]\nuntied = true\nfreeze_embeddings = true\n",
        "[loss]\nfalse_negative_margin = 0.1\nalignment = 0.5\ndistil = \"kl\"\n",
        "[loss]\ndistil = \"margin-mse\"\ncontrastive = 0.5\n",
    ] {
        let space = space("");
        let taught = rows(60).replace("\"docid\"", "\"score\":-1.5,\"docid\"");
        space.write("rows.jsonl", taught);
        configure(
            &space,
            &format!(
                "{more}[batch]\nqueries = 4\nchunk_tokens = 40\ncheckpoint_layers = true\n\
             accumulate = 2\n[run]\nsteps = 2\n"
            ),
        );
        space.works(LINE);
    }
}

#[test]
fn chunks_and_accumulation_do_not_change_the_loss() {
    let one = |batch: &str| {
        let space = space(&format!("[batch]\nqueries = 8\n{batch}[run]\nsteps = 4\n"));
        space.works(LINE);
        log(&space)[0]["loss"].as_f64().unwrap()
    };
    let (whole, chunked) = (one(""), one("chunk_tokens = 30\n"));
    assert!((whole - chunked).abs() < 1e-5, "{whole} {chunked}");
}

#[test]
fn the_operations_of_a_gpu_take_the_same_steps() {
    let settings = SHORT.replace("steps = 20", "steps = 4");
    let more = "[encoder]\nuntied = true\ndropout = 0.1\n";
    let losses = |line: &str| -> Vec<f64> {
        let space = space(&format!("{more}{settings}"));
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
fn a_device_that_is_not_there_is_named() {
    let space = space("[run]\nsteps = 1\n");
    let done = space.run(&format!("{LINE} --device cuda:7"));
    assert_eq!(done.code, Some(1), "{}", done.err);
    for word in ["cuda:7", "expected", "found", "\nhint:"] {
        assert!(done.err.contains(word), "{}", done.err);
    }
    assert!(!space.path("RUN").exists(), "nothing was begun");
    let done = space.run(&format!("{LINE} --device gpu"));
    assert!(done.code == Some(2) && done.err.contains("cpu, cuda or cuda:NUMBER"), "{}", done.err);
    let done = space.run(&format!("{LINE} --precision bf16"));
    assert!(done.code == Some(1) && done.err.contains("--precision"), "{}", done.err);
}

#[test]
fn bad_settings_and_rows_are_refused_before_the_first_step() {
    let space = space("");
    for (more, words) in [
        ("[batch]\nquerys = 3\n", ["train.toml", "querys"]),
        ("[batch]\nmemory_mb = 100\n", ["memory", "hint:"]),
        ("[batch]\npassage_tokens = 4000\n", ["passage_tokens", "positions"]),
        ("[optimiser]\nlearning_rate = -1\n", ["learning_rate", "above 0"]),
    ] {
        configure(&space, more);
        space.fails(1, LINE, &words);
    }
    configure(&space, "[loss]\ncontrastive = 0.0\ndistil = \"kl\"\n");
    space.fails(1, LINE, &["loss.distil", "xqg teach"]);
    configure(&space, "");
    space.write("rows.jsonl", r#"{"query_id":"q","query":"x","positive_passages":[]}"#);
    assert!(space.run(LINE).err.contains("at least one positive"));
    let config = String::from_utf8(space.read("e5like/config.json")).unwrap();
    space.write("e5like/config.json", config.replace("\"bert\"", "\"t5\""));
    assert!(space.run(LINE).err.contains("bert or xlm-roberta"));
}

/// The step that the saved state is from.
fn saved(space: &Space) -> u64 {
    let state: Value = serde_json::from_slice(&space.read("RUN/state/state.json")).unwrap();
    state["progress"]["step"].as_u64().unwrap()
}

#[test]
fn a_loss_that_is_no_number_stops_names_the_batch_and_keeps_the_last_save() {
    // Weight decay alone makes numbers a hundred times as great each step.
    let settings = SHORT.replace("1e-3", "1e4").replace("save_every = 5", "save_every = 1");
    let space = space(&settings.replace("steps = 20", "steps = 40"));
    for line in [LINE.to_owned(), format!("{LINE} --device cpu-composed --force")] {
        let done = space.run(&line);
        assert_eq!(done.code, Some(1), "{}", done.err);
        for word in ["finite loss", "queries q", "hint:"] {
            assert!(done.err.contains(word), "{}", done.err);
        }
        // What step N makes is saved when step N + 1 has seen that it gives numbers.
        let broken = format!("training step {}:", saved(&space) + 2);
        assert!(saved(&space) > 1 && done.err.contains(&broken), "{}: {}", saved(&space), done.err);
    }
    let kept = support::files(&space.path("RUN/state"));
    let again = space.run(LINE);
    assert!(
        again.err.contains(&format!("going on after step {} ", saved(&space))),
        "{}",
        again.err
    );
    assert!(again.err.contains("finite loss"), "{}", again.err);
    support::assert_same(&support::files(&space.path("RUN/state")), &kept, "the saved state");
}

#[test]
fn a_batch_that_cannot_fit_names_a_size_that_does() {
    let space = space("");
    let batch = |more: &str| {
        let text = format!(
            "[batch]\nqueries = 50\npassages = 4\nmemory_mb = 205\n{more}[run]\nsteps = 1\n"
        );
        configure(&space, &text);
    };
    batch("");
    let done = space.run(LINE);
    assert_eq!(done.code, Some(1), "{}", done.err);
    assert!(done.err.contains("at most 205 MB") && !space.path("RUN").exists(), "{}", done.err);
    let (_, hint) = done.err.split_once("hint: batch.chunk_tokens = ").unwrap();
    let tokens = hint.split(' ').next().unwrap();
    batch(&format!("chunk_tokens = {tokens}\n"));
    space.works(LINE);
}

#[test]
fn a_checkpoint_of_another_shape_is_named_with_the_tensor() {
    let space = space("[run]\nsteps = 1\n");
    let config = String::from_utf8(space.read("e5like/config.json")).unwrap();
    let value: Value = serde_json::from_str(&config).unwrap();
    for (key, words) in [
        ("num_hidden_layers", ["encoder.layer.", "weight"]),
        ("vocab_size", ["word_embeddings", "expected"]),
    ] {
        let mut other = value.clone();
        other[key] = json!(other[key].as_u64().unwrap() + 1);
        space.write("e5like/config.json", other.to_string());
        let done = space.run(LINE);
        assert_eq!(done.code, Some(1), "{}", done.err);
        words.iter().for_each(|word| assert!(done.err.contains(word), "{key}: {}", done.err));
        assert!(!space.path("RUN").exists(), "nothing was begun");
    }
}

#[test]
fn another_run_in_the_same_folder_is_not_overwritten() {
    let space = space("[run]\nsteps = 1\n");
    space.works(LINE);
    let before = space.read("RUN/last/model.safetensors");
    configure(&space, "[run]\nsteps = 1\nseed = 7\n");
    let done = space.run(LINE);
    assert!(done.code == Some(1) && done.err.contains("another run"), "{}", done.err);
    assert!(space.read("RUN/last/model.safetensors") == before);
    // As many rows, of which one says something else.
    configure(&space, "[run]\nsteps = 1\n");
    space.write("rows.jsonl", rows(60).replace("what is the river number 0", "what is a river"));
    let done = space.run(LINE);
    assert!(done.code == Some(1) && done.err.contains("another run"), "{}", done.err);
    space.works(&format!("{LINE} --force"));
}
