//! A restricted reader of the pickle streams that `torch.save` writes for a dictionary of
//! tensors (Python's `pickletools` documents the opcodes, protocols 2 to 5).
//!
//! The point is safety: a pickle is a program, and Python's own loader runs whatever it names.
//! This reader never executes anything. It knows only the opcodes such a dictionary needs, and
//! four kinds of names (`torch._utils._rebuild_tensor_v2`, `torch._utils._rebuild_parameter`,
//! `torch.*Storage`, `collections.OrderedDict`), each of which it interprets itself; any other
//! opcode or name is refused by name. The number of values is limited and nothing recurses, so
//! a hostile stream ends in an error, not in a full stack or memory.
//!
//! It is our own because the crates that read pickles either have no notion of torch's
//! persistent ids or bring a whole tensor library with them. It does not read tensor elements:
//! it says where they are.

mod error;
mod input;
mod opcode;
mod rebuild;
mod value;

use std::collections::BTreeMap;

pub use error::PickleError;
use input::Input;
pub(super) use value::PickledTensor;
use value::{Id, Value};

/// The newest protocol whose framing is understood.
const MAX_PROTOCOL: u8 = 5;
/// Values in a stream, and remembered ones. A model of a thousand tensors needs about twenty
/// thousand.
const MAX_VALUES: usize = 1 << 18;
/// Marks that are open at once; a dictionary of tensors needs four.
const MAX_MARKS: usize = 1 << 10;
/// Bytes in a stream, a hundred times what such a model needs.
pub(super) const MAX_PICKLE_BYTES: usize = 1 << 24;

/// Reads a stream and returns the tensors of the dictionary it holds, by name; entries that are
/// no tensors (an epoch number, say) are left out.
///
/// # Errors
///
/// Whatever is not such a dictionary, see [`PickleError`].
pub(super) fn read_tensors(stream: &[u8]) -> Result<BTreeMap<String, PickledTensor>, PickleError> {
    if stream.len() > MAX_PICKLE_BYTES {
        return Err(PickleError::TooMany { at: 0, what: "bytes", limit: MAX_PICKLE_BYTES });
    }
    let mut machine = Machine::new(stream);
    while machine.step()? {}
    let root = machine.pop()?;
    let tensors = machine.named_tensors(root);
    if tensors.is_empty() { Err(PickleError::NoTensors) } else { Ok(tensors) }
}

/// The stack machine that a pickle stream drives.
struct Machine<'a> {
    input: Input<'a>,
    values: Vec<Value>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: BTreeMap<usize, Id>,
}

impl<'a> Machine<'a> {
    fn new(stream: &'a [u8]) -> Self {
        let input = Input::new(stream);
        Self { input, values: vec![], stack: vec![], marks: vec![], memo: BTreeMap::new() }
    }

    /// Follows one opcode; false after the last one.
    fn step(&mut self) -> Result<bool, PickleError> {
        let at = self.input.at();
        match self.input.byte()? {
            opcode::STOP => return Ok(false),
            opcode::PROTO => self.protocol()?,
            opcode::FRAME => self.input.take(8).map(drop)?,
            opcode::MARK => self.mark()?,
            opcode::GLOBAL => self.global()?,
            opcode::STACK_GLOBAL => self.stack_global()?,
            opcode::BINPERSID => self.persistent()?,
            opcode::REDUCE => self.reduce()?,
            opcode::BUILD => self.build()?,
            other => self.step_data(other, at)?,
        }
        Ok(true)
    }

    /// The opcodes that only move data.
    fn step_data(&mut self, code: u8, at: usize) -> Result<(), PickleError> {
        match code {
            opcode::EMPTY_DICT => self.push(Value::Dict(vec![])),
            opcode::EMPTY_LIST => self.push(Value::List),
            opcode::EMPTY_TUPLE => self.push(Value::Tuple(vec![])),
            opcode::TUPLE => self.tuple_from_mark(),
            opcode::TUPLE1 => self.tuple(1),
            opcode::TUPLE2 => self.tuple(2),
            opcode::TUPLE3 => self.tuple(3),
            opcode::APPEND => self.append(1),
            opcode::APPENDS => self.above_mark().and_then(|count| self.append(count)),
            opcode::SETITEM => self.set_items(2),
            opcode::SETITEMS => self.above_mark().and_then(|count| self.set_items(count)),
            opcode::BINPUT | opcode::LONG_BINPUT | opcode::MEMOIZE => self.remember(code),
            opcode::BINGET | opcode::LONG_BINGET => self.recall(code),
            other => self.step_constant(other, at),
        }
    }

    /// The opcodes that push a constant.
    fn step_constant(&mut self, code: u8, at: usize) -> Result<(), PickleError> {
        let value = match code {
            opcode::NONE | opcode::NEWTRUE | opcode::NEWFALSE => Value::Ignored,
            opcode::BINFLOAT => self.input.take(8).map(|_| Value::Ignored)?,
            opcode::BININT => Value::Int(i64::from(i32::from_le_bytes(self.input.array()?))),
            opcode::BININT1 => Value::Int(i64::from(self.input.byte()?)),
            opcode::BININT2 => Value::Int(i64::from(u16::from_le_bytes(self.input.array()?))),
            opcode::LONG1 => Value::Int(self.input.long()?),
            opcode::SHORT_BINUNICODE => {
                let length = usize::from(self.input.byte()?);
                Value::Text(self.input.text(length)?)
            }
            opcode::BINUNICODE => {
                let length = self.input.length()?;
                Value::Text(self.input.text(length)?)
            }
            found => return Err(PickleError::Opcode { at, found }),
        };
        self.push(value)
    }

