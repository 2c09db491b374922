//! What attention adds to its scores for the distance from query to key: a learned number for each
//! head and kind of distance, as T5 has in place of positions (Raffel et al. 2020, section 2.1).

/// The widest panel of any set: how far a row of numbers is read beyond its end.
const PANEL: usize = 32;

/// The numbers of a stack of layers. Rows of one table serve all queries: a query's row begins the
/// further left the later its place is.
#[derive(Debug)]
pub(crate) struct Distances {
    /// For each head the numbers of the distances from key to query, `1 - reach` to `ahead`, then
    /// zeros for one panel.
    table: Vec<f32>,
    reach: usize,
    width: usize,
}

impl Distances {
    /// The table of `of(head, query, key)` for places below `reach`, of which only the distance may
    /// count; keys lie up to `ahead` places after their query.
    pub fn new(
        heads: usize,
        (reach, ahead): (usize, usize),
        of: impl Fn(usize, usize, usize) -> f32,
    ) -> Self {
        let width = reach + ahead + PANEL;
        let mut table = vec![0.0; heads * width];
        for (head, row) in table.chunks_exact_mut(width).enumerate() {
            for (key, to) in row[..reach + ahead].iter_mut().enumerate() {
                *to = of(head, reach - 1, key);
            }
        }
        Self { table, reach, width }
    }

    /// The numbers for the keys from 0 on of a query at a place, then a panel more.
    pub fn row(&self, head: usize, at: usize) -> &[f32] {
        &self.table[head * self.width..][..self.width][self.reach - 1 - at..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_counted_from_the_query() {
        let of = |head: usize, query: usize, key: usize| (head * 100 + query + 10 - key) as f32;
        let back = Distances::new(2, (5, 0), of);
        assert_eq!(back.row(1, 2)[..3], [112.0, 111.0, 110.0]);
        assert_eq!(back.row(0, 4)[..5], [14.0, 13.0, 12.0, 11.0, 10.0]);
        assert!(back.row(0, 0).len() >= PANEL);
        let both = Distances::new(2, (5, 4), of);
        assert_eq!(both.row(1, 2)[..5], [112.0, 111.0, 110.0, 109.0, 108.0]);
        assert_eq!(both.row(0, 0)[..5], [10.0, 9.0, 8.0, 7.0, 6.0]);
        assert!(both.row(0, 4).len() >= 5 + PANEL);
    }
}
