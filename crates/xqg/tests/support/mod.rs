//! What the end-to-end tests share: a folder of its own for each test with a small collection and
//! a tiny model in it, and the real binary run there by command lines as a person would type them.
//! The model has 32 dimensions, so nothing is fetched and nothing takes long.
#![allow(dead_code)] // each test file uses its own part of this

pub mod server;
#[cfg(unix)]
pub mod training;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Output;

use assert_cmd::Command;
use tempfile::TempDir;

/// A folder with `e5like` (the model), `corpus.jsonl`, `generated.jsonl`, `queries.jsonl` and
/// `qrels.tsv`: twelve passages, three questions for each but the last, twelve queries.
pub struct Space {
    folder: TempDir,
}

/// What a command that has ended left to see.
#[derive(Debug)]
pub struct Done {
    /// The exit code; none where a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

const TOPICS: [&str; 12] = [
    "river", "castle", "planet", "violin", "bridge", "falcon", "desert", "harbor", "engine",
    "garden", "winter", "silver",
];

/// The languages of the attached questions.
pub const LANGS: [&str; 3] = ["te", "ar", "ko"];

impl Space {
    /// Makes the folder with the collection and the model.
    pub fn new() -> Self {
        let space = Self { folder: tempfile::tempdir().unwrap() };
        copy_model("e5like", &space.path("e5like"));
        space.write("corpus.jsonl", passages(12));
        space.write("generated.jsonl", questions(11, |_| true));
        space.write("queries.jsonl", queries(12));
        let qrels: String = (0..12).map(|i| format!("q{i}\tp{i}\t1\n")).collect();
        space.write("qrels.tsv", format!("query-id\tcorpus-id\tscore\n{qrels}"));
        space
    }

    /// Makes the same with an index of all questions, `INDEX`, and a run from it, `run.trec`.
    pub fn indexed() -> Self {
        let space = Self::new();
        let line = "xqg index --model e5like --corpus corpus.jsonl --queries generated.jsonl";
        space.works(&format!("{line} --out INDEX"));
        space.works("xqg search --index INDEX --queries queries.jsonl --out run.trec");
        space
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file; a name that ends in `.gz` is compressed.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let bytes =
            if name.ends_with(".gz") { gzip(content.as_ref()) } else { content.as_ref().into() };
        fs::write(self.path(name), bytes).unwrap();
    }

    /// The content of a file.
    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// The binary, about to run a command line in the folder. Words are split at white space.
    pub fn command(&self, line: &str) -> Command {
        Command::from_std(self.std_command(line))
    }

    /// The same for tests that need the process itself.
    pub fn std_command(&self, line: &str) -> std::process::Command {
        let mut words = line.split_whitespace();
        assert_eq!(words.next(), Some("xqg"), "a command line begins with xqg");
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_xqg"));
        // Folders are compared before and after; what is kept to save time would stand out.
        command.env("XQG_WEIGHT_CACHE", "off");
        for name in ["RUST_LOG", "NO_COLOR", "RAYON_NUM_THREADS"] {
            command.env_remove(name);
        }
        for name in ["SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN"] {
            command.env_remove(name);
        }
        command.env("HF_HUB_OFFLINE", "1").env("HF_HOME", self.path("no-cache"));
        command.current_dir(self.folder.path()).args(words);
        command
    }

    /// Runs a command line to its end, whatever that is.
    pub fn run(&self, line: &str) -> Done {
        end(self.command(line))
    }

    /// Runs a command line that must succeed.
    pub fn works(&self, line: &str) -> Done {
        succeed(self.command(line), line)
    }

