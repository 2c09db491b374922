//! The gradient of rows that were picked from a table: each row of the table is the sum of all that were
//! picked from it. Which rows these are is known before, so the sums are made pair by pair in rounds, each
//! of them one operation over all pairs, always in the same order.

use std::collections::BTreeMap;

use candle_core::{Device, Result, Tensor};

use super::ops::indices;

/// The gradient of a table with so many rows, from that of the rows picked (one for each id). The row
/// `idle` gets none.
pub fn picked_back(ids: &[u32], idle: u32, grad: &Tensor, rows: usize) -> Result<Tensor> {
    let mut groups: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for (at, &id) in ids.iter().enumerate().filter(|(_, id)| **id != idle) {
        groups.entry(id).or_default().push(at as u32);
    }
    let mut sums = with_zero_row(grad)?;
    while groups.values().any(|group| group.len() > 1) {
        sums = with_zero_row(&halved(&mut groups, &sums)?)?;
    }
    let none = sums.dim(0)? as u32 - 1;
    let mut places = vec![none; rows];
    for (id, group) in groups {
        places[id as usize] = group[0];
    }
    sums.index_select(&indices(places, grad.device())?, 0)
}

/// Pairs of each group, added; the groups then name the new rows. The last row of `sums` is zero.
fn halved(groups: &mut BTreeMap<u32, Vec<u32>>, sums: &Tensor) -> Result<Tensor> {
    let none = sums.dim(0)? as u32 - 1;
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for group in groups.values_mut() {
        let start = first.len() as u32;
        for pair in group.chunks(2) {
            first.push(pair[0]);
            second.push(*pair.get(1).unwrap_or(&none));
        }
        *group = (start..first.len() as u32).collect();
    }
    let pick = |places, device: &Device| sums.index_select(&indices(places, device)?, 0);
    pick(first, sums.device())? + pick(second, sums.device())?
}

fn with_zero_row(rows: &Tensor) -> Result<Tensor> {
    rows.pad_with_zeros(0, 0, 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_row_is_the_sum_of_what_was_picked(ids in prop::collection::vec(0u32..9, 0..60)) {
            let grad: Vec<f32> = (0..ids.len() * 2).map(|i| i as f32).collect();
            let mut expected = vec![0f32; 9 * 2];
            for (row, &id) in grad.chunks(2).zip(&ids).filter(|(_, id)| **id != 4) {
                expected[id as usize * 2] += row[0];
                expected[id as usize * 2 + 1] += row[1];
            }
            let grad = Tensor::from_vec(grad, (ids.len(), 2), &Device::Cpu).unwrap();
            let found = picked_back(&ids, 4, &grad, 9).unwrap();
            prop_assert_eq!(found.flatten_all().unwrap().to_vec1::<f32>().unwrap(), expected);
        }
    }
}
