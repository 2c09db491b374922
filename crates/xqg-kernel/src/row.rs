//! What happens to rows between two products, by the machine's instruction set: activation, softmax,
//! layer norm, quantising. The formulas are those of [`crate::ops`].

use crate::isa::{Isa, Set, WIDEST};
#[cfg(target_arch = "aarch64")]
use crate::neon;
use crate::ops::{self, Activation, Norm};
use crate::product::Quantised;
#[cfg(target_arch = "x86_64")]
use crate::{avx2, avx512};

/// Calls a kernel of the detected set, or the portable function where the rows do not fit.
macro_rules! by_set {
    ($isa:expr, $fits:expr, $kernel:ident($($arg:expr),*), $portable:expr) => {
        match $isa.0 {
            // SAFETY: the machine has the set, and the rows hold whole registers.
            #[cfg(target_arch = "x86_64")]
            Set::Avx512Vnni if $fits => unsafe { avx512::$kernel($($arg),*) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 if $fits => unsafe { avx2::$kernel($($arg),*) },
            // SAFETY: as above.
            #[cfg(target_arch = "aarch64")]
            Set::Neon | Set::NeonDot if $fits => unsafe { neon::$kernel($($arg),*) },
            _ => $portable,
        }
    };
}

/// Applies the activation to every number; see [`ops::activate`].
pub fn activate(isa: Isa, numbers: &mut [f32], activation: Activation) {
    let fits = numbers.len().is_multiple_of(WIDEST) && activation == Activation::Gelu;
    by_set!(isa, fits, gelu(numbers), ops::activate(numbers, activation));
}

/// Softmax of the first `columns` numbers of rows that lie `stride` apart; see
/// [`ops::softmax_rows`]. What is beyond the columns may be changed.
pub fn softmax_rows(isa: Isa, scores: &mut [f32], stride: usize, columns: usize, scale: f32) {
    assert!(columns <= stride, "columns lie inside a row");
    let fits = stride.is_multiple_of(WIDEST);
    by_set!(
        isa,
        fits,
        softmax(scores, stride, columns, scale),
        ops::softmax_rows(scores, stride, columns, scale)
    );
}

/// Layer norm of rows that lie `stride` apart; see [`ops::norm_rows`].
pub fn norm_rows(isa: Isa, data: &mut [f32], stride: usize, norm: &Norm) {
    let n = norm.weight.len();
    assert!(norm.bias.len() == n && n <= stride, "a norm as long as its rows");
    let fits = n.is_multiple_of(WIDEST);
    by_set!(isa, fits, norm(data, stride, norm), ops::norm_rows(data, stride, norm));
}

/// Root-mean-square norm of rows that lie `stride` apart; see [`ops::rms_rows`].
pub fn rms_rows(isa: Isa, data: &mut [f32], stride: usize, weight: &[f32], eps: f32) {
    assert!(weight.len() <= stride, "a norm no longer than its rows");
    let fits = weight.len().is_multiple_of(WIDEST);
    by_set!(isa, fits, rms(data, stride, weight, eps), ops::rms_rows(data, stride, weight, eps));
}

/// The greatest number of a row; see [`ops::greatest`].
pub fn greatest(isa: Isa, row: &[f32]) -> f32 {
    let fits = row.len().is_multiple_of(WIDEST);
    by_set!(isa, fits, greatest(row), ops::greatest(row))
}

/// The sum of `exp(x - shift)`; see [`ops::sum_exp`].
pub fn sum_exp(isa: Isa, row: &[f32], shift: f32) -> f32 {
    let fits = row.len().is_multiple_of(WIDEST);
    by_set!(isa, fits, sum_exp(row, shift), ops::sum_exp(row, shift))
}

/// `gelu_tanh(x) · gate` in place of x; see [`ops::gate`].
pub fn gate(isa: Isa, numbers: &mut [f32], gate: &[f32]) {
    assert_eq!(numbers.len(), gate.len(), "a gate for each number");
    let fits = numbers.len().is_multiple_of(WIDEST);
    by_set!(isa, fits, gate(numbers, gate), ops::gate(numbers, gate));
}

/// Quantises rows of `k` numbers, `stride` apart, to whole levels from 0 to `steps + 1` (254 or 126
/// steps): a scale and a zero for each row. Returns k rounded up to a multiple of 4; what is added
/// multiplies zero weights.
pub fn quantise_rows(
    isa: Isa,
    (rows, k): (usize, usize),
    (x, stride): (&[f32], usize),
    steps: f32,
    out: &mut Quantised,
) -> usize {
    let k4 = k.next_multiple_of(4);
    out.narrow = steps + 1.0 < 128.0;
    out.values.resize(out.values.len().max(rows * k4), 0);
    out.scales.resize(out.scales.len().max(rows), 0.0);
    out.zeros.resize(out.zeros.len().max(rows), 0);
    out.offsets.resize(out.offsets.len().max(rows), 0.0);
    let fits = k.is_multiple_of(WIDEST);
    for i in 0..rows {
        let (from, to) = (&x[i * stride..][..k], &mut out.values[i * k4..][..k]);
        (out.scales[i], out.zeros[i]) =
            by_set!(isa, fits, quantise(from, steps, to), ops::quantise_row(from, steps, to));
        out.offsets[i] = out.scales[i] * out.zeros[i] as f32;
    }
    k4
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn close(a: &[f32], b: &[f32], tolerance: f32) -> bool {
        a.iter().zip(b).all(|(a, b)| (a - b).abs() <= tolerance)
    }

    proptest! {
        #[test]
        fn row_kernels_equal_the_portable_functions(
            values in proptest::collection::vec(-9f32..9.0, 96),
            columns in 1usize..33,
            steps in prop_oneof![Just(254f32), Just(126.0)],
        ) {
            for isa in Isa::available() {
                let (mut ours, mut plain) = (values.clone(), values.clone());
                activate(isa, &mut ours, Activation::Gelu);
                ops::activate(&mut plain, Activation::Gelu);
                prop_assert!(close(&ours, &plain, 1e-6), "{isa:?} gelu");

                let (mut ours, mut plain) = (values.clone(), values.clone());
                softmax_rows(isa, &mut ours, 32, columns, 0.7);
                ops::softmax_rows(&mut plain, 32, columns, 0.7);
                for (a, b) in ours.chunks(32).zip(plain.chunks(32)) {
                    prop_assert!(close(&a[..columns], &b[..columns], 1e-6), "{isa:?} softmax");
                }

                let norm = Norm { weight: values[..32].into(), bias: values[32..64].into(), eps: 1e-5 };
                let (mut ours, mut plain) = (values.clone(), values.clone());
                norm_rows(isa, &mut ours, 48, &norm);
                ops::norm_rows(&mut plain, 48, &norm);
                prop_assert!(close(&ours, &plain, 1e-4), "{isa:?} norm");

                let (mut ours, mut plain) = (values.clone(), values.clone());
                rms_rows(isa, &mut ours, 48, &norm.weight, 1e-6);
                ops::rms_rows(&mut plain, 48, &norm.weight, 1e-6);
                prop_assert!(close(&ours, &plain, 1e-4), "{isa:?} rms");

                let (mut ours, mut plain) = (values.clone(), values.clone());
                gate(isa, &mut ours[..48], &values[48..]);
                ops::gate(&mut plain[..48], &values[48..]);
                prop_assert!(close(&ours, &plain, 1e-4), "{isa:?} gate");

                let most = values.iter().copied().fold(f32::MIN, f32::max);
                prop_assert_eq!(greatest(isa, &values), most);
                let (ours, plain) = (sum_exp(isa, &values, most), ops::sum_exp(&values, most));
                prop_assert!((ours - plain).abs() <= plain * 1e-5, "{isa:?} sum of exponentials");

                let mut bytes = Quantised::default();
                quantise_rows(isa, (2, 48), (&values, 48), steps, &mut bytes);
                for (i, &x) in values.iter().enumerate() {
                    prop_assert!(f32::from(bytes.values[i]) <= steps + 1.0);
                    let (scale, zero) = (bytes.scales[i / 48], bytes.zeros[i / 48]);
                    let back = scale * (i32::from(bytes.values[i]) - zero) as f32;
                    prop_assert!((back - x).abs() <= scale * 1.01, "{isa:?} quantise");
                }
            }
        }
    }
}
