//! What the tests against PyTorch's numbers share: where these lie, how a tiny encoder and its numbers
//! are opened, how far two results are apart.
#![allow(dead_code)] // each test file uses its own part of this

pub mod decoding;

use std::path::{Path, PathBuf};

use serde_json::Value;
use xqg_kernel::dropout::Key;
use xqg_model::checkpoint::Checkpoint;
use xqg_model::config::Config;
use xqg_model::recipe::Pooling;
use xqg_train::cache::keyed;
use xqg_train::composed::device::{Compute, Opened, Place, Precision};
use xqg_train::network::pass::Text;
use xqg_train::network::{Encoder, Head};

/// The tiny encoders.
pub const FAMILIES: [&str; 3] = ["bert", "bert-tanh", "xlmr"];

/// A tiny encoder, the texts that it was run on, and what PyTorch got.
pub struct Golden {
    pub about: Value,
    pub tensors: Checkpoint,
    pub encoder: Encoder,
    pub texts: Vec<Text>,
}

/// The numbers of a network; on a machine without the sources `XQG_TEST_GOLDEN` says where they are.
pub fn folder(family: &str) -> PathBuf {
    let here = || Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    std::env::var_os("XQG_TEST_GOLDEN").map_or_else(here, PathBuf::from).join(family)
}

/// The device that is tested: the processor, or what the environment names.
pub fn device(precision: Precision) -> Opened {
    let name = std::env::var("XQG_TEST_DEVICE").unwrap_or_else(|_| "cpu-composed".into());
    let place: Place = name.parse().unwrap();
    Compute { place, precision: Some(precision) }.open().unwrap().unwrap()
}

/// What a program wrote beside its tensors.
pub fn about(folder: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join("golden.json")).unwrap()).unwrap()
}

/// The tensors that a program wrote.
pub fn tensors(folder: &Path) -> Checkpoint {
    Checkpoint::open_file(&folder.join("golden.safetensors")).unwrap()
}

/// One of them.
pub fn tensor(tensors: &Checkpoint, name: &str) -> Vec<f32> {
    let shape = tensors.shape(name).unwrap_or_else(|| panic!("no {name}")).to_vec();
    tensors.tensor(name, &shape).unwrap()
}

pub fn open(family: &str) -> Golden {
    let folder = folder(family);
    let about = about(&folder);
    let pooling = if about["pooling"] == "cls" { Pooling::Cls } else { Pooling::Mean };
    let head = Head { pooling, normalize: about["normalize"].as_bool().unwrap() };
    let checkpoint = Checkpoint::open(&folder).unwrap();
    let encoder = Encoder::load(&checkpoint, Config::read(&folder).unwrap(), head).unwrap();
    let texts: Vec<Vec<u32>> = serde_json::from_value(about["texts"].clone()).unwrap();
    let texts = keyed(texts, Key::new(5).part(1));
    Golden { about, tensors: tensors(&folder), encoder, texts }
}

impl Golden {
    pub fn tensor(&self, name: &str) -> Vec<f32> {
        tensor(&self.tensors, name)
    }

    pub fn number(&self, key: &str) -> f64 {
        self.about[key].as_f64().unwrap()
    }
}

/// The greatest distance of two numbers at one place.
pub fn farthest(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}
