//! The operations that networks are made of, from candle's differentiable ones.

use candle_core::{D, DType, Device, Result, Tensor};
use xqg_kernel::dropout::{Key, Rate};

use super::device::Precision;

/// Added to the scores of keys that may not be seen.
pub const HIDDEN: f32 = -1e9;

/// Products in the precision that was asked for.
#[derive(Debug, Clone, Copy)]
pub struct Products {
    precision: Precision,
    on_cpu: bool,
}

impl Products {
    /// Products on a device.
    pub fn new(precision: Precision, device: &Device) -> Self {
        Self { precision, on_cpu: device.is_cpu() }
    }

    /// A factor in the precision of products. candle has no products of bf16 on the processor; there
    /// the rounded numbers stay in 32 bits, which gives what a GPU gives.
    pub fn round(self, x: &Tensor) -> Result<Tensor> {
        match self.precision {
            Precision::F32 => Ok(x.clone()),
            Precision::Bf16 if self.on_cpu => x.to_dtype(DType::BF16)?.to_dtype(DType::F32),
            Precision::Bf16 => x.to_dtype(DType::BF16),
        }
    }

    /// The product of rounded factors, rounded itself, in 32 bits.
    pub fn of(self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        self.round(&a.matmul(b)?)?.to_dtype(DType::F32)
    }

    /// `x Wᵀ` for rows of any number of axes, rounded here.
    pub fn rows(self, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
        let mut shape = x.dims().to_vec();
        let input = shape.pop().unwrap_or(1);
        let rows: usize = shape.iter().product();
        shape.push(weight.dim(0)?);
        let x = self.round(&x.reshape((rows, input))?)?;
        self.of(&x, &self.round(weight)?.t()?)?.reshape(shape)
    }

    /// `x Wᵀ + b` for rounded rows x.
    pub fn linear(self, x: &Tensor, (weight, bias): (&Tensor, &Tensor)) -> Result<Tensor> {
        self.of(x, &self.round(weight)?.t()?)?.broadcast_add(bias)
    }
}

/// The root-mean-square norm of the last axis: `x / sqrt(mean(x²) + eps) · weight`.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let scale = (x.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?;
    x.broadcast_div(&scale)?.broadcast_mul(weight)
}

/// The norm of the last axis: `(x - mean) / sqrt(var + eps) · weight + bias`.
pub fn layer_norm(x: &Tensor, (weight, bias): (&Tensor, &Tensor), eps: f64) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let scale = (centred.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?;
    centred.broadcast_div(&scale)?.broadcast_mul(weight)?.broadcast_add(bias)
}

/// The logarithm of the softmax over the last axis.
pub fn log_softmax(x: &Tensor) -> Result<Tensor> {
    let shifted = x.broadcast_sub(&x.max_keepdim(D::Minus1)?.detach())?;
    let total = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?;
    shifted.broadcast_sub(&total)
}

/// The softmax over the last axis.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    let e = x.broadcast_sub(&x.max_keepdim(D::Minus1)?.detach())?.exp()?;
    e.broadcast_div(&e.sum_keepdim(D::Minus1)?)
}

/// The draws of dropout in the order in which a network asks for them.
#[derive(Debug, Clone)]
pub struct Draws {
    rate: Rate,
    key: Key,
    next: std::cell::Cell<u64>,
}

impl Draws {
    /// Draws at a rate from a key.
    pub fn new(rate: Rate, key: Key) -> Self {
        Self { rate, key, next: std::cell::Cell::new(0) }
    }

    /// Leaves out numbers of `x`, whose first axis is the texts'. A number's draw depends on its
    /// text's place and its own place in it, not on how far the text was padded.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let site = self.next.replace(self.next.get() + 1);
        if self.rate.is_zero() {
            return Ok(x.clone());
        }
        let (texts, width) = (x.dim(0)?, x.dim(D::Minus1)?);
        let mut mask = vec![1f32; x.elem_count()];
        for (text, part) in mask.chunks_mut(x.elem_count() / texts.max(1)).enumerate() {
            let key = self.key.part(site).part(text as u64);
            for (i, row) in part.chunks_mut(width).enumerate() {
                self.rate.apply(key.part(i as u64), 0, row);
            }
        }
        x * Tensor::from_vec(mask, x.dims(), x.device())?
    }
}

/// A tensor of whole numbers.
pub fn indices(values: Vec<u32>, device: &Device) -> Result<Tensor> {
    let length = values.len();
    Tensor::from_vec(values, length, device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn softmaxes_and_norms_by_hand() {
        let x = Tensor::new(&[[0f32, 3f32.ln()], [1000.0, 1000.0]], &Device::Cpu).unwrap();
        let p: Vec<Vec<f32>> = softmax(&x).unwrap().to_vec2().unwrap();
        for (a, b) in p.concat().iter().zip([0.25, 0.75, 0.5, 0.5]) {
            assert!((a - b).abs() < 1e-6);
        }
        let logs: Vec<Vec<f32>> = log_softmax(&x).unwrap().to_vec2().unwrap();
        assert!((logs[0][1] - 0.75f32.ln()).abs() < 1e-6);
        let x = Tensor::new(&[3f32, 4.0], &Device::Cpu).unwrap();
        let weight = Tensor::new(&[1f32, 2.0], &Device::Cpu).unwrap();
        let y: Vec<f32> = rms_norm(&x, &weight, 0.0).unwrap().to_vec1().unwrap();
        assert!((y[0] - 3.0 / 12.5f32.sqrt()).abs() < 1e-6);
        assert!((y[1] - 8.0 / 12.5f32.sqrt()).abs() < 1e-6);
    }
}
