//! `xqg generate` and `xqg filter` through the real binary: the question bank, the gate, units that
//! are killed, and what is refused.
#![allow(clippy::unwrap_used)] // a test that cannot set up its files should stop there

mod support;

use std::collections::BTreeMap;
use std::process::Stdio;

use serde_json::{Value, json};
use support::{Space, end, passages, questions};

const BANK: &str =
    "xqg generate --model bank:log.jsonl --encoder e5like --corpus corpus.jsonl --langs te,ko -n 2";

/// A space with a log of questions about the first thirty things, in te, ar and ko.
fn space() -> Space {
    let space = Space::indexed();
    space.write("log.jsonl", questions(30, |_| true));
    space
}

fn rows(space: &Space, name: &str) -> Vec<Value> {
    let text = String::from_utf8(space.read(name)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn reasons(space: &Space, name: &str) -> BTreeMap<String, usize> {
    let mut all = BTreeMap::new();
    for row in rows(space, name) {
        *all.entry(row["reason"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    all
}

#[test]
fn each_passage_is_given_the_nearest_questions_of_a_log() {
    let space = space();
    let done = space.works(&format!("{BANK} --out q.jsonl --json"));
    let rows = rows(&space, "q.jsonl");
    assert_eq!(rows.len(), 12 * 2 * 2);
    let summary: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(summary["counts"]["languages"]["te"]["questions"], 24);
    for pair in rows.chunks(2) {
        assert_eq!((&pair[0]["docid"], &pair[0]["lang"]), (&pair[1]["docid"], &pair[1]["lang"]));
        assert_ne!(pair[0]["text"], pair[1]["text"]);
        let similarity = |i: usize| pair[i]["similarity"].as_f64().unwrap();
        assert!(similarity(0) >= similarity(1));
    }
    // What is nearest is what a search over the log would find.
    let line = |row: &Value| {
        json!({"_id": row["text"].as_str().unwrap().replace(' ', "_"),
        "text": row["text"]})
        .to_string()
            + "\n"
    };
    let log = String::from_utf8(space.read("log.jsonl")).unwrap();
    let log: Vec<Value> = log.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let te: String = log.iter().filter(|row| row["lang"] == "te").map(line).collect();
    space.write("te.jsonl", te);
    space.works("xqg encode --model e5like --queries te.jsonl --out TE");
    space.works("xqg encode --model e5like --corpus corpus.jsonl --out P");
    let numbers = |name: &str| -> Vec<f32> {
        let bytes = space.read(name);
        let start = bytes.iter().position(|&b| b == b'\n').unwrap() + 1;
        let number = |c: &[u8]| f32::from_le_bytes(c.try_into().unwrap());
        bytes[start..].chunks_exact(4).map(number).collect()
    };
    let (questions, passages) = (numbers("TE/shard-00000.npy"), numbers("P/shard-00000.npy"));
    let dim = passages.len() / 12;
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
    for (i, passage) in passages.chunks(dim).enumerate() {
        let scores = questions.chunks(dim).map(|q| f64::from(dot(passage, q)));
        let best = scores.fold(f64::NEG_INFINITY, f64::max);
        assert!((rows[i * 4]["similarity"].as_f64().unwrap() - best).abs() < 2e-5);
    }
}

#[test]
fn the_same_bytes_in_any_units_and_parts() {
    let space = space();
    space.works(&format!("{BANK} --out a.jsonl"));
    let sound = space.read("a.jsonl");
    space.works(&format!("{BANK} --out b.jsonl --threads 1 --unit-passages 1"));
    assert!(space.read("b.jsonl") == sound);
    for part in 1..=3 {
        space.works(&format!("{BANK} --out p{part} --unit-passages 2 --shard {part}/3"));
    }
    let mut parts: Vec<Value> =
        (1..=3).flat_map(|part| rows(&space, &format!("p{part}"))).collect();
    let number = |row: &Value| row["docid"].as_str().unwrap()[1..].parse::<u32>().unwrap();
    parts.sort_by_key(number);
    assert_eq!(parts, rows(&space, "a.jsonl"));
    let mut command = space.command(&format!("{BANK} --out s.jsonl --unit-passages 2"));
    command.env("SLURM_ARRAY_TASK_ID", "1").env("SLURM_ARRAY_TASK_COUNT", "3");
    assert_eq!(end(command).code, Some(0));
    assert!(space.read("s.jsonl.2-of-3") == space.read("p2"));
}

#[test]
fn logs_in_other_shapes_and_a_floor() {
    let space = space();
    space.works(&format!("{BANK} --out a.jsonl"));
    std::fs::create_dir(space.path("log")).unwrap();
    for lang in ["te", "ko"] {
        let all = (0..30).map(|i| support::question(i, lang) + "\n").collect::<String>();
        space.write(&format!("log/{lang}.txt"), all);
    }
    space.works(&format!("{} --out b.jsonl", BANK.replace("log.jsonl", "log")));
    assert!(space.read("b.jsonl") == space.read("a.jsonl"), "a folder of texts");
    space.works(&format!("{} --out c.jsonl", BANK.replace("log.jsonl", "log/te.txt,log/ko.txt")));
    assert!(space.read("c.jsonl") == space.read("a.jsonl"), "two files");
    let similar: Vec<f64> =
        rows(&space, "a.jsonl").iter().map(|r| r["similarity"].as_f64().unwrap()).collect();
    let mut sorted = similar.clone();
    sorted.sort_by(f64::total_cmp);
    let floor = (sorted[20] + sorted[21]) / 2.0;
    let done = space.works(&format!("{BANK} --floor {floor} --out d.jsonl"));
    assert_eq!(rows(&space, "d.jsonl").len(), 48 - 21);
    assert!(!done.err.contains("passages got no question") || floor > 0.0);
}

#[test]
fn a_killed_run_goes_on_with_the_same_bytes() {
    let space = space();
    space.write("corpus.jsonl", passages(3000));
    let line = format!("{BANK} --filter --unit-passages 16");
    space.works(&format!("{line} --out a.jsonl"));
    for unit in [0, 9, 60] {
        let mut command = space.std_command(&format!("{line} --out b.jsonl"));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let file = space.path(&format!("b.jsonl.units.partial/unit-{unit:06}.jsonl"));
        while !file.exists() && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    if !space.path("b.jsonl").exists() {
        space.works(&format!("{line} --out b.jsonl"));
    }
    for name in ["", ".rejected"] {
        let [a, b] = ["a", "b"].map(|n| space.read(&format!("{n}{name}.jsonl")));
        assert!(a == b, "{name}");
    }
    assert!(!space.path("b.jsonl.units.partial").exists());
}

#[test]
fn the_gate_says_why() {
    let space = Space::indexed();
    let row = |docid: &str, lang: &str, text: &str| {
        json!({"docid": docid, "lang": lang, "text": text, "logprob": -1.5}).to_string() + "\n"
    };
    let all = [
        row("p0", "ko", "강은 어디에 있나요?"),
        row("p0", "ko", "강은 어디에 있나요"),
        row("p0", "te", "강은 어디에 있나요?"),
        row("p0", "en", "Number 0 is a river near the river"),
        row("p1", "ko", "성 성 성 성 성 성 성 성 성"),
        row("p1", "ko", "?!"),
        row("p1", "ko", &"왜 ".repeat(150)),
    ];
    space.write("q.jsonl", all.concat());
    let done = space.works("xqg filter --questions q.jsonl --corpus corpus.jsonl --out k.jsonl");
    assert_eq!(space.read("k.jsonl"), all[0].as_bytes(), "lines keep their keys");
    let wanted =
        [("copy", 1), ("duplicate", 1), ("language", 1), ("long", 1), ("loop", 1), ("short", 1)];
    assert_eq!(reasons(&space, "k.rejected.jsonl"), wanted.map(|(r, n)| (r.to_owned(), n)).into());
    assert!(done.out.contains("near-duplicate") || done.out.contains("duplicate"), "{}", done.out);
    assert_eq!(rows(&space, "k.rejected.jsonl")[1]["found"], "ko");
    // What was rejected once may be judged again.
    space.works(
        "xqg filter --questions k.rejected.jsonl --out again.jsonl --any-language --longest 999",
    );
    assert_eq!(rows(&space, "again.jsonl").len(), 3, "without the passages no copy is seen");
}

#[test]
fn the_round_trip_keeps_what_finds_its_passage() {
    let space = Space::indexed();
    let line = "xqg filter --questions generated.jsonl --round-trip INDEX --any-language";
    space.works(&format!("{line} --within 12 --out all.jsonl"));
    let all = rows(&space, "all.jsonl");
    assert_eq!(all.len(), 33);
    // The ranks are those of a search over the passages alone.
    let queries = |row: &Value| {
        let id = format!("{}-{}", row["docid"].as_str().unwrap(), row["lang"].as_str().unwrap());
        json!({"_id": id, "text": row["text"]}).to_string() + "\n"
    };
    space.write("as-queries.jsonl", all.iter().map(queries).collect::<String>());
    space.works("xqg search --index INDEX --queries as-queries.jsonl --share 0 --out own.trec");
    let run = String::from_utf8(space.read("own.trec")).unwrap();
    let mut first = 0;
    for row in &all {
        let (docid, lang) = (row["docid"].as_str().unwrap(), row["lang"].as_str().unwrap());
        let start = format!("{docid}-{lang} Q0 {docid} ");
        let hit = run.lines().find_map(|l| l.strip_prefix(&start)).unwrap();
        assert_eq!(hit.split(' ').next().unwrap(), row["rank"].to_string());
        first += usize::from(row["rank"] == 1);
    }
    space.works(&format!("{line} --within 1 --out best.jsonl"));
    assert_eq!(rows(&space, "best.jsonl").len(), first);
    assert_eq!(reasons(&space, "best.rejected.jsonl")["round-trip"], 33 - first);
    space.works(&format!("{line} --within 12 --keep 0.5 --out half.jsonl --unit-passages 2"));
    let half = rows(&space, "half.jsonl");
    for lang in ["te", "ar", "ko"] {
        let similar = |rows: &[Value], lang: &str| -> Vec<f64> {
            let own = rows.iter().filter(|r| r["lang"] == lang);
            let mut all: Vec<f64> = own.map(|r| r["similarity"].as_f64().unwrap()).collect();
            all.sort_by(|a, b| b.total_cmp(a));
            all
        };
        let (all, kept) = (similar(&all, lang), similar(&half, lang));
        assert!(kept.len() >= 6 && kept.len() < 11 && all[..kept.len()] == kept, "{lang}");
    }
    assert!(reasons(&space, "half.rejected.jsonl").keys().eq(["share"]));
}

#[test]
fn generate_and_filter_in_one_go() {
    let space = space();
    let gate = "--any-language --round-trip INDEX --within 3 --keep 0.8";
    space.works(&format!("{BANK} --filter {gate} --out a.jsonl --unit-passages 5"));
    space.works(&format!("{BANK} --out all.jsonl"));
    space.works(&format!(
        "xqg filter --questions all.jsonl --corpus corpus.jsonl {gate} --out b.jsonl"
    ));
    for name in ["", ".rejected"] {
        let [a, b] = ["a", "b"].map(|n| space.read(&format!("{n}{name}.jsonl")));
        assert!(!a.is_empty() && a == b, "{name}");
    }
}

#[test]
fn what_is_refused() {
    let space = space();
    let generate = "xqg generate --corpus corpus.jsonl";
    // No generator of the project is for the tiny encoder.
    let index = "xqg index --generate --model e5like --corpus corpus.jsonl";
    for (line, word) in [
        (format!("{generate} --model bank: --langs te --out n"), "expected a file of questions"),
        (format!("{generate} --model bank:log.jsonl --langs te --out n"), "expected --encoder DIR"),
        (format!("{generate} --model bank:log.jsonl --langs xx --out n"), "ISO 639 language code"),
        (format!("{index} --langs te --out n"), "expected a generator, found none named"),
        (format!("{index} --langs te --out n --shard 1/2"), "expected a build on one machine"),
        (format!("{index} --out n"), "--langs"),
        (format!("{index} --langs te --out n --queries log.jsonl"), "cannot be used with"),
        (format!("{generate} --langs te --out n --greedy --top-k 3"), "cannot be used with"),
        ("xqg filter --questions log.jsonl --out n --keep 0.5".into(), "--round-trip"),
    ] {
        space.fails(2, &line, &[word]);
    }
    space.write("empty.jsonl", "");
    space.write("blank.jsonl", "{\"_id\":\"a\",\"text\":\" \"}\n{\"_id\":\"b\",\"text\":\"x\"}\n");
    space.write("faq.txt", "x\n");
    let bank = |log: &str, rest: &str| {
        format!("xqg generate --model bank:{log} --encoder e5like --langs te --out n.jsonl {rest}")
    };
    for (line, word) in [
        (bank("log.jsonl", "--corpus none"), "reading none: No such file"),
        (bank("log.jsonl", "--corpus empty.jsonl"), "expected at least one passage, found none"),
        (bank("log.jsonl", "--corpus blank.jsonl"), "line 1: expected a `title` or a `text`"),
        (bank("none", "--corpus corpus.jsonl"), "reading none: No such file"),
        (bank("faq.txt", "--corpus corpus.jsonl"), "named after its language"),
        (bank("queries.jsonl", "--corpus corpus.jsonl --langs fi"), "expected questions in fi"),
        (
            bank("log.jsonl", "--corpus corpus.jsonl --model e5like"),
            "cannot be used multiple times",
        ),
    ] {
        let code = if word.starts_with("cannot") { 2 } else { 1 };
        space.fails(code, &line, &[word]);
    }
    space.works(&bank("log.jsonl", "--corpus blank.jsonl --skip-bad"));
    assert_eq!(rows(&space, "n.jsonl").len(), 5);
    let again = bank("log.jsonl", "--corpus corpus.jsonl");
    space.fails(1, &again, &["expected a new path, found an existing one", "hint: --force"]);
    space.write("other.jsonl", questions(3, |lang| lang == "te").replace("p1", "p77"));
    let line = "xqg filter --questions other.jsonl --corpus corpus.jsonl --out f.jsonl";
    space.fails(1, line, &["expected questions for passages of the corpus, found one for `p77`"]);
    let line = "xqg filter --questions other.jsonl --round-trip INDEX --out f.jsonl";
    space.fails(1, line, &["found none with the docid `p77`"]);
}

#[test]
fn a_long_passage_is_cut_and_counted() {
    let space = space();
    let long = json!({"_id": "long", "text": "a river near the castle ".repeat(2500)});
    let short = json!({"_id": "short", "text": "a river"});
    space.write("corpus.jsonl", format!("{short}\n{long}\n"));
    let done = space.works(&format!("{BANK} --out q.jsonl --json"));
    let summary: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(summary["counts"]["cut_passages"], 1, "{summary}");
    assert!(done.err.contains("were longer than the encoder reads"), "{}", done.err);
}
