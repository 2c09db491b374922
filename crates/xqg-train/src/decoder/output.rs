//! From the last norm's results to the loss, and back: the largest product of the network. Rows are
//! gathered by the list of tokens that may follow, so that a list's part of the embedding is laid
//! out once and only its tokens cost anything.

use rayon::prelude::*;
use xqg_kernel::gradient::{add_bias, add_column_sums, add_to};
use xqg_kernel::ops::{Shape, View, matmul, matmul_left_transposed_add, matmul_transposed};
use xqg_kernel::row::softmax_rows;

use super::pass::{Group, Workspace};
use super::{Batch, Decoder, Lists, TextLoss};
use crate::gradients::Gradients;
use crate::network::pass::zeroed;

/// Rows that one thread takes at once.
const ROWS: usize = 128;

/// Tokens of a list whose gradient one thread sums at once.
const TILE: usize = 512;

/// One row that is predicted.
#[derive(Debug, Clone, Copy)]
struct Row {
    group: usize,
    row: usize,
    /// Place of the right token in the list.
    right: usize,
}

/// Rows of one list.
#[derive(Debug, Default)]
struct Bucket {
    list: usize,
    rows: Vec<Row>,
    /// The last norm's results.
    x: Vec<f32>,
    /// Gradients of the logits, `stride` apart.
    logits: Vec<f32>,
    /// Gradients of x.
    back: Vec<f32>,
    loss: [f64; 2],
}

/// A list's part of the output.
struct Table {
    rows: Vec<f32>,
    bias: Vec<f32>,
}

impl Decoder {
    /// The loss of the batch that went forward. With gradients, adds those of the output and leaves
    /// that of the last norm's results in each group's `back.states`.
    pub(super) fn output(
        &self,
        batch: &Batch,
        (lists, smoothing): (&Lists, f32),
        gradients: Option<&mut Gradients>,
        workspace: &mut Workspace,
    ) -> TextLoss {
        let groups = workspace.groups();
        let mut buckets = buckets(batch, lists, groups);
        let tokens = buckets.iter().map(|b| b.rows.len()).sum::<usize>();
        let tables: Vec<Table> = lists.lists.par_iter().map(|list| self.table(list)).collect();
        let learn = gradients.is_some().then_some(1.0 / tokens as f32);
        buckets.par_iter_mut().with_max_len(1).for_each(|bucket| {
            self.score(bucket, &tables[bucket.list], groups, (smoothing, learn));
        });
        if let Some(gradients) = gradients {
            self.scatter(&buckets, groups);
            self.table_gradients(&buckets, lists, gradients);
        }
        let total = |i: usize| buckets.iter().map(|b| b.loss[i]).sum::<f64>() / tokens as f64;
        TextLoss { smoothed: total(0), plain: total(1), tokens }
    }

    fn table(&self, list: &[u32]) -> Table {
        let h = self.shape.hidden;
        let words = self.parameters.values(self.places.words);
        let bias = self.parameters.values(self.places.output_bias);
        Table {
            rows: list.iter().flat_map(|&id| &words[id as usize * h..][..h]).copied().collect(),
            bias: list.iter().map(|&id| bias[id as usize]).collect(),
        }
    }

    /// Loss and gradients of a bucket; `learn` is the weight of a token.
    fn score(
        &self,
        bucket: &mut Bucket,
        table: &Table,
        groups: &[Group],
        (smoothing, learn): (f32, Option<f32>),
    ) {
        let (h, n, rows) = (self.shape.hidden, table.bias.len(), bucket.rows.len());
        let stride = n.next_multiple_of(16);
        let row = |r: &Row| &groups[r.group].states[r.row * h..][..h];
        bucket.x = bucket.rows.iter().flat_map(row).copied().collect();
        bucket.logits = vec![0.0; rows * stride];
        let logits = &mut bucket.logits[..];
        let weight = View::new(&table.rows, h);
        matmul_transposed(
            Shape { m: rows, n, k: h },
            View::new(&bucket.x, h),
            weight,
            logits,
            stride,
        );
        for (logits, row) in logits.chunks_exact_mut(stride).zip(&bucket.rows) {
            let logits = &mut logits[..n];
            logits.iter_mut().for_each(|x| *x *= self.shape.logit_scale);
            add_bias(logits, &table.bias);
            let before = Before::of(logits, row.right);
            bucket.loss[1] += before.right;
            bucket.loss[0] += before.mean;
        }
        let (mut plain, mut mean) = (-bucket.loss[1], -bucket.loss[0]);
        let greatest: Vec<f32> = logits.chunks_exact(stride).map(|l| greatest(&l[..n])).collect();
        softmax_rows(self.isa, logits, stride, n, 1.0);
        for (p, top) in logits.chunks_exact(stride).zip(greatest) {
            // The greatest probability is one over the sum of all, so it never vanishes.
            let sum = f64::from(top) - f64::from(self::greatest(&p[..n])).ln();
            plain += sum;
            mean += sum;
        }
        let share = f64::from(smoothing);
        bucket.loss = [(1.0 - share) * plain + share * mean, plain];
        let Some(weight) = learn else { return };
        let (even, right) = (smoothing / n as f32, 1.0 - smoothing);
        for (p, row) in logits.chunks_exact_mut(stride).zip(&bucket.rows) {
            p[row.right] -= right;
            p[..n].iter_mut().for_each(|x| *x = (*x - even) * weight * self.shape.logit_scale);
        }
        bucket.back = vec![0.0; rows * h];
        let grad = View::new(logits, stride);
        let shape = Shape { m: rows, n: h, k: n };
        matmul(shape, grad, View::new(&table.rows, h), &mut bucket.back, h);
    }

