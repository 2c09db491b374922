//! Input files that cannot be used are refused by name and line: what was expected, what was found,
//! a way out. After each failure every file of the test's folder has the bytes it had before.
#![allow(clippy::unwrap_used)] // a test that cannot set up its files should stop there

mod support;

use support::{Space, files, gzip, passages, questions};

/// Writes each bad line below a good one and expects every command line to refuse it by its number.
fn refuse_lines(space: &Space, good: &str, cases: &[(&[u8], &str)], lines: &[&str]) {
    for (bad, word) in cases {
        space.write("bad.jsonl", [good.as_bytes(), b"\n", bad, b"\n"].concat());
        for line in lines {
            let words = ["error: reading bad.jsonl: line 2: expected ", word, "\nhint: mend"];
            space.fails(1, line, &words);
        }
    }
}

#[test]
fn bad_passages() {
    let space = Space::indexed();
    let long = format!(r#"{{"_id":"x","text":"{}"}}"#, "abcd ".repeat(1_000_000));
    let cases: [(&[u8], &str); 14] = [
        (br#"{"_id":"x","text":"cut"#, "a JSON object, found EOF"),
        (br#"["_id","x"]"#, "a JSON object, found `["),
        (br#"{"text":"no id"}"#, "`_id`, a string without white space, found no `_id`"),
        (br#"{"_id":"","text":"x"}"#, "`_id`, a string without white space, found ``"),
        (br#"{"_id":"a b","text":"x"}"#, "found `a b`"),
        (br#"{"_id":"good","text":"x"}"#, "a `_id` of its own, found `good` again"),
        (br#"{"_id":"x","title":"","text":" "}"#, "a `title` or a `text`, found `x` with neither"),
        (br#"{"_id":"x","text":["a"]}"#, "`text`, a string, found `["),
        (
            b"{\"_id\":\"x\",\"text\":\"\xff\xfe\"}",
            "UTF-8 text, found an invalid byte at column 20",
        ),
        (b"{\"_id\":\"x\",\"text\":\"a\0b\"}", "text, found a NUL byte at column 21"),
        (br#"{"_id":"x","text":"a\u0000b"}"#, "`text` as text, found a NUL character in it"),
        (br#"{"_id":"x\u0000","text":"a"}"#, "`_id`, a string without white space, found `x"),
        (br#"{"_id":"x","text":"\ud800"}"#, "a JSON object, found"),
        (long.as_bytes(), "`text` of at most 1 MiB, found 5.0 MB"),
    ];
    let lines = [
        "xqg index --model e5like --corpus bad.jsonl --out NEW",
        "xqg index --model e5like --corpus bad.jsonl --out INDEX --force",
        "xqg encode --model e5like --corpus bad.jsonl --out NEW",
    ];
    refuse_lines(&space, r#"{"_id":"good","text":"a fine passage"}"#, &cases, &lines);
}

#[test]
fn bad_attached_questions() {
    let space = Space::indexed();
    let cases: [(&[u8], &str); 8] = [
        (br#"{"docid":"p99","lang":"te","text":"x"}"#, "a docid of the passages, found `p99`"),
        (br#"{"lang":"te","text":"x"}"#, "`docid`, a string without white space, found no `docid`"),
        (br#"{"docid":"p1","text":"x"}"#, "`lang`, a language code, found no `lang`"),
        (br#"{"docid":"p1","lang":"xx","text":"x"}"#, "an ISO 639 language code, found `xx`"),
        (br#"{"docid":"p1","lang":"Telugu","text":"x"}"#, "language code, found `Telugu`"),
        (br#"{"docid":"p1","lang":"te","text":""}"#, "a `text`, found a question for `p1` without"),
        (br#"{"docid":"p1","lang":"te""#, "a JSON object, found EOF"),
        (br#"{"docid":"p1","lang":"te","text":"a\u0000"}"#, "found a NUL character in it"),
    ];
    let lines = [
        "xqg index --model e5like --corpus corpus.jsonl --queries bad.jsonl --out NEW",
        "xqg index --model e5like --corpus corpus.jsonl --queries bad.jsonl --out INDEX --force",
        "xqg index add --index INDEX --queries bad.jsonl",
    ];
    refuse_lines(&space, r#"{"docid":"p1","lang":"te","text":"fine"}"#, &cases, &lines);
}

#[test]
fn bad_queries() {
    let space = Space::indexed();
    let cases: [(&[u8], &str); 7] = [
        (br#"{"query":"x"}"#, "`_id` and `text`, or `id` and `question`, found no identifier"),
        (br#"{"id":"q2","text":"x"}"#, "a `question`, found `q2` without one"),
        (br#"{"_id":"q2","question":"x"}"#, "a `text`, found `q2` without one"),
        (br#"{"id":"q1","question":"again"}"#, "a `id` of its own, found `q1` again"),
        (br#"{"id":"q2","question":"x","lang":"klingon"}"#, "an ISO 639 language code"),
        (br#"{"id":"q2","question":"x","answers":"no list"}"#, "`answers`, a list of strings"),
        (b"{\"id\":\"q2\",\"question\":\"\xc3\"}", "UTF-8 text, found an invalid byte"),
    ];
    let lines = [
        "xqg search --index INDEX --queries bad.jsonl --out NEW",
        "xqg search --index INDEX --queries bad.jsonl --out run.trec --force",
        "xqg encode --model e5like --queries bad.jsonl --out NEW",
        "xqg evaluate --run run.trec --qrels qrels.tsv --queries bad.jsonl --measures MAP",
    ];
    refuse_lines(&space, r#"{"id":"q1","question":"fine?"}"#, &cases, &lines);
}

#[test]
fn bad_runs_and_qrels() {
    let space = Space::indexed();
    let evaluate = "xqg evaluate --measures MAP --json";
    let compare = "xqg compare --measures MAP --qrels qrels.tsv --baseline run.trec";
    for (bad, word) in [
        ("q1 Q0 p2 1 NaN t", "a finite number as score, found `NaN`"),
        ("q1 Q0 p2 1 inf t", "a finite number as score, found `inf`"),
        ("q1 Q0 p2 1 high t", "a finite number as score, found `high`"),
        ("q1 Q0 p1 2 0.5 t", "each passage once for a query, found p1 again for q1"),
        ("q1 p2 0.5", "6 columns: qid Q0 docid rank score tag, found 3 columns: `q1 p2 0.5`"),
    ] {
        space.write("bad.trec", format!("q1 Q0 p1 1 1.5 t\n{bad}\n"));
        let words = ["error: reading bad.trec: line 2: expected ", word, "\nhint: "];
        space.fails(1, &format!("{evaluate} --run bad.trec --qrels qrels.tsv"), &words);
        space.fails(1, &format!("{compare} --run bad.trec"), &words);
    }
    for (bad, word) in [
        ("q1 0 p1 0", "each pair judged once, found q1 and p1 judged again"),
        ("q1 0 p2 good", "a whole number as relevance, found `good`"),
        ("q1", "3 or 4 columns, found 1 columns: `q1`"),
    ] {
        space.write("bad.tsv", format!("q1 0 p1 1\n{bad}\n"));
        let words = ["error: reading bad.tsv: line 2: expected ", word, "\nhint: "];
        space.fails(1, &format!("{evaluate} --run run.trec --qrels bad.tsv"), &words);
    }
    space.write("other.tsv", "z1 0 p1 1\n");
    let words = ["evaluating MAP: expected queries that the run and the qrels share, found none"];
    space.fails(1, &format!("{evaluate} --run run.trec --qrels other.tsv"), &words);
    space.write("few.jsonl", passages(3));
    let line = "xqg evaluate --measures R@2kt --run run.trec --queries queries.jsonl";
    let words = ["few.jsonl: expected every docid of the run, found no p10, p11, p3", "\nhint: "];
    space.fails(1, &format!("{line} --corpus few.jsonl"), &words);
}

#[test]
fn many_bad_lines_are_shown_up_to_twenty_and_counted() {
    let space = Space::indexed();
    let unknown: String = questions(50, |lang| lang == "te");
    space.write("bad.jsonl", unknown.replace("\"p4\"", "\"p4"));
    let line = "xqg index add --index INDEX --queries bad.jsonl";
    let message =
        space.fails(1, line, &["line 5: expected a JSON object", "line 13: expected a docid"]);
    assert_eq!(message.matches("reading bad.jsonl: line ").count(), 20, "{message}");
    assert!(message.contains("\nand 19 more bad lines\nhint: "), "{message}");
    space.write("bad.trec", "q1 Q0 p1 1 1 t\n".repeat(33));
    let line = "xqg evaluate --run bad.trec --qrels qrels.tsv --measures MAP";
    let message = space.fails(1, line, &["line 21: expected each", "\nand 12 more bad lines\n"]);
    assert_eq!(message.matches("reading bad.trec: line ").count(), 20, "{message}");
    space.write("bad.jsonl", "nothing\n".repeat(20));
    for verb in ["index", "encode"] {
        let line = format!("xqg {verb} --model e5like --corpus bad.jsonl --out NEW");
        let message = space.fails(1, &line, &["line 20: expected"]);
        assert!(!message.contains("more bad lines"), "{message}");
    }
}

#[test]
fn bad_lines_can_be_left_out() {
    let space = Space::indexed();
    let (corpus, questions) = (passages(12), questions(11, |_| true));
    space.write("bad.jsonl", format!("{{\"_id\":\n{corpus}{{\"text\":\"x\"}}\n"));
    space.write("badq.jsonl", format!("{questions}{}", "{\"docid\":\"p99\"}\n".repeat(25)));
    let line =
        "xqg index --model e5like --corpus bad.jsonl --queries badq.jsonl --skip-bad --out NEW";
    let done = space.works(line);
    for words in [
        "warning: 2 bad lines of bad.jsonl were left out\n  line 1: expected a JSON object",
        "  line 14: expected `_id`",
        "warning: 25 bad lines of badq.jsonl were left out\n  line 34: expected `lang`",
        "NEW: 12 passages, 33 questions",
    ] {
        assert!(done.err.contains(words), "expected `{words}` in\n{}", done.err);
    }
    assert_eq!(done.err.matches("\n  line ").count(), 22, "twenty of each file at most");
    let units = |name: &str| files(&space.path(&format!("{name}/units")));
    assert!(units("NEW") == units("INDEX"), "the good lines give what they gave alone");
    let line = "xqg encode --model e5like --corpus bad.jsonl --skip-bad --out P";
    let done = space.works(line);
    assert_eq!(done.err.matches("warning: 2 bad lines of bad.jsonl").count(), 1, "{}", done.err);
    assert!(done.err.contains("P: 12 x 32 embeddings"), "{}", done.err);
    space.write("all-bad.jsonl", "nothing\nat all\n");
    for verb in ["index", "encode"] {
        let line = format!("xqg {verb} --model e5like --corpus all-bad.jsonl --skip-bad --out N");
        space.fails(1, &line, &["error: reading all-bad.jsonl: expected at least one "]);
    }
}

/// Command lines in which `FILE` stands for an input file.
const WITH_FILE: [&str; 12] = [
    "xqg index --model e5like --corpus FILE --out NEW",
    "xqg index --model e5like --corpus corpus.jsonl --queries FILE --out NEW",
    "xqg index --model e5like --corpus FILE --out INDEX --force",
    "xqg index add --index INDEX --queries FILE",
    "xqg encode --model e5like --corpus FILE --out NEW",
    "xqg encode --model e5like --queries FILE --out NEW",
    "xqg search --index INDEX --queries FILE --out NEW",
    "xqg evaluate --run FILE --qrels qrels.tsv --measures MAP",
    "xqg evaluate --run run.trec --qrels FILE --measures MAP",
    "xqg evaluate --run run.trec --qrels qrels.tsv --queries FILE --measures MAP",
    "xqg evaluate --run run.trec --queries queries.jsonl --corpus FILE --measures R@2kt",
    "xqg compare --baseline run.trec --run FILE --qrels qrels.tsv --measures MAP",
];

#[test]
fn files_that_are_none() {
    let space = Space::indexed();
    std::fs::create_dir(space.path("folder")).unwrap();
    space.write("empty", "");
    space.write("blank", "\n \n\n");
    let gz = gzip(passages(300).as_bytes());
    std::fs::write(space.path("cut.jsonl.gz"), &gz[..gz.len() / 2]).unwrap();
    std::fs::write(space.path("plain.jsonl.gz"), passages(3)).unwrap();
    for line in WITH_FILE {
        let fails = |name: &str, words: &[&str]| space.fails(1, &line.replace("FILE", name), words);
        fails("none/at.all", &["reading none/at.all: No such file", "\nhint: check the path"]);
        fails("folder", &["reading folder: expected a file, found a folder"]);
        fails("plain.jsonl.gz", &["reading plain.jsonl.gz: invalid gzip header"]);
        if line.contains("--corpus FILE --measures") {
            // The corpus is read only until all passages of the run are found.
            fails("empty", &["empty: expected every docid of the run, found no p0"]);
            continue;
        }
        fails("empty", &["reading empty: expected at least one ", ", found none"]);
        fails("cut.jsonl.gz", &["reading cut.jsonl.gz: ", "\nhint: the file is cut short"]);
        fails("blank", &["reading blank: expected at least one ", ", found none"]);
    }
}
