//! Why a pickle was refused. Positions are byte offsets in the pickle stream.

/// What the restricted pickle reader met that it does not follow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PickleError {
    /// The stream ends before its STOP opcode, or inside an argument.
    #[error(
        "pickle at byte {at}: expected more bytes, found the end\nhint: the file was cut short"
    )]
    Truncated {
        /// Where the missing bytes should begin.
        at: usize,
    },
    /// An opcode that no dictionary of tensors needs.
    #[error("pickle at byte {at}: expected an opcode of a tensor dictionary, found 0x{found:02x}")]
    Opcode {
        /// The opcode's place.
        at: usize,
        /// The opcode.
        found: u8,
    },
    /// A function or class that is not on the short list; running it could do anything.
    #[error(
        "pickle names {module}.{name}: expected only tensor constructors\nhint: only plain \
         dictionaries of tensors are read and nothing is ever executed; save the weights as \
         safetensors"
    )]
    Global {
        /// The Python module.
        module: String,
        /// The function or class in it.
        name: String,
    },
    /// An opcode found something else on the stack than it needs.
    #[error("pickle at byte {at}: expected {expected}, found something else")]
    Unexpected {
        /// Where the reader stood.
        at: usize,
        /// What was needed.
        expected: &'static str,
    },
    /// More values, or a longer stream, than any checkpoint has.
    #[error("pickle at byte {at}: expected at most {limit} {what}, found more")]
    TooMany {
        /// Where the reader stood.
        at: usize,
        /// What there is too much of.
        what: &'static str,
        /// How much is allowed.
        limit: usize,
    },
    /// The stream is sound but its value is not a dictionary with tensors.
    #[error(
        "pickle holds no tensors at its top level: expected a dictionary of names and tensors, \
         found something else\nhint: save the model's state_dict itself, not a trainer's state"
    )]
    NoTensors,
}
