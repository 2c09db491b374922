//! A linear layer, `y = x Wᵀ + b`, with its weights laid out for the machine: plain for the portable
//! path, packed into panels for the kernels, or packed and quantised to 8 bits.

mod select;

use std::collections::BTreeMap;

use safetensors::tensor::Dtype;
use xqg_kernel::attention::Width;
use xqg_kernel::isa::Isa;
use xqg_kernel::ops::{Activation, Shape, View, add_rows, matmul_transposed};
use xqg_kernel::product::{Int8Panels, Operands, Quantised, product_f32, product_int8};
use xqg_kernel::row::{activate, quantise_rows};

use crate::buffer::Buffer;
use crate::packed::{Array, PackedFile};

/// The arithmetic of the linear layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// Single precision throughout.
    #[default]
    F32,
    /// 8-bit weights, one scale a column, and 8-bit activations, one scale a row and made as they
    /// come; sums in 32 bits, everything between the products in f32.
    Int8,
    /// The same with 7-bit activations on AVX2, which can then add twice as many at a time; on
    /// AVX-512 with VNNI, which has no such limit, attention is in 8 bits too.
    Int8Fast,
}

impl Precision {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Int8 => "int8",
            Self::Int8Fast => "int8-fast",
        }
    }

    /// The fastest whose embeddings keep a cosine of 0.999 to f32's, by `bench/precision.sh`.
    pub fn near(isa: Isa) -> Self {
        if isa.has_wide_dot() { Self::Int8 } else { Self::F32 }
    }

    /// The precision of that name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::F32, Self::Int8, Self::Int8Fast].into_iter().find(|p| p.name() == name)
    }
}

/// How a network computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arithmetic {
    /// The kernels.
    pub isa: Isa,
    /// The numbers; without kernels always f32.
    pub precision: Precision,
}

impl Arithmetic {
    /// The numbers that are really used: without kernels there is no 8-bit path.
    pub fn effective(self) -> Precision {
        if self.isa == Isa::PORTABLE { Precision::F32 } else { self.precision }
    }

    /// The whole numbers of attention: of 16 bits, whose error does not show beside that of the
    /// layers, or of 8 bits, whose error does.
    pub fn attention(self) -> Option<Width> {
        match self.effective() {
            Precision::F32 => None,
            Precision::Int8 => Some(Width::Sixteen),
            Precision::Int8Fast => Some(Width::Eight),
        }
    }

    /// See [`quantise_rows`].
    fn activation_steps(self) -> f32 {
        let narrow = self.precision == Precision::Int8Fast && !self.isa.has_wide_dot();
        if narrow { 126.0 } else { 254.0 }
    }
}

#[derive(Debug)]
enum Weights {
    Plain(Buffer<f32>),
    F32(Buffer<f32>),
    Int8(Int8Weights),
}

/// Weights in 8 bits and how activations are quantised to meet them.
#[derive(Debug)]
struct Int8Weights {
    values: Buffer<i8>,
    scales: Buffer<f32>,
    sums: Buffer<i32>,
    /// See [`quantise_rows`].
    steps: f32,
}

/// A linear layer from `input` to `output` numbers.
#[derive(Debug)]
pub(crate) struct Linear {
    input: usize,
    output: usize,
    /// Whole panels.
    bias: Buffer<f32>,
    weights: Weights,
    isa: Isa,
}

/// Rows inside a longer buffer, `stride` numbers apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows<'a> {
    /// The buffer.
    pub data: &'a [f32],
    /// Numbers between the beginnings of two rows.
    pub stride: usize,
}

/// Who computes: its memory for quantised rows, and how many threads share one product.
#[derive(Debug)]
pub(crate) struct Worker {
    /// Memory for quantised rows; grows and is reused.
    pub quantised: Quantised,
    /// See [`product_f32`].
    pub team: usize,
}

impl Default for Worker {
    fn default() -> Self {
        Self { quantised: Quantised::default(), team: 1 }
    }
}

