//! Which parameter stands where, by the names of a generator's weights.

use super::Shape;
use crate::network::places::{Linear, Norm};
use crate::parameters::Kind;

/// An attention: query, key, value and what follows.
#[derive(Debug, Clone)]
pub(crate) struct Attention {
    pub qkv: [Linear; 3],
    pub out: Linear,
}

/// One layer.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    pub self_norm: Norm,
    pub own: Attention,
    pub cross_norm: Norm,
    pub cross: Attention,
    pub ffn_norm: Norm,
    pub expand: Linear,
    pub contract: Linear,
}

/// The whole network.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    pub words: usize,
    pub positions: usize,
    pub output_bias: usize,
    pub layers: Vec<Layer>,
    pub final_norm: Norm,
}

/// Gives a tensor of a name and shape, and says its place.
type Give<'a, E> = dyn FnMut(String, &[usize], Kind) -> Result<usize, E> + 'a;

impl Places {
    /// Asks for all parameters of a decoder of that shape, in a fixed order.
    pub fn fill<E>(shape: &Shape, give: &mut Give<'_, E>) -> Result<Self, E> {
        let h = shape.hidden;
        Ok(Self {
            words: give("embed.weight".into(), &[shape.vocabulary, h], Kind::Weight)?,
            positions: give("positions.weight".into(), &[shape.positions, h], Kind::Weight)?,
            output_bias: give("output.bias".into(), &[shape.vocabulary], Kind::Plain)?,
            layers: (0..shape.layers).map(|i| layer(i, shape, give)).collect::<Result<_, _>>()?,
            final_norm: norm("final_norm", h, give)?,
        })
    }
}

fn layer<E>(index: usize, shape: &Shape, give: &mut Give<'_, E>) -> Result<Layer, E> {
    let (h, f) = (shape.hidden, shape.inner);
    let at = |part: &str| format!("layers.{index}.{part}");
    Ok(Layer {
        self_norm: norm(&at("self_norm"), h, give)?,
        own: attention(&at("self"), h, give)?,
        cross_norm: norm(&at("cross_norm"), h, give)?,
        cross: attention(&at("cross"), h, give)?,
        ffn_norm: norm(&at("ffn_norm"), h, give)?,
        expand: linear(&at("ffn.expand"), (f, h), give)?,
        contract: linear(&at("ffn.contract"), (h, f), give)?,
    })
}

fn attention<E>(name: &str, h: usize, give: &mut Give<'_, E>) -> Result<Attention, E> {
    let mut one = |part: &str| linear(&format!("{name}.{part}"), (h, h), give);
    Ok(Attention { qkv: [one("query")?, one("key")?, one("value")?], out: one("out")? })
}

fn norm<E>(name: &str, h: usize, give: &mut Give<'_, E>) -> Result<Norm, E> {
    let weight = give(format!("{name}.weight"), &[h], Kind::Plain)?;
    Ok(Norm { weight, bias: give(format!("{name}.bias"), &[h], Kind::Plain)? })
}

fn linear<E>(
    name: &str,
    (output, input): (usize, usize),
    give: &mut Give<'_, E>,
) -> Result<Linear, E> {
    let weight = give(format!("{name}.weight"), &[output, input], Kind::Weight)?;
    let bias = give(format!("{name}.bias"), &[output], Kind::Plain)?;
    Ok(Linear { weight, bias, output, input })
}
