//! The inner loops: arithmetic on rows of numbers, written for the machine's instruction set and
//! chosen at run time. It knows neither texts nor passages; encoding and searching stand on it.
//!
//! [`isa`] chooses, [`product`] multiplies rows with packed panels, [`row`] does what lies between two
//! products, [`bytes`] compares two quantised vectors, [`codes`], [`sift`] and [`fold`] search. For
//! training, [`gradient`] is the way back through the products and [`dropout`] draws what is left out.
//! [`ops`] is the portable path: what every machine has, and what the kernels are tested against.

pub mod attention;
#[cfg(target_arch = "x86_64")]
mod attention_avx512;
#[cfg(target_arch = "x86_64")]
mod attention_eight;
#[cfg(target_arch = "x86_64")]
mod attention_sixteen;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub mod bytes;
pub mod codes;
#[cfg(target_arch = "x86_64")]
mod codes_avx2;
#[cfg(target_arch = "x86_64")]
mod codes_avx512;
#[cfg(target_arch = "aarch64")]
mod codes_neon;
pub mod dense;
pub mod dropout;
pub mod fold;
pub mod gradient;
pub mod isa;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod lanes;
#[cfg(target_arch = "aarch64")]
mod lanes_neon;
#[cfg(target_arch = "x86_64")]
mod lanes_x86;
#[cfg(target_arch = "aarch64")]
mod neon;
pub mod ops;
pub mod product;
pub mod row;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod rows;
pub mod sift;