impl Linear {
    /// Lays out the weights, given row-major `output x input` as PyTorch stores them.
    pub fn new(weight: Vec<f32>, mut bias: Vec<f32>, input: usize, how: Arithmetic) -> Self {
        let (output, panel) = (bias.len(), how.isa.panel());
        bias.resize(output.next_multiple_of(panel), 0.0);
        let weights = match (how.isa, how.precision) {
            (Isa::PORTABLE, _) => Weights::Plain(weight.into()),
            (_, Precision::F32) => Weights::F32(pack(&weight, output, input, panel).into()),
            _ => Weights::Int8(pack_int8(&weight, output, input, how)),
        };
        Self { input, output, bias: bias.into(), weights, isa: how.isa }
    }

    /// A layer that an earlier run laid out and [`store`](Self::store)d; `None` where the file does
    /// not hold it.
    pub fn stored(
        file: &PackedFile,
        name: &str,
        (output, input): (usize, usize),
        how: Arithmetic,
    ) -> Option<Self> {
        let columns = output.next_multiple_of(how.isa.panel());
        let floats = |part: &str, n| file.array::<f32>(&format!("{name}.{part}"), Dtype::F32, n);
        let weights = match (how.isa, how.precision) {
            (Isa::PORTABLE, _) => Weights::Plain(floats("plain", output * input)?),
            (_, Precision::F32) => Weights::F32(floats("panels", columns * input)?),
            _ => Weights::Int8(Int8Weights {
                values: file.array(
                    &format!("{name}.values"),
                    Dtype::I8,
                    columns * input.next_multiple_of(4),
                )?,
                scales: floats("scales", columns)?,
                sums: file.array(&format!("{name}.sums"), Dtype::I32, columns)?,
                steps: how.activation_steps(),
            }),
        };
        Some(Self { input, output, bias: floats("bias", columns)?, weights, isa: how.isa })
    }

    /// Adds the layer's arrays to those that are to be written.
    pub fn store<'a>(&'a self, name: &str, to: &mut BTreeMap<String, Array<'a>>) {
        let mut put = |part: &str, array| to.insert(format!("{name}.{part}"), array);
        put("bias", Array::new(Dtype::F32, &self.bias));
        match &self.weights {
            Weights::Plain(weight) => put("plain", Array::new(Dtype::F32, weight)),
            Weights::F32(panels) => put("panels", Array::new(Dtype::F32, panels)),
            Weights::Int8(w) => {
                put("values", Array::new(Dtype::I8, &w.values));
                put("scales", Array::new(Dtype::F32, &w.scales));
                put("sums", Array::new(Dtype::I32, &w.sums))
            }
        };
    }

    /// Length of a result row in memory: whole panels.
    pub fn stride(&self) -> usize {
        self.bias.len()
    }

    /// `out = x · Wᵀ + b (+ residual)`; rows of `out` lie [`stride`](Self::stride) apart.
    pub fn apply(
        &self,
        rows: usize,
        x: Rows,
        residual: Option<Rows>,
        out: &mut [f32],
        worker: &mut Worker,
    ) {
        self.product(rows, x, (residual, false), out, worker);
    }

    /// `out = activation(x · Wᵀ + b)`; in 8 bits the GELU is the kernels' near one, to 2e-6.
    pub fn apply_activated(
        &self,
        rows: usize,
        x: Rows,
        activation: Activation,
        out: &mut [f32],
        worker: &mut Worker,
    ) {
        let within = activation == Activation::Gelu && matches!(self.weights, Weights::Int8(_));
        self.product(rows, x, (None, within), out, worker);
        if !within {
            activate(self.isa, &mut out[..rows * self.stride()], activation);
        }
    }

    /// The product with what is added to it and, in 8 bits, the GELU of it.
    fn product(
        &self,
        rows: usize,
        x: Rows,
        (residual, gelu): (Option<Rows>, bool),
        out: &mut [f32],
        worker: &mut Worker,
    ) {
        let Worker { quantised, team } = worker;
        let (a, a_stride, k) = (x.data, x.stride, self.input);
        let residual = residual.map(|r| (r.data, r.stride));
        let bias = Some(&*self.bias);
        let stride = self.stride();
        match &self.weights {
            Weights::F32(panels) => {
                let operands = Operands { a, a_stride, k, panels, bias, residual, gelu };
                product_f32(self.isa, rows, operands, (out, stride), *team);
            }
            Weights::Int8(w) => {
                let k4 = quantise_rows(self.isa, (rows, k), (a, a_stride), w.steps, quantised);
                let panels = Int8Panels { values: &w.values, scales: &w.scales, sums: &w.sums };
                let rest =
                    Operands { a: &[], a_stride: 0, k: 0, panels: &[], bias, residual, gelu };
                let factors = (&*quantised, &panels);
                product_int8(self.isa, (rows, k4), factors, rest, (out, stride), *team);
            }
            Weights::Plain(weight) => {
                let shape = Shape { m: rows, n: self.output, k };
                matmul_transposed(shape, View::new(a, a_stride), View::new(weight, k), out, stride);
                add_rows(&mut out[..rows * stride], &self.bias, residual);
            }
        }
    }
}

