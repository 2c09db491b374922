//! The opcodes of the pickle machine that in Python would call something: here each allowed
//! name is interpreted directly, from arguments that are checked one by one.

use crate::checkpoint::pickle::Machine;
use crate::checkpoint::pickle::error::PickleError;
use crate::checkpoint::pickle::value::{Callable, Id, PickledTensor, StorageRef, Value};
use crate::checkpoint::tensor::Layout;

/// Axes of a tensor, and items of any tuple that is looked into; weights have at most four axes.
/// With [`MAX_TEXT`] it keeps a stream that repeats one large value from multiplying it.
const MAX_ITEMS: usize = 16;
/// Bytes of a string that is looked into.
const MAX_TEXT: usize = 256;

impl Machine<'_> {
    /// GLOBAL: module and name as two lines.
    pub(super) fn global(&mut self) -> Result<(), PickleError> {
        let module = self.input.line()?;
        let name = self.input.line()?;
        self.push_callable(module, name)
    }

    /// STACK_GLOBAL: module and name as two strings on the stack.
    pub(super) fn stack_global(&mut self) -> Result<(), PickleError> {
        let (name, module) = (self.pop()?, self.pop()?);
        let (module, name) = (self.text(module)?, self.text(name)?);
        self.push_callable(module, name)
    }

    fn push_callable(&mut self, module: String, name: String) -> Result<(), PickleError> {
        match Callable::find(&module, &name) {
            Some(callable) => self.push(Value::Callable(callable)),
            None => Err(PickleError::Global { module, name }),
        }
    }

    /// BINPERSID: `("storage", torch.XStorage, key, device, element count)`.
    pub(super) fn persistent(&mut self) -> Result<(), PickleError> {
        let id = self.pop()?;
        let parts = self.tuple_items(id)?;
        let [tag, kind, key, _device, elements] = parts.as_slice() else {
            return Err(self.unexpected("a storage description of five parts"));
        };
        if self.text(*tag)? != "storage" {
            return Err(self.unexpected("a storage description"));
        }
        let Value::Callable(Callable::StorageType(element)) = *self.value(*kind) else {
            return Err(self.unexpected("a torch storage type"));
        };
        let (key, elements) = (self.text(*key)?, self.size(*elements)?);
        self.push(Value::Storage(StorageRef { key, element, elements }))
    }

    /// REDUCE: one of the allowed names with its arguments.
    pub(super) fn reduce(&mut self) -> Result<(), PickleError> {
        let arguments = self.pop()?;
        let callable = self.pop()?;
        let arguments = self.tuple_items(arguments)?;
        let value = match *self.value(callable) {
            Value::Callable(Callable::OrderedDict) if arguments.is_empty() => Value::Dict(vec![]),
            Value::Callable(Callable::RebuildTensor) => self.rebuild_tensor(&arguments)?,
            Value::Callable(Callable::RebuildParameter) => self.rebuild_parameter(&arguments)?,
            _ => return Err(self.unexpected("a tensor constructor and its arguments")),
        };
        self.push(value)
    }

    /// BUILD: attributes of an OrderedDict (torch hangs version numbers there); ignored.
    pub(super) fn build(&mut self) -> Result<(), PickleError> {
        self.pop()?;
        match self.stack.last().and_then(|id| self.values.get(*id)) {
            Some(Value::Dict(_)) => Ok(()),
            _ => Err(self.unexpected("a dictionary to give attributes to")),
        }
    }

    /// `_rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks[, metadata])`.
    fn rebuild_tensor(&self, arguments: &[Id]) -> Result<Value, PickleError> {
        let [storage, offset, shape, strides, _, _, ..] = arguments else {
            return Err(self.unexpected("six arguments of _rebuild_tensor_v2"));
        };
        let Value::Storage(storage) = self.value(*storage) else {
            return Err(self.unexpected("a storage"));
        };
        let layout = Layout { offset: self.size(*offset)?, strides: self.sizes(*strides)? };
        let shape = self.sizes(*shape)?;
        Ok(Value::Tensor(PickledTensor { storage: storage.clone(), shape, layout }))
    }

    /// `_rebuild_parameter(tensor, requires_grad, hooks)`: the tensor itself.
    fn rebuild_parameter(&self, arguments: &[Id]) -> Result<Value, PickleError> {
        let tensor = arguments.first().map(|id| self.value(*id));
        match tensor {
            Some(Value::Tensor(tensor)) => Ok(Value::Tensor(tensor.clone())),
            _ => Err(self.unexpected("the tensor of a parameter")),
        }
    }

    fn text(&self, id: Id) -> Result<String, PickleError> {
        match self.value(id) {
            Value::Text(text) if text.len() <= MAX_TEXT => Ok(text.clone()),
            _ => Err(self.unexpected("a string of at most 256 bytes")),
        }
    }

    fn size(&self, id: Id) -> Result<usize, PickleError> {
        let size = match self.value(id) {
            Value::Int(size) => usize::try_from(*size).ok(),
            _ => None,
        };
        size.ok_or_else(|| self.unexpected("a size of 0 or more"))
    }

    fn sizes(&self, id: Id) -> Result<Vec<usize>, PickleError> {
        self.tuple_items(id)?.into_iter().map(|item| self.size(item)).collect()
    }

    fn tuple_items(&self, id: Id) -> Result<Vec<Id>, PickleError> {
        match self.value(id) {
            Value::Tuple(items) if items.len() <= MAX_ITEMS => Ok(items.clone()),
            _ => Err(self.unexpected("a tuple of at most 16 items")),
        }
    }
}
