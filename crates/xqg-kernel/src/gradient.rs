//! Rows between two products while a network learns: what the way forward keeps, and the way back.
//! Plain loops that `pulp` compiles for the machine's best instruction set; sums run in sixteen
//! lanes, so their order is the same everywhere.

use pulp::Arch;

use crate::ops::{Activation, exp, sum};

/// The learned part of a layer norm.
#[derive(Debug, Clone, Copy)]
pub struct Affine<'a> {
    /// Factor of each column.
    pub weight: &'a [f32],
    /// Summand of each column.
    pub bias: &'a [f32],
}

/// Adds a bias to rows as long as it.
pub fn add_bias(rows: &mut [f32], bias: &[f32]) {
    Arch::new().dispatch(
        #[inline(always)]
        || rows.chunks_exact_mut(bias.len()).for_each(|row| add(row, bias)),
    );
}

/// `row += other`, number by number.
#[inline(always)]
fn add(row: &mut [f32], other: &[f32]) {
    row.iter_mut().zip(other).for_each(|(x, y)| *x += y);
}

/// `to += from`, number by number.
pub fn add_to(to: &mut [f32], from: &[f32]) {
    Arch::new().dispatch(
        #[inline(always)]
        || add(to, from),
    );
}

/// Adds each column's sum over all rows to `sums`, whose length is the rows'.
pub fn add_column_sums(rows: &[f32], sums: &mut [f32]) {
    Arch::new().dispatch(
        #[inline(always)]
        || rows.chunks_exact(sums.len()).for_each(|row| add(sums, row)),
    );
}

/// Normalises rows to mean 0 and variance 1 in place, and keeps one over each row's standard
/// deviation in `scales`: what [`norm_back`] needs.
pub fn normalise(rows: &mut [f32], scales: &mut [f32], eps: f32) {
    let width = rows.len() / scales.len().max(1);
    Arch::new().dispatch(
        #[inline(always)]
        || {
            for (row, scale) in rows.chunks_exact_mut(width.max(1)).zip(scales) {
                let n = row.len() as f32;
                let mean = sum(row, |x| x) / n;
                let variance = sum(row, |x| (x - mean) * (x - mean)) / n;
                *scale = 1.0 / (variance + eps).sqrt();
                row.iter_mut().for_each(|x| *x = (*x - mean) * *scale);
            }
        },
    );
}

/// `out = normed * weight + bias`: the layer norm's result from its kept rows.
pub fn affine(normed: &[f32], norm: Affine, out: &mut [f32]) {
    let width = norm.weight.len();
    Arch::new().dispatch(
        #[inline(always)]
        || {
            for (row, to) in normed.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
                for (((y, x), w), b) in to.iter_mut().zip(row).zip(norm.weight).zip(norm.bias) {
                    *y = x * w + b;
                }
            }
        },
    );
}

/// The way back through a layer norm: `grad` comes as the gradient of its result and leaves as that
/// of its input; the gradients of weight and bias are added to `sums`.
///
/// With x̂ the kept rows, s their scale and g = dy·w: dx = s (g - mean(g) - x̂ mean(g x̂)).
pub fn norm_back(
    grad: &mut [f32],
    normed: &[f32],
    scales: &[f32],
    weight: &[f32],
    sums: (&mut [f32], &mut [f32]),
) {
    let width = weight.len();
    Arch::new().dispatch(
        #[inline(always)]
        || {
            let rows = grad.chunks_exact_mut(width).zip(normed.chunks_exact(width));
            for ((g, x), &scale) in rows.zip(scales) {
                for (((g, x), w), b) in g.iter().zip(x).zip(sums.0.iter_mut()).zip(&mut *sums.1) {
                    *w += g * x;
                    *b += g;
                }
                g.iter_mut().zip(weight).for_each(|(g, w)| *g *= w);
                let (mean, along) = (sum(g, |g| g) / width as f32, dot(g, x) / width as f32);
                for (g, x) in g.iter_mut().zip(x) {
                    *g = scale * (*g - mean - x * along);
                }
            }
        },
    );
}

/// A dot product in sixteen lanes.
#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0f32; 16];
    let (left, right) = (a.chunks_exact(16), b.chunks_exact(16));
    let rest: f32 = left.remainder().iter().zip(right.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in left.zip(right) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += a * b;
        }
    }
    lanes.iter().sum::<f32>() + rest
}

/// The dot product of two rows of one length.
pub fn dot_product(a: &[f32], b: &[f32]) -> f32 {
    Arch::new().dispatch(
        #[inline(always)]
        || dot(a, b),
    )
}

