//! Search over the stored numbers themselves: every row against every query. For indexes that have
//! no sketches, and for rankings so deep that nearly every row is wanted; what the search by
//! sketches is tested against.

use crate::exact::{Buffers, fused_score, scale};
use crate::index::OpenUnit;
use crate::search::{Group, Hits, Pass};
use crate::share::share_out;
use crate::top_k::TopK;

/// Rows scored together: their vectors and scores stay in a core's cache.
const BLOCK_ROWS: usize = 256;

/// The selections of one thread, for each weight and query, and its memory.
struct State {
    best: Vec<Vec<TopK>>,
    buffers: Buffers,
    q_d: Vec<f32>,
    q_s: Vec<f32>,
}

/// Ranks all rows for each weight and query of a pass.
pub(crate) fn run(pass: &Pass) -> Vec<Vec<Hits>> {
    let ids = &pass.index.ids;
    let blocks: Vec<(&OpenUnit, usize)> = pass.index.units().iter().flat_map(blocks).collect();
    let make = || State {
        best: vec![vec![TopK::new(pass.options.k); pass.queries]; pass.options.weights.len()],
        buffers: Buffers::default(),
        q_d: Vec::new(),
        q_s: Vec::new(),
    };
    let states = share_out(blocks.len(), make, |state, i| state.score_block(pass, blocks[i]));
    let merge = |mut a: Vec<Vec<TopK>>, b: Vec<Vec<TopK>>| {
        for (x, y) in a.iter_mut().flatten().zip(b.into_iter().flatten()) {
            x.merge(y, ids);
        }
        a
    };
    let best = states.into_iter().map(|s| s.best).reduce(merge).unwrap_or_default();
    let sort = |run: Vec<TopK>| run.into_iter().map(|top| top.into_sorted(ids)).collect();
    best.into_iter().map(sort).collect()
}

fn blocks(unit: &OpenUnit) -> impl Iterator<Item = (&OpenUnit, usize)> {
    (0..unit.vectors.rows()).step_by(BLOCK_ROWS).map(move |start| (unit, start))
}

impl State {
    /// Scores one block of rows against every query under every weight.
    fn score_block(&mut self, pass: &Pass, (unit, start): (&OpenUnit, usize)) {
        let rows = BLOCK_ROWS.min(unit.vectors.rows() - start);
        for group in &pass.groups {
            let loaded = self.buffers.load(unit, (start, rows), group, pass.options.reduce);
            let out = (&mut self.q_d, &mut self.q_s);
            loaded.products(pass.index.dim(), &group.vectors, out);
            let lengths = loaded.lengths.to_vec();
            self.offer(pass, group, (unit.first + start) as u32, &lengths);
        }
    }

    fn offer(&mut self, pass: &Pass, group: &Group, first: u32, lengths: &[[f32; 3]]) {
        let n = group.members.len();
        for (&alpha, best) in group.alphas.iter().zip(&mut self.best) {
            for (row, q_d) in self.q_d.chunks_exact(n.max(1)).enumerate() {
                let fused = (alpha != 0.0).then(|| {
                    let scale = scale(alpha, lengths[row], pass.options.renormalize);
                    (&self.q_s[row * n..][..n], scale)
                });
                for (i, (&query, &q_d)) in group.members.iter().zip(q_d).enumerate() {
                    let score =
                        fused.map_or(q_d, |(q_s, scale)| fused_score(alpha, (q_d, q_s[i]), scale));
                    best[query].offer(score, first + row as u32, &pass.index.ids);
                }
            }
        }
    }
}
