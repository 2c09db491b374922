//! Embeddings from elsewhere: indexed and searched without a model, with the same ranking as the
//! model gives; refused with a reason where they cannot be used.
#![allow(clippy::unwrap_used)] // a test that cannot set up its files should stop there

mod support;

use support::{Space, assert_same, copy_model, files};

/// A numpy file of the header's words and these bytes.
fn npy(descr: &str, fortran: &str, (rows, dim): (usize, usize), data: &[u8]) -> Vec<u8> {
    let mut text =
        format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': ({rows}, {dim}), }}");
    text.push_str(&" ".repeat((64 - (10 + text.len() + 1) % 64) % 64));
    text.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((text.len() as u16).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes.extend(data);
    bytes
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn fvecs(dim: usize, values: &[f32]) -> Vec<u8> {
    let row = |row: &[f32]| [(dim as u32).to_le_bytes().to_vec(), bytes(row)].concat();
    values.chunks_exact(dim).flat_map(row).collect()
}

/// Three rows of length one, in two dimensions.
const THREE: [f32; 6] = [1.0, 0.0, 0.6, 0.8, 0.0, 1.0];

/// Passages and queries encoded by the model, in `P` and `Q`.
fn encoded() -> Space {
    let space = Space::new();
    space.works("xqg encode --model e5like --corpus corpus.jsonl --out P --shard-rows 5");
    space.works("xqg encode --model e5like --queries queries.jsonl --out Q --shard-rows 5");
    space
}

#[test]
fn the_model_s_own_embeddings_give_the_model_s_own_run() {
    let space = encoded();
    space.works("xqg index --model e5like --corpus corpus.jsonl --out SOUND");
    space.works("xqg search --index SOUND --queries queries.jsonl --out a.trec");
    space.works("xqg index --embeddings P --corpus corpus.jsonl --out INDEX --unit-rows 7");
    let text = "xqg search --index INDEX --text river --model e5like --json";
    let sound = space.works("xqg search --index SOUND --text river --json").out;
    assert_eq!(space.works(text).out, sound, "texts are there, and the model fits");
    space.works("xqg index --embeddings P --model e5like --out BARE");
    for index in ["INDEX", "BARE"] {
        let line = format!("xqg search --index {index} --query-embeddings Q --out b.trec --force");
        space.works(&line);
        assert_eq!(space.read("a.trec"), space.read("b.trec"), "{index}");
    }
    space.works("xqg index add --index BARE --queries generated.jsonl");
    space.works("xqg index add --index SOUND --queries generated.jsonl");
    for (index, out) in [("SOUND", "c.trec"), ("BARE", "d.trec")] {
        space.works(&format!("xqg search --index {index} --queries queries.jsonl --out {out}"));
    }
    assert_eq!(space.read("c.trec"), space.read("d.trec"), "questions may come later");
}

#[test]
fn plain_files_of_an_unknown_encoder() {
    let space = Space::new();
    space.write("d.npy", npy("<f4", "False", (3, 2), &bytes(&THREE)));
    space.write("d.fvecs", fvecs(2, &THREE));
    space.write("ids.txt", "north\neast\nwest\n");
    space.write("q.fvecs", fvecs(2, &[0.0, 1.0]));
    space.write("qids.txt", "asked\n");
    space.works("xqg index --embeddings d.npy --ids ids.txt --out NPY");
    space.works("xqg index --embeddings d.fvecs --ids ids.txt --out FVECS");
    assert_same(&files(&space.path("NPY/units")), &files(&space.path("FVECS/units")), "formats");
    let query = "--query-embeddings q.fvecs --query-ids qids.txt --out run.trec --tag t";
    space.works(&format!("xqg search --index NPY {query}"));
    let run = String::from_utf8(space.read("run.trec")).unwrap();
    let words: Vec<&str> = run.split_whitespace().collect();
    assert_eq!(words[..6], ["asked", "Q0", "west", "1", "1", "t"], "{run}");
    assert_eq!((words[8], words[14]), ("east", "north"), "{run}");
    space.works("xqg index --embeddings d.npy --out NUMBERS --dtype f16");
    let hits = space.works("xqg search --index NUMBERS --query-embeddings q.fvecs --json").out;
    assert!(hits.contains(r#""docid":"2""#) && hits.contains(r#"{"id":"0""#), "{hits}");
    let text = "xqg search --index NPY --text x";
    let words = ["expected an encoder, found an index of embeddings", "--query-embeddings"];
    space.fails(1, text, &words);
    let line = "xqg search --index NPY --text x --model e5like";
    space.fails(1, line, &["expected the same encoder contract", "* dim                  2 | 32"]);
}

#[test]
fn what_cannot_be_indexed() {
    let space = encoded();
    let mut broken = THREE;
    broken[3] = f32::NAN;
    let rows = (3, 2);
    space.write("d.npy", npy("<f4", "False", rows, &bytes(&THREE)));
    space.write("nan.npy", npy("<f4", "False", rows, &bytes(&broken)));
    space.write("nan.fvecs", fvecs(2, &broken));
    space.write("big.npy", npy(">f4", "False", rows, &bytes(&THREE)));
    space.write("double.npy", npy("<f8", "False", (3, 1), &bytes(&THREE)));
    space.write("fortran.npy", npy("<f4", "True", rows, &bytes(&THREE)));
    space.write("cut.npy", npy("<f4", "False", (4, 2), &bytes(&THREE)));
    space.write("none.npy", npy("<f4", "False", (0, 2), &[]));
    space.write("cut.fvecs", &fvecs(2, &THREE)[..30]);
    space.write("mixed.fvecs", [fvecs(2, &THREE), fvecs(5, &[0.0; 5])].concat());
    space.write("two.txt", "a\nb\n");
    space.write("twice.txt", "a\nb\na\n");
    space.write("blank.txt", "a b\nb\nc\n");
    let mut lines: Vec<&str> = Vec::new();
    let corpus = String::from_utf8(space.read("corpus.jsonl")).unwrap();
    lines.extend(corpus.lines());
    space.write("short.jsonl", lines[..11].join("\n"));
    space.write("long.jsonl", format!("{corpus}{{\"_id\": \"p12\", \"text\": \"x\"}}\n"));
    lines.swap(3, 4);
    space.write("swapped.jsonl", lines.join("\n"));
    for (input, words) in [
        ("nan.npy", ["reading nan.npy: expected finite", "found NaN or infinity in row 1"]),
        ("nan.fvecs", ["reading nan.fvecs: expected finite", "in row 1"]),
        ("big.npy", ["expected little-endian f32 or f16", "found `>f4`"]),
        ("double.npy", ["expected little-endian f32 or f16", "found `<f8`"]),
        ("fortran.npy", ["found Fortran order", "np.ascontiguousarray"]),
        ("cut.npy", ["expected 32 bytes of data", "found 24 bytes"]),
        ("none.npy", ["expected at least one embedding", "found 0 x 2"]),
        ("cut.fvecs", ["expected an .fvecs file", "found 30 bytes, no multiple of 12"]),
        ("mixed.fvecs", ["expected 2 numbers in every row", "found 5 in row 3"]),
        ("d.npy --ids two.txt", ["expected 3 ids, one for each row of d.npy", "found 2"]),
        ("d.npy --ids twice.txt", ["reading twice.txt: line 3", "found `a` again"]),
        ("d.npy --ids blank.txt", ["reading blank.txt: line 1", "without white space"]),
        ("d.npy --ids none.txt", ["reading none.txt", "No such file"]),
        ("corpus.jsonl", ["expected a folder that xqg encode wrote, a .npy", "another file"]),
        ("Q", ["expected embeddings of passages", "found those of queries"]),
        ("P --corpus short.jsonl", ["expected `p11` as passage 12", "the end of the file"]),
        ("P --corpus long.jsonl", ["expected 12 passages", "found `p12` too"]),
        ("P --corpus swapped.jsonl", ["expected `p3` as passage 4", "found `p4`"]),
        ("d.npy --model e5like", ["expected the same encoder contract", "* dim "]),
    ] {
        space.fails(1, &format!("xqg index --embeddings {input} --out NEW"), &words);
    }
}

#[test]
fn wrong_usage() {
    let space = encoded();
    space.works("xqg index --embeddings P --out INDEX");
    for (line, word) in [
        ("xqg index --out NEW --model e5like", "--corpus <FILE>"),
        ("xqg index --out NEW --ids x --model e5like --corpus corpus.jsonl", "--embeddings"),
        ("xqg index --out NEW --embeddings P --queries generated.jsonl", "cannot be used with"),
        ("xqg index --out NEW --embeddings P --ids x", "--ids: expected a .npy or .fvecs file"),
        (
            "xqg search --index INDEX --query-embeddings Q --query-ids x --out N",
            "--query-ids: expected a .npy or .fvecs file, found the folder Q",
        ),
        (
            "xqg search --index INDEX --query-embeddings Q --lang-match --out N",
            "expected queries with languages, found --query-embeddings",
        ),
    ] {
        space.fails(2, line, &[word]);
    }
}

#[test]
fn queries_of_another_encoder_or_side_are_refused() {
    let space = encoded();
    space.works("xqg index --embeddings P --out INDEX");
    copy_model("e5like", &space.path("other"));
    let prompts = String::from_utf8(space.read("other/config_sentence_transformers.json")).unwrap();
    let prompts = prompts.replace("\"query: \"", "\"ask: \"");
    space.write("other/config_sentence_transformers.json", prompts);
    space.works("xqg encode --model other --queries queries.jsonl --out OTHER");
    space.write("q.npy", npy("<f4", "False", (3, 2), &bytes(&THREE)));
    space.write("nan.npy", npy("<f4", "False", (1, 32), &bytes(&[f32::NAN; 32])));
    for (queries, words) in [
        ("OTHER", ["expected the same encoder contract", "* query prefix "]),
        ("P", ["expected embeddings of queries", "found those of passages"]),
        ("q.npy", ["expected the same encoder contract", "* dim                  32 | 2"]),
        ("nan.npy", ["expected finite numbers", "in row 0"]),
    ] {
        space.fails(
            1,
            &format!("xqg search --index INDEX --query-embeddings {queries} --out N"),
            &words,
        );
    }
}
