//! Models and indexes that are incomplete or damaged: the file at fault is named, nothing panics,
//! nothing is written.
#![allow(clippy::unwrap_used)] // a test that cannot set up its files should stop there

mod support;

use std::fs;

use support::{Space, copy_model};

const ENCODE: &str = "xqg encode --queries queries.jsonl --out NEW";

/// What is done to a file of a folder.
enum Damage {
    Gone,
    /// Only so many bytes are left.
    Cut(usize),
    /// A piece of the text is another.
    Edited(&'static str, &'static str),
    /// All of it is this.
    Is(&'static str),
}

use Damage::{Cut, Edited, Gone, Is};

impl Damage {
    fn inflict(&self, space: &Space, name: &str) {
        let path = space.path(name);
        match self {
            Gone => fs::remove_file(path).unwrap(),
            Cut(left) => fs::write(path, &space.read(name)[..*left]).unwrap(),
            Is(text) => fs::write(path, text).unwrap(),
            Edited(from, to) => {
                let text = fs::read_to_string(&path).unwrap();
                assert!(text.contains(from), "{name} holds no {from}");
                fs::write(path, text.replace(from, to)).unwrap();
            }
        }
    }
}

/// Damages a file, expects the command lines to fail with the words, and mends the file.
fn damaged(space: &Space, name: &str, damage: &Damage, lines: &[&str], word: &str) {
    let sound = space.read(name);
    damage.inflict(space, name);
    for line in lines {
        let message = space.fails(1, line, &["error: ", word]);
        let file = name.rsplit('/').next().unwrap();
        let by_folder = message.contains("opening checkpoint") || message.contains("--pooling");
        assert!(message.contains(file) || by_folder, "{name} is not named in\n{message}");
    }
    fs::write(space.path(name), sound).unwrap();
}

#[test]
fn model_folders_without_what_they_need() {
    let space = Space::new();
    let cases = [
        ("tokenizer.json", Gone, "hint: the folder needs a tokenizer.json"),
        ("tokenizer.json", Cut(500), "expected "),
        ("tokenizer.json", Is("{}"), "expected "),
        ("config.json", Gone, "No such file"),
        ("config.json", Cut(40), "expected "),
        (
            "config.json",
            Edited("\"bert\"", "\"t5\""),
            "expected model_type bert or xlm-roberta, found t5",
        ),
        ("config.json", Edited("\"hidden_size\": 32", "\"hidden_size\": 0"), "expected "),
        ("model.safetensors", Gone, "expected model.safetensors or pytorch_model.bin"),
        ("model.safetensors", Cut(50_000), "hint: the file is damaged or was cut short"),
        ("model.safetensors", Cut(5), "hint: the file is damaged or was cut short"),
        ("model.safetensors", Cut(0), "hint: the file is damaged or was cut short"),
        ("model.safetensors", Is("version https://git-lfs.github.com/spec/v1\n"), "git lfs pull"),
        ("modules.json", Gone, "hint: say --pooling mean or --pooling cls"),
        ("modules.json", Cut(20), "expected "),
    ];
    for (name, damage, word) in cases {
        let name = format!("e5like/{name}");
        damaged(&space, &name, &damage, &[&format!("{ENCODE} --model e5like")], word);
    }
    space.works(&format!("{ENCODE} --model e5like"));
}

#[test]
fn weights_of_another_shape() {
    let space = Space::new();
    let narrow = Edited("\"intermediate_size\": 64", "\"intermediate_size\": 48");
    narrow.inflict(&space, "e5like/config.json");
    let words = ["reading tensor `", "model.safetensors: expected shape [48", ", found [64"];
    space.fails(1, &format!("{ENCODE} --model e5like"), &words);
    Edited("\"intermediate_size\": 48", "\"intermediate_size\": 64")
        .inflict(&space, "e5like/config.json");
    Edited("\"vocab_size\": 280", "\"vocab_size\": 281").inflict(&space, "e5like/config.json");
    let words = ["expected shape [281, 32], found [280, 32]"];
    space.fails(1, &format!("{ENCODE} --model e5like"), &words);
}

#[test]
fn shards_that_are_missing_or_cut() {
    let space = Space::new();
    copy_model("sharded", &space.path("sharded"));
    let settings = "--pooling mean --query-max-tokens 32 --passage-max-tokens 32";
    let line = format!("{ENCODE} --model sharded {settings}");
    let second = "model-00002-of-00002.safetensors";
    let index = "model.safetensors.index.json";
    let cases = [
        (second, Gone, "expected the file, found none\nhint: "),
        (second, Cut(9000), "hint: the file is damaged or was cut short"),
        (index, Cut(100), "reading shard index: "),
        (index, Edited("model-00002", "../model-00002"), "expected plain file names, found `../"),
    ];
    for (name, damage, word) in cases {
        damaged(&space, &format!("sharded/{name}"), &damage, &[&line], word);
    }
    space.works(&line);
    let words = ["expected at most ", "found 4000\nhint: --query-max-tokens"];
    let line = format!("{ENCODE} --model sharded --pooling mean --query-max-tokens 4000 --force");
    space.fails(1, &line, &words);
}

#[test]
fn an_index_with_damaged_files() {
    let space = Space::indexed();
    let lines = [
        "xqg search --index INDEX --text river",
        "xqg search --index INDEX --queries queries.jsonl --out NEW",
    ];
    let bytes = "the file is damaged: restore it, or build the whole folder again with --force";
    for (name, damage, word) in [
        ("d.npy", Cut(1000), bytes),
        ("d.npy", Cut(100), "expected a .npy file, version 1, C order"),
        ("d.npy", Cut(0), "expected a .npy file, version 1, C order"),
        ("d.npy", Gone, "No such file"),
        ("q0001.sums.npy", Cut(2000), bytes),
        ("q0001.sums.npy", Gone, "No such file"),
        ("q0001.counts.npy", Cut(130), bytes),
        ("ids.txt", Cut(10), "expected 12 x 32 and as many docids, found 12 x 32 and 4 docids"),
        ("ids.txt", Gone, "No such file"),
    ] {
        let name = format!("INDEX/units/00000/{name}");
        let word =
            if name.ends_with("ids.txt") && matches!(damage, Cut(_)) { "d.npy" } else { word };
        inflict_and_search(&space, &name, &damage, &lines, word);
    }
    let explain = ["xqg search --index INDEX --text river --explain"];
    for (name, damage, word) in [
        ("passages.jsonl", Cut(30), "line 1 damaged"),
        ("passages.jsonl", Is(""), "expected a passage on line "),
        ("passages.jsonl", Gone, "No such file"),
        ("q0001.jsonl", Cut(30), "line 1 damaged"),
    ] {
        damaged(&space, &format!("INDEX/units/00000/{name}"), &damage, &explain, word);
    }
    space.works(lines[0]);
}

/// As [`damaged`], for damage that another file's message shows.
fn inflict_and_search(space: &Space, name: &str, damage: &Damage, lines: &[&str], word: &str) {
    let sound = space.read(name);
    damage.inflict(space, name);
    for line in lines {
        space.fails(1, line, &["error: reading INDEX/units/00000/", word]);
    }
    fs::write(space.path(name), sound).unwrap();
}

#[test]
fn an_index_with_a_damaged_or_newer_manifest() {
    let space = Space::indexed();
    let lines = [
        "xqg search --index INDEX --text river",
        "xqg index add --index INDEX --queries generated.jsonl",
        "xqg index merge --out NEW INDEX",
    ];
    let newer =
        "expected xqg-index version 1 or older, found xqg-index version 2\nhint: use the newer";
    for (damage, word) in [
        (Gone, "No such file"),
        (Cut(300), "expected the manifest of an index, found EOF while parsing"),
        (Is("{}"), "expected the manifest of an index, found missing field `format`"),
        (Is("\u{0}\u{1}"), "expected the manifest of an index, found "),
        (Edited("\"version\": 1", "\"version\": 2"), newer),
        (
            Edited("\"xqg-index\"", "\"other\""),
            "expected xqg-index version 1 or older, found other",
        ),
        (Edited("\"unit_rows\": 2048", "\"unit_rows\": 0"), "found shard 1/1, 0 rows a unit"),
    ] {
        damaged(&space, "INDEX/manifest.json", &damage, &lines, word);
    }
    for (from, to) in [
        ("\"passages\": 12", "\"passages\": 13"),
        ("\"passages\": 12", "\"passages\": 18446744073709551615"),
        ("\"unit_rows\": 2048", "\"unit_rows\": 5"),
        ("\"dim\": 32", "\"dim\": 31"),
        ("\"lang\": \"te\"", "\"lang\": \"xx\""),
    ] {
        let sound = space.read("INDEX/manifest.json");
        Edited(from, to).inflict(&space, "INDEX/manifest.json");
        space.fails(1, lines[0], &["error: reading INDEX/"]);
        space.write("INDEX/manifest.json", sound);
    }
}

#[test]
fn damaged_embeddings() {
    let space = Space::indexed();
    space.works("xqg encode --model e5like --queries queries.jsonl --out Q --shard-rows 5");
    let line = ["xqg search --index INDEX --query-embeddings Q --out NEW"];
    for (name, damage, word) in [
        ("shard-00001.npy", Cut(400), "the file is damaged"),
        ("shard-00001.npy", Gone, "No such file"),
        ("shard-00002.ids", Gone, "No such file"),
        ("manifest.json", Cut(50), "expected a manifest of embeddings, found EOF"),
        (
            "manifest.json",
            Edited("\"version\": 1", "\"version\": 7"),
            "found xqg-embeddings version 7",
        ),
    ] {
        damaged(&space, &format!("Q/{name}"), &damage, &line, word);
    }
    let sound = space.read("Q/shard-00000.ids");
    space.write("Q/shard-00000.ids", "q0\nq1\n");
    space.fails(1, line[0], &["reading Q/shard-00000.ids: expected 5 ids, one for each row of Q/shard-00000.npy, found 2"]);
    space.write("Q/shard-00000.ids", sound);
    space.works(line[0]);
}
