//! Reading weight files that PyTorch and safetensors wrote (made by
//! `fixtures/checkpoint/make_checkpoint_fixtures.py`), damaged and hostile ones included. The
//! expected values are what PyTorch itself reads from the same files.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde::Deserialize;
use xqg_model::checkpoint::{Checkpoint, CheckpointError, PickleError};

/// What PyTorch reads.
#[derive(Deserialize)]
struct Expected {
    files: BTreeMap<String, BTreeMap<String, ExpectedTensor>>,
}

#[derive(Deserialize)]
struct ExpectedTensor {
    shape: Vec<usize>,
    values: Vec<f32>,
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/checkpoint").join(name)
}

fn expected() -> BTreeMap<String, BTreeMap<String, ExpectedTensor>> {
    let text = std::fs::read(fixture("expected.json")).unwrap();
    serde_json::from_slice::<Expected>(&text).unwrap().files
}

/// Opens the fixture and returns the error, which must be there.
fn refused(name: &str) -> CheckpointError {
    Checkpoint::open_file(&fixture(name)).err().unwrap()
}

fn assert_holds(checkpoint: &Checkpoint, tensors: &BTreeMap<String, ExpectedTensor>) {
    for (name, tensor) in tensors {
        assert_eq!(checkpoint.shape(name), Some(tensor.shape.as_slice()), "{name}");
        assert_eq!(checkpoint.tensor(name, &tensor.shape).unwrap(), tensor.values, "{name}");
    }
}

#[test]
fn torch_files_hold_what_pytorch_reads_from_them() {
    let files = expected();
    assert_eq!(files.len(), 5);
    for (name, tensors) in files {
        assert!(!tensors.is_empty());
        assert_holds(&Checkpoint::open_file(&fixture(&name)).unwrap(), &tensors);
    }
}

#[test]
fn sharded_folders_hold_what_the_whole_file_holds() {
    let whole = &expected()["plain.bin"];
    for folder in ["sharded", "sharded_bin"] {
        let checkpoint = Checkpoint::open(&fixture(folder)).unwrap();
        assert_holds(&checkpoint, whole);
        assert!(checkpoint.names().eq(whole.keys()));
        assert_eq!(checkpoint.files().len(), 3);
    }
}

#[test]
fn both_formats_give_the_same_floats_for_every_float_type() {
    let safetensors = Checkpoint::open_file(&fixture("dtypes.safetensors")).unwrap();
    assert_holds(&safetensors, &expected()["dtypes.bin"]);
}

#[test]
fn entries_that_are_no_tensors_are_left_out() {
    let checkpoint = Checkpoint::open_file(&fixture("views.bin")).unwrap();
    assert_eq!(checkpoint.shape("epoch"), None);
    assert_eq!(checkpoint.shape("scalar"), Some(&[][..]));
}

#[test]
fn integers_are_listed_but_refused_as_weights() {
    for name in ["dtypes.bin", "dtypes.safetensors"] {
        let checkpoint = Checkpoint::open_file(&fixture(name)).unwrap();
        assert_eq!(checkpoint.shape("i64"), Some(&[3][..]));
        let error = checkpoint.tensor("i64", &[3]).err().unwrap().to_string();
        assert!(error.ends_with("expected f32, f16, bf16 or f64, found i64"), "{error}");
    }
}

#[test]
fn a_wrong_shape_and_a_missing_name_are_told() {
    let checkpoint = Checkpoint::open_file(&fixture("plain.bin")).unwrap();
    let shape = checkpoint.tensor("dense.weight", &[4, 3]).err().unwrap().to_string();
    assert!(shape.ends_with("expected shape [4, 3], found [3, 4]"), "{shape}");
    let missing = checkpoint.tensor("weight", &[4, 3]).err().unwrap().to_string();
    assert!(missing.contains("`weight`") && missing.contains("found 4 tensors"), "{missing}");
}

#[test]
fn a_pickle_that_calls_something_is_refused_by_name_and_not_run() {
    let CheckpointError::Pickle { source, .. } = refused("evil.bin") else { panic!("not refused") };
    let PickleError::Global { module, name } = source else { panic!("not refused by name") };
    assert!(["posix", "nt"].contains(&module.as_str()) && name == "system");
    assert!(!Path::new("evil-ran").exists());
}

#[test]
fn formats_that_are_not_read_say_what_they_are() {
    assert!(matches!(refused("legacy.bin"), CheckpointError::LegacyTorch { .. }));
    let nested = refused("nested.bin");
    assert!(matches!(nested, CheckpointError::Pickle { source: PickleError::NoTensors, .. }));
    let big = refused("big_endian.bin").to_string();
    assert!(big.ends_with("record `byteorder`: expected little, found big"), "{big}");
    let short = refused("short_record.bin").to_string();
    assert!(short.ends_with("expected 12 elements of f32, found 44 bytes"), "{short}");
}

/// A copy of a fixture folder with one change.
fn changed(folder: &str, change: impl Fn(&Path)) -> (tempfile::TempDir, CheckpointError) {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixture(folder)).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    change(copy.path());
    let error = Checkpoint::open(copy.path()).err().unwrap();
    (copy, error)
}

