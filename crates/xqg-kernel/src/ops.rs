//! The arithmetic of a transformer encoder on the CPU, portable: matrix products by the `gemm`
//! crate, the rest as plain loops that `pulp` compiles for the best instruction set of the machine.
//! Faster kernels may come beside these; these stay as what they are tested against.

use gemm::Parallelism;
use pulp::Arch;

use crate::product::fits;

/// The activation between the two halves of a feed-forward layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// Exact, by the error function.
    Gelu,
    /// By a hyperbolic tangent.
    GeluTanh,
    /// max(x, 0).
    Relu,
}

/// A row-major view of a matrix inside a longer buffer: element (i, j) lies at `i * stride + j`.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    data: &'a [f32],
    stride: usize,
}

impl<'a> View<'a> {
    /// A view of rows that lie `stride` numbers apart.
    pub fn new(data: &'a [f32], stride: usize) -> Self {
        Self { data, stride }
    }

    fn check(&self, rows: usize, columns: usize) {
        assert!(columns <= self.stride || rows <= 1, "rows do not overlap");
        let inside = fits(self.data.len(), rows, self.stride, columns);
        assert!(inside, "a view lies inside its buffer");
    }

    fn rows(self) -> Strided<'a> {
        (self, self.stride, 1)
    }

    /// The transposed matrix.
    fn columns(self) -> Strided<'a> {
        (self, 1, self.stride)
    }
}

/// Rows of the result, columns of the result, and the length of the sums between them.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Rows of the left factor and of the result.
    pub m: usize,
    /// Columns of the result.
    pub n: usize,
    /// Columns of the left factor.
    pub k: usize,
}

/// `out = a · bᵀ` (b row-major n x k, as PyTorch stores a linear layer's weight), out's rows
/// `out_stride` apart.
pub fn matmul_transposed(shape: Shape, a: View, b: View, out: &mut [f32], out_stride: usize) {
    a.check(shape.m, shape.k);
    b.check(shape.n, shape.k);
    product(shape, a.rows(), b.columns(), (out, out_stride), false);
}

/// `out = a · b` (b row-major k x n).
pub fn matmul(shape: Shape, a: View, b: View, out: &mut [f32], out_stride: usize) {
    a.check(shape.m, shape.k);
    b.check(shape.k, shape.n);
    product(shape, a.rows(), b.rows(), (out, out_stride), false);
}

/// `out += a · b` (b row-major k x n): a gradient that joins others.
pub fn matmul_add(shape: Shape, a: View, b: View, out: &mut [f32], out_stride: usize) {
    a.check(shape.m, shape.k);
    b.check(shape.k, shape.n);
    product(shape, a.rows(), b.rows(), (out, out_stride), true);
}

/// `out += aᵀ · b` (a row-major k x m, b row-major k x n): the gradient of a weight, from the
/// gradients of a linear layer's results and its inputs.
pub fn matmul_left_transposed_add(
    shape: Shape,
    a: View,
    b: View,
    out: &mut [f32],
    out_stride: usize,
) {
    a.check(shape.k, shape.m);
    b.check(shape.k, shape.n);
    product(shape, a.columns(), b.rows(), (out, out_stride), true);
}

/// A matrix with the strides of its two axes, checked by the caller.
type Strided<'a> = (View<'a>, usize, usize);

