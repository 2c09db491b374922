//! The values a pickle stream builds. They live in one flat arena and refer to each other by
//! number: a container changed after it was remembered changes everywhere, as in Python, a
//! structure that contains itself does no harm, and dropping deep nesting cannot overflow the
//! stack.

use crate::checkpoint::element::Element;
use crate::checkpoint::tensor::Layout;

/// The number of a value in the arena.
pub(super) type Id = usize;

/// One value.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// `None`, a boolean or a float: allowed to be there, never looked at.
    Ignored,
    /// An integer.
    Int(i64),
    /// A string.
    Text(String),
    /// A tuple.
    Tuple(Vec<Id>),
    /// A list; only ever ignored, so its items are dropped.
    List,
    /// A dict or OrderedDict: keys and values in insertion order.
    Dict(Vec<(Id, Id)>),
    /// One of the allowed names.
    Callable(Callable),
    /// What a persistent id stands for.
    Storage(StorageRef),
    /// A finished tensor.
    Tensor(PickledTensor),
}

/// The names that a stream may mention. This list is the whole of what a file can "call", and
/// each is built in below: no code of the file's choosing runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Callable {
    /// `collections.OrderedDict`, called with nothing.
    OrderedDict,
    /// `torch._utils._rebuild_tensor_v2`.
    RebuildTensor,
    /// `torch._utils._rebuild_parameter`.
    RebuildParameter,
    /// `torch.FloatStorage` and its like; a type tag, never called.
    StorageType(Element),
}

impl Callable {
    /// Looks a Python name up on the list; `None` refuses it.
    pub(super) fn find(module: &str, name: &str) -> Option<Self> {
        match (module, name) {
            ("collections", "OrderedDict") => Some(Self::OrderedDict),
            ("torch._utils", "_rebuild_tensor_v2") => Some(Self::RebuildTensor),
            ("torch._utils", "_rebuild_parameter") => Some(Self::RebuildParameter),
            ("torch", _) => storage_element(name).map(Self::StorageType),
            _ => None,
        }
    }
}

/// The element type of a `torch.*Storage` class.
fn storage_element(name: &str) -> Option<Element> {
    Some(match name {
        "DoubleStorage" => Element::F64,
        "FloatStorage" => Element::F32,
        "HalfStorage" => Element::F16,
        "BFloat16Storage" => Element::Bf16,
        "LongStorage" => Element::Other("i64"),
        "IntStorage" => Element::Other("i32"),
        "ShortStorage" => Element::Other("i16"),
        "CharStorage" => Element::Other("i8"),
        "ByteStorage" => Element::Other("u8"),
        "BoolStorage" => Element::Other("bool"),
        "ComplexFloatStorage" => Element::Other("complex64"),
        "ComplexDoubleStorage" => Element::Other("complex128"),
        _ => return None,
    })
}

/// The record that a tensor's elements lie in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::checkpoint) struct StorageRef {
    /// The record's name under `data/` in the archive.
    pub(in crate::checkpoint) key: String,
    /// The type of its elements.
    pub(in crate::checkpoint) element: Element,
    /// How many there are.
    pub(in crate::checkpoint) elements: usize,
}

/// A tensor as the pickle describes it; nothing is checked against the archive yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::checkpoint) struct PickledTensor {
    /// Where the elements are.
    pub(in crate::checkpoint) storage: StorageRef,
    /// Sizes of the axes.
    pub(in crate::checkpoint) shape: Vec<usize>,
    /// First element and strides.
    pub(in crate::checkpoint) layout: Layout,
}
