//! Killed at any moment, the same command goes on where it was, and all bytes equal those of work
//! that was never killed. The kills are real (SIGKILL), and each waits for a file that shows how
//! far the work has come, so they hit the same stages on slow machines and fast ones.
#![cfg(unix)]
#![allow(clippy::unwrap_used)] // a test that cannot set up its files should stop there

mod support;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use support::{Space, assert_same, files, passages, questions};

/// Longer than any stage takes on a slow machine; then the test has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A space with 3,000 passages in 47 units of 64, and 3,000 questions for the first thousand.
fn large() -> Space {
    let space = Space::new();
    space.write("corpus.jsonl", passages(3000));
    space.write("generated.jsonl", questions(1000, |_| true));
    space
}

/// Runs a command line and kills it as soon as a file is there. On a busy machine the kill may
/// come when the work is done: then the work is reset and begins anew, which is the answer.
fn kill_at(space: &Space, line: &str, file: &str, reset: impl Fn()) -> bool {
    let in_time = (0..9).position(|_| {
        let killed = killed_in_time(space, line, file);
        if !killed {
            reset();
        }
        killed
    });
    in_time.unwrap_or_else(|| panic!("{line}: nine times too late for {file}")) > 0
}

/// Whether the kill came before the end.
fn killed_in_time(space: &Space, line: &str, file: &str) -> bool {
    let mut command = space.std_command(line);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let (path, begun) = (space.path(file), Instant::now());
    while !path.exists() && child.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < PATIENCE, "{line}: no {file}");
        std::thread::yield_now();
    }
    child.kill().unwrap();
    let status = child.wait().unwrap();
    assert!(status.success() || status.signal() == Some(9), "{line}: {status}");
    status.signal() == Some(9)
}

/// Names and inodes of the finished files with this ending: another inode means written again.
fn inodes(folder: &Path, ending: &str) -> Vec<(String, u64)> {
    let names = files(folder).into_keys().filter(|name| name.ends_with(ending));
    names.map(|name| (name.clone(), fs::metadata(folder.join(&name)).unwrap().ino())).collect()
}

/// Kills the work at each of the files in turn, lets it finish, and compares it with `SOUND`.
fn survives(space: &Space, line: &str, moments: &[&str], ending: &str) {
    space.works(&format!("{line} --out SOUND"));
    let line = format!("{line} --out NEW");
    let mut finished: Vec<(String, u64)> = Vec::new();
    for moment in moments {
        let file = format!("NEW.partial/{moment}");
        if kill_at(space, &line, &file, || fs::remove_dir_all(space.path("NEW")).unwrap()) {
            finished.clear();
        }
        assert!(!space.path("NEW").exists(), "{moment}: nothing unfinished at the place");
        let now = inodes(&space.path("NEW.partial"), ending);
        assert!(finished.iter().all(|file| now.contains(file)), "{moment}: began anew");
        finished = now;
    }
    space.works(&line);
    let all = inodes(&space.path("NEW"), ending);
    assert!(finished.len() > 1 && finished.iter().all(|file| all.contains(file)), "began anew");
    let [new, sound] = ["NEW", "SOUND"].map(|name| files(&space.path(name)));
    assert_same(&new, &sound, &line);
    assert!(!space.path("NEW.partial").exists());
}

#[test]
fn an_index_killed_seven_times_has_the_same_bytes() {
    let line = "xqg index --model e5like --corpus corpus.jsonl --queries generated.jsonl \
                --unit-rows 64";
    let moments = [
        "begun.json",
        "units/00020/passages.jsonl",
        "units/00005/q0001.spill",
        "units/00000/d.npy",
        "units/00009/d.npy",
        "units/00001/q0001.sums.npy",
        "units/00008/q0001.jsonl",
    ];
    survives(&large(), line, &moments, "d.npy");
}

#[test]
fn embeddings_killed_four_times_have_the_same_bytes() {
    let line = "xqg encode --model e5like --corpus corpus.jsonl --shard-rows 64";
    let moments = ["manifest.json", "shard-00000.ids", "shard-00003.npy", "shard-00020.npy"];
    survives(&large(), line, &moments, ".npy");
}

