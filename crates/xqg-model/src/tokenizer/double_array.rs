//! A trie of byte strings in one array of `u64`, which can lie in a mapped file. A child of a node
//! lies at the node's base XOR the byte (Aoe 1989, in the layout of Yata's darts-clone); every base
//! belongs to one node only, so that comparing the byte says whose child a unit is.

/// Units lie in blocks of 256: a node's children are all in one block, for XOR changes eight bits.
const BLOCK: usize = 256;
/// How many blocks are looked through for free places before a new one is begun.
const OPEN_BLOCKS: usize = 24;
/// The label of a unit that no node uses: no byte is equal to it.
const FREE: u64 = 256;
const LABEL_BITS: u32 = 9;
/// Bases take the 23 bits between label and value.
const MAX_UNITS: usize = 1 << 23;

/// A trie over units that [`build`] made, or that claim to be so: lookups never go out of bounds.
#[derive(Debug, Clone, Copy)]
pub struct DoubleArray<'a> {
    units: &'a [u64],
}

/// A place in the trie: where its children are, and the value of the key that ends here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node(u64);

impl Node {
    fn base(self) -> usize {
        (self.0 as u32 >> LABEL_BITS) as usize
    }

    /// The value of the key that ends here, if one does.
    #[inline]
    pub fn value(self) -> Option<u32> {
        ((self.0 >> 32) as u32).checked_sub(1)
    }
}

impl<'a> DoubleArray<'a> {
    /// The trie in these units.
    pub fn new(units: &'a [u64]) -> Self {
        Self { units }
    }

    /// The place of the empty key.
    #[inline]
    pub fn root(self) -> Node {
        Node(self.units.first().copied().unwrap_or(FREE))
    }

    /// The place one byte further.
    #[inline]
    pub fn child(self, node: Node, byte: u8) -> Option<Node> {
        let unit = *self.units.get(node.base() ^ usize::from(byte))?;
        (unit & 0x1ff == u64::from(byte)).then_some(Node(unit))
    }

    /// The value of a whole key.
    pub fn get(self, key: &[u8]) -> Option<u32> {
        key.iter().try_fold(self.root(), |node, &byte| self.child(node, byte))?.value()
    }
}

/// The units of a trie with these keys, which must be sorted and unlike each other. Values are
/// below `u32::MAX`. `None` where the keys need more units than a base can name.
pub fn build(keys: &[(&[u8], u32)]) -> Option<Vec<u64>> {
    let mut builder = Builder::default();
    builder.add_block();
    builder.take(0);
    // A leaf's base is 0. No node has that base, so that no byte leads on from a leaf.
    builder.used[0] = 1;
    let mut todo = vec![Part { unit: 0, keys, depth: 0 }];
    while let Some(part) = todo.pop() {
        builder.place(part, &mut todo);
        if builder.units.len() > MAX_UNITS {
            return None;
        }
    }
    Some(builder.units)
}

/// The keys below one node, whose first `depth` bytes are the same.
struct Part<'k> {
    unit: usize,
    keys: &'k [(&'k [u8], u32)],
    depth: usize,
}

/// 256 bits, one for every place in a block.
type Places = [u64; BLOCK / 64];

#[derive(Default)]
struct Builder {
    units: Vec<u64>,
    free: Vec<Places>,
    /// One bit for every base that a node has, in words of 64.
    used: Vec<u64>,
    open: Vec<usize>,
}