/// The common part: `out = a · b`, or `out += a · b` where `add` is set.
fn product(shape: Shape, a: Strided, b: Strided, (out, stride): (&mut [f32], usize), add: bool) {
    let Shape { m, n, k } = shape;
    View::new(out, stride).check(m, n);
    let ((a, a_m, a_k), (b, b_k, b_n)) = (a, b);
    // SAFETY: all three views were checked to lie inside their buffers for these shapes, the
    // factors by the callers, and `out` is borrowed mutably, so it overlaps neither factor.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            stride as isize,
            add,
            a.data.as_ptr(),
            a_k as isize,
            a_m as isize,
            b.data.as_ptr(),
            b_n as isize,
            b_k as isize,
            if add { 1.0 } else { 0.0 },
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

/// Adds a bias, and a residual if there is one, to rows as long as the bias.
pub fn add_rows(rows: &mut [f32], bias: &[f32], residual: Option<(&[f32], usize)>) {
    for (i, row) in rows.chunks_exact_mut(bias.len()).enumerate() {
        row.iter_mut().zip(bias).for_each(|(x, b)| *x += b);
        if let Some((residual, stride)) = residual {
            row.iter_mut().zip(&residual[i * stride..]).for_each(|(x, r)| *x += r);
        }
    }
}

/// Applies the activation to every number.
pub fn activate(numbers: &mut [f32], activation: Activation) {
    Arch::new().dispatch(
        #[inline(always)]
        || match activation {
            Activation::Gelu => numbers.iter_mut().for_each(|x| *x = gelu(*x)),
            Activation::GeluTanh => numbers.iter_mut().for_each(|x| *x = gelu_tanh(*x)),
            Activation::Relu => numbers.iter_mut().for_each(|x| *x = x.max(0.0)),
        },
    );
}

/// `gelu_tanh(x) · gate` in place of x: the gated feed-forward of T5 1.1 (Shazeer 2020, GEGLU).
pub fn gate(numbers: &mut [f32], gate: &[f32]) {
    Arch::new().dispatch(
        #[inline(always)]
        || numbers.iter_mut().zip(gate).for_each(|(x, g)| *x = gelu_tanh(*x) * g),
    );
}

/// Quantises one row to whole levels from 0 to `steps + 1`; returns scale and zero.
pub fn quantise_row(x: &[f32], steps: f32, out: &mut [u8]) -> (f32, i32) {
    let low = x.iter().copied().fold(0f32, f32::min);
    let high = x.iter().copied().fold(0f32, f32::max);
    let scale = ((high - low) / steps).max(f32::MIN_POSITIVE);
    let (inverse, zero) = (1.0 / scale, (-low / scale).round());
    for (q, v) in out.iter_mut().zip(x) {
        *q = (v * inverse + zero).round().clamp(0.0, steps + 1.0) as u8;
    }
    (scale, zero as i32)
}

/// Scale and shift of a layer norm.
#[derive(Debug, Clone)]
pub struct Norm {
    /// Factor of each column.
    pub weight: Vec<f32>,
    /// Summand of each column.
    pub bias: Vec<f32>,
    /// Added to the variance.
    pub eps: f32,
}

/// Normalises rows that lie `stride` apart; the norm's length is the rows' own.
pub fn norm_rows(rows: &mut [f32], stride: usize, norm: &Norm) {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            for row in rows.chunks_exact_mut(stride) {
                norm_row(&mut row[..norm.weight.len()], norm);
            }
        },
    );
}

/// Normalises one row to mean 0 and variance 1, then scales and shifts it.
#[inline(always)]
pub fn norm_row(row: &mut [f32], norm: &Norm) {
    let n = row.len() as f32;
    let mean = sum(row, |x| x) / n;
    let variance = sum(row, |x| (x - mean) * (x - mean)) / n;
    let scale = 1.0 / (variance + norm.eps).sqrt();
    for ((x, w), b) in row.iter_mut().zip(&norm.weight).zip(&norm.bias) {
        *x = (*x - mean) * scale * w + b;
    }
}

/// Divides rows that lie `stride` apart by their root mean square and scales them:
/// `x / sqrt(mean(x²) + eps) · weight` (Zhang and Sennrich 2019, eq. 4).
pub fn rms_rows(rows: &mut [f32], stride: usize, weight: &[f32], eps: f32) {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            for row in rows.chunks_exact_mut(stride) {
                let row = &mut row[..weight.len()];
                let scale = 1.0 / (sum(row, |x| x * x) / row.len() as f32 + eps).sqrt();
                row.iter_mut().zip(weight).for_each(|(x, w)| *x = *x * scale * w);
            }
        },
    );
}

/// The greatest number of a row; `f32::MIN` for an empty one.
pub fn greatest(row: &[f32]) -> f32 {
    row.iter().fold(f32::MIN, |m, &x| if x > m { x } else { m })
}

/// The sum of `exp(x - shift)` over a row, none of whose numbers is above the shift.
pub fn sum_exp(row: &[f32], shift: f32) -> f32 {
    Arch::new().dispatch(
        #[inline(always)]
        || sum(row, |x| exp(x - shift)),
    )
}

/// A sum in sixteen lanes, so that it vectorises and its order never depends on the machine.
#[inline(always)]
pub(crate) fn sum(row: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0f32; 16];
    let chunks = row.chunks_exact(16);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane += f(x);
        }
    }
    let tail: f32 = rest.iter().map(|&x| f(x)).sum();
    lanes.iter().sum::<f32>() + tail
}

/// Softmax of the first `columns` numbers of each row after a common factor: `softmax(scale * row)`;
/// rows lie `stride` apart.
pub fn softmax_rows(scores: &mut [f32], stride: usize, columns: usize, scale: f32) {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            for row in scores.chunks_exact_mut(stride) {
                softmax_row(&mut row[..columns], scale);
            }
        },
    );
}

#[inline(always)]
fn softmax_row(row: &mut [f32], scale: f32) {
    let max = row.iter().fold(f32::MIN, |m, &x| if x > m { x } else { m });
    for x in row.iter_mut() {
        *x = exp((*x - max) * scale);
    }
    let inverse = 1.0 / sum(row, |x| x);
    for x in row.iter_mut() {
        *x *= inverse;
    }
}

