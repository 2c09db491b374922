//! A disk that is full, read-only or not ours: said with its name, nothing lost, and once there is
//! space the same command goes on and finishes. Needs a small file system of its own, so each test
//! says that it was skipped where it may not mount one.
#![cfg(target_os = "linux")]
// A test that cannot set up its files should stop there; one that is skipped says so.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod support;

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::{Space, assert_same, check_message, files, passages, questions, seen};

const INDEX: &str = "xqg index --model e5like --corpus corpus.jsonl --queries generated.jsonl";
const FULL: [&str; 2] =
    ["No space left on device", "\nhint: free some space and run the same command again"];

/// A small file system in memory, taken away at the end.
struct Mounted(PathBuf);

impl Mounted {
    /// Mounts it at `disk` in the space; none where that is not permitted.
    fn new(space: &Space, size: &str) -> Option<Self> {
        let path = space.path("disk");
        fs::create_dir(&path).unwrap();
        let options = format!("size={size}");
        if mount(&["-t", "tmpfs", "-o", &options, "tmpfs"], &path) {
            return Some(Self(path));
        }
        eprintln!("skipped: mounting a file system is not permitted here");
        None
    }

    fn remount(&self, option: &str) {
        assert!(mount(&["-o", &format!("remount,{option}")], &self.0), "remounting");
    }

