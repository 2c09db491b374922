//! Weights that were laid out by an earlier run, and the memory of a running encoder: the same
//! vectors bit for bit, whatever lies beside the model, and no allocation once all has been seen.

#![allow(clippy::unwrap_used)] // a test that cannot set up its files should stop there

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use xqg_data::embeddings::Side;
use xqg_kernel::isa::Isa;
use xqg_model::encoder::{Encoder, EncoderOptions};
use xqg_model::linear::Precision;

/// Counts the bytes that are asked for.
struct Counting;

static ASKED: AtomicUsize = AtomicUsize::new(0);
/// The count is of the whole process: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

// SAFETY: every call is passed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, target).unwrap();
        }
    }
}

fn vectors(folder: &Path, isa: Isa, precision: Precision, keep_packed: bool) -> (Vec<f32>, String) {
    let options =
        EncoderOptions { precision, isa: Some(isa), keep_packed, ..EncoderOptions::default() };
    let encoder = Encoder::open(folder, &options).unwrap();
    let texts = ["one text", "and another, longer one", "?"].map(str::to_owned);
    let hash = encoder.contract().weights.clone();
    (encoder.encode(Side::Passage, &texts).unwrap().vectors, hash)
}

#[test]
fn laid_out_weights_change_no_bit() {
    let _alone = ALONE.lock().unwrap();
    for name in ["e5like", "labse", "bgem3", "labse-bin"] {
        let folder = tempfile::tempdir().unwrap();
        copy(&golden(name), folder.path());
        for isa in Isa::available() {
            for precision in [Precision::F32, Precision::Int8, Precision::Int8Fast] {
                let plain = vectors(folder.path(), isa, precision, false);
                for _ in 0..2 {
                    assert_eq!(
                        vectors(folder.path(), isa, precision, true),
                        plain,
                        "{name} {isa:?}"
                    );
                }
            }
        }
        let kept = fs::read_dir(folder.path().join(".xqg")).unwrap().count();
        assert_eq!(kept, 1 + 3 * (Isa::available().len() - 1), "{name}");
    }
}

#[test]
fn damaged_or_foreign_laid_out_weights_are_not_used() {
    let _alone = ALONE.lock().unwrap();
    let folder = tempfile::tempdir().unwrap();
    copy(&golden("e5like"), folder.path());
    let isa = Isa::detect();
    let plain = vectors(folder.path(), isa, Precision::F32, true);
    let file = fs::read_dir(folder.path().join(".xqg")).unwrap().next().unwrap().unwrap().path();
    let whole = fs::read(&file).unwrap();
    for length in [0, 7, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(&file, &whole[..length]).unwrap();
        assert_eq!(vectors(folder.path(), isa, Precision::F32, true), plain, "cut at {length}");
    }
    copy(&golden("st6"), folder.path());
    assert_ne!(vectors(folder.path(), isa, Precision::F32, true), plain, "another model's files");
}

#[test]
fn a_place_that_cannot_be_written_only_costs_time() {
    let _alone = ALONE.lock().unwrap();
    let folder = tempfile::tempdir().unwrap();
    copy(&golden("e5like"), folder.path());
    fs::write(folder.path().join(".xqg"), "a file where a folder would be").unwrap();
    let isa = Isa::detect();
    let plain = vectors(folder.path(), isa, Precision::F32, false);
    assert_eq!(vectors(folder.path(), isa, Precision::F32, true), plain);
}

#[test]
fn a_warm_encoder_allocates_only_for_tokens_and_results() {
    let _alone = ALONE.lock().unwrap();
    let options = EncoderOptions { precision: Precision::Int8, ..EncoderOptions::default() };
    let encoder = Encoder::open(&golden("e5like"), &options).unwrap();
    let texts: Vec<String> = (0..200).map(|i| format!("text number {i} of some")).collect();
    let asked = |work: &dyn Fn()| {
        let before = ASKED.load(Ordering::Relaxed);
        work();
        ASKED.load(Ordering::Relaxed) - before
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    pool.install(|| {
        let encode = || drop(encoder.encode(Side::Passage, &texts).unwrap());
        let tokens = || drop(encoder.tokens(Side::Passage, &texts).unwrap());
        encode();
        tokens();
        let (all, only_tokens) = (asked(&encode), asked(&tokens));
        // The result itself, and what a thread pool needs to hand out the parts.
        let result = texts.len() * encoder.dim() * 4 + 4096;
        assert!(all <= only_tokens + result, "{all} bytes, of which tokens {only_tokens}");
    });
}
