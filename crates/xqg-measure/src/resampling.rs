//! Random numbers that depend on nothing but (seed, resample, position): a hash of the three, so
//! that resamples may run on any number of threads in any order and give the same numbers. The hash
//! is SplitMix64's finaliser (Steele, Lea and Flood, Fast splittable pseudorandom number
//! generators, OOPSLA 2014), applied once for each of the three.

use std::num::NonZeroU32;

/// How often to resample, and from which seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resampling {
    /// The number of resamples of each test and of each interval.
    pub resamples: NonZeroU32,
    /// The seed; the same seed gives the same numbers.
    pub seed: u64,
}

impl Default for Resampling {
    /// 10,000 resamples: the smallest p is then 0.0001.
    fn default() -> Self {
        Self { resamples: NonZeroU32::new(10_000).expect("ten thousand is not zero"), seed: 42 }
    }
}

impl Resampling {
    /// 64 random bits for a resample and a position in it.
    pub fn bits(&self, resample: u32, position: u64) -> u64 {
        mix(mix(mix(self.seed).wrapping_add(u64::from(resample))).wrapping_add(position))
    }

    /// A random index below `n` (below 1 for `n` = 0) for a resample and a position in it.
    pub fn index(&self, resample: u32, position: u64, n: usize) -> usize {
        let wide = u128::from(self.bits(resample, position)) * n as u128;
        (wide >> 64) as usize
    }
}

fn mix(value: u64) -> u64 {
    let z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_splitmix64() {
        // The first output of SplitMix64 seeded with 0, from its reference implementation.
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf);
    }

    #[test]
    fn indices_are_even_and_bits_are_fair() {
        let resampling = Resampling::default();
        let mut counts = [0u32; 7];
        (0..70_000).for_each(|i| counts[resampling.index(3, i, 7)] += 1);
        // 10,000 each, standard deviation 93: five of them on each side.
        assert!(counts.iter().all(|&c| (9_537..10_463).contains(&c)), "{counts:?}");
        let ones: u32 = (0..10_000).map(|r| resampling.bits(r, 0).count_ones()).sum();
        assert!((318_000..322_000).contains(&ones), "{ones} of 640,000 bits");
    }
}