/// The exponential for x <= 0 (softmax, erf), relative error below 1e-7: reduction by ln 2 in two
/// parts and the degree-5 minimax polynomial of Cephes `expf`.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to a whole number
    // Below this the result is no normal number, and such numbers are slow.
    let (x, tiny) = if x < -87.0 { (-87.0, true) } else { (x, false) };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * 0.693_359_4) + n * 2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_6e-1, 0.5] {
        p = p * r + c;
    }
    let mantissa = p * r * r + r + 1.0;
    let exponent = f32::from_bits(((n as i32 + 127) << 23) as u32);
    if tiny { 0.0 } else { mantissa * exponent }
}

/// The exact GELU, `x Φ(x)`, by Abramowitz and Stegun 7.1.26 (error of erf below 1.5e-7).
#[inline(always)]
fn gelu(x: f32) -> f32 {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let mut p = 1.061_405_4;
    for c in [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6] {
        p = p * t + c;
    }
    let tail = p * t * exp(-z * z); // 1 - erf(z)
    let phi = if x < 0.0 { 0.5 * tail } else { 1.0 - 0.5 * tail };
    x * phi
}

/// The GELU by a hyperbolic tangent: `x σ(2 √(2/π) (x + 0.044715 x³))`.
#[inline(always)]
fn gelu_tanh(x: f32) -> f32 {
    let y = 1.595_769 * (x + 0.044_715 * x * x * x);
    let e = exp(-y.abs());
    let sigmoid = if y < 0.0 { e / (1.0 + e) } else { 1.0 / (1.0 + e) };
    x * sigmoid
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn erf_reference(x: f64) -> f64 {
        let terms = 200;
        let mut term = x;
        let mut total = x;
        for n in 1..terms {
            term *= -x * x / f64::from(n);
            total += term / f64::from(2 * n + 1);
        }
        total * 2.0 / std::f64::consts::PI.sqrt()
    }

    proptest! {
        #[test]
        fn exp_and_gelu_follow_double_precision(x in -5.0f32..5.0) {
            let (down, wide) = (-x.abs() * 15.0, f64::from(x));
            let e = f64::from(down).exp();
            prop_assert!((f64::from(exp(down)) - e).abs() <= 2e-7 * e + 2e-38);
            let expected = wide * 0.5 * (1.0 + erf_reference(wide / 2f64.sqrt()));
            prop_assert!((f64::from(gelu(x)) - expected).abs() < 1e-6);
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (wide + 0.044715 * wide.powi(3));
            prop_assert!((f64::from(gelu_tanh(x)) - wide * 0.5 * (1.0 + inner.tanh())).abs() < 1e-6);
        }

        #[test]
        fn products_equal_plain_sums(m in 0usize..5, n in 1usize..6, k in 1usize..7) {
            let a: Vec<f32> = (0..m * (k + 2)).map(|i| (i as f32).sin()).collect();
            let b: Vec<f32> = (0..n * k).map(|i| (i as f32).cos()).collect();
            let mut out = vec![7.0; m * (n + 1)];
            let shape = Shape { m, n, k };
            matmul_transposed(shape, View::new(&a, k + 2), View::new(&b, k), &mut out, n + 1);
            for i in 0..m {
                for j in 0..n {
                    let plain: f32 = (0..k).map(|l| a[i * (k + 2) + l] * b[j * k + l]).sum();
                    prop_assert!((out[i * (n + 1) + j] - plain).abs() < 1e-5);
                }
                prop_assert_eq!(out[i * (n + 1) + n], 7.0);
            }
            let (mut sums, mut products) = (vec![1.0; m * n], vec![1.0; m * n]);
            let turned: Vec<f32> = (0..k * m).map(|i| a[i % m * (k + 2) + i / m]).collect();
            let across: Vec<f32> = (0..k * n).map(|i| b[i % n * k + i / n]).collect();
            matmul_add(shape, View::new(&a, k + 2), View::new(&across, n), &mut sums, n);
            let turned = View::new(&turned, m);
            matmul_left_transposed_add(shape, turned, View::new(&across, n), &mut products, n);
            for i in 0..m * n {
                let first = out[i / n * (n + 1) + i % n];
                prop_assert!((sums[i] - 1.0 - first).abs() < 1e-5);
                prop_assert!((products[i] - 1.0 - first).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn softmax_sums_to_one_and_norm_centres() {
        let mut rows = vec![1000.0, 1001.0, 1002.0, -1000.0, -1e30, -1000.0];
        softmax_rows(&mut rows, 3, 3, 1.0);
        assert!((rows[..3].iter().sum::<f32>() - 1.0).abs() < 1e-6);
        assert_eq!(&rows[3..], &[0.5, 0.0, 0.5]);
        let norm = Norm { weight: vec![1.0; 3], bias: vec![0.0; 3], eps: 0.0 };
        let mut row = [1.0, 2.0, 3.0];
        norm_row(&mut row, &norm);
        assert!((row[0] + row[2]).abs() < 1e-6 && row[1].abs() < 1e-6);
    }
}
