//! Losses over a matrix of scores: one row a query, one column a passage. A loss gives its value and
//! its gradient by each score; [`Scores::back`] carries that on to the embeddings. Values are summed
//! in double precision.

pub mod alignment;
pub mod contrastive;
pub mod corpus;
pub mod distillation;

use xqg_kernel::ops::{Shape, View, matmul, matmul_left_transposed_add, matmul_transposed};

/// Dot products of query embeddings with passage embeddings, over a temperature.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    /// Number of queries.
    pub queries: usize,
    /// Number of passages.
    pub passages: usize,
    /// Row-major.
    pub values: Vec<f64>,
    temperature: f64,
}

/// A loss and its gradient by each score.
#[derive(Debug, Clone, PartialEq)]
pub struct Loss {
    /// The value.
    pub value: f64,
    /// Row-major, as the scores.
    pub grad: Vec<f64>,
}

impl Loss {
    /// A loss of zero over that many scores.
    pub fn zero(scores: usize) -> Self {
        Self { value: 0.0, grad: vec![0.0; scores] }
    }

    /// Adds another loss over the same scores, times a weight.
    pub fn add(&mut self, other: &Self, weight: f64) {
        self.value += weight * other.value;
        self.grad.iter_mut().zip(&other.grad).for_each(|(a, b)| *a += weight * b);
    }
}

impl Scores {
    /// Scores of embeddings that lie row after row, `dim` numbers each.
    pub fn new(queries: &[f32], passages: &[f32], dim: usize, temperature: f64) -> Self {
        let (m, n) = (queries.len() / dim, passages.len() / dim);
        let mut dots = vec![0.0; m * n];
        let shape = Shape { m, n, k: dim };
        matmul_transposed(shape, View::new(queries, dim), View::new(passages, dim), &mut dots, n);
        let values = dots.into_iter().map(|x| f64::from(x) / temperature).collect();
        Self { queries: m, passages: n, values, temperature }
    }

    /// Scores that are known already.
    pub fn from_values(values: Vec<f64>, passages: usize) -> Self {
        Self { queries: values.len() / passages, passages, values, temperature: 1.0 }
    }

    /// The scores of a query.
    pub fn row(&self, query: usize) -> &[f64] {
        &self.values[query * self.passages..][..self.passages]
    }

    /// The gradients of the embeddings of queries alone, given that of the scores.
    pub fn back_to_queries(&self, grad: &[f64], passages: &[f32]) -> Vec<f32> {
        let (m, n) = (self.queries, self.passages);
        let dim = passages.len() / n.max(1);
        let grad: Vec<f32> = grad.iter().map(|g| (g / self.temperature) as f32).collect();
        let mut to_queries = vec![0.0; m * dim];
        let shape = Shape { m, n: dim, k: n };
        matmul(shape, View::new(&grad, n), View::new(passages, dim), &mut to_queries, dim);
        to_queries
    }

    /// The gradients of the embeddings of queries and passages, given that of the scores.
    pub fn back(&self, grad: &[f64], queries: &[f32], passages: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let (m, n) = (self.queries, self.passages);
        let dim = queries.len() / m.max(1);
        let grad: Vec<f32> = grad.iter().map(|g| (g / self.temperature) as f32).collect();
        let (mut to_queries, mut to_passages) = (vec![0.0; m * dim], vec![0.0; n * dim]);
        let grad = View::new(&grad, n);
        let shape = Shape { m, n: dim, k: n };
        matmul(shape, grad, View::new(passages, dim), &mut to_queries, dim);
        let shape = Shape { m: n, n: dim, k: m };
        matmul_left_transposed_add(shape, grad, View::new(queries, dim), &mut to_passages, dim);
        (to_queries, to_passages)
    }
}

/// The logarithms of the softmax over the scores that `counts` lets in; minus infinity elsewhere.
pub(crate) fn log_softmax(scores: &[f64], counts: impl Fn(usize) -> bool) -> Vec<f64> {
    let kept = |i: usize, x: f64| if counts(i) { x } else { f64::NEG_INFINITY };
    let scores: Vec<f64> = scores.iter().enumerate().map(|(i, &x)| kept(i, x)).collect();
    let greatest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = scores.iter().map(|x| (x - greatest).exp()).sum();
    scores.iter().map(|x| x - greatest - total.ln()).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Asserts that a loss's gradient is its slope, by central differences.
    pub(crate) fn check_slope(scores: &[f64], passages: usize, loss: impl Fn(&Scores) -> Loss) {
        let of = |values: &[f64]| loss(&Scores::from_values(values.to_vec(), passages));
        let grad = of(scores).grad;
        for i in 0..scores.len() {
            let at = |step: f64| {
                let mut values = scores.to_vec();
                values[i] += step;
                of(&values).value
            };
            let slope = (at(1e-5) - at(-1e-5)) / 2e-5;
            assert!((grad[i] - slope).abs() < 1e-7, "score {i}: {} {slope}", grad[i]);
        }
    }

    #[test]
    fn scores_and_their_way_back_by_hand() {
        let (queries, passages) = ([1.0, 2.0], [3.0, 4.0, 5.0, 6.0]);
        let scores = Scores::new(&queries, &passages, 2, 0.5);
        assert_eq!(scores.values, [22.0, 34.0]);
        let (q, p) = scores.back(&[1.0, -0.5], &queries, &passages);
        // d q = (1 * p0 - 0.5 * p1) / 0.5; d p0 = q / 0.5; d p1 = -0.5 q / 0.5.
        assert_eq!(q, [1.0, 2.0]);
        assert_eq!(p, [2.0, 4.0, -1.0, -2.0]);
    }
}
