//! The choice itself, without files or models: from the rankings of one query, which rows are its
//! positives and which its negatives. Ranks count from 1.

use std::collections::BTreeSet;

use xqg_data::training::Asked;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// How far below the positive a negative must score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Margin {
    /// By at least this much.
    Absolute(f32),
    /// By at least this part of the positive's score.
    Relative(f32),
}

impl Margin {
    /// The greatest score that a negative may have.
    fn ceiling(self, positive: f32) -> f32 {
        match self {
            Self::Absolute(by) => positive - by,
            Self::Relative(part) => positive - part * positive.abs(),
        }
    }
}

/// Which of the passages that may be negatives are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pick {
    /// Any, by a draw of lots with a seed.
    Random,
    /// Those ranked highest.
    First,
}

/// How many, and from where.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// The most positives of a query.
    pub positives: usize,
    /// The last rank at which a positive may be found.
    pub positives_to: usize,
    /// The most negatives of a query.
    pub negatives: usize,
    /// The first rank at which a negative may be found.
    pub from: usize,
    /// The last.
    pub to: usize,
    /// How far below the positive.
    pub margin: Option<Margin>,
    /// Which of them.
    pub pick: Pick,
    /// The seed of the draw.
    pub seed: u64,
}

impl Choice {
    /// How deep rankings must be.
    pub fn depth(&self) -> usize {
        self.positives_to.max(self.to)
    }
}

/// The ranking of one text, best first.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranking {
    /// Which text of the query.
    pub asked: Asked,
    /// Scores and rows.
    pub hits: Vec<(f32, u32)>,
}

/// A row with its place in a ranking.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Found {
    /// The row.
    pub row: u32,
    /// The ranking.
    pub asked: Asked,
    /// From 1.
    pub rank: usize,
    /// In that ranking.
    pub score: f32,
}

impl Ranking {
    /// The hits with their places.
    pub fn found(&self) -> impl Iterator<Item = Found> {
        let place = |(i, &(score, row)): (usize, &(f32, u32))| Found {
            row,
            asked: self.asked,
            rank: i + 1,
            score,
        };
        self.hits.iter().enumerate().map(place)
    }

    /// The score of a row, or the last one's where the row is not ranked: it has no more than that.
    fn at_most(&self, row: u32) -> Option<f32> {
        let own = self.hits.iter().find(|hit| hit.1 == row);
        own.or(self.hits.last()).map(|hit| hit.0)
    }
}

/// All rows down to a rank, each once, at its best place: where two rankings tie, the translation's.
pub fn nearest(rankings: &[Ranking], to: usize) -> Vec<Found> {
    let mut all: Vec<Found> = rankings.iter().flat_map(|r| r.found().take(to)).collect();
    all.sort_by_key(|found| (found.rank, found.asked == Asked::Question));
    let mut seen = BTreeSet::new();
    all.retain(|found| seen.insert(found.row));
    all
}

/// The nearest rows that answer, at most as many as wanted.
pub fn positives(
    rankings: &[Ranking],
    choice: &Choice,
    answers: impl Fn(u32) -> bool,
) -> Vec<Found> {
    let near = nearest(rankings, choice.positives_to).into_iter();
    near.filter(|found| answers(found.row)).take(choice.positives).collect()
}

/// Negatives from the ranking of the question, or of the translation where that is the only one,
/// in the order of their ranks. `positive` is the best positive: where a margin is set, negatives
/// score that much less in the ranking that found it. `ticket` gives each row its lot.
pub fn negatives(
    rankings: &[Ranking],
    choice: &Choice,
    positive: Option<&Found>,
    is_eligible: impl Fn(u32) -> bool,
    ticket: impl Fn(u32) -> u64,
) -> Vec<Found> {
    let Some(base) = rankings.iter().min_by_key(|r| r.asked) else { return Vec::new() };
    let judge =
        positive.map_or(base, |p| rankings.iter().find(|r| r.asked == p.asked).unwrap_or(base));
    let below = |row: u32| match (choice.margin, positive) {
        (None, _) => true,
        (Some(margin), Some(p)) => {
            judge.at_most(row).is_some_and(|score| score <= margin.ceiling(p.score))
        }
        // The positive is not ranked at all, so nothing in the window is known to be below it.
        (Some(_), None) => false,
    };
    let window = base.found().take(choice.to).skip(choice.from.saturating_sub(1));
    let mut eligible: Vec<Found> =
        window.filter(|found| below(found.row) && is_eligible(found.row)).collect();
    if choice.pick == Pick::Random {
        eligible.sort_by_cached_key(|found| (ticket(found.row), found.rank));
    }
    eligible.truncate(choice.negatives);
    eligible.sort_by_key(|found| found.rank);
    eligible
}

