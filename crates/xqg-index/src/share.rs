//! Work shared out to all threads piece by piece: whoever is free takes the next, so that one slow
//! core does not keep the others waiting, and pieces are begun in the order in which they lie on disk.

use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

/// Runs `pieces` pieces of work, each with the state of the thread that took it; returns the states.
/// What a piece does must not depend on which pieces the same state saw before.
pub fn share_out<S: Send>(
    pieces: usize,
    make: impl Fn() -> S + Sync,
    run: impl Fn(&mut S, usize) + Sync,
) -> Vec<S> {
    let next = AtomicUsize::new(0);
    let work = |_| {
        let mut state = make();
        loop {
            let piece = next.fetch_add(1, Ordering::Relaxed);
            if piece >= pieces {
                return state;
            }
            run(&mut state, piece);
        }
    };
    let threads = rayon::current_num_threads().min(pieces).max(1);
    (0..threads).into_par_iter().with_max_len(1).map(work).collect()
}
