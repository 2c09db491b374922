//! Which parameter stands where: the published names of BERT and XLM-RoBERTa checkpoints.

use xqg_model::checkpoint::{Checkpoint, CheckpointError};
use xqg_model::config::Config;

use crate::parameters::{Kind, Parameter, Parameters};

/// A linear layer, `y = x Wᵀ + b`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Linear {
    /// Place of the weight, `output x input`.
    pub weight: usize,
    /// Place of the bias.
    pub bias: usize,
    /// Length of a result row.
    pub output: usize,
    /// Length of an input row.
    pub input: usize,
}

/// A layer norm.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Norm {
    /// Place of the factors.
    pub weight: usize,
    /// Place of the summands.
    pub bias: usize,
}

/// One layer.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    /// Query, key and value.
    pub qkv: [Linear; 3],
    /// After the attention.
    pub attention_out: Linear,
    /// After the first residual.
    pub attention_norm: Norm,
    /// To the inner state.
    pub expand: Linear,
    /// And back.
    pub contract: Linear,
    /// After the second residual.
    pub output_norm: Norm,
}

/// The whole network.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    /// The word embedding.
    pub words: usize,
    /// The position embedding.
    pub positions: usize,
    /// The token type embedding.
    pub types: usize,
    /// The norm over their sum.
    pub norm: Norm,
    /// The layers, from the first.
    pub layers: Vec<Layer>,
}

/// The checkpoint's names for what is asked.
struct Names<'a> {
    checkpoint: &'a Checkpoint,
    prefix: &'static str,
    parameters: &'a mut Parameters,
}

impl Names<'_> {
    fn load(&mut self, name: &str, shape: &[usize], kind: Kind) -> Result<usize, CheckpointError> {
        self.parameters.load(self.checkpoint, format!("{}{name}", self.prefix), shape, kind)
    }

    fn linear(
        &mut self,
        name: &str,
        output: usize,
        input: usize,
    ) -> Result<Linear, CheckpointError> {
        let weight = self.load(&format!("{name}.weight"), &[output, input], Kind::Weight)?;
        let bias = self.load(&format!("{name}.bias"), &[output], Kind::Plain)?;
        Ok(Linear { weight, bias, output, input })
    }

    /// A layer norm; checkpoints converted from TensorFlow call its parts gamma and beta.
    fn norm(&mut self, name: &str, dim: usize) -> Result<Norm, CheckpointError> {
        let old = self.checkpoint.shape(&format!("{}{name}.gamma", self.prefix)).is_some();
        let (weight, bias) = if old { ("gamma", "beta") } else { ("weight", "bias") };
        Ok(Norm {
            weight: self.load(&format!("{name}.{weight}"), &[dim], Kind::Plain)?,
            bias: self.load(&format!("{name}.{bias}"), &[dim], Kind::Plain)?,
        })
    }

    fn layer(&mut self, index: usize, c: &Config) -> Result<Layer, CheckpointError> {
        let (h, f) = (c.hidden_size, c.intermediate_size);
        let at = |part: &str| format!("encoder.layer.{index}.{part}");
        Ok(Layer {
            qkv: [
                self.linear(&at("attention.self.query"), h, h)?,
                self.linear(&at("attention.self.key"), h, h)?,
                self.linear(&at("attention.self.value"), h, h)?,
            ],
            attention_out: self.linear(&at("attention.output.dense"), h, h)?,
            attention_norm: self.norm(&at("attention.output.LayerNorm"), h)?,
            expand: self.linear(&at("intermediate.dense"), f, h)?,
            contract: self.linear(&at("output.dense"), h, f)?,
            output_norm: self.norm(&at("output.LayerNorm"), h)?,
        })
    }
}

/// What stands before the published names: nothing, or the encoder's name in a larger model.
fn prefix(checkpoint: &Checkpoint) -> &'static str {
    let has = |prefix: &str| {
        checkpoint.shape(&format!("{prefix}embeddings.word_embeddings.weight")).is_some()
    };
    ["", "bert.", "roberta."].into_iter().find(|p| has(p)).unwrap_or("")
}

impl Places {
    /// Loads all parameters that the network of `config` has.
    pub fn load(
        checkpoint: &Checkpoint,
        config: &Config,
        parameters: &mut Parameters,
    ) -> Result<Self, CheckpointError> {
        let mut names = Names { checkpoint, prefix: prefix(checkpoint), parameters };
        let h = config.hidden_size;
        let mut table = |part: &str, rows: usize, kind| {
            names.load(&format!("embeddings.{part}_embeddings.weight"), &[rows, h], kind)
        };
        Ok(Self {
            words: table("word", config.vocab_size, Kind::Table)?,
            positions: table("position", config.max_position_embeddings, Kind::Weight)?,
            types: table("token_type", config.type_vocab_size, Kind::Weight)?,
            norm: names.norm("embeddings.LayerNorm", h)?,
            layers: (0..config.num_hidden_layers)
                .map(|i| names.layer(i, config))
                .collect::<Result<_, _>>()?,
        })
    }

    /// Marks the embeddings as not trained.
    pub fn freeze_embeddings(&self, parameters: &mut Parameters) {
        for place in [self.words, self.positions, self.types] {
            parameters.0[place].kind = Kind::Frozen;
        }
    }
}

/// The float tensors of a checkpoint that the network does not use.
pub(super) fn others(
    checkpoint: &Checkpoint,
    parameters: &Parameters,
) -> Result<Vec<Parameter>, CheckpointError> {
    let used: std::collections::BTreeSet<&str> =
        parameters.0.iter().map(|p| p.name.as_str()).collect();
    let mut others = Vec::new();
    for name in checkpoint.names().filter(|name| !used.contains(name)) {
        let shape = checkpoint.shape(name).unwrap_or_default().to_vec();
        match checkpoint.tensor(name, &shape) {
            Ok(values) => {
                others.push(Parameter { name: name.to_owned(), shape, values, kind: Kind::Frozen });
            }
            // Buffers of whole numbers, like position_ids, follow from the configuration.
            Err(CheckpointError::NotFloat { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(others)
}
