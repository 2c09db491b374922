//! The gradients of all parameters of a network. They add up over the chunks of a batch; a table's
//! gradient holds only the rows that were touched.

use std::collections::BTreeMap;

use rayon::prelude::*;
use xqg_kernel::gradient::{add_to, dot_product};

use crate::parameters::{Kind, Parameters};

/// Elements whose squares are summed in one piece, so that the sum's order is fixed.
const PIECE: usize = 1 << 16;

/// The touched rows of a table's gradient.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rows {
    /// Length of a row.
    pub width: usize,
    /// Where each touched row lies in `values`, in rows.
    pub places: BTreeMap<u32, usize>,
    /// The rows, in the order in which they were first touched.
    pub values: Vec<f32>,
}

impl Rows {
    /// The row of that number, zeros if it was not touched before.
    pub fn row(&mut self, number: u32) -> &mut [f32] {
        let next = self.places.len();
        let place = *self.places.entry(number).or_insert(next);
        if place == next {
            self.values.resize((next + 1) * self.width, 0.0);
        }
        &mut self.values[place * self.width..][..self.width]
    }
}

/// The gradient of one parameter.
#[derive(Debug, Clone, PartialEq)]
pub enum Gradient {
    /// One number for each of the parameter's.
    Dense(Vec<f32>),
    /// Some rows of a table.
    Rows(Rows),
    /// None: the parameter is not trained.
    Frozen,
}

impl Gradient {
    /// The numbers that are kept, in an order that does not depend on threads.
    pub fn kept(&self) -> &[f32] {
        match self {
            Self::Dense(values) => values,
            Self::Rows(rows) => &rows.values,
            Self::Frozen => &[],
        }
    }

    /// All numbers of a parameter of so many, zeros where a table was not touched.
    pub fn whole(&self, count: usize) -> Vec<f32> {
        let Self::Rows(rows) = self else { return self.kept().to_vec() };
        let mut all = vec![0.0; count];
        for (&number, &place) in &rows.places {
            let to = number as usize * rows.width;
            all[to..to + rows.width]
                .copy_from_slice(&rows.values[place * rows.width..][..rows.width]);
        }
        all
    }

    /// The dense numbers; none for the others.
    pub fn dense(&mut self) -> &mut [f32] {
        match self {
            Self::Dense(values) => values,
            _ => &mut [],
        }
    }
}

/// The gradients of a network, place by place as its [`Parameters`].
#[derive(Debug, Clone, PartialEq)]
pub struct Gradients(pub Vec<Gradient>);

impl Gradients {
    /// Zeros for every parameter that is trained.
    pub fn zeros(parameters: &Parameters) -> Self {
        let zero = |p: &crate::parameters::Parameter| match p.kind {
            Kind::Weight | Kind::Plain => Gradient::Dense(vec![0.0; p.values.len()]),
            Kind::Table => {
                let width = p.shape.last().copied().unwrap_or(1);
                Gradient::Rows(Rows { width, ..Rows::default() })
            }
            Kind::Frozen => Gradient::Frozen,
        };
        Self(parameters.0.iter().map(zero).collect())
    }

    /// Back to zeros, keeping the memory.
    pub fn clear(&mut self) {
        for gradient in &mut self.0 {
            match gradient {
                Gradient::Dense(values) => values.fill(0.0),
                Gradient::Rows(rows) => {
                    rows.places.clear();
                    rows.values.clear();
                }
                Gradient::Frozen => {}
            }
        }
    }

    /// The Euclidean norm over all parameters.
    pub fn norm(&self) -> f64 {
        let square = |piece: &[f32]| f64::from(dot_product(piece, piece));
        let all = |gradient: &Gradient| -> f64 {
            let pieces: Vec<f64> = gradient.kept().par_chunks(PIECE).map(square).collect();
            pieces.iter().sum()
        };
        self.0.iter().map(all).sum::<f64>().sqrt()
    }

    /// Adds the gradients of the same parameters from elsewhere, times a factor of one.
    pub fn add(&mut self, other: &Self) {
        for (to, from) in self.0.iter_mut().zip(&other.0) {
            match (to, from) {
                (Gradient::Dense(to), Gradient::Dense(from)) => add_to(to, from),
                (Gradient::Rows(to), Gradient::Rows(from)) => {
                    for (&number, &place) in &from.places {
                        add_to(to.row(number), &from.values[place * from.width..][..from.width]);
                    }
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::Parameter;

    fn parameters() -> Parameters {
        let one = |shape: &[usize], kind| Parameter {
            name: String::new(),
            shape: shape.to_vec(),
            values: vec![0.0; shape.iter().product()],
            kind,
        };
        Parameters(vec![one(&[3], Kind::Plain), one(&[9, 2], Kind::Table), one(&[1], Kind::Frozen)])
    }

    #[test]
    fn gradients_add_up_row_by_row_and_are_measured_together() {
        let mut total = Gradients::zeros(&parameters());
        for (row, value) in [(7, 3.0), (2, 4.0)] {
            let mut one = Gradients::zeros(&parameters());
            one.0[0].dense()[0] = 6.0;
            if let Gradient::Rows(rows) = &mut one.0[1] {
                rows.row(row)[1] += value;
            }
            total.add(&one);
        }
        assert!((total.norm() - (144.0f64 + 9.0 + 16.0).sqrt()).abs() < 1e-6);
        total.clear();
        assert_eq!(total, Gradients::zeros(&parameters()));
    }
}
