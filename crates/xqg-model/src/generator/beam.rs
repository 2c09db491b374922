//! Beam search over one passage's questions in one language, step for step as transformers'
//! `generate` does it with `length_penalty=1` and `early_stopping=False`: a finished hypothesis
//! counts by its mean log-probability, and the search ends when the best running one, at its present
//! length, could not improve on the worst finished one.

use super::output::Seen;

/// A hypothesis: its tokens and the sum of their log-probabilities.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Hypothesis {
    /// The tokens, the end token included.
    pub tokens: Vec<u32>,
    /// The sum.
    pub sum: f32,
}

/// What a step leaves to be read: the running hypothesis that goes on, and with which token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Next {
    /// The place of the one that it continues.
    pub parent: usize,
    /// The token.
    pub token: u32,
}

/// The state of a search.
#[derive(Debug, Clone)]
pub(crate) struct Beam {
    width: usize,
    most: usize,
    end: u32,
    /// The best first.
    running: Vec<Hypothesis>,
    /// With mean log-probabilities, the best first.
    finished: Vec<(f32, Hypothesis)>,
}

impl Beam {
    /// A search for so many hypotheses of at most `most` tokens.
    pub fn new(width: usize, most: usize, end: u32) -> Self {
        Self { width, most, end, running: vec![Hypothesis::default()], finished: Vec::new() }
    }

    /// Takes the likeliest tokens after each running hypothesis, at least twice the width, and says
    /// how the search goes on; nothing when it is over.
    pub fn advance<'s>(&mut self, seen: impl IntoIterator<Item = &'s Seen>) -> Vec<Next> {
        let mut all: Vec<(f32, Next)> = Vec::new();
        for (parent, (seen, old)) in seen.into_iter().zip(&self.running).enumerate() {
            let next = |(log, token): (f32, u32)| (old.sum + log, Next { parent, token });
            all.extend(seen.top().map(next));
        }
        all.sort_by(|a, b| b.0.total_cmp(&a.0));
        all.truncate(2 * self.width);
        let length = self.running.first().map_or(0, |h| h.tokens.len()) + 1;
        let (end, most) = (self.end, self.most);
        let is_over = |next: Next| next.token == end || length >= most;
        for &(sum, next) in all.iter().take(self.width).filter(|c| is_over(c.1)) {
            let hypothesis = self.continued(sum, next);
            self.finish(sum / length as f32, hypothesis);
        }
        let going = all.iter().filter(|c| !is_over(c.1)).take(self.width);
        let going: Vec<(f32, Next)> = going.copied().collect();
        self.running = going.iter().map(|&(sum, next)| self.continued(sum, next)).collect();
        if self.is_done(length) { Vec::new() } else { going.into_iter().map(|c| c.1).collect() }
    }

    fn continued(&self, sum: f32, next: Next) -> Hypothesis {
        let mut tokens = self.running[next.parent].tokens.clone();
        tokens.push(next.token);
        Hypothesis { tokens, sum }
    }

    /// Keeps a finished hypothesis if it is among the best; of equal ones the older.
    fn finish(&mut self, score: f32, hypothesis: Hypothesis) {
        let at = self.finished.partition_point(|f| f.0 >= score);
        self.finished.insert(at, (score, hypothesis));
        self.finished.truncate(self.width);
    }

    fn is_done(&self, length: usize) -> bool {
        let Some(best) = self.running.first() else { return true };
        let worst = self.finished.last().filter(|_| self.finished.len() == self.width);
        worst.is_some_and(|worst| best.sum / length as f32 <= worst.0)
    }

    /// The best hypotheses, the best first.
    pub fn best(self, n: usize) -> impl Iterator<Item = Hypothesis> {
        self.finished.into_iter().take(n).map(|f| f.1)
    }
}
