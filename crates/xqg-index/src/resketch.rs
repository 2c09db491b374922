//! Sketches for an index that was built without, or that lost some. What is there stays; each file
//! appears whole, so a killed run goes on where it was.

use std::path::Path;

use rayon::prelude::*;
use xqg_data::file::{Lock, output_path, writable_folder};

use crate::add::unit_rows;
use crate::error::Result;
use crate::manifest::IndexManifest;
use crate::progress::{Observer, Progress, Stage};
use crate::unit::Unit;

/// Units sketched between two words of progress.
const AT_A_TIME: usize = 16;

/// Writes the sketches and dot products that an index lacks; all units on all threads.
///
/// # Errors
/// When a file is damaged, another process works on the index, or the disk refuses.
pub fn sketch(index: &Path, observer: Observer) -> Result<IndexManifest> {
    let index = &output_path(index)?;
    let manifest = IndexManifest::read(index)?;
    writable_folder(index)?;
    let _lock = Lock::take(index)?;
    let numbers: Vec<usize> = manifest.units().collect();
    let mut done = 0;
    for some in numbers.chunks(AT_A_TIME) {
        some.par_iter().try_for_each(|&number| sketch_unit(index, &manifest, number))?;
        done += some.iter().map(|&n| unit_rows(&manifest, n) as u64).sum::<u64>();
        observer(Progress { stage: Stage::Sketch, done, total: Some(manifest.passages) });
    }
    Ok(manifest)
}

fn sketch_unit(index: &Path, manifest: &IndexManifest, number: usize) -> Result<()> {
    let (unit, dtype) = (Unit::new(index, number), manifest.plan.dtype);
    let shape = (unit_rows(manifest, number), manifest.plan.contract.dim);
    unit.sketch_vectors()?;
    for last in 1..=manifest.layers.len() {
        unit.sketch_layer(dtype, &manifest.layers[..last], shape)?;
    }
    Ok(())
}
