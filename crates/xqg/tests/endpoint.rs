//! `xqg generate` with a language model behind an endpoint, through the real binary and a local server
//! that answers slowly, wrongly, cut off, with 429 and 500, and dies in the middle.
#![allow(clippy::unwrap_used)] // a test that cannot set up its files should stop there

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use support::server::{Asked, Reply, Server};
use support::{Done, Space, check_message, end, succeed};

/// Two questions of a passage and language that no other passage has.
fn sound(asked: &Asked) -> String {
    let prompt = asked.prompt();
    let at = prompt.find("The ").map_or("", |at| prompt[at..].lines().next().unwrap());
    let lang = if prompt.contains("in Telugu") { "ఎక్కడ" } else { "어디" };
    format!("{lang} {at}?\n{lang} {at}, {at}?")
}

fn line(server: &Server, rest: &str) -> String {
    format!(
        "xqg generate --model openai:tiny --endpoint {} --corpus corpus.jsonl --langs te,ko -n 2 \
         --any-language --retries 2 --json {rest}",
        server.url
    )
}

fn rows(space: &Space, name: &str) -> Vec<Value> {
    let text = String::from_utf8(space.read(name)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn summary(done: &Done) -> Value {
    serde_json::from_str(&done.out).unwrap_or_else(|e| panic!("{e}: {}", done.out))
}

#[test]
fn every_passage_is_asked_about_in_every_language() {
    let space = Space::new();
    let server = Server::start(|_, asked| Reply::Text(sound(asked)));
    let mut command =
        space.command(&line(&server, "--out q.jsonl --price-in 2 --price-out 10 --top-p 0.9"));
    command.env("OPENAI_API_KEY", "secret");
    let done = succeed(command, "generate");
    let rows = rows(&space, "q.jsonl");
    assert_eq!(rows.len(), 12 * 2 * 2);
    assert_eq!((&rows[0]["docid"], &rows[0]["lang"]), (&"p0".into(), &"te".into()));
    assert_eq!((&rows[2]["lang"], &rows[47]["docid"]), (&"ko".into(), &"p11".into()));
    let all = summary(&done);
    let usage = &all["counts"]["usage"];
    assert_eq!((usage["requests"].as_u64(), usage["retries"].as_u64()), (Some(24), Some(0)));
    assert_eq!(usage["prompt_tokens"], 2400);
    assert!((all["cost"].as_f64().unwrap() - (2400.0 * 2.0 + 240.0 * 10.0) / 1e6).abs() < 1e-9);
    let asked = server.asked();
    assert_eq!(asked.len(), 24);
    for asked in &asked {
        assert!(
            asked.head.to_lowercase().contains("authorization: bearer secret"),
            "{}",
            asked.head
        );
        assert_eq!((&asked.body["model"], &asked.body["max_tokens"]), (&"tiny".into(), &64.into()));
        assert!(asked.body["temperature"].is_null() && asked.body["top_p"] == 0.9);
    }
    assert!(!done.err.contains("secret") && !done.out.contains("secret"));
    space.works("xqg index --model e5like --corpus corpus.jsonl --queries q.jsonl --out INDEX");
    // The same questions, whatever is asked first.
    space.works(&line(&server, "--out one.jsonl --concurrency 1 --unit-passages 5 --top-p 0.9"));
    assert!(space.read("one.jsonl") == space.read("q.jsonl"));
}

#[test]
fn prompts_of_ones_own() {
    let space = Space::new();
    space.write("any.txt", "{n} in {language} ({lang}): {title} | {passage}");
    space.write("te.txt", "Telugu {passage}");
    space.write("bad.txt", "Write {n}!");
    let server = Server::start(|_, asked| Reply::Text(format!("{}?", asked.prompt())));
    space.works(&line(&server, "--prompt-file any.txt --prompt-file te=te.txt --out q.jsonl"));
    let rows = rows(&space, "q.jsonl");
    let text = |i: usize| rows[i]["text"].as_str().unwrap();
    assert!(text(0).starts_with("Telugu Number 0 is a river"), "{}", text(0));
    assert!(text(1).starts_with("2 in Korean (ko): The river 0 | Number 0"), "{}", text(1));
    let bad = line(&server, "--prompt-file bad.txt --out n.jsonl");
    space.fails(1, &bad, &["reading bad.txt: expected a prompt with {passage} in it, found none"]);
}

#[test]
fn what_passes_is_tried_again() {
    let space = Space::new();
    let busy = Reply::Status("429 Too Many Requests", "Retry-After: 0\r\n", "slow down");
    let failed = Reply::Status("500 Internal Server Error", "Retry-After: 0\r\n", "oh");
    let garbled = Reply::Status("200 OK", "", "<html>");
    let odd = Reply::Status("200 OK", "", "{\"choices\": []}");
    for (name, bad) in [
        ("busy", busy),
        ("failed", failed),
        ("garbled", garbled),
        ("odd", odd),
        ("short", Reply::Short),
        ("hang-up", Reply::HangUp),
        ("silent", Reply::Silence),
        ("no use", Reply::Text("Here you are:\n".into())),
        ("cut", Reply::Cut("ఎక్కడ ఉ".into())),
    ] {
        // The first of all requests goes wrong.
        let server = Server::start(move |before, asked| match before {
            0 => bad.clone(),
            _ => Reply::Text(sound(asked)),
        });
        let done = space.works(&line(&server, "--force --timeout 1 --out q.jsonl"));
        assert_eq!(rows(&space, "q.jsonl").len(), 48, "{name}");
        assert_eq!(summary(&done)["counts"]["usage"]["retries"], 1, "{name}");
        assert_eq!(server.asked().len(), 25, "{name}");
    }
}

#[test]
fn answers_that_are_never_of_use_are_counted() {
    let space = Space::new();
    let server = Server::start(|_, asked| match asked.prompt() {
        p if p.contains("in Korean") && p.contains("The river 0") => Reply::Text(String::new()),
        p if p.contains("The castle 1") => Reply::Text("하나?".into()),
        p if p.contains("The planet 2") => Reply::Text("a?\nb?\nc?\nd?".into()),
        p if p.contains("The violin 3") => Reply::Cut("a?\nb".into()),
        _ => Reply::Text(sound(asked)),
    });
    let done = space.works(&line(&server, "--out q.jsonl"));
    let usage = &summary(&done)["counts"]["usage"];
    assert_eq!((usage["failed"].as_u64(), usage["short"].as_u64()), (Some(1), Some(4)));
    assert_eq!(rows(&space, "q.jsonl").len(), 48 - 2 - 2 - 2);
    assert!(done.err.contains("1 answers were of no use, 4 held fewer questions"), "{}", done.err);
}

#[test]
fn a_server_that_dies_stops_the_work_and_the_work_goes_on() {
    let space = Space::new();
    let dead = Arc::new(AtomicBool::new(false));
    let known = dead.clone();
    let server = Server::start(move |before, asked| {
        if before >= 14 && !known.load(Ordering::Relaxed) {
            return Reply::HangUp;
        }
        Reply::Text(sound(asked))
    });
    let rest = "--unit-passages 3 --concurrency 2 --out q.jsonl";
    let done = end(space.command(&line(&server, rest)));
    check_message(
        &done,
        1,
        "dead",
        &["asking http://", "(3 tries)", "hint: when the server is well"],
    );
    assert!(!space.path("q.jsonl").exists());
    assert!(space.path("q.jsonl.units.partial/unit-000001.jsonl").exists(), "two units are kept");
    dead.store(true, Ordering::Relaxed);
    let before = server.asked().len();
    space.works(&line(&server, rest));
    assert_eq!(server.asked().len() - before, 24 - 12, "what was answered is not asked again");
    assert_eq!(rows(&space, "q.jsonl").len(), 48);
    assert!(!space.path("q.jsonl.units.partial").exists());
}

#[test]
fn what_will_not_pass_stops_at_once() {
    let space = Space::new();
    let server =
        Server::start(|_, _| Reply::Status("401 Unauthorized", "", "{\"error\": \"bad key\"}"));
    let done = end(space.command(&line(&server, "--concurrency 1 --out q.jsonl")));
    let words = ["HTTP status 401 Unauthorized", "bad key", "hint: check --endpoint"];
    check_message(&done, 1, "401", &words);
    assert_eq!(server.asked().len(), 1);
    let model = "xqg generate --model openai:tiny --corpus corpus.jsonl --langs te";
    for (line, word) in [
        (format!("{model} --out n.jsonl"), "expected --endpoint URL"),
        (format!("{model} --endpoint tiny --out n.jsonl"), "expected openai:NAME and http://"),
        (format!("{model} --endpoint http://h --beam 9 --out n.jsonl"), "--beam and --top-k"),
    ] {
        space.fails(2, &line, &[word]);
    }
}

#[test]
fn a_passage_of_ten_thousand_words_is_cut_and_counted() {
    let space = Space::new();
    let long = "river ".repeat(10_000);
    let row = serde_json::json!({"_id": "p", "text": format!("The {long}")});
    space.write("corpus.jsonl", format!("{row}\n"));
    let server = Server::start(|_, _| Reply::Text("Kuka?\nMikä?".into()));
    let done = space.works(&line(&server, "--out q.jsonl"));
    assert_eq!(summary(&done)["counts"]["cut_passages"], 1);
    assert!(done.err.contains("1 of 1 texts"), "{}", done.err);
    let sent = server.asked()[0].prompt().chars().count();
    assert!((16_000..17_000).contains(&sent), "{sent}");
}

#[test]
fn an_answer_of_nothing_but_thoughts_counts_as_failed() {
    const SILENT: &str = r#"{"choices":[{"message":{"content":null},"finish_reason":"length"}]}"#;
    let space = Space::new();
    let server = Server::start(|_, _| Reply::Status("200 OK", "", SILENT));
    let done = space.works(&line(&server, "--out q.jsonl"));
    assert_eq!(summary(&done)["counts"]["usage"]["failed"], 24);
    // The longest wait that can be said is no panic.
    space.works(&line(&server, "--out q.jsonl --timeout 1e30 --force"));
}
