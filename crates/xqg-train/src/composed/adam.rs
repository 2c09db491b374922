//! AdamW of a device's operations: the arithmetic of `xqg_kernel::gradient::AdamStep`, in its order. A
//! table's moments are whole here, which gives the same numbers as those of touched rows: the others
//! are zeros.

use std::collections::BTreeMap;

use candle_core::{Device, Result, Tensor, Var};
use xqg_kernel::gradient::AdamStep;

use crate::optimiser::Moments;
use crate::parameters::{Kind, Parameter};

/// One step of one parameter.
pub(super) fn step(
    step: &AdamStep,
    kind: Kind,
    (value, gradient): (&Tensor, &Tensor),
    [m, v]: &mut [Tensor; 2],
) -> Result<()> {
    let number = f64::from;
    let decay = if kind == Kind::Plain { 0.0 } else { step.decay };
    let (size, root) = (step.rate / step.correction1, 1.0 / step.correction2.sqrt());
    let g = (gradient * number(step.gradient_scale))?;
    *m = ((&*m * number(step.beta1))? + (&g * number(1.0 - step.beta1))?)?;
    *v = ((&*v * number(step.beta2))? + (g.sqr()? * number(1.0 - step.beta2))?)?;
    let scale = v.sqrt()?.affine(number(root), number(step.eps))?;
    let change = (&*m * number(size))?.div(&scale)?;
    let kept = (value.detach() * number(1.0 - step.rate * decay))?;
    Var::from_tensor(value)?.set(&(kept - change)?)
}

/// A parameter's moments on a device; none where it does not learn.
pub(super) fn to_device(
    parameter: &Parameter,
    moments: &Moments,
    device: &Device,
) -> Result<Option<[Tensor; 2]>> {
    let shape = parameter.shape.as_slice();
    let whole = |kept: &[f32]| {
        let mut numbers = vec![0.0; parameter.values.len()];
        let width = width(parameter);
        for (&row, &place) in &moments.places {
            numbers[row as usize * width..][..width]
                .copy_from_slice(&kept[place * width..][..width]);
        }
        Tensor::from_vec(numbers, shape, device)
    };
    let plain = |kept: &[f32]| Tensor::from_slice(kept, shape, device);
    let both = [&moments.first, &moments.second];
    let [first, second] = match parameter.kind {
        Kind::Frozen => return Ok(None),
        Kind::Table => both.map(|kept| whole(kept)),
        Kind::Weight | Kind::Plain => both.map(|kept| plain(kept)),
    };
    Ok(Some([first?, second?]))
}

/// Moments as they are saved: of a table only the rows that are not all zeros.
pub(super) fn rows(parameter: &Parameter, first: Vec<f32>, second: Vec<f32>) -> Moments {
    if parameter.kind != Kind::Table {
        return Moments { places: BTreeMap::new(), first, second };
    }
    let (width, mut kept) = (width(parameter), Moments::default());
    for (row, (m, v)) in first.chunks(width).zip(second.chunks(width)).enumerate() {
        if m.iter().chain(v).any(|x| *x != 0.0) {
            kept.places.insert(row as u32, kept.places.len());
            kept.first.extend_from_slice(m);
            kept.second.extend_from_slice(v);
        }
    }
    kept
}

fn width(parameter: &Parameter) -> usize {
    parameter.shape.last().copied().unwrap_or(1).max(1)
}
