//! `xqg generate` and `xqg index --generate` with a network, through the real binary: a tiny mT5 with
//! only a `spiece.model`, a tiny T5 with PyTorch's weights, and a shared-encoder generator.
#![allow(clippy::unwrap_used)] // a test that cannot set up its files should stop there

mod support;

use serde_json::{Value, json};
use support::{Space, copy_model};

const LINE: &str = "xqg generate --corpus corpus.jsonl -n 2 --max-tokens 8 --precision f32";

fn rows(space: &Space, name: &str) -> Vec<Value> {
    let text = String::from_utf8(space.read(name)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A space with the tiny generators `mt5`, `t5` and `shared`, the last made for `e5like`.
fn space() -> Space {
    let space = Space::new();
    for name in ["mt5", "t5"] {
        copy_model(&format!("generator-{name}"), &space.path(name));
    }
    copy_model("generator", &space.path("shared"));
    space.works("xqg encode --model e5like --corpus corpus.jsonl --precision f32 --out P");
    let manifest: Value = serde_json::from_slice(&space.read("P/manifest.json")).unwrap();
    let mut config: Value = serde_json::from_slice(&space.read("shared/config.json")).unwrap();
    config["encoder"] = manifest["contract"].clone();
    space.write("shared/config.json", config.to_string());
    space
}

/// What every generator must hold, whatever it writes.
fn check(space: &Space, line: &str) {
    let done = space.works(&format!("{line} --out a.jsonl --json --force"));
    let summary: Value = serde_json::from_str(&done.out).unwrap();
    let rows = rows(space, "a.jsonl");
    assert!(rows.len() > 12 && rows.len() <= 12 * 2 * 2, "{line}: {}", rows.len());
    assert_eq!(summary["counts"]["passages"], 12);
    for row in &rows {
        assert!(["fi", "te"].contains(&row["lang"].as_str().unwrap()));
        assert!(row["logprob"].as_f64().unwrap() < 0.0 && row["text"] != "");
    }
    for more in ["--threads 1", "--unit-passages 1 --threads 2"] {
        space.works(&format!("{line} --out b.jsonl {more}"));
        assert!(space.read("b.jsonl") == space.read("a.jsonl"), "{more}");
        std::fs::remove_file(space.path("b.jsonl")).unwrap();
    }
    for part in 1..=2 {
        space.works(&format!("{line} --out p{part} --unit-passages 6 --shard {part}/2 --force"));
    }
    let parts = [space.read("p1"), space.read("p2")].concat();
    assert!(parts == space.read("a.jsonl"), "parts");
    space.works(&format!("{line} --out c.jsonl --seed 2 --force"));
    assert!(space.read("c.jsonl") != space.read("a.jsonl"), "the seed decides");
    for more in ["--greedy -n 1", "--beam 3", "--top-p 0.9 --temperature 0.7", "--precision int8"] {
        let line = line.replace("-n 2", if more.contains("-n") { "" } else { "-n 2" });
        let line = line
            .replace("--precision f32", if more.contains("int8") { "" } else { "--precision f32" });
        space.works(&format!("{line} --out d.jsonl {more} --force"));
        assert!(space.read("d.jsonl") != space.read("a.jsonl"), "{more}");
    }
}

#[test]
fn a_t5_writes_questions() {
    let space = space();
    for model in ["mt5", "t5"] {
        check(&space, &format!("{LINE} --model {model} --langs fi,te --shortlist off"));
    }
    let line = format!("{LINE} --model mt5 --langs fi,ru");
    space.works(&format!("{line} --out all.jsonl --shortlist off"));
    space.works(&format!("{line} --out own.jsonl"));
    let cyrillic = |c: char| ('а'..='ё').contains(&c);
    let has = |name: &str, lang: &str| {
        let rows = rows(&space, name);
        let own: Vec<&str> = rows
            .iter()
            .filter(|r| r["lang"] == lang)
            .map(|r| r["text"].as_str().unwrap())
            .collect();
        own.concat().chars().any(cyrillic)
    };
    assert!(has("all.jsonl", "fi") && has("own.jsonl", "ru") && !has("own.jsonl", "fi"));
}

#[test]
fn laid_out_weights_are_kept_beside_the_model() {
    let space = space();
    let line = format!("{LINE} --model mt5 --langs fi,te");
    space.works(&format!("{line} --out a.jsonl"));
    for name in ["b.jsonl", "c.jsonl"] {
        let mut command = space.command(&format!("{line} --out {name}"));
        command.env_remove("XQG_WEIGHT_CACHE");
        support::succeed(command, name);
        assert!(space.read(name) == space.read("a.jsonl"), "{name}");
        let mut kept = std::fs::read_dir(space.path("mt5/.xqg")).unwrap();
        assert!(
            kept.any(|e| e.unwrap().file_name().to_string_lossy().starts_with("generator-f32"))
        );
    }
}

#[test]
fn a_shared_encoder_generator_writes_questions() {
    let space = space();
    check(&space, &format!("{LINE} --model shared --encoder e5like --langs fi,te"));
    let line = "xqg index --generate --model e5like --generator shared --corpus corpus.jsonl \
                --langs fi,te -n 2 --max-tokens 8 --precision f32";
    space.works(&format!("{line} --out INDEX"));
    let apart = "xqg index --model e5like --corpus corpus.jsonl --queries a.jsonl --precision f32";
    space.works(&format!("{apart} --out APART"));
    for run in ["INDEX", "APART"] {
        let search = "--queries queries.jsonl --share 0.4";
        space.works(&format!("xqg search --index {run} {search} --out {run}.trec"));
    }
    assert!(space.read("INDEX.trec") == space.read("APART.trec"), "one go or two, the same index");
}

#[test]
fn an_index_by_a_t5_in_one_go() {
    let space = space();
    let line = "xqg index --generate --model e5like --generator t5 --corpus corpus.jsonl \
                --langs te -n 2 --max-tokens 8";
    space.works(&format!("{line} --out INDEX"));
    space.works("xqg search --index INDEX --queries queries.jsonl --out run.trec");
}

#[test]
fn what_is_refused() {
    let space = space();
    for (code, line, words) in [
        (2, "--model mt5 --langs xx", vec!["ISO 639 language code", "xx"]),
        (2, "--model shared --encoder e5like --langs ja", vec!["ar, fi, te", "found ja"]),
        (1, "--model mt5 --langs te --max-tokens 2000", vec!["1 to 1024, found 2000"]),
        (1, "--model mt5 --langs te --passage-max-tokens 99999", vec!["at most 8192", "hint:"]),
        (1, "--model e5like --langs te", vec!["model_type xqg-decoder, t5 or mt5", "found bert"]),
        (2, "--model mt5 --langs te --beam 1", vec!["--beam", "2", "hint:"]),
    ] {
        let line = LINE.replace(
            "--max-tokens 8",
            if line.contains("--max-t") { "" } else { "--max-tokens 8" },
        ) + " --out n.jsonl "
            + line;
        space.fails(code, &line, &words);
    }
    let mut config: Value = serde_json::from_slice(&space.read("shared/config.json")).unwrap();
    config["encoder"]["weights"] = json!("0".repeat(64));
    space.write("shared/config.json", config.to_string());
    let line = format!("{LINE} --model shared --encoder e5like --langs te --out n.jsonl");
    space.fails(1, &line, &["* weights", "000000000000", "hint:"]);
    let config = String::from_utf8(space.read("mt5/config.json")).unwrap();
    space.write("mt5/config.json", config.replace("gated-gelu", "gated-silu"));
    let line = format!("{LINE} --model mt5 --langs te --out n.jsonl");
    space.fails(1, &line, &["feed_forward_proj relu or gated-gelu, found gated-silu"]);
    space.write("mt5/config.json", config);
    std::fs::remove_file(space.path("mt5/spiece.model")).unwrap();
    space.fails(1, &line, &["tokenizer.json"]);
}

#[test]
fn long_and_blank_passages() {
    let space = space();
    let long = json!({"_id": "long", "title": "Mill", "text": "the old mill ".repeat(4000)});
    let blank = json!({"_id": "blank", "title": " ", "text": ""});
    let short = json!({"_id": "short", "text": "a river"});
    space.write("corpus.jsonl", format!("{long}\n{blank}\n{short}\n"));
    for model in ["mt5", "shared --encoder e5like"] {
        let line = format!("{LINE} --model {model} --langs te --out q.jsonl");
        space.fails(1, &line, &["line 2: expected a `title` or a `text`"]);
        let done = space.works(&format!("{line} --skip-bad --json"));
        let summary: Value = serde_json::from_str(&done.out).unwrap();
        assert_eq!(summary["counts"]["cut_passages"], 1, "{summary}");
        assert_eq!(summary["counts"]["passages"], 2);
        assert!(done.err.contains("1 of 2 "), "{}", done.err);
        std::fs::remove_file(space.path("q.jsonl")).unwrap();
    }
}

/// Three training rows, with a language or without.
fn training_rows(lang: bool) -> String {
    let texts =
        ["a river", "the old castle by the sea", "it is", "one of two", "people of the north"];
    let passage = |i: usize| json!({"docid": format!("p{i}"), "text": texts[i]});
    let row = |i: usize| {
        let mut row = json!({
            "query_id": format!("q{i}"), "query": format!("mikä on joki {i}?"),
            "positive_passages": [passage(i)], "negative_passages": [passage(i + 1), passage(i + 2)],
        });
        if lang {
            row["lang"] = json!("fi");
        }
        format!("{row}\n")
    };
    (0..3).map(row).collect()
}

#[test]
fn a_generator_teaches_a_retriever() {
    let space = space();
    space.write("rows.jsonl", training_rows(true));
    for (model, more) in [("mt5", ""), ("t5", ""), ("shared", " --encoder e5like")] {
        let line = format!("xqg teach --model {model}{more} --rows rows.jsonl --precision f32");
        let done = space.works(&format!("{line} --out taught.jsonl --json --force"));
        let summary: Value = serde_json::from_str(&done.out).unwrap();
        assert_eq!(
            (&summary["counts"]["passages"], &summary["counts"]["judged"]),
            (&9.into(), &3.into())
        );
        let rows = rows(&space, "taught.jsonl");
        let scores = |row: &Value| -> Vec<f64> {
            let of = |key: &str| row[key].as_array().unwrap().clone();
            let all = [of("positive_passages"), of("negative_passages")].concat();
            all.iter().map(|passage| passage["score"].as_f64().unwrap()).collect()
        };
        for row in &rows {
            let scores = scores(row);
            assert!(scores.len() == 3 && scores.iter().all(|s| *s < 0.0), "{model}: {scores:?}");
            assert!(scores[0] != scores[1], "{model}: passages differ");
        }
        let first = rows.iter().map(&scores).filter(|s| s[0] > s[1].max(s[2])).count();
        assert_eq!(summary["counts"]["positive_first"], first, "{model}");
        space.works(&format!("{line} --out again.jsonl --unit-rows 1 --threads 1 --force"));
        assert!(space.read("again.jsonl") == space.read("taught.jsonl"), "{model}");
    }
    let settings = "model = \"e5like\"\nout = \"RUN\"\n[data]\ntrain = [\"taught.jsonl\"]\nheld_out = 0.0\n\
        [batch]\nqueries = 3\npassages = 3\n[loss]\ncontrastive = 0.0\ndistil = \"kl\"\n[run]\nsteps = 3\n";
    space.write("train.toml", settings);
    space.works("xqg train retriever --config train.toml");
    space.write("rows.jsonl", training_rows(false));
    let line = "xqg teach --model mt5 --rows rows.jsonl --out other.jsonl";
    space.fails(2, line, &["`lang`", "q0", "hint: --lang"]);
    space.works(&format!("{line} --lang fi"));
}
