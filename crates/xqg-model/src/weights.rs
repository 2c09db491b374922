//! Opening the weights of a model folder: the network and the dense layers after it, from the
//! published files or from what an earlier run laid out beside them, and one hash over all of them.

use xqg_kernel::isa::Isa;

use crate::checkpoint::{Checkpoint, weight_files};
use crate::config::Config;
use crate::encoder::EncoderOptions;
use crate::error::ModelError;
use crate::linear::{Arithmetic, Linear, Precision, Rows, Worker};
use crate::network::Network;
use crate::network::load::Source;
use crate::packed::{self, Origin, PackedFile};
use crate::recipe::{DenseActivation, DenseModule, Recipe};

/// A dense layer over the pooled vector, as LaBSE has.
#[derive(Debug)]
pub(crate) struct Dense {
    module: DenseModule,
    linear: Linear,
    hash: String,
}

/// What the weight files of a folder give.
pub(crate) struct Weights {
    /// The transformer.
    pub network: Network,
    /// What comes after pooling.
    pub dense: Vec<Dense>,
    /// See [`weights_hash`].
    pub hash: String,
    /// The arithmetic that is really used.
    pub precision: Precision,
}

impl Weights {
    /// Opens the weights that a recipe names.
    ///
    /// # Errors
    /// When a file is missing, damaged or of another shape than the configuration says.
    pub fn open(
        recipe: &Recipe,
        config: Config,
        options: &EncoderOptions,
    ) -> Result<Self, ModelError> {
        let isa = options.isa.unwrap_or_else(Isa::detect);
        let how = Arithmetic { isa, precision: options.precision };
        let precision = how.effective();
        let checkpoint = Checkpoint::open(&recipe.network)?;
        let dense =
            recipe.dense.iter().map(|m| open_dense(m, isa)).collect::<Result<Vec<_>, _>>()?;
        let origin = if options.keep_packed { origin(recipe, &checkpoint, how) } else { None };
        if let Some(file) = origin.as_ref().and_then(PackedFile::open) {
            let source = Source::packed(&file, &checkpoint);
            if let Ok(network) = Network::load(&source, config.clone(), how) {
                return Ok(Self { network, dense, hash: file.hash, precision });
            }
        }
        let hash = weights_hash(&checkpoint, &dense, &config);
        let network = Network::load(&Source::published(&checkpoint), config, how)?;
        if let Some(origin) = origin {
            keep(&origin, &hash, &network);
        }
        Ok(Self { network, dense, hash, precision })
    }
}

/// Everything that decides laid-out weights and the hash of all weights.
fn origin(recipe: &Recipe, checkpoint: &Checkpoint, how: Arithmetic) -> Option<Origin> {
    let mut files = checkpoint.files().to_vec();
    files.push(recipe.network.join("config.json"));
    for module in &recipe.dense {
        files.push(module.folder.join("config.json"));
        files.extend(weight_files(&module.folder).ok()?);
    }
    let name = format!("{}-{}", how.effective().name(), how.isa.name());
    Origin::of(&recipe.network, &files, &name)
}

/// Writes laid-out weights; that it cannot is no error, for they are only kept to save time.
fn keep(origin: &Origin, hash: &str, network: &Network) {
    let path = origin.path.display();
    match packed::write(origin, hash, &network.arrays()) {
        Ok(()) => log::info!("laid-out weights are kept in {path}"),
        Err(e) => log::info!("keeping laid-out weights in {path}: {e}"),
    }
}

impl Dense {
    /// The layer over some pooled vectors.
    pub fn apply(&self, x: &[f32]) -> Vec<f32> {
        let (k, n) = (self.module.in_features, self.module.out_features);
        let (rows, stride) = (x.len() / k, self.linear.stride());
        let mut wide = vec![0.0; rows * stride];
        let x = Rows { data: x, stride: k };
        self.linear.apply(rows, x, None, &mut wide, &mut Worker::default());
        let mut out: Vec<f32> =
            wide.chunks_exact(stride).flat_map(|row| &row[..n]).copied().collect();
        if self.module.activation == DenseActivation::Tanh {
            out.iter_mut().for_each(|y| *y = y.tanh());
        }
        out
    }
}

/// Each dense module takes what the one before it gives.
pub(crate) fn check_dense(recipe: &Recipe, config: &Config) -> Result<(), ModelError> {
    let mut width = config.hidden_size;
    for module in &recipe.dense {
        if module.in_features != width || module.out_features == 0 {
            return Err(ModelError::Unexpected {
                path: module.folder.join("config.json"),
                expected: format!("in_features {width} and out_features of 1 or more"),
                found: format!("{} and {}", module.in_features, module.out_features),
            });
        }
        width = module.out_features;
    }
    Ok(())
}

fn open_dense(module: &DenseModule, isa: Isa) -> Result<Dense, ModelError> {
    let checkpoint = Checkpoint::open(&module.folder)?;
    let (n, k) = (module.out_features, module.in_features);
    let weight = checkpoint.tensor("linear.weight", &[n, k])?;
    let bias = if module.bias { checkpoint.tensor("linear.bias", &[n])? } else { vec![0.0; n] };
    let how = Arithmetic { isa, precision: Precision::F32 };
    let linear = Linear::new(weight, bias, k, how);
    Ok(Dense { module: module.clone(), linear, hash: checkpoint.hash() })
}

/// One hash over the weights of network and dense modules, and over the numbers of the config that
/// change a result without changing a weight.
fn weights_hash(checkpoint: &Checkpoint, dense: &[Dense], config: &Config) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(checkpoint.hash().as_bytes());
    for part in dense {
        hasher.update(part.hash.as_bytes());
        hasher.update(format!("{:?}", part.module.activation).as_bytes());
    }
    let (heads, eps) = (config.num_attention_heads, config.layer_norm_eps);
    let first = config.first_position();
    hasher.update(format!("{heads} {eps} {first} {:?}", config.hidden_act).as_bytes());
    hasher.finalize().to_hex().to_string()
}