    /// Runs a command line that must fail with this exit code and leave every file of the folder
    /// as it was; returns its message, which must hold all the words.
    pub fn fails(&self, code: i32, line: &str, words: &[&str]) -> String {
        let before = files(self.folder.path());
        let done = self.run(line);
        let message = check_message(&done, code, line, words);
        assert_same(&files(self.folder.path()), &before, line);
        message
    }
}

/// Runs a prepared command to its end.
pub fn end(mut command: Command) -> Done {
    seen(command.output().unwrap())
}

/// What a command that has ended left to see.
pub fn seen(output: Output) -> Done {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Done { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// Runs a prepared command that must succeed.
pub fn succeed(command: Command, what: &str) -> Done {
    let done = end(command);
    assert_eq!(done.code, Some(0), "{what}\n{}", done.err);
    done
}

/// Checks a failure: the exit code, one message of the one form, no panic, all the words.
pub fn check_message(done: &Done, code: i32, what: &str, words: &[&str]) -> String {
    assert_eq!(done.code, Some(code), "{what}\n{}{}", done.out, done.err);
    assert!(!done.err.contains("panicked"), "{what}\n{}", done.err);
    assert_eq!(done.err.matches("error: ").count(), 1, "{what}\n{}", done.err);
    let at = done.err.find("error: ").unwrap();
    assert!(at == 0 || done.err[..at].ends_with('\n'), "{what}\n{}", done.err);
    let message = done.err[at..].to_owned();
    for word in words {
        assert!(message.contains(word), "{what}\nexpected `{word}` in\n{message}");
    }
    message
}

/// All files below a folder, by their path in it. The lock that a killed process leaves is not
/// content: the next process takes it over and removes it.
pub fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.ends_with(".lock") {
            continue;
        }
        if path.is_dir() {
            all.insert(format!("{name}/"), Vec::new());
            all.extend(files(&path).into_iter().map(|(n, bytes)| (format!("{name}/{n}"), bytes)));
        } else {
            all.insert(name, fs::read(&path).unwrap());
        }
    }
    all
}

/// Compares folders as [`files`] reads them, naming the file that differs.
pub fn assert_same(now: &BTreeMap<String, Vec<u8>>, then: &BTreeMap<String, Vec<u8>>, what: &str) {
    let names = |all: &BTreeMap<String, Vec<u8>>| all.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(now), names(then), "{what}");
    for (name, bytes) in now {
        assert!(then.get(name) == Some(bytes), "{what}: the bytes of {name} differ");
    }
}

/// Copies one of the tiny models.
pub fn copy_model(name: &str, to: &Path) {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../xqg-model/tests/golden");
    copy_folder(&golden.join(name), to);
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Passages `p0` to `p(n-1)`, no two alike.
pub fn passages(n: usize) -> String {
    let line = |i: usize| {
        let (topic, other) = (TOPICS[i % 12], TOPICS[i * 5 % 12]);
        let title = format!("The {topic} {i}");
        let text = format!("Number {i} is a {topic} near the {other}, built in {}.", 1500 + i);
        serde_json::json!({"_id": format!("p{i}"), "title": title, "text": text}).to_string() + "\n"
    };
    (0..n).map(line).collect()
}

/// For each of the passages `p0` to `p(n-1)` a question in each language that is kept.
pub fn questions(n: usize, keep: impl Fn(&str) -> bool) -> String {
    let langs: Vec<&str> = LANGS.into_iter().filter(|lang| keep(lang)).collect();
    let line = |(i, lang): (usize, &str)| {
        let text = question(i, lang);
        serde_json::json!({"docid": format!("p{i}"), "lang": lang, "text": text}).to_string() + "\n"
    };
    (0..n).flat_map(|i| langs.iter().map(move |lang| (i, *lang))).map(line).collect()
}

/// The question in a language that is attached to passage `i`.
pub fn question(i: usize, lang: &str) -> String {
    let topic = TOPICS[i % 12];
    match lang {
        "te" => format!("{topic} {i} ఎక్కడ ఉంది?"),
        "ar" => format!("متى بني {topic} {i}؟"),
        _ => format!("{topic} {i} 은 언제 지어졌나요?"),
    }
}

/// XOR-TyDi queries `q0` to `q(n-1)`: query i asks for passage i and is answered by its year.
pub fn queries(n: usize) -> String {
    let line = |i: usize| {
        let (lang, question) = (LANGS[i % 3], format!("{} {i}?", TOPICS[i % 12]));
        let answers = [(1500 + i).to_string()];
        let id = format!("q{i}");
        serde_json::json!({"id": id, "question": question, "answers": answers, "lang": lang})
            .to_string()
            + "\n"
    };
    (0..n).map(line).collect()
}

/// The same queries as BEIR has them: without answers and languages.
pub fn beir_queries(n: usize) -> String {
    let line = |i: usize| {
        let text = format!("{} {i}?", TOPICS[i % 12]);
        serde_json::json!({"_id": format!("q{i}"), "text": text}).to_string() + "\n"
    };
    (0..n).map(line).collect()
}

/// Bytes in gzip's format.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(bytes).unwrap();
    gz.finish().unwrap()
}