    /// Gives each row's gradient to its group.
    fn scatter(&self, buckets: &[Bucket], groups: &mut [Group]) {
        let h = self.shape.hidden;
        for group in groups.iter_mut() {
            let size = group.rows() * h;
            zeroed(&mut group.back.states, size);
        }
        for bucket in buckets {
            for (row, grad) in bucket.rows.iter().zip(bucket.back.chunks_exact(h)) {
                groups[row.group].back.states[row.row * h..][..h].copy_from_slice(grad);
            }
        }
    }

    /// Adds the gradients of the embedding as output, and of its bias.
    fn table_gradients(&self, buckets: &[Bucket], lists: &Lists, gradients: &mut Gradients) {
        let h = self.shape.hidden;
        let mut tiles: Vec<(usize, usize, Vec<f32>, Vec<f32>)> = Vec::new();
        for (list, ids) in lists.lists.iter().enumerate() {
            if buckets.iter().any(|b| b.list == list) {
                let starts = (0..ids.len()).step_by(TILE);
                tiles.extend(starts.map(|at| (list, at, Vec::new(), Vec::new())));
            }
        }
        tiles.par_iter_mut().with_max_len(1).for_each(|(list, at, weight, bias)| {
            let ids = &lists.lists[*list];
            let n = (ids.len() - *at).min(TILE);
            (*weight, *bias) = (vec![0.0; n * h], vec![0.0; n]);
            for bucket in buckets.iter().filter(|b| b.list == *list) {
                let stride = ids.len().next_multiple_of(16);
                let grad = &bucket.logits[*at..];
                let shape = Shape { m: n, n: h, k: bucket.rows.len() };
                let x = View::new(&bucket.x, h);
                matmul_left_transposed_add(shape, View::new(grad, stride), x, weight, h);
                grad.chunks(stride).for_each(|row| add_column_sums(&row[..n], bias));
            }
            bias.iter_mut().for_each(|b| *b /= self.shape.logit_scale);
        });
        for (list, at, weight, bias) in &tiles {
            let ids = &lists.lists[*list][*at..];
            let words = gradients.0[self.places.words].dense();
            for (row, &id) in weight.chunks_exact(h).zip(ids) {
                add_to(&mut words[id as usize * h..][..h], row);
            }
            let biases = gradients.0[self.places.output_bias].dense();
            bias.iter().zip(ids).for_each(|(b, &id)| biases[id as usize] += b);
        }
    }
}

/// What the loss needs of a row's logits.
struct Before {
    right: f64,
    mean: f64,
}

impl Before {
    fn of(logits: &[f32], right: usize) -> Self {
        let total: f64 = logits.iter().map(|&x| f64::from(x)).sum();
        Self { right: f64::from(logits[right]), mean: total / logits.len() as f64 }
    }
}

fn greatest(row: &[f32]) -> f32 {
    row.iter().copied().fold(f32::MIN, f32::max)
}

/// All rows by list, in the order of the batch, each bucket of at most [`ROWS`].
fn buckets(batch: &Batch, lists: &Lists, groups: &[Group]) -> Vec<Bucket> {
    let mut by_list: Vec<Vec<Row>> = vec![Vec::new(); lists.lists.len()];
    for (number, group) in groups.iter().enumerate() {
        let targets = &batch.targets[group.first..][..group.lengths.len()];
        for (target, span) in targets.iter().zip(group.spans()) {
            let list = &lists.lists[target.list];
            let place = |id: u32| list.binary_search(&id).expect("a token is on its list");
            let next = target.ids[1..].iter().copied().chain(std::iter::once(lists.eos));
            let rows = span.zip(next).map(|(row, id)| Row { group: number, row, right: place(id) });
            by_list[target.list].extend(rows);
        }
    }
    let cut = |(list, rows): (usize, Vec<Row>)| {
        let parts: Vec<_> = rows.chunks(ROWS).map(<[Row]>::to_vec).collect();
        parts.into_iter().map(move |rows| Bucket { list, rows, ..Bucket::default() })
    };
    by_list.into_iter().enumerate().flat_map(cut).collect()
}
