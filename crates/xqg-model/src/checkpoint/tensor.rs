//! Where one tensor lies in its file, and how its elements are brought into row-major order. The
//! readers of the file formats make these; bounds are checked when they are made and again, by
//! checked slicing, when they are read.

use std::ops::Range;

use crate::checkpoint::element::Element;

/// Elements that a tensor may have beyond what its storage holds, which happens where a stride
/// of 0 repeats one element. Larger ones are hostile: they would make gigabytes out of nothing.
const MAX_REPEATED: usize = 1 << 26;

/// One named tensor of a checkpoint, not yet read.
#[derive(Debug, Clone)]
pub(super) struct Tensor {
    /// Sizes of the axes; empty for a scalar.
    pub(super) shape: Vec<usize>,
    /// The stored type.
    pub(super) element: Element,
    /// Which of the checkpoint's files holds it.
    pub(super) file: usize,
    /// Where in that file.
    pub(super) place: Place,
}

/// How a tensor lies in its file.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// The elements follow each other, in row-major order, in these bytes of the file.
    Plain(Range<usize>),
    /// The elements are picked out of a storage.
    Strided(Storage, Layout),
    /// An element type that is never read, so its place is not worked out.
    Unread,
}

/// The bytes that one or more tensors of a torch file share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Storage {
    /// These bytes of the file.
    Mapped(Range<usize>),
    /// A compressed entry of the archive, by its number.
    Deflated(usize),
}

/// Which elements of a storage a tensor is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    /// The first one's index.
    pub(super) offset: usize,
    /// How far apart neighbours on each axis are, in elements; as many as there are axes.
    pub(super) strides: Vec<usize>,
}

/// The number of elements; `None` where it does not fit a `usize`.
pub(super) fn count(shape: &[usize]) -> Option<usize> {
    if shape.contains(&0) {
        return Some(0);
    }
    shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size))
}

impl Layout {
    /// One past the largest element index that is touched, `Some(0)` for an empty tensor;
    /// `None` on overflow, or where axes and strides are not equally many, or where a repeated
    /// element makes the tensor unreasonably larger than its `storage` (in elements).
    pub(super) fn end(&self, shape: &[usize], storage: usize) -> Option<usize> {
        let elements = count(shape)?;
        if self.strides.len() != shape.len() || elements > storage.max(MAX_REPEATED) {
            return None;
        }
        if elements == 0 {
            return Some(0);
        }
        let last =
            shape.iter().zip(&self.strides).try_fold(self.offset, |at, (size, stride)| {
                at.checked_add(size.checked_sub(1)?.checked_mul(*stride)?)
            })?;
        last.checked_add(1)
    }

    /// Whether the elements follow each other in row-major order. Strides of axes of size 1 do
    /// not matter: PyTorch writes arbitrary ones there.
    pub(super) fn is_row_major(&self, shape: &[usize]) -> bool {
        let mut wanted = 1usize;
        for (size, stride) in shape.iter().zip(&self.strides).rev() {
            if *size != 1 && *stride != wanted {
                return false;
            }
            wanted = wanted.saturating_mul(*size);
        }
        true
    }

    /// The element indices in row-major order of `shape`. Only call it where [`Layout::end`]
    /// gave a bound.
    pub(super) fn indices(&self, shape: &[usize]) -> Vec<usize> {
        let mut indices = vec![self.offset];
        for (size, stride) in shape.iter().zip(&self.strides) {
            let steps = 0..*size;
            indices = indices
                .into_iter()
                .flat_map(|at| steps.clone().map(move |step| at + step * stride))
                .collect();
        }
        indices
    }

    /// Picks this layout's elements out of a `storage` of converted elements; `None` where one
    /// of them is outside of it.
    pub(super) fn gather(&self, shape: &[usize], storage: &[f32]) -> Option<Vec<f32>> {
        self.end(shape, storage.len()).filter(|end| *end <= storage.len())?;
        self.indices(shape).into_iter().map(|at| storage.get(at).copied()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(offset: usize, strides: &[usize]) -> Layout {
        Layout { offset, strides: strides.to_vec() }
    }

    #[test]
    fn a_transposed_tensor_is_gathered_in_row_major_order() {
        let storage = [9.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0];
        let transposed = layout(1, &[1, 2]);
        let values = transposed.gather(&[2, 3], &storage).unwrap();
        assert_eq!(values, [0.0, 2.0, 4.0, 1.0, 3.0, 5.0]);
        assert!(!transposed.is_row_major(&[2, 3]));
    }

    #[test]
    fn a_scalar_and_an_empty_tensor_are_fine() {
        assert_eq!(layout(1, &[]).gather(&[], &[3.0, 4.0]).unwrap(), [4.0]);
        assert!(layout(7, &[5, 1]).gather(&[0, 5], &[]).unwrap().is_empty());
    }

    #[test]
    fn a_repeated_element_is_allowed_but_not_without_limit() {
        assert_eq!(layout(0, &[0]).gather(&[3], &[2.0]).unwrap(), [2.0, 2.0, 2.0]);
        assert_eq!(layout(0, &[0, 0]).end(&[1 << 20, 1 << 20], 1), None);
    }

    #[test]
    fn indices_outside_the_storage_and_overflows_are_refused() {
        assert_eq!(layout(0, &[2]).gather(&[3], &[0.0; 4]), None);
        assert_eq!(layout(usize::MAX, &[1]).end(&[2], 10), None);
        assert_eq!(layout(0, &[usize::MAX]).end(&[3], 10), None);
        assert_eq!(layout(0, &[1]).end(&[2, 2], 10), None);
    }

    #[test]
    fn strides_of_axes_of_size_one_do_not_matter() {
        assert!(layout(0, &[512, 1]).is_row_major(&[1, 4]));
        assert!(layout(0, &[77, 4, 99, 1]).is_row_major(&[1, 2, 1, 4]));
        assert!(!layout(0, &[1, 1]).is_row_major(&[2, 2]));
    }
}