#[test]
fn a_shard_that_is_not_there_is_named() {
    let shard = "model-00002-of-00002.safetensors";
    let (_copy, error) = changed("sharded", |folder| {
        std::fs::remove_file(folder.join(shard)).unwrap();
    });
    assert!(matches!(&error, CheckpointError::ShardMissing { shard: path, .. }
        if path.ends_with(shard)));
}

/// Replaces text in the index of a copied folder and opens that.
fn with_index(from: &str, to: &str) -> CheckpointError {
    let (_copy, error) = changed("sharded", |folder| {
        let path = folder.join("model.safetensors.index.json");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from));
        std::fs::write(&path, text.replace(from, to)).unwrap();
    });
    error
}

#[test]
fn an_index_that_lies_is_refused() {
    let absent = with_index("\"dense.weight\"", "\"dense.heavy\"");
    assert!(matches!(absent, CheckpointError::NotInShard { name, .. } if name == "dense.heavy"));
    let outside = with_index("\"model-00001", "\"../model-00001");
    assert!(matches!(outside, CheckpointError::ShardName { .. }));
    let broken = with_index("\"weight_map\"", "weight_map");
    assert!(matches!(broken, CheckpointError::Index { .. }));
}

/// Writes `bytes` as a safetensors file and opens it.
fn safetensors_file(bytes: &[u8]) -> Result<Checkpoint, CheckpointError> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
    Checkpoint::open(folder.path())
}

/// A safetensors file of that header and data.
fn safetensors_bytes(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

#[test]
fn damaged_safetensors_files_are_errors() {
    let tensor = |name, from, to| {
        format!(r#""{name}":{{"dtype":"F32","shape":[1],"data_offsets":[{from},{to}]}}"#)
    };
    let overlapping = format!("{{{},{}}}", tensor("a", 0, 4), tensor("b", 2, 6));
    let whole = std::fs::read(fixture("dtypes.safetensors")).unwrap();
    let damaged = [
        vec![],
        whole[..whole.len() - 1].to_vec(),
        (1u64 << 40).to_le_bytes().to_vec(),
        safetensors_bytes("{\"a\":", &[]),
        safetensors_bytes(&overlapping, &[0; 6]),
    ];
    for bytes in damaged {
        let error = safetensors_file(&bytes).err().unwrap();
        assert!(matches!(error, CheckpointError::Safetensors { .. }), "{error}");
    }
    let pointer = safetensors_file(b"version https://git-lfs.github.com/spec/v1\n").err().unwrap();
    assert!(matches!(pointer, CheckpointError::LfsPointer { .. }));
}

#[test]
fn weights_that_are_not_finite_are_named_with_their_place() {
    let header = r#"{"w":{"dtype":"F32","shape":[1,3],"data_offsets":[0,12]}}"#;
    let data: Vec<u8> =
        [1.0, f32::NAN, f32::INFINITY].iter().flat_map(|v| v.to_le_bytes()).collect();
    let checkpoint = safetensors_file(&safetensors_bytes(header, &data)).unwrap();
    let error = checkpoint.tensor("w", &[1, 3]).err().unwrap().to_string();
    assert!(error.ends_with("expected finite weights, found NaN at index 1"), "{error}");
}

#[test]
fn an_empty_folder_says_what_is_looked_for() {
    let folder = tempfile::tempdir().unwrap();
    let error = Checkpoint::open(folder.path()).err().unwrap();
    assert!(matches!(error, CheckpointError::NoWeights { .. }));
}

#[test]
fn safetensors_come_before_torch_files() {
    let folder = tempfile::tempdir().unwrap();
    for (from, to) in
        [("dtypes.safetensors", "model.safetensors"), ("plain.bin", "pytorch_model.bin")]
    {
        std::fs::copy(fixture(from), folder.path().join(to)).unwrap();
    }
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    assert_eq!(checkpoint.files(), [folder.path().join("model.safetensors")]);
}

#[test]
fn the_hash_is_that_of_the_file_contents() {
    let path = fixture("dtypes.safetensors");
    let checkpoint = Checkpoint::open_file(&path).unwrap();
    let contents = std::fs::read(&path).unwrap();
    assert_eq!(checkpoint.hash(), blake3::hash(&contents).to_hex().to_string());
}

/// Opens the bytes under a name of that ending and reads all tensors; only that it ends matters.
fn read_everything(bytes: &[u8], ending: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(format!("weights.{ending}"));
    std::fs::write(&path, bytes).unwrap();
    let Ok(checkpoint) = Checkpoint::open_file(&path) else {
        return;
    };
    for name in checkpoint.names() {
        let shape = checkpoint.shape(name).unwrap();
        let _read = checkpoint.tensor(name, shape);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn changed_and_cut_files_never_panic(
        file in 0usize..5,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let names =
            ["views.bin", "deflated.bin", "protocol4.bin", "dtypes.bin", "dtypes.safetensors"];
        let mut bytes = std::fs::read(fixture(names[file])).unwrap();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        read_everything(&bytes, names[file].rsplit('.').next().unwrap());
    }
}
