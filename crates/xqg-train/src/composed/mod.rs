//! Networks of candle's operations: any device, and any architecture that is not worth kernels of its own.
//! T5 and the generator's decoder go back by candle's own gradients, so every operation that they use has
//! one; candle's fused norms and softmax have none, and say so to nobody, so they are not used. The
//! encoders' ways back are written out ([`by_hand`], [`back`]), which keeps a fifth of the memory and takes
//! fewer operations.
//!
//! T5's parameters stay in [`crate::parameters`]; a step copies them to the device and their gradients
//! back. Encoders ([`learner`]) and decoders over their states ([`decoder`]) keep parameters, gradients
//! and moments on the device: for multilingual-e5-small the copies of a step alone, 85 MB each way,
//! would take about as long as its arithmetic on a GPU.

mod adam;
mod back;
mod by_hand;
pub mod decoder;
pub mod decoding;
pub mod device;
pub mod dropout;
mod encoder;
pub mod learner;
mod numbers;
mod ops;
mod pick;
pub mod t5;
