//! Networks of candle's differentiable operations: any device, and any architecture that is not
//! worth kernels of its own. Every operation used here has a backward pass; candle's fused norms and
//! softmax have none, and say so to nobody, so they are not used.
//!
//! The parameters stay in [`crate::parameters`] in single precision; a step copies them to the device
//! and their gradients back, so that one optimiser serves every device.

pub mod decoding;
mod ops;
pub mod t5;
