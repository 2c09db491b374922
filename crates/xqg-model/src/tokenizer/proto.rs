//! As much of the protocol buffers' wire format as a SentencePiece model needs: numbered fields,
//! one after another.

/// The value of a field.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Field<'a> {
    /// A number, a truth value, or one of several names.
    Number(u64),
    /// A string or a message.
    Bytes(&'a [u8]),
    /// Four bytes: a number in single precision.
    Float(f32),
    /// Eight bytes, which no field that matters has.
    Wide,
}

impl<'a> Field<'a> {
    /// The bytes of a string or message.
    pub fn bytes(self) -> Option<&'a [u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The number.
    pub fn number(self) -> Option<u64> {
        match self {
            Self::Number(number) => Some(number),
            _ => None,
        }
    }

    /// The number in single precision.
    pub fn float(self) -> Option<f32> {
        match self {
            Self::Float(float) => Some(float),
            _ => None,
        }
    }
}

/// Calls for each field of a message. `None` where the message is broken or `each` says so.
pub fn fields<'a>(
    mut message: &'a [u8],
    mut each: impl FnMut(u64, Field<'a>) -> Option<()>,
) -> Option<()> {
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let field = match tag & 7 {
            0 => Field::Number(varint(&mut message)?),
            1 => {
                take(&mut message, 8)?;
                Field::Wide
            }
            2 => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                Field::Bytes(take(&mut message, length)?)
            }
            5 => Field::Float(f32::from_le_bytes(take(&mut message, 4)?.try_into().ok()?)),
            _ => return None,
        };
        each(tag >> 3, field)?;
    }
    Some(())
}

fn take<'a>(message: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = message.split_at_checked(length)?;
    *message = rest;
    Some(taken)
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = *message.split_off_first()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_kind_of_field_is_read() {
        let message = [8, 0x96, 1, 0x12, 2, b'a', b'b', 0x1d, 0, 0, 0x80, 0x3f, 0x21];
        let message = [&message[..], &[0; 8]].concat();
        let mut found = Vec::new();
        fields(&message, |number, field| {
            found.push((number, field));
            Some(())
        })
        .unwrap();
        let expected = [
            (1, Field::Number(150)),
            (2, Field::Bytes(b"ab")),
            (3, Field::Float(1.0)),
            (4, Field::Wide),
        ];
        assert_eq!(found, expected);
        assert!(fields(&message[..message.len() - 1], |_, _| Some(())).is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = fields(&bytes, |_, _| Some(()));
        }
    }
}
