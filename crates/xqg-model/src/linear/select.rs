//! Some columns of a layer as a layer of their own, moved as they lie: with the kernels its results are
//! the same bits.

use super::{Int8Weights, Linear, Weights};

impl Linear {
    /// The layer of some of the columns, in that order.
    ///
    /// # Panics
    /// When the layer has no such column.
    pub fn select(&self, columns: &[u32]) -> Self {
        let (panel, k) = (self.isa.panel(), self.input);
        let weights = match &self.weights {
            Weights::Plain(weight) => {
                let row = |&c: &u32| &weight[c as usize * k..][..k];
                Weights::Plain(columns.iter().flat_map(row).copied().collect::<Vec<_>>().into())
            }
            Weights::F32(panels) => Weights::F32(gather::<1, _>(panels, columns, panel, k).into()),
            Weights::Int8(w) => Weights::Int8(Int8Weights {
                values: gather::<4, _>(&w.values, columns, panel, k.div_ceil(4)).into(),
                scales: numbers(&w.scales, columns, panel).into(),
                sums: numbers(&w.sums, columns, panel).into(),
                steps: w.steps,
            }),
        };
        let bias = numbers(&self.bias, columns, panel).into();
        Self { input: k, output: columns.len(), bias, weights, isa: self.isa }
    }
}

/// One number a column, filled up to whole panels.
fn numbers<T: Copy + Default>(from: &[T], columns: &[u32], panel: usize) -> Vec<T> {
    let mut all: Vec<T> = columns.iter().map(|&c| from[c as usize]).collect();
    all.resize(columns.len().next_multiple_of(panel), T::default());
    all
}

/// Columns of panels of `steps x panel x SIDE` numbers, as panels of the same kind.
fn gather<const SIDE: usize, T: Copy + Default>(
    from: &[T],
    columns: &[u32],
    panel: usize,
    steps: usize,
) -> Vec<T> {
    let place = |column: usize| (column / panel * steps * panel + column % panel) * SIDE;
    let mut all = vec![T::default(); columns.len().next_multiple_of(panel) * steps * SIDE];
    for (to, &column) in columns.iter().enumerate() {
        let (from, to) = (&from[place(column as usize)..], &mut all[place(to)..]);
        let steps = from.chunks(panel * SIDE).zip(to.chunks_mut(panel * SIDE)).take(steps);
        steps.for_each(|(from, to)| to[..SIDE].copy_from_slice(&from[..SIDE]));
    }
    all
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use xqg_kernel::isa::Isa;

    use crate::linear::{Arithmetic, Linear, Precision, Rows, Worker};

    proptest! {
        #[test]
        fn chosen_columns_give_the_same_numbers(
            k in 1usize..40,
            columns in proptest::collection::vec(0u32..100, 1..70),
            weights in proptest::collection::vec(-2f32..2.0, 50),
        ) {
            let x: Vec<f32> = (0..3 * k).map(|i| (i as f32 * 0.37).sin()).collect();
            let weight: Vec<f32> = (0..100 * k).map(|i| weights[i * 7 % 50] * (i % 3) as f32).collect();
            for (isa, precision) in Isa::available().into_iter().flat_map(|isa| {
                [Precision::F32, Precision::Int8].map(|precision| (isa, precision))
            }) {
                let how = Arithmetic { isa, precision };
                let bias = (0..100).map(|i| i as f32).collect();
                let all = Linear::new(weight.clone(), bias, k, how);
                let some = all.select(&columns);
                let apply = |linear: &Linear| {
                    let mut out = vec![0.0; 3 * linear.stride()];
                    let rows = Rows { data: &x, stride: k };
                    linear.apply(3, rows, None, &mut out, &mut Worker::default());
                    out
                };
                let (whole, few) = (apply(&all), apply(&some));
                for row in 0..3 {
                    for (i, &column) in columns.iter().enumerate() {
                        let expected = whole[row * all.stride() + column as usize];
                        let found = few[row * some.stride() + i];
                        // Without kernels a sum's order may depend on its neighbours.
                        let near = if isa == Isa::PORTABLE { 1e-4 } else { 0.0 };
                        prop_assert!((found - expected).abs() <= near, "{isa:?}: {found}");
                    }
                }
            }
        }
    }
}
