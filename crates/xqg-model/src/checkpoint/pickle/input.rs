//! Checked reading of a pickle stream's bytes: every argument either is there in full or the
//! read fails with its position.

use crate::checkpoint::pickle::error::PickleError;

/// The longest `LONG1` that is read: what fits an `i64`.
const LONG_BYTES: usize = 8;

/// A stream and the position in it.
#[derive(Debug)]
pub(super) struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    /// Begins at the first byte.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The position of the next byte.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// The next `length` bytes.
    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], PickleError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = rest.get(..length).ok_or(PickleError::Truncated { at: self.bytes.len() })?;
        self.at += length;
        Ok(taken)
    }

    /// The next `N` bytes as an array.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], PickleError> {
        let at = self.at;
        self.take(N)?.try_into().map_err(|_| PickleError::Truncated { at })
    }

    /// One byte.
    pub(super) fn byte(&mut self) -> Result<u8, PickleError> {
        Ok(self.array::<1>()?[0])
    }

    /// A little-endian `u32` as a length or memo key.
    pub(super) fn length(&mut self) -> Result<usize, PickleError> {
        let at = self.at;
        let limit = self.bytes.len();
        let found = u32::from_le_bytes(self.array()?);
        usize::try_from(found).map_err(|_| PickleError::TooMany { at, what: "bytes", limit })
    }

    /// UTF-8 text of `length` bytes.
    pub(super) fn text(&mut self, length: usize) -> Result<String, PickleError> {
        let at = self.at;
        let text = std::str::from_utf8(self.take(length)?);
        text.map(str::to_string).map_err(|_| PickleError::Unexpected { at, expected: "UTF-8 text" })
    }

    /// Text up to a line feed, which is consumed too.
    pub(super) fn line(&mut self) -> Result<String, PickleError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let end = rest.iter().position(|byte| *byte == b'\n');
        let end = end.ok_or(PickleError::Truncated { at: self.bytes.len() })?;
        let line = self.text(end)?;
        self.at += 1;
        Ok(line)
    }

    /// The argument of `LONG1`: a length byte and a little-endian two's complement number.
    pub(super) fn long(&mut self) -> Result<i64, PickleError> {
        let at = self.at;
        let length = usize::from(self.byte()?);
        if length > LONG_BYTES {
            return Err(PickleError::TooMany { at, what: "bytes in a number", limit: LONG_BYTES });
        }
        let bytes = self.take(length)?;
        let negative = bytes.last().is_some_and(|top| *top >= 0x80);
        let mut wide = [if negative { 0xff } else { 0 }; LONG_BYTES];
        wide[..length].copy_from_slice(bytes);
        Ok(i64::from_le_bytes(wide))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_numbers_are_twos_complement() {
        assert_eq!(Input::new(&[0]).long(), Ok(0));
        assert_eq!(Input::new(&[1, 0xff]).long(), Ok(-1));
        assert_eq!(Input::new(&[2, 0xff, 0x00]).long(), Ok(255));
        assert_eq!(Input::new(&[2, 0x00, 0x80]).long(), Ok(-32768));
        assert!(matches!(Input::new(&[9; 10]).long(), Err(PickleError::TooMany { .. })));
    }

    #[test]
    fn a_cut_argument_is_an_error_with_its_place() {
        assert_eq!(Input::new(&[1, 2]).take(3), Err(PickleError::Truncated { at: 2 }));
        assert_eq!(Input::new(b"torch").line(), Err(PickleError::Truncated { at: 5 }));
        assert!(Input::new(&[0xff]).text(1).is_err());
    }
}