impl Builder {
    fn place<'k>(&mut self, part: Part<'k>, todo: &mut Vec<Part<'k>>) {
        let Part { unit, mut keys, depth } = part;
        if let Some(((_, value), rest)) = keys.split_first().filter(|((k, _), _)| k.len() == depth)
        {
            self.units[unit] |= u64::from(value + 1) << 32;
            keys = rest;
        }
        let groups: Vec<_> = keys.chunk_by(|(a, _), (b, _)| a[depth] == b[depth]).collect();
        let labels: Vec<u8> = groups.iter().map(|group| group[0].0[depth]).collect();
        if labels.is_empty() {
            return;
        }
        let base = self.find(unit / BLOCK, &labels);
        self.used[base / 64] |= 1 << (base % 64);
        self.units[unit] |= (base as u64) << LABEL_BITS;
        for (keys, label) in groups.into_iter().zip(labels).rev() {
            let unit = base ^ usize::from(label);
            self.take(unit);
            self.units[unit] = u64::from(label);
            todo.push(Part { unit, keys, depth: depth + 1 });
        }
    }

    /// A base whose places for all labels are free: near the parent where there is one.
    fn find(&mut self, near: usize, labels: &[u8]) -> usize {
        let open = self.open.iter().copied();
        let found = [near].into_iter().chain(open).find_map(|block| self.base_in(block, labels));
        found.unwrap_or_else(|| {
            let block = self.add_block();
            self.base_in(block, labels).expect("an empty block has every place")
        })
    }

    fn base_in(&self, block: usize, labels: &[u8]) -> Option<usize> {
        let free = &self.free[block];
        let mut bases: Places = std::array::from_fn(|i| !self.used[block * 4 + i]);
        for &label in labels {
            let shifted = xor_places(free, label);
            bases.iter_mut().zip(shifted).for_each(|(b, s)| *b &= s);
        }
        let word = bases.iter().position(|&b| b != 0)?;
        Some(block * BLOCK + word * 64 + bases[word].trailing_zeros() as usize)
    }

    fn add_block(&mut self) -> usize {
        let block = self.free.len();
        self.units.resize(self.units.len() + BLOCK, FREE);
        self.free.push([u64::MAX; 4]);
        self.used.extend([0; 4]);
        if self.open.len() == OPEN_BLOCKS {
            self.open.remove(0);
        }
        self.open.push(block);
        block
    }

    fn take(&mut self, unit: usize) {
        self.free[unit / BLOCK][unit % BLOCK / 64] &= !(1 << (unit % 64));
    }
}

/// The places whose XOR with the label is among these.
fn xor_places(places: &Places, label: u8) -> Places {
    const MASKS: [u64; 6] = [
        0x5555_5555_5555_5555,
        0x3333_3333_3333_3333,
        0x0f0f_0f0f_0f0f_0f0f,
        0x00ff_00ff_00ff_00ff,
        0x0000_ffff_0000_ffff,
        0x0000_0000_ffff_ffff,
    ];
    std::array::from_fn(|i| {
        let mut word = places[i ^ usize::from(label >> 6)];
        for (bit, mask) in MASKS.iter().enumerate().filter(|(bit, _)| label >> bit & 1 == 1) {
            let shift = 1 << bit;
            word = (word >> shift & mask) | (word & mask) << shift;
        }
        word
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn built(keys: &BTreeMap<Vec<u8>, u32>) -> Vec<u64> {
        build(&keys.iter().map(|(k, &v)| (k.as_slice(), v)).collect::<Vec<_>>()).unwrap()
    }

    proptest! {
        #[test]
        fn holds_its_keys_and_no_others(
            keys in prop::collection::btree_map(prop::collection::vec(0u8..4, 0..6), 0u32..99, 0..200),
            wide in prop::collection::btree_map(prop::collection::vec(any::<u8>(), 0..3), 0u32..99, 0..400),
            others in prop::collection::vec(prop::collection::vec(0u8..5, 0..7), 50),
        ) {
            for keys in [keys, wide] {
                let units = built(&keys);
                let trie = DoubleArray::new(&units);
                for key in keys.keys().chain(&others) {
                    prop_assert_eq!(trie.get(key), keys.get(key).copied());
                }
            }
        }

        #[test]
        fn any_units_can_be_walked(
            units in prop::collection::vec(any::<u64>(), 0..300),
            key in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let _ = DoubleArray::new(&units).get(&key);
        }

        #[test]
        fn places_move_as_xor_says(places in any::<[u64; 4]>(), label in any::<u8>()) {
            let moved = xor_places(&places, label);
            let bit = |p: &Places, i: usize| p[i / 64] >> (i % 64) & 1;
            for i in 0..BLOCK {
                prop_assert_eq!(bit(&moved, i), bit(&places, i ^ usize::from(label)));
            }
        }
    }
}