    fn protocol(&mut self) -> Result<(), PickleError> {
        match self.input.byte()? {
            0..=MAX_PROTOCOL => Ok(()),
            _ => Err(self.unexpected("a pickle protocol up to 5")),
        }
    }

    fn mark(&mut self) -> Result<(), PickleError> {
        self.limit("open marks", self.marks.len(), MAX_MARKS)?;
        self.marks.push(self.stack.len());
        Ok(())
    }

    /// An error where there are `limit` or more already.
    fn limit(&self, what: &'static str, have: usize, limit: usize) -> Result<(), PickleError> {
        let at = self.input.at();
        if have < limit { Ok(()) } else { Err(PickleError::TooMany { at, what, limit }) }
    }

    fn unexpected(&self, expected: &'static str) -> PickleError {
        PickleError::Unexpected { at: self.input.at(), expected }
    }

    fn push(&mut self, value: Value) -> Result<(), PickleError> {
        self.limit("values", self.values.len(), MAX_VALUES)?;
        self.stack.push(self.values.len());
        self.values.push(value);
        Ok(())
    }

    fn pop(&mut self) -> Result<Id, PickleError> {
        self.stack.pop().ok_or_else(|| self.unexpected("a value on the stack"))
    }

    /// The value under a number that came off the stack.
    fn value(&self, id: Id) -> &Value {
        self.values.get(id).unwrap_or(&Value::Ignored)
    }

    /// Takes the last mark away and says how many values lie above it.
    fn above_mark(&mut self) -> Result<usize, PickleError> {
        let mark = self.marks.pop().ok_or_else(|| self.unexpected("a mark"))?;
        let above = self.stack.len().checked_sub(mark);
        above.ok_or_else(|| self.unexpected("values above the mark"))
    }

    /// Takes the top `count` values off the stack, in the order they were pushed.
    fn pop_many(&mut self, count: usize) -> Result<Vec<Id>, PickleError> {
        let from = self.stack.len().checked_sub(count);
        let from = from.ok_or_else(|| self.unexpected("more values on the stack"))?;
        Ok(self.stack.split_off(from))
    }

    fn tuple(&mut self, count: usize) -> Result<(), PickleError> {
        let items = self.pop_many(count)?;
        self.push(Value::Tuple(items))
    }

    fn tuple_from_mark(&mut self) -> Result<(), PickleError> {
        let count = self.above_mark()?;
        self.tuple(count)
    }

    /// Drops list items: lists are only ever metadata.
    fn append(&mut self, count: usize) -> Result<(), PickleError> {
        self.pop_many(count)?;
        match self.stack.last().and_then(|id| self.values.get(*id)) {
            Some(Value::List) => Ok(()),
            _ => Err(self.unexpected("a list to append to")),
        }
    }

    fn set_items(&mut self, count: usize) -> Result<(), PickleError> {
        let items = self.pop_many(count)?;
        let (pairs, rest) = items.as_chunks::<2>();
        let target = self.stack.last().and_then(|id| self.values.get_mut(*id));
        match target {
            Some(Value::Dict(entries)) if rest.is_empty() => {
                entries.extend(pairs.iter().map(|[key, value]| (*key, *value)));
                Ok(())
            }
            _ => Err(self.unexpected("a dictionary and pairs to put into it")),
        }
    }

    fn remember(&mut self, code: u8) -> Result<(), PickleError> {
        let key = match code {
            opcode::BINPUT => usize::from(self.input.byte()?),
            opcode::LONG_BINPUT => self.input.length()?,
            _ => self.memo.len(),
        };
        self.limit("remembered values", self.memo.len(), MAX_VALUES)?;
        let top = self.stack.last().copied();
        let top = top.ok_or_else(|| self.unexpected("a value to remember"))?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn recall(&mut self, code: u8) -> Result<(), PickleError> {
        let key = match code {
            opcode::BINGET => usize::from(self.input.byte()?),
            _ => self.input.length()?,
        };
        let id = self.memo.get(&key).copied();
        self.stack.push(id.ok_or_else(|| self.unexpected("a remembered value"))?);
        Ok(())
    }

    /// The tensors among the entries of a dictionary; a repeated name keeps its last one.
    fn named_tensors(&self, root: Id) -> BTreeMap<String, PickledTensor> {
        let Value::Dict(entries) = self.value(root) else {
            return BTreeMap::new();
        };
        let named = entries.iter().filter_map(|(key, value)| {
            match (self.value(*key), self.value(*value)) {
                (Value::Text(name), Value::Tensor(tensor)) => Some((name.clone(), tensor.clone())),
                _ => None,
            }
        });
        named.collect()
    }
}

#[cfg(test)]
mod tests;