#[test]
fn an_index_of_embeddings_killed_four_times_has_the_same_bytes() {
    let space = large();
    space.works("xqg encode --model e5like --corpus corpus.jsonl --out P --shard-rows 100");
    let line = "xqg index --embeddings P --corpus corpus.jsonl --unit-rows 8";
    let moments =
        ["begun.json", "units/00020/passages.jsonl", "units/00000/d.npy", "units/00099/d.npy"];
    survives(&space, line, &moments, "d.npy");
}

#[test]
fn an_addition_killed_twice_has_the_same_bytes() {
    let space = large();
    let build = "xqg index --model e5like --corpus corpus.jsonl --unit-rows 64";
    let reset = |name: &str| drop(space.works(&format!("{build} --out {name} --force")));
    let [sound, new] = ["SOUND", "NEW"].map(|name| {
        reset(name);
        format!("xqg index add --index {name} --queries generated.jsonl")
    });
    space.works(&sound);
    let before = space.read("NEW/manifest.json");
    for moment in ["adding.json", "units/00002/q0001.jsonl", "units/00009/q0001.counts.npy"] {
        kill_at(&space, &new, &format!("NEW/{moment}"), || reset("NEW"));
        assert_eq!(space.read("NEW/manifest.json"), before, "{moment}: not there yet");
        space.works("xqg search --index NEW --text river");
    }
    let kept = inodes(&space.path("NEW"), "q0001.jsonl");
    space.works(&new);
    let all = inodes(&space.path("NEW"), "q0001.jsonl");
    assert!(kept.len() > 2 && kept.iter().all(|file| all.contains(file)), "began anew");
    let [new, sound] = ["NEW", "SOUND"].map(|name| files(&space.path(name)));
    assert_same(&new, &sound, "index add");
}

#[test]
fn a_kill_at_the_very_end_is_mended_too() {
    let space = Space::new();
    let line = "xqg index --model e5like --corpus corpus.jsonl --queries generated.jsonl --out NEW";
    let reset = || fs::remove_dir_all(space.path("NEW")).unwrap();
    kill_at(&space, line, "NEW.partial/q0001.spilled.json", reset);
    let marks = ["begun.json", "q0001.spilled.json"];
    let marks = marks.map(|name| (name, space.read(&format!("NEW.partial/{name}"))));
    let mark = || marks.iter().for_each(|(name, text)| space.write(&format!("NEW/{name}"), text));
    space.works(line);
    let sound = files(&space.path("NEW"));
    // The index is at its place, but the marks of the build are still in it.
    mark();
    space.works("xqg search --index NEW --text river");
    let done = space.works(line);
    assert!(done.err.contains("NEW: 12 passages, 33 questions"), "{}", done.err);
    assert_same(&files(&space.path("NEW")), &sound, "killed after the move");
    // All is written and the manifest too, but a unit was not tidied nor the folder moved.
    mark();
    space.write("NEW/units/00000/q0001.spill", "");
    fs::rename(space.path("NEW"), space.path("NEW.partial")).unwrap();
    let encoded = inodes(&space.path("NEW.partial"), ".npy");
    space.works(line);
    assert_same(&files(&space.path("NEW")), &sound, "killed before the move");
    assert_eq!(inodes(&space.path("NEW"), ".npy"), encoded);
    space.fails(1, line, &["expected a new path, found an existing one"]);
}

