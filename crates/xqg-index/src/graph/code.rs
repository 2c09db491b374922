//! A vector as the graph keeps it: one byte a dimension with a scale of its own, less the mean of
//! all vectors, and one more coordinate that makes the nearest vector the one of greatest product.
//!
//! With M the greatest length of all vectors, `x` becomes `(x - c, sqrt(M² - |x|²))` and a query
//! `(q - c, 0)`. Their squared distance is `|q|² + M² - 2 q·x`: the order of the products, whatever the
//! lengths (Bachrach et al., RecSys 2014, theorem 1), and a distance between any two vectors, which a
//! graph needs. Taking the mean away changes no distance, and leaves the bytes to what differs.

use xqg_kernel::bytes;
use xqg_kernel::isa::Isa;

/// Bytes after the numbers: scale, squared length and the last coordinate, each a single.
pub const TRAILER: usize = 12;

/// Where the vectors of a graph lie.
#[derive(Debug, Clone)]
pub struct Space {
    centre: Vec<f32>,
    reach: f32,
}

impl Space {
    /// The space around `centre` whose longest vector has length `reach`.
    pub fn new(centre: Vec<f32>, reach: f32) -> Self {
        Self { centre, reach }
    }

    /// The bytes of a passage's fused vector.
    pub fn passage(&self, vector: &[f32]) -> Vec<i8> {
        let square: f64 = vector.iter().map(|&x| f64::from(x).powi(2)).sum();
        let rest = f64::from(self.reach).powi(2) - square;
        self.code(vector, rest.max(0.0).sqrt() as f32)
    }

    /// The bytes of a query's vector.
    pub fn query(&self, vector: &[f32]) -> Vec<i8> {
        self.code(vector, 0.0)
    }

    fn code(&self, vector: &[f32], last: f32) -> Vec<i8> {
        let centred = || vector.iter().zip(&self.centre).map(|(x, c)| x - c);
        let greatest = centred().fold(0f32, |m, x| m.max(x.abs()));
        let scale = (greatest / 127.0).max(f32::MIN_POSITIVE);
        let mut code = Vec::with_capacity(vector.len() + TRAILER);
        code.extend(centred().map(|x| (x / scale).round() as i8));
        let bytes: i64 = code.iter().map(|&b| i64::from(b) * i64::from(b)).sum();
        let square = bytes as f32 * scale * scale + last * last;
        let trailer = [scale, square, last].map(f32::to_le_bytes);
        code.extend(trailer.as_flattened().iter().map(|&b| b.cast_signed()));
        code
    }
}

/// The squared distance of two codes of one length.
#[inline]
pub fn distance(isa: Isa, a: &[i8], b: &[i8]) -> f32 {
    let ((a, [scale_a, square_a, last_a]), (b, [scale_b, square_b, last_b])) = (split(a), split(b));
    let product = scale_a * scale_b * bytes::dot(isa, a, b) as f32 + last_a * last_b;
    square_a + square_b - 2.0 * product
}

#[inline]
fn split(code: &[i8]) -> (&[i8], [f32; 3]) {
    let (numbers, trailer) = code.split_last_chunk::<TRAILER>().expect("a code has a trailer");
    let single = |i: usize| {
        let at = i * 4;
        f32::from_le_bytes([0, 1, 2, 3].map(|j| trailer[at + j].cast_unsigned()))
    };
    (numbers, [single(0), single(1), single(2)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn vector(dim: usize) -> impl Strategy<Value = Vec<f32>> {
        proptest::collection::vec(-1f32..1.0, dim)
    }

    fn length(x: &[f32]) -> f32 {
        x.iter().map(|x| x * x).sum::<f32>().sqrt()
    }

    proptest! {
        #[test]
        fn distances_order_passages_as_their_products_do(
            centre in vector(37), q in vector(37), a in vector(37), b in vector(37)
        ) {
            let space = Space::new(centre, length(&a).max(length(&b)));
            let query = space.query(&q);
            for isa in Isa::available() {
                let far = |x: &[f32]| distance(isa, &query, &space.passage(x));
                let product = |x: &[f32]| x.iter().zip(&q).map(|(x, q)| x * q).sum::<f32>();
                let (distances, products) = (far(&a) - far(&b), product(&b) - product(&a));
                prop_assert!((distances - 2.0 * products).abs() < 0.5, "{distances} {products}");
            }
        }

        #[test]
        fn a_code_is_at_no_distance_from_itself(centre in vector(5), x in vector(5)) {
            let space = Space::new(centre, length(&x) * 2.0);
            let code = space.passage(&x);
            prop_assert_eq!(code.len(), 5 + TRAILER);
            prop_assert!(distance(Isa::detect(), &code, &code).abs() < 1e-3);
        }
    }

    #[test]
    fn a_vector_of_zeros_has_a_code() {
        let code = Space::new(vec![0.0; 4], 0.0).passage(&[0.0; 4]);
        assert_eq!(distance(Isa::PORTABLE, &code, &code), 0.0);
    }
}
