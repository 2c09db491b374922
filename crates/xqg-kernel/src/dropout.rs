//! Dropout whose draws are counted, not streamed: whether a number is left out is a hash of a key
//! and the number's place. So it depends neither on threads nor on how texts are grouped, and the
//! way back draws the same without a mask kept in memory.

use pulp::Arch;

/// The key of one place in a network, for one text in one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key(u64);

impl Key {
    /// The key that a run's seed begins with.
    pub fn new(seed: u64) -> Self {
        Self(mix(seed))
    }

    /// The key of a part: a step of a run, a text of a step, a place in the network.
    pub fn part(self, number: u64) -> Self {
        Self(mix(self.0.wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_add(number)))
    }

    /// A whole number that only the key decides.
    pub fn number(self) -> u64 {
        self.0
    }
}

/// The mixer of SplitMix64 (Steele, Lea, Flood 2014).
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// How much is left out: each number with the same probability, and the rest grows so that the
/// expected sum stays.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    threshold: u32,
    scale: f32,
}

impl Rate {
    /// A rate from 0 (nothing is left out) to below 1; `None` for any other number.
    pub fn new(probability: f32) -> Option<Self> {
        let threshold = (f64::from(probability) * 4_294_967_296.0) as u32;
        let scale = 1.0 / (1.0 - probability);
        (0.0..1.0).contains(&probability).then_some(Self { threshold, scale })
    }

    /// Whether nothing is left out.
    pub fn is_zero(self) -> bool {
        self.threshold == 0
    }

    /// Draws below this are left out; with [`Rate::scale`] what a device needs to draw the same.
    pub fn threshold(self) -> u32 {
        self.threshold
    }

    /// What the numbers that stay are multiplied by.
    pub fn scale(self) -> f32 {
        self.scale
    }

    /// Leaves out numbers of `row` and scales the rest; the first is number `start` of the key's
    /// place. The way back applies the same call to the gradient.
    pub fn apply(self, key: Key, start: usize, row: &mut [f32]) {
        if !self.is_zero() {
            Arch::new().dispatch(
                #[inline(always)]
                || self.apply_here(key, start, row),
            );
        }
    }

    #[inline(always)]
    pub(crate) fn apply_here(self, key: Key, start: usize, row: &mut [f32]) {
        let (low, high) = (key.0 as u32, (key.0 >> 32) as u32);
        for (i, x) in row.iter_mut().enumerate() {
            let kept = draw(low, high, (start + i) as u32) >= self.threshold;
            *x *= if kept { self.scale } else { 0.0 };
        }
    }
}

/// A 32-bit hash of a counter: the rounds of `lowbias32` (Wellons 2018) with half of the key before
/// each.
#[inline(always)]
fn draw(low: u32, high: u32, counter: u32) -> u32 {
    let mut x = counter.wrapping_mul(0x9e37_79b9) ^ low;
    x = (x ^ (x >> 16)).wrapping_mul(0x21f0_aaad).wrapping_add(high);
    x = (x ^ (x >> 15)).wrapping_mul(0xd35a_2d97);
    x ^ (x >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept_and_so_is_the_expected_sum() {
        let rate = Rate::new(0.1).unwrap();
        for text in 0..8 {
            let mut row = vec![1.0f32; 40_000];
            rate.apply(Key::new(7).part(text), 0, &mut row);
            let zeros = row.iter().filter(|x| **x == 0.0).count();
            assert!((3_800..4_200).contains(&zeros), "{zeros}");
            assert!((row.iter().sum::<f32>() / 40_000.0 - 1.0).abs() < 0.01);
        }
    }

    #[test]
    fn a_draw_depends_on_key_and_place_only() {
        let (rate, key) = (Rate::new(0.5).unwrap(), Key::new(1).part(2));
        let (mut whole, mut half) = (vec![1.0f32; 100], vec![1.0f32; 50]);
        rate.apply(key, 0, &mut whole);
        rate.apply(key, 50, &mut half);
        assert_eq!(whole[50..], half[..]);
        let mut other = vec![1.0f32; 100];
        rate.apply(key.part(0), 0, &mut other);
        let same = whole.iter().zip(&other).filter(|(a, b)| a == b).count();
        assert!((25..75).contains(&same), "independent keys agree half of the time: {same}");
    }

    #[test]
    fn rates_outside_of_zero_to_one_are_refused() {
        assert!(Rate::new(0.0).is_some_and(Rate::is_zero));
        for bad in [1.0, -0.1, f32::NAN] {
            assert!(Rate::new(bad).is_none());
        }
    }
}
