//! Operations with their ways back written out, of operations that any device has. candle's own way back
//! keeps the result of every single one of them; these keep what is needed, and take fewer steps.

use candle_core::{D, DType, Result, Tensor};
use xqg_kernel::ops::Activation;

use super::ops::Products;

/// The sum over all rows, as a product with ones: a device reads rows faster than columns.
pub fn over_rows(x: &Tensor) -> Result<Tensor> {
    let (rows, width) = x.dims2()?;
    Tensor::ones((1, rows), DType::F32, x.device())?.matmul(x)?.reshape(width)
}

/// The gradients of a linear layer `y = x Wᵀ + b`.
#[derive(Debug)]
pub struct LinearBack {
    /// Of the input.
    pub x: Tensor,
    /// Of W.
    pub weight: Tensor,
    /// Of b.
    pub bias: Tensor,
}

/// From the rounded input of a linear layer, its weight and the gradient of its result.
pub fn linear_back(
    products: Products,
    (x, weight): (&Tensor, &Tensor),
    grad: &Tensor,
) -> Result<LinearBack> {
    let rounded = products.round(grad)?;
    Ok(LinearBack {
        x: products.of(&rounded, &products.round(weight)?)?,
        weight: products.of(&rounded.t()?, x)?,
        bias: over_rows(grad)?,
    })
}

/// What a layer norm's way back needs.
#[derive(Debug)]
pub struct Normed {
    /// The rows before factors and summands.
    rows: Tensor,
    /// What they were divided by.
    scales: Tensor,
}

/// The norm of rows: `(x - mean) / sqrt(var + eps) · weight + bias`.
pub fn norm(x: &Tensor, (weight, bias): (&Tensor, &Tensor), eps: f64) -> Result<(Tensor, Normed)> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let scales = (centred.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?;
    let rows = centred.broadcast_div(&scales)?;
    let y = rows.broadcast_mul(weight)?.broadcast_add(bias)?;
    Ok((y, Normed { rows, scales }))
}

impl Normed {
    /// The gradients of the input, of the factors and of the summands.
    pub fn back(&self, weight: &Tensor, grad: &Tensor) -> Result<(Tensor, [Tensor; 2])> {
        let own = [over_rows(&(grad * &self.rows)?)?, over_rows(grad)?];
        let grad = grad.broadcast_mul(weight)?;
        let along = (&grad * &self.rows)?.mean_keepdim(D::Minus1)?;
        let level = grad.broadcast_sub(&grad.mean_keepdim(D::Minus1)?)?;
        let x = (level - self.rows.broadcast_mul(&along)?)?.broadcast_div(&self.scales)?;
        Ok((x, own))
    }
}

/// The gradient of a softmax's input, from its result: `p · (g - Σ g p)`.
pub fn softmax_back(p: &Tensor, grad: &Tensor) -> Result<Tensor> {
    let along = (grad * p)?.sum_keepdim(D::Minus1)?;
    p * grad.broadcast_sub(&along)?
}

/// An activation.
pub fn activate(x: &Tensor, activation: Activation) -> Result<Tensor> {
    match activation {
        Activation::Gelu => x.gelu_erf(),
        Activation::GeluTanh => x.gelu(),
        Activation::Relu => x.relu(),
    }
}