/// Some columns of a product.
pub(crate) struct Block<'a> {
    /// The first one.
    pub first: usize,
    /// How many of them are the layer's; the rest fills the last panel up.
    pub columns: usize,
    /// Rows, `stride` apart.
    pub data: &'a mut [f32],
    /// Numbers between the beginnings of two rows.
    pub stride: usize,
}

impl Linear {
    /// Length of a result row.
    pub fn output(&self) -> usize {
        self.output
    }

    /// `x · Wᵀ + b` in blocks of about `width` columns, each of which `each` sees once and in order:
    /// for layers whose whole result would not fit the cache.
    pub fn apply_blocks(
        &self,
        (rows, x): (usize, Rows),
        width: usize,
        worker: &mut Worker,
        out: &mut Vec<f32>,
        mut each: impl FnMut(Block),
    ) {
        let width = width.next_multiple_of(self.isa.panel());
        let mut k4 = 0;
        if let Weights::Int8(w) = &self.weights {
            let (k, from) = (self.input, (x.data, x.stride));
            k4 = quantise_rows(self.isa, (rows, k), from, w.steps, &mut worker.quantised);
        }
        for first in (0..self.output).step_by(width) {
            let stride = width.min(self.stride() - first);
            if out.len() < rows * stride {
                out.resize(rows * stride, 0.0);
            }
            self.block((rows, x, k4), (first, stride), out, worker);
            let columns = stride.min(self.output - first);
            each(Block { first, columns, data: &mut out[..rows * stride], stride });
        }
    }

    /// Columns `first..first + n`, whole panels, of rows that are already quantised where they must.
    fn block(
        &self,
        (rows, x, k4): (usize, Rows, usize),
        (first, n): (usize, usize),
        out: &mut [f32],
        worker: &Worker,
    ) {
        let (k, isa, team) = (self.input, self.isa, worker.team);
        let bias = Some(&self.bias[first..first + n]);
        match &self.weights {
            Weights::F32(panels) => {
                let panels = &panels[first * k..(first + n) * k];
                let (a, a_stride) = (x.data, x.stride);
                let operands =
                    Operands { a, a_stride, k, panels, bias, residual: None, gelu: false };
                product_f32(isa, rows, operands, (out, n), team);
            }
            Weights::Int8(w) => {
                let panels = Int8Panels {
                    values: &w.values[first * k4..(first + n) * k4],
                    scales: &w.scales[first..first + n],
                    sums: &w.sums[first..first + n],
                };
                let rest = Operands {
                    a: &[],
                    a_stride: 0,
                    k: 0,
                    panels: &[],
                    bias,
                    residual: None,
                    gelu: false,
                };
                let factors = (&worker.quantised, &panels);
                product_int8(isa, (rows, k4), factors, rest, (out, n), team);
            }
            Weights::Plain(weight) => {
                let shape = Shape { m: rows, n, k };
                let weight = View::new(&weight[first * k..], k);
                matmul_transposed(shape, View::new(x.data, x.stride), weight, out, n);
                add_rows(&mut out[..rows * n], &self.bias[first..first + n], None);
            }
        }
    }
}