#[test]
fn embeddings_and_additions_killed_at_the_very_end() {
    let space = Space::new();
    let encode = "xqg encode --model e5like --corpus corpus.jsonl --out NEW --shard-rows 5";
    space.works(encode);
    let sound = files(&space.path("NEW"));
    fs::rename(space.path("NEW"), space.path("NEW.partial")).unwrap();
    let vectors = inodes(&space.path("NEW.partial"), ".npy");
    space.works(encode);
    assert_same(&files(&space.path("NEW")), &sound, "encode");
    assert_eq!(inodes(&space.path("NEW"), ".npy"), vectors);
    let index = "xqg index --model e5like --corpus corpus.jsonl --out INDEX";
    space.works(index);
    let add = "xqg index add --index INDEX --queries generated.jsonl";
    space.write("large.jsonl", questions(11, |_| true).repeat(200));
    let reset = || drop(space.works(&format!("{index} --force")));
    kill_at(&space, &add.replace("generated", "large"), "INDEX/adding.json", reset);
    let words =
        ["resuming INDEX: expected the inputs", "another questions file", "\nhint: --force"];
    space.fails(1, add, &words);
    space.works(&format!("{add} --force"));
    let sound = files(&space.path("INDEX"));
    // The layer is in the manifest, but the mark of the addition is still there.
    let manifest: serde_json::Value =
        serde_json::from_slice(&space.read("INDEX/manifest.json")).unwrap();
    let mut layer = manifest["layers"][0].clone();
    layer["langs"] = serde_json::json!([]);
    space.write("INDEX/adding.json", layer.to_string());
    let done = space.works(add);
    assert!(done.err.contains("33 questions added"), "{}", done.err);
    assert_same(&files(&space.path("INDEX")), &sound, "index add");
}

/// Kills mining at each of the files in turn, lets it finish, and compares it with `sound.jsonl`.
fn mining_survives(space: &Space, line: &str, moments: &[&str]) {
    space.works(&format!("{line} --out sound.jsonl"));
    let line = format!("{line} --out new.jsonl");
    let folder = space.path("new.jsonl.units.partial");
    let mut finished: Vec<(String, u64)> = Vec::new();
    for moment in moments {
        let file = format!("new.jsonl.units.partial/{moment}");
        if kill_at(space, &line, &file, || fs::remove_file(space.path("new.jsonl")).unwrap()) {
            finished.clear();
        }
        assert!(!space.path("new.jsonl").exists(), "{moment}: nothing unfinished at the place");
        let now = inodes(&folder, ".jsonl");
        assert!(finished.iter().all(|file| now.contains(file)), "{moment}: began anew");
        finished = now;
    }
    assert!(finished.len() > 1, "some units were finished before");
    let other = format!("{line} --seed 7");
    space.fails(1, &other, &["resuming new.jsonl.units.partial", "seed: 42 | 7", "hint: --force"]);
    let done = space.works(&line);
    assert!(space.read("new.jsonl") == space.read("sound.jsonl"), "{line}");
    assert!(!folder.exists());
    let again = space.works(&format!("{line} --force"));
    assert_eq!(done.out, again.out, "the counts of all units, whoever mined them");
}

#[test]
fn mining_killed_at_any_moment_has_the_same_bytes() {
    let space = large();
    space.write("queries.jsonl", support::queries(2000));
    space.works("xqg index --model e5like --corpus corpus.jsonl --out INDEX");
    let line = "xqg mine --queries queries.jsonl --index INDEX --positives-to 3000 --luck 1 \
                --unit-queries 32";
    mining_survives(&space, line, &["plan.json", "unit-000002.jsonl", "unit-000030.json"]);
    let questions = support::queries(2000).replace("\"te\"", "\"en\"");
    space.write("queries.jsonl", questions);
    fs::remove_file(space.path("new.jsonl")).unwrap();
    fs::remove_file(space.path("sound.jsonl")).unwrap();
    let line = "xqg mine --queries queries.jsonl --bm25 --corpus corpus.jsonl --luck 1 \
                --unit-queries 16";
    mining_survives(&space, line, &["bm25/meta.json", "bm25/complete", "unit-000003.jsonl"]);
}

/// A space with 300 passages, and a tiny generator that reads with `e5like`.
fn generating() -> Space {
    let space = Space::new();
    space.write("corpus.jsonl", passages(300));
    support::copy_model("generator", &space.path("shared"));
    space.works("xqg encode --model e5like --corpus corpus.jsonl --precision f32 --out P");
    let manifest: serde_json::Value =
        serde_json::from_slice(&space.read("P/manifest.json")).unwrap();
    let mut config: serde_json::Value =
        serde_json::from_slice(&space.read("shared/config.json")).unwrap();
    config["encoder"] = manifest["contract"].clone();
    space.write("shared/config.json", config.to_string());
    space
}

