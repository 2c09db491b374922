//! Numbers that are either owned or lie in a mapped file. Weights that another run has laid out are
//! used where they lie: nothing is read before it is needed, and processes share the pages.

use std::marker::PhantomData;
use std::ops::{Deref, Range};
use std::sync::Arc;

use bytemuck::AnyBitPattern;
use memmap2::Mmap;

/// A slice of numbers that owns its memory or shares a mapped file.
#[derive(Debug)]
pub(crate) enum Buffer<T> {
    /// In memory.
    Owned(Vec<T>),
    /// In a file.
    Mapped(Mapped<T>),
}

/// Bytes of a mapped file that hold whole, aligned numbers.
#[derive(Debug)]
pub(crate) struct Mapped<T> {
    map: Arc<Mmap>,
    bytes: Range<usize>,
    of: PhantomData<T>,
}

impl<T: AnyBitPattern> Buffer<T> {
    /// The numbers in some bytes of a mapped file; `None` where the bytes are not all there, hold no
    /// whole number of them, or are not aligned.
    pub fn mapped(map: &Arc<Mmap>, bytes: Range<usize>) -> Option<Self> {
        bytemuck::try_cast_slice::<u8, T>(map.get(bytes.clone())?).ok()?;
        Some(Self::Mapped(Mapped { map: Arc::clone(map), bytes, of: PhantomData }))
    }
}

impl<T: AnyBitPattern> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Self::Owned(numbers) => numbers,
            Self::Mapped(m) => bytemuck::cast_slice(&m.map[m.bytes.clone()]),
        }
    }
}

impl<T> From<Vec<T>> for Buffer<T> {
    fn from(numbers: Vec<T>) -> Self {
        Self::Owned(numbers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn mapped_numbers_are_whole_aligned_and_inside() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[0, 0, 0, 0, 0, 0, 128, 63, 7]).unwrap();
        // SAFETY: nobody else knows the file.
        let map = Arc::new(unsafe { Mmap::map(&file) }.unwrap());
        let numbers: Buffer<f32> = Buffer::mapped(&map, 0..8).unwrap();
        assert_eq!(*numbers, [0.0, 1.0]);
        for bad in [0..7, 1..5, 4..12] {
            assert!(Buffer::<f32>::mapped(&map, bad).is_none());
        }
    }
}