/// Panels of `panel` columns, each `input x panel`; columns beyond the last are zeros.
fn pack(weight: &[f32], output: usize, input: usize, panel: usize) -> Vec<f32> {
    let mut packed = vec![0.0; output.next_multiple_of(panel) * input];
    for (column, row) in weight.chunks_exact(input).enumerate() {
        let start = column / panel * panel * input + column % panel;
        for (k, &w) in row.iter().enumerate() {
            packed[start + k * panel] = w;
        }
    }
    packed
}

/// The same in 8 bits, four k's of a column side by side; AVX2 gets 7 bits, see its kernel.
fn pack_int8(weight: &[f32], output: usize, input: usize, how: Arithmetic) -> Int8Weights {
    let isa = how.isa;
    let (panel, k4) = (isa.panel(), input.next_multiple_of(4));
    let columns = output.next_multiple_of(panel);
    let greatest = isa.greatest_weight();
    let (mut values, mut scales) = (vec![0; columns * k4], vec![0.0; columns]);
    let mut sums = vec![0; columns];
    for (column, row) in weight.chunks_exact(input).enumerate() {
        let scale = row.iter().fold(f32::MIN_POSITIVE, |m, w| m.max(w.abs())) / greatest;
        let start = column / panel * panel * k4 + column % panel * 4;
        scales[column] = scale;
        for (k, w) in row.iter().enumerate() {
            let value = (w / scale).round() as i8;
            values[start + k / 4 * 4 * panel + k % 4] = value;
            sums[column] += i32::from(value);
        }
    }
    Int8Weights {
        values: values.into(),
        scales: scales.into(),
        sums: sums.into(),
        steps: how.activation_steps(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn numbers(n: usize, seed: f32) -> Vec<f32> {
        (0..n).map(|i| ((i as f32 + seed) * 12.9898).sin()).collect()
    }

    fn apply(isa: Isa, precision: Precision, (m, n, k): (usize, usize, usize)) -> Vec<f32> {
        let how = Arithmetic { isa, precision };
        let linear = Linear::new(numbers(n * k, 0.5), numbers(n, 3.0), k, how);
        let (x, stride) = (numbers(m * (k + 3), 7.0), linear.stride());
        let residual = numbers(m * stride, 9.0);
        let mut out = vec![f32::NAN; m * stride];
        let (x, r) = (Rows { data: &x, stride: k + 3 }, Rows { data: &residual, stride });
        linear.apply(m, x, Some(r), &mut out, &mut Worker::default());
        let residual_of = |i: usize, j: usize| residual[i * stride + j];
        let row = |i: usize| (0..n).map(move |j| (i, j));
        (0..m).flat_map(row).map(|(i, j)| out[i * stride + j] - residual_of(i, j)).collect()
    }

    proptest! {
        #[test]
        fn kernels_equal_the_portable_path_over_odd_shapes(
            m in prop_oneof![0usize..30, Just(97), Just(193)], n in 1usize..71, k in 1usize..67
        ) {
            let plain = apply(Isa::PORTABLE, Precision::F32, (m, n, k));
            for isa in Isa::available() {
                for (ours, theirs) in apply(isa, Precision::F32, (m, n, k)).iter().zip(&plain) {
                    prop_assert!((ours - theirs).abs() < 1e-4, "{isa:?}: {ours} for {theirs}");
                }
                for (precision, levels) in [(Precision::Int8, 254.0), (Precision::Int8Fast, 126.0)] {
                    let rough = apply(isa, precision, (m, n, k));
                    let bound = 1e-4 + k as f32 * (0.6 / isa.greatest_weight() + 1.2 / levels);
                    for (ours, theirs) in rough.iter().zip(&plain) {
                        prop_assert!((ours - theirs).abs() < bound, "{isa:?}: {ours} for {theirs}");
                    }
                }
            }
        }
    }
}