#[test]
fn a_generator_killed_three_times_writes_the_same_bytes() {
    let space = generating();
    let line = "xqg generate --model shared --encoder e5like --corpus corpus.jsonl --langs fi,te -n 2 \
                --max-tokens 8 --precision f32 --unit-passages 16";
    space.works(&format!("{line} --out sound.jsonl"));
    let line = format!("{line} --out new.jsonl");
    let reset = || fs::remove_file(space.path("new.jsonl")).unwrap();
    for moment in ["plan.json", "unit-000002.jsonl", "unit-000009.json"] {
        kill_at(&space, &line, &format!("new.jsonl.units.partial/{moment}"), reset);
        assert!(!space.path("new.jsonl").exists(), "{moment}");
    }
    let other = line.replace("--precision f32", "--precision int8");
    space.fails(1, &other, &["arithmetic", "hint: --force"]);
    space.works(&line);
    assert!(space.read("new.jsonl") == space.read("sound.jsonl"));
}

#[test]
fn an_index_with_its_questions_killed_at_any_moment_has_the_same_bytes() {
    let space = generating();
    let line = "xqg index --generate --model e5like --generator shared --corpus corpus.jsonl \
                --langs fi,te -n 2 --max-tokens 8 --precision f32 --unit-rows 32";
    space.works(&format!("{line} --out SOUND"));
    let apart = "xqg generate --model shared --encoder e5like --corpus corpus.jsonl --langs fi,te -n 2 \
                 --max-tokens 8 --precision f32 --out SOUND.jsonl";
    space.works(apart);
    let line = format!("{line} --out NEW");
    let reset = || fs::remove_dir_all(space.path("NEW")).unwrap();
    let work = "NEW.questions.units.partial";
    for moment in ["unit-000000.jsonl", "finishing"] {
        kill_at(&space, &line, &format!("{work}/{moment}"), reset);
        assert!(!space.path("NEW").exists(), "{moment}");
    }
    // The index is at its place, but the work folder is still there.
    let kept: Vec<_> = files(&space.path(work)).into_iter().collect();
    space.works(&line);
    let same = |what: &str| {
        let [new, sound] = ["NEW", "SOUND"].map(|name| files(&space.path(name)));
        assert_same(&new, &sound, what);
        assert!(!space.path(work).exists(), "{what}");
    };
    same("an index that was killed twice");
    for (name, bytes) in kept {
        let path = space.path(&format!("{work}/{name}"));
        fs::create_dir_all(if name.ends_with('/') { &path } else { path.parent().unwrap() })
            .unwrap();
        if !name.ends_with('/') {
            fs::write(path, bytes).unwrap();
        }
    }
    let queries = space.read("SOUND.jsonl");
    space.write(&format!("{work}/questions.jsonl"), queries);
    let done = space.works(&line);
    assert!(done.err.contains("is finished"), "{}", done.err);
    same("and once more at the very end");
    space.fails(1, &line, &["expected a new path, found an existing one"]);
}

#[test]
fn mining_killed_at_its_very_end() {
    let space = Space::indexed();
    space.write("queries.jsonl", support::queries(3000));
    let line = "xqg mine --queries queries.jsonl --index INDEX --luck 1 --unit-queries 32";
    space.works(&format!("{line} --out sound.jsonl"));
    let line = format!("{line} --out new.jsonl");
    let reset = || fs::remove_file(space.path("new.jsonl")).unwrap();
    kill_at(&space, &line, "new.jsonl.units.partial/unit-000001.jsonl", reset);
    // The file is at its place, but the work folder is still there, and half of a unit is gone.
    space.write("new.jsonl", space.read("sound.jsonl"));
    space.write("new.jsonl.units.partial/finishing", "");
    fs::remove_file(space.path("new.jsonl.units.partial/unit-000000.json")).unwrap();
    space.works(&line);
    assert!(space.read("new.jsonl") == space.read("sound.jsonl"));
    assert!(!space.path("new.jsonl.units.partial").exists());
    space.fails(1, &line, &["expected a new path, found an existing one"]);
}
