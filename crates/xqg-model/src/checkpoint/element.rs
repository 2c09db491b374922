//! The element types of stored tensors and their conversion to f32. Floats of 16, 32 and 64 bits
//! are converted; everything else is only known by name, so that it can be refused by name.

use half::{bf16, f16};

/// What one element of a stored tensor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    /// IEEE double.
    F64,
    /// IEEE single.
    F32,
    /// IEEE half.
    F16,
    /// The upper half of an IEEE single.
    Bf16,
    /// Anything else, by the name it has in the file.
    Other(&'static str),
}

impl Element {
    /// Bytes of one element; `None` where the type is not converted.
    pub(super) fn bytes(self) -> Option<usize> {
        match self {
            Self::F64 => Some(8),
            Self::F32 => Some(4),
            Self::F16 | Self::Bf16 => Some(2),
            Self::Other(_) => None,
        }
    }

    /// The name a person knows the type by.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::F64 => "f64",
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Other(name) => name,
        }
    }

    /// Converts little-endian elements that lie one after the other. Trailing bytes that make no
    /// whole element are left out: callers pass whole elements.
    pub(super) fn decode(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Self::F64 => each(bytes, |b| f64::from_le_bytes(b) as f32),
            Self::F32 => each(bytes, f32::from_le_bytes),
            Self::F16 => each(bytes, |b| f16::from_le_bytes(b).to_f32()),
            Self::Bf16 => each(bytes, |b| bf16::from_le_bytes(b).to_f32()),
            Self::Other(_) => Vec::new(),
        }
    }
}

/// Applies `convert` to each `N` bytes.
fn each<const N: usize>(bytes: &[u8], convert: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|chunk| convert(*chunk)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_float_type_is_widened_or_narrowed_to_f32() {
        assert_eq!(Element::F64.decode(&(-1.5f64).to_le_bytes()), [-1.5]);
        assert_eq!(Element::F32.decode(&0.1f32.to_le_bytes()), [0.1]);
        assert_eq!(Element::F16.decode(&[0x00, 0x3e, 0x00, 0xc0]), [1.5, -2.0]);
        assert_eq!(Element::Bf16.decode(&[0xc0, 0x3f]), [1.5]);
    }

    #[test]
    fn a_double_out_of_range_becomes_infinite() {
        assert_eq!(Element::F64.decode(&1e300f64.to_le_bytes()), [f32::INFINITY]);
    }
}