/// The gradient of an activation's input.
pub fn activate_back(x: &Tensor, activation: Activation, grad: &Tensor) -> Result<Tensor> {
    use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};
    let slope = match activation {
        // Φ(x) + x φ(x)
        Activation::Gelu => {
            let below = (x * FRAC_1_SQRT_2)?.erf()?.affine(0.5, 0.5)?;
            let density = (x.sqr()? * -0.5)?.exp()?;
            (below + (x * density)?.affine(0.5 * FRAC_2_SQRT_PI * FRAC_1_SQRT_2, 0.0)?)?
        }
        // With u = √(2/π) (x + 0.044715 x³): (1 + tanh u) / 2 + x (1 - tanh² u) u' / 2
        Activation::GeluTanh => {
            let (cubic, root) = (0.044715, FRAC_2_SQRT_PI * FRAC_1_SQRT_2);
            let squares = x.sqr()?;
            let tanh = (x * squares.affine(cubic * root, root)?)?.tanh()?;
            let inner = squares.affine(3.0 * cubic * root, root)?;
            let steep = ((x * tanh.sqr()?.affine(-0.5, 0.5)?)? * inner)?;
            (tanh.affine(0.5, 0.5)? + steep)?
        }
        Activation::Relu => x.gt(0f32)?.to_dtype(DType::F32)?,
    };
    grad * slope
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;
    use crate::composed::device::Precision;
    use crate::composed::ops;

    fn numbers(rows: usize, width: usize, seed: u32) -> Var {
        let draw = |i: u32| f64::from((i + seed).wrapping_mul(2_654_435_761) >> 8) / 2f64.powi(23);
        let values = (0..(rows * width) as u32).map(|i| (draw(i) - 1.0) as f32).collect();
        let tensor = Tensor::from_vec(values, (rows, width), &Device::Cpu).unwrap();
        Var::from_tensor(&tensor).unwrap()
    }

    fn near(ours: &Tensor, theirs: &Tensor) {
        let off = (ours - theirs).unwrap().abs().unwrap().max_all().unwrap();
        let off: f32 = off.to_scalar().unwrap();
        assert!(off < 2e-6, "{off}");
    }

    /// What candle says the gradients of `x` and others are, where that of `y` is `grad`.
    fn candles<const N: usize>(y: &Tensor, grad: &Tensor, of: [&Var; N]) -> [Tensor; N] {
        let grads = (y * grad).unwrap().sum_all().unwrap().backward().unwrap();
        of.map(|x| grads.get(x).unwrap().detach())
    }

    #[test]
    fn a_linear_layer_goes_back_as_candle_does() {
        let products = Products::new(Precision::F32, &Device::Cpu);
        let (x, w, b, grad) =
            (numbers(5, 3, 1), numbers(4, 3, 2), numbers(1, 4, 3), numbers(5, 4, 4));
        let y = products.linear(&x, (&w, &b)).unwrap();
        let [dx, dw, db] = candles(&y, &grad, [&x, &w, &b]);
        let ours = linear_back(products, (&x, &w), &grad).unwrap();
        near(&ours.x, &dx);
        near(&ours.weight, &dw);
        near(&ours.bias, &db.squeeze(0).unwrap());
    }

    #[test]
    fn norm_and_softmax_go_back_as_candle_does() {
        let (x, w, b) = (numbers(5, 6, 1), numbers(1, 6, 2), numbers(1, 6, 3));
        let (w, b) = [w, b].map(|t| Var::from_tensor(&t.squeeze(0).unwrap()).unwrap()).into();
        let grad = numbers(5, 6, 4);
        let y = ops::layer_norm(&x, (&w, &b), 1e-5).unwrap();
        let [dx, dw, db] = candles(&y, &grad, [&x, &w, &b]);
        let (ours, kept) = norm(&x, (&w, &b), 1e-5).unwrap();
        near(&ours, &y);
        let (ox, [ow, ob]) = kept.back(&w, &grad).unwrap();
        near(&ox, &dx);
        near(&ow, &dw);
        near(&ob, &db);
        let p = ops::softmax(&x).unwrap();
        let [dx] = candles(&p, &grad, [&x]);
        near(&softmax_back(&p, &grad).unwrap(), &dx);
    }

    #[test]
    fn activations_go_back_as_candle_does() {
        let (x, grad) = (numbers(5, 40, 1), numbers(5, 40, 2));
        let x = Var::from_tensor(&(x.as_tensor() * 4.0).unwrap()).unwrap();
        for activation in [Activation::Gelu, Activation::GeluTanh, Activation::Relu] {
            let [dx] = candles(&activate(&x, activation).unwrap(), &grad, [&x]);
            near(&activate_back(&x, activation, &grad).unwrap(), &dx);
        }
    }
}