/// The way back through a softmax whose rows lie `stride` apart: `grad` comes as the gradient of
/// the probabilities and leaves as that of the scores before the factor `scale`.
pub fn softmax_back(
    grad: &mut [f32],
    probabilities: &[f32],
    stride: usize,
    columns: usize,
    scale: f32,
) {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            for (g, p) in grad.chunks_exact_mut(stride).zip(probabilities.chunks_exact(stride)) {
                let (g, p) = (&mut g[..columns], &p[..columns]);
                let total = dot(g, p);
                for (g, p) in g.iter_mut().zip(p) {
                    *g = p * (*g - total) * scale;
                }
            }
        },
    );
}

/// The way back through an activation. `inner` comes as its input and leaves as its result, which
/// the next weight's gradient needs; `grad` comes as the gradient of the result and leaves as that
/// of the input.
pub fn activation_back(inner: &mut [f32], grad: &mut [f32], activation: Activation) {
    Arch::new().dispatch(
        #[inline(always)]
        || match activation {
            Activation::Gelu => each(inner, grad, gelu),
            Activation::GeluTanh => each(inner, grad, gelu_tanh),
            Activation::Relu => each(inner, grad, |x| (x.max(0.0), f32::from(x > 0.0))),
        },
    );
}

#[inline(always)]
fn each(inner: &mut [f32], grad: &mut [f32], both: impl Fn(f32) -> (f32, f32)) {
    for (x, g) in inner.iter_mut().zip(grad) {
        let (value, slope) = both(*x);
        *x = value;
        *g *= slope;
    }
}

/// The exact GELU and its slope, Φ(x) + x φ(x); the error function as in `ops::gelu`.
#[inline(always)]
fn gelu(x: f32) -> (f32, f32) {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let mut p = 1.061_405_4;
    for c in [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6] {
        p = p * t + c;
    }
    let bell = exp(-z * z);
    let tail = p * t * bell;
    let phi = if x < 0.0 { 0.5 * tail } else { 1.0 - 0.5 * tail };
    (x * phi, phi + x * bell * 0.398_942_3)
}

/// The GELU by a hyperbolic tangent and its slope: with y = 2√(2/π)(x + 0.044715 x³) it is x σ(y),
/// and its slope σ(y) + x σ(y)(1 - σ(y)) y'.
#[inline(always)]
fn gelu_tanh(x: f32) -> (f32, f32) {
    let y = 1.595_769 * (x + 0.044_715 * x * x * x);
    let e = exp(-y.abs());
    let sigmoid = if y < 0.0 { e / (1.0 + e) } else { 1.0 / (1.0 + e) };
    let slope = 1.595_769 * (1.0 + 0.134_145 * x * x);
    (x * sigmoid, sigmoid + x * sigmoid * (1.0 - sigmoid) * slope)
}

/// What one step of AdamW needs beside parameter, gradient and moments (Loshchilov and Hutter 2019,
/// algorithm 2, in the order of PyTorch's arithmetic).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamStep {
    /// Learning rate.
    pub rate: f32,
    /// How slowly the first moment forgets.
    pub beta1: f32,
    /// How slowly the second moment forgets.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Share of itself, times the rate, that a parameter loses.
    pub decay: f32,
    /// `1 - beta1^t` of step t, from 1.
    pub correction1: f32,
    /// `1 - beta2^t`.
    pub correction2: f32,
    /// Factor of the gradient: below 1 where it is clipped.
    pub gradient_scale: f32,
}