    /// Fills what is free but for `spare` bytes with a file.
    fn fill(&self, spare: usize) {
        let filler = self.0.join("filler");
        let mut size = 0;
        while fs::write(&filler, vec![0; size + 4096]).is_ok() {
            size += 4096;
        }
        fs::write(&filler, vec![0; size.saturating_sub(spare)]).unwrap();
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

fn mount(arguments: &[&str], path: &Path) -> bool {
    let output = Command::new("mount").args(arguments).arg(path).output();
    output.is_ok_and(|output| output.status.success())
}

/// A space with 400 passages and 300 questions.
fn larger() -> Space {
    let space = Space::new();
    space.write("corpus.jsonl", passages(400));
    space.write("generated.jsonl", questions(100, |_| true));
    space
}

/// The inodes of the finished files with this ending: another one means written again.
fn inodes(folder: &Path, ending: &str) -> Vec<(String, u64)> {
    let names = files(folder).into_keys().filter(|name| name.ends_with(ending));
    names.map(|name| (name.clone(), fs::metadata(folder.join(&name)).unwrap().ino())).collect()
}

/// Runs out of space in the middle, gets more, finishes, and has the bytes of `sound`.
fn goes_on(space: &Space, disk: &Mounted, line: &str, ending: &str) {
    let line_there = format!("{line} --out disk/NEW");
    let message = check_message(&space.run(&line_there), 1, &line_there, &FULL);
    assert!(message.contains("disk/NEW.partial/"), "{message}");
    assert!(!space.path("disk/NEW").exists(), "nothing unfinished at the place");
    let unfinished = space.path("disk/NEW.partial");
    assert!(files(&unfinished).keys().all(|name| !name.ends_with(".partial")), "{message}");
    let done = inodes(&unfinished, ending);
    assert!(done.len() > 1, "the disk was full before the work began");
    disk.remount("size=8m");
    space.works(&line_there);
    let all = inodes(&space.path("disk/NEW"), ending);
    assert!(all.len() > done.len() && done.iter().all(|file| all.contains(file)), "began anew");
    space.works(&format!("{line} --out SOUND"));
    let [new, sound] = ["disk/NEW", "SOUND"].map(|name| files(&space.path(name)));
    assert_same(&new, &sound, line);
    let names: Vec<_> = fs::read_dir(&disk.0).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["NEW"], "nothing is left beside it");
}

#[test]
fn an_index_goes_on_when_there_is_space() {
    let space = larger();
    let Some(disk) = Mounted::new(&space, "200k") else { return };
    goes_on(&space, &disk, &format!("{INDEX} --unit-rows 32"), "d.npy");
}

#[test]
fn encoding_goes_on_when_there_is_space() {
    let space = larger();
    let Some(disk) = Mounted::new(&space, "48k") else { return };
    let line = "xqg encode --model e5like --corpus corpus.jsonl --shard-rows 32";
    goes_on(&space, &disk, line, ".npy");
}

#[test]
fn a_run_and_an_addition_can_be_repeated_when_there_is_space() {
    let space = Space::indexed();
    let Some(disk) = Mounted::new(&space, "256k") else { return };
    space.works(&format!("{INDEX} --out disk/INDEX"));
    space.write("more.jsonl", questions(11, |lang| lang == "ar").repeat(50));
    disk.fill(4096);
    for line in [
        "xqg search --index INDEX --queries queries.jsonl --out disk/run.trec",
        "xqg index add --index disk/INDEX --queries more.jsonl",
    ] {
        space.fails(1, line, &FULL);
    }
    fs::remove_file(space.path("disk/filler")).unwrap();
    space.works("xqg search --index INDEX --queries queries.jsonl --out disk/run.trec");
    assert_eq!(space.read("disk/run.trec"), space.read("run.trec"));
    space.works("xqg index add --index disk/INDEX --queries more.jsonl");
    space.works("xqg index add --index INDEX --queries more.jsonl");
    let [there, here] = ["disk/INDEX", "INDEX"].map(|name| files(&space.path(name)));
    assert_same(&there, &here, "index add");
}

#[test]
fn a_read_only_disk_is_named_before_the_work_begins() {
    let space = Space::indexed();
    let Some(disk) = Mounted::new(&space, "1m") else { return };
    space.works(&format!("{INDEX} --out disk/INDEX"));
    disk.remount("ro");
    for line in [
        "xqg index --model e5like --corpus corpus.jsonl --out disk/NEW",
        "xqg index --model e5like --corpus corpus.jsonl --out disk/INDEX --force",
        "xqg index add --index disk/INDEX --queries generated.jsonl",
        "xqg index merge --out disk/NEW INDEX",
        "xqg encode --model e5like --queries queries.jsonl --out disk/NEW",
        "xqg search --index INDEX --queries queries.jsonl --out disk/run.trec",
        "xqg man --out disk/man",
    ] {
        let words = ["error: ", " disk", "Read-only file system", "\nhint: write to a place that"];
        space.fails(1, line, &words);
    }
}

/// Runs a command line as somebody who owns nothing here; none where that cannot be.
fn run_as_nobody(space: &Space, line: &str) -> Option<support::Done> {
    let mut command = space.std_command(line);
    if fs::metadata(space.path(".")).unwrap().uid() == 0 {
        command.uid(65_534).gid(65_534);
    }
    match command.output() {
        Err(e) if e.kind() == ErrorKind::PermissionDenied => {
            eprintln!("skipped: the binary is where only root may run it");
            None
        }
        output => Some(seen(output.unwrap())),
    }
}

#[test]
fn a_folder_without_permission_is_named() {
    let space = Space::indexed();
    for (name, mode) in [(".", 0o755), ("locked", 0o555)] {
        fs::create_dir_all(space.path(name)).unwrap();
        fs::set_permissions(space.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let secret = fs::Permissions::from_mode(0o000);
    space.write("secret.jsonl", "{}");
    fs::set_permissions(space.path("secret.jsonl"), secret).unwrap();
    for line in [
        "xqg index --model e5like --corpus corpus.jsonl --out locked/NEW",
        "xqg encode --model e5like --queries queries.jsonl --out locked/NEW",
        "xqg search --index INDEX --queries queries.jsonl --out locked/run.trec",
        "xqg search --index INDEX --queries secret.jsonl --json",
        "xqg index --model e5like --corpus secret.jsonl --out locked/NEW",
    ] {
        let Some(done) = run_as_nobody(&space, line) else { return };
        let words =
            ["Permission denied", "\nhint: check the permissions of the file and its folder"];
        check_message(&done, 1, line, &words);
    }
    assert_eq!(fs::read_dir(space.path("locked")).unwrap().count(), 0);
}

#[test]
fn training_goes_on_from_its_last_save_when_there_is_space() {
    let space = Space::new();
    let passage =
        |id: String, text: &str| serde_json::json!({"docid": id, "title": "", "text": text});
    let row = |i: usize| {
        let row = serde_json::json!({
            "query_id": format!("q{i}"), "query": format!("number {i}"),
            "positive_passages": [passage(format!("p{i}"), &format!("this is {i}"))],
            "negative_passages": [passage(format!("n{i}"), &format!("this is {}", i + 1))],
        });
        format!("{row}\n")
    };
    space.write("rows.jsonl", (0..40).map(row).collect::<String>());
    let settings = "model = \"e5like\"\nout = \"SOUND\"\ndata.train = [\"rows.jsonl\"]\n\
        batch.queries = 4\nrun.steps = 15\nrun.save_every = 5\nrun.validate_every = 15\n";
    space.write("train.toml", settings);
    let Some(disk) = Mounted::new(&space, "600k") else { return };
    let line = "xqg train retriever --config train.toml --out disk/RUN";
    check_message(&space.run(line), 1, line, &FULL);
    let state: serde_json::Value =
        serde_json::from_slice(&space.read("disk/RUN/state/state.json")).unwrap();
    let saved = state["progress"]["step"].as_u64().unwrap();
    assert!((5..15).contains(&saved), "a save is whole: {state}");
    disk.remount("size=8m");
    let done = space.works(line);
    assert!(done.err.contains(&format!("going on after step {saved} ")), "{}", done.err);
    space.works("xqg train retriever --config train.toml");
    for file in ["last/model.safetensors", "state/moments-0.safetensors"] {
        let [there, here] = ["disk/RUN", "SOUND"].map(|run| space.read(&format!("{run}/{file}")));
        assert!(there == here, "{file} differs");
    }
}