/// The lot of a passage for a query: the same on any machine and in any order of work.
pub fn lot(seed: u64, qid: &str, docid: &str) -> u64 {
    xxh3_64_with_seed(format!("{qid}\t{docid}").as_bytes(), seed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn choice() -> Choice {
        Choice {
            positives: 1,
            positives_to: 10,
            negatives: 2,
            from: 2,
            to: 6,
            margin: None,
            pick: Pick::First,
            seed: 1,
        }
    }

    fn ranking(asked: Asked, rows: &[u32]) -> Ranking {
        let hits = rows.iter().enumerate().map(|(i, &row)| (1.0 - 0.1 * i as f32, row)).collect();
        Ranking { asked, hits }
    }

    fn rows(found: &[Found]) -> Vec<u32> {
        found.iter().map(|f| f.row).collect()
    }

    #[test]
    fn the_best_place_in_either_ranking_counts() {
        let both = [ranking(Asked::Question, &[1, 2, 3]), ranking(Asked::Translation, &[4, 2, 1])];
        assert_eq!(rows(&nearest(&both, 3)), [4, 1, 2, 3]);
        let places: Vec<_> = nearest(&both, 3).iter().map(|f| (f.asked, f.rank)).collect();
        assert_eq!(places[2], (Asked::Translation, 2), "a tie is the translation's");
        assert_eq!(rows(&nearest(&both, 1)), [4, 1]);
        assert_eq!(rows(&positives(&both, &choice(), |row| row > 1)), [4]);
    }

    #[test]
    fn negatives_come_from_the_window_of_the_question() {
        let both = [
            ranking(Asked::Translation, &[9, 8, 7, 6]),
            ranking(Asked::Question, &[1, 2, 3, 4, 5, 6, 7]),
        ];
        let choose = |choice: &Choice, not: u32| {
            rows(&negatives(&both, choice, None, |row| row != not, |row| u64::from(100 - row)))
        };
        assert_eq!(choose(&choice(), 3), [2, 4]);
        assert_eq!(choose(&Choice { pick: Pick::Random, ..choice() }, 6), [4, 5], "by the lots");
        assert_eq!(choose(&Choice { negatives: 9, ..choice() }, 3), [2, 4, 5, 6]);
        let alone = &both[..1];
        let found = negatives(alone, &choice(), None, |_| true, |_| 0);
        assert_eq!(rows(&found), [8, 7], "without a ranking of the question");
    }

    #[test]
    fn a_margin_is_kept_in_the_ranking_that_found_the_positive() {
        let both = [
            ranking(Asked::Question, &[1, 2, 3, 4, 5, 6]),
            ranking(Asked::Translation, &[2, 9, 4, 8]),
        ];
        let with = |margin, positive: Option<&Found>| {
            let choice = Choice { margin: Some(margin), negatives: 9, from: 1, ..choice() };
            rows(&negatives(&both, &choice, positive, |row| row != 2, |_| 0))
        };
        let first = nearest(&both[1..], 1)[0];
        // Translation: 2 has 1.0, 4 has 0.8, those that are not ranked have at most 0.7.
        assert_eq!(with(Margin::Absolute(0.15), Some(&first)), [1, 3, 4, 5, 6]);
        assert_eq!(with(Margin::Relative(0.25), Some(&first)), [1, 3, 5, 6]);
        assert_eq!(with(Margin::Absolute(0.35), Some(&first)), [] as [u32; 0]);
        let question = Found { row: 2, asked: Asked::Question, rank: 2, score: 0.9 };
        assert_eq!(with(Margin::Absolute(0.15), Some(&question)), [4, 5, 6]);
        assert_eq!(with(Margin::Absolute(0.0), None), [] as [u32; 0]);
    }

    proptest! {
        #[test]
        fn whatever_is_asked_negatives_are_few_eligible_and_in_the_window(
            n in 0usize..30, negatives_wanted in 0usize..9, from in 1usize..12, width in 0usize..12,
            seed in 0u64..9, random: bool, modulus in 1u32..5,
        ) {
            let row_list: Vec<u32> = (0..n as u32).map(|i| i * 7 % 31).collect();
            let rankings = [ranking(Asked::Question, &row_list)];
            let pick = if random { Pick::Random } else { Pick::First };
            let to = from + width;
            let choice = Choice { negatives: negatives_wanted, from, to, pick, seed, ..choice() };
            let lots = |row: u32| lot(seed, "q", &row.to_string());
            let eligible = |row: u32| !row.is_multiple_of(modulus);
            let found = negatives(&rankings, &choice, None, eligible, lots);
            prop_assert!(found.len() <= negatives_wanted);
            prop_assert!(found.iter().all(|f| (from..=to).contains(&f.rank) && eligible(f.row)));
            prop_assert!(found.windows(2).all(|w| w[0].rank < w[1].rank));
            let possible = row_list.iter().take(to).skip(from - 1).filter(|r| eligible(**r)).count();
            prop_assert_eq!(found.len(), possible.min(negatives_wanted));
        }
    }
}
