//! Networks of candle's differentiable operations: any device, and any architecture that is not
//! worth kernels of its own. Every operation used here has a backward pass; candle's fused norms and
//! softmax have none, and say so to nobody, so they are not used.
//!
//! T5's parameters stay in [`crate::parameters`]; a step copies them to the device and their gradients
//! back. Encoders ([`learner`]) and decoders over their states ([`decoder`]) keep parameters, gradients
//! and moments on the device: for multilingual-e5-small the copies of a step alone, 85 MB each way,
//! would take about as long as its arithmetic on a GPU.

mod adam;
pub mod decoder;
pub mod decoding;
pub mod device;
pub mod dropout;
mod encoder;
pub mod learner;
mod numbers;
mod ops;
pub mod t5;