impl AdamStep {
    /// One step over numbers of one parameter; all four slices have one length.
    pub fn apply(&self, values: &mut [f32], gradient: &[f32], m: &mut [f32], v: &mut [f32]) {
        let (size, root) = (self.rate / self.correction1, 1.0 / self.correction2.sqrt());
        let keep = 1.0 - self.rate * self.decay;
        Arch::new().dispatch(
            #[inline(always)]
            || {
                for (((p, g), m), v) in values.iter_mut().zip(gradient).zip(m).zip(v) {
                    let g = g * self.gradient_scale;
                    *m = self.beta1 * *m + (1.0 - self.beta1) * g;
                    *v = self.beta2 * *v + (1.0 - self.beta2) * g * g;
                    *p = *p * keep - size * *m / (v.sqrt() * root + self.eps);
                }
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The slope of `f` at each input, times `weights` of its results, by central differences.
    fn differences(x: &[f32], weights: &[f32], f: impl Fn(&[f32]) -> Vec<f32>) -> Vec<f32> {
        let total = |x: &[f32]| -> f64 {
            f(x).iter().zip(weights).map(|(y, w)| f64::from(*y) * f64::from(*w)).sum()
        };
        let step = 1e-2;
        (0..x.len())
            .map(|i| {
                let (mut up, mut down) = (x.to_vec(), x.to_vec());
                up[i] += step;
                down[i] -= step;
                ((total(&up) - total(&down)) / f64::from(up[i] - down[i])) as f32
            })
            .collect()
    }

    fn close(a: &[f32], b: &[f32]) -> bool {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 5e-3 * (1.0 + b.abs()))
    }

    fn norm(x: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
        let (mut rows, mut out) = (x.to_vec(), vec![0.0; x.len()]);
        normalise(&mut rows, &mut vec![0.0; x.len() / weight.len()], 0.1);
        affine(&rows, Affine { weight, bias }, &mut out);
        out
    }

    proptest! {
        #[test]
        fn the_ways_back_equal_differences(
            x in proptest::collection::vec(-2f32..2.0, 40),
            d in proptest::collection::vec(-1f32..1.0, 40),
        ) {
            let (weight, bias) = (&d[..20], &x[20..40]);
            let mut normed = x.clone();
            let mut scales = [0.0; 2];
            normalise(&mut normed, &mut scales, 0.1);
            let (mut grad, mut w, mut b) = (d.clone(), vec![0.0; 20], vec![0.0; 20]);
            norm_back(&mut grad, &normed, &scales, weight, (&mut w, &mut b));
            prop_assert!(close(&grad, &differences(&x, &d, |x| norm(x, weight, bias))));
            prop_assert!(close(&w, &differences(weight, &d, |w| norm(&x, w, bias))));
            prop_assert!(close(&b, &differences(bias, &d, |b| norm(&x, weight, b))));

            let softmax = |x: &[f32]| {
                let mut x = x.to_vec();
                crate::ops::softmax_rows(&mut x, 20, 17, 0.5);
                for row in x.chunks_mut(20) { row[17..].fill(0.0); }
                x
            };
            let (mut grad, p) = (d.clone(), softmax(&x));
            softmax_back(&mut grad, &p, 20, 17, 0.5);
            let expected = differences(&x, &d, softmax);
            for (ours, theirs) in grad.chunks(20).zip(expected.chunks(20)) {
                prop_assert!(close(&ours[..17], &theirs[..17]));
            }
            for activation in [Activation::Gelu, Activation::GeluTanh] {
                let (mut inner, mut grad) = (x.clone(), d.clone());
                activation_back(&mut inner, &mut grad, activation);
                let f = |x: &[f32]| {
                    let mut x = x.to_vec();
                    crate::ops::activate(&mut x, activation);
                    x
                };
                prop_assert!(close(&inner, &f(&x)));
                prop_assert!(close(&grad, &differences(&x, &d, f)));
            }
        }

        #[test]
        fn sums_and_dots_are_plain(x in proptest::collection::vec(-2f32..2.0, 66)) {
            let mut sums = vec![1.0; 33];
            add_column_sums(&x, &mut sums);
            let expected: Vec<f32> = (0..33).map(|i| 1.0 + x[i] + x[33 + i]).collect();
            prop_assert!(close(&sums, &expected));
            let plain: f32 = x[..33].iter().zip(&x[33..]).map(|(a, b)| a * b).sum();
            prop_assert!((dot_product(&x[..33], &x[33..]) - plain).abs() < 1e-4);
        }
    }

    #[test]
    fn relu_passes_what_is_positive() {
        let (mut inner, mut grad) = ([-1.0, 2.0], [3.0, 4.0]);
        activation_back(&mut inner, &mut grad, Activation::Relu);
        assert_eq!((inner, grad), ([0.0, 2.0], [0.0, 4.0]));
    }

    #[test]
    fn the_first_adam_step_moves_by_the_rate() {
        let step = AdamStep {
            rate: 0.1,
            beta1: 0.9,
            beta2: 0.999,
            eps: 0.0,
            decay: 0.5,
            correction1: 0.1,
            correction2: 0.001,
            gradient_scale: 0.25,
        };
        let (mut p, mut m, mut v) = ([1.0, 1.0], [0.0; 2], [0.0; 2]);
        step.apply(&mut p, &[4.0, -8.0], &mut m, &mut v);
        // By hand: 1 * (1 - 0.1 * 0.5) -/+ 0.1.
        assert!((p[0] - 0.85).abs() < 1e-6 && (p[1] - 1.05).abs() < 1e-6, "{p:?}");
        assert!((m[0] - 0.1).abs() < 1e-6 && (v[1] - 0.004).abs() < 1e-6);
    }
}
