//! The graph's links: all that is said to the library that keeps them. It is C++ and trusts what it
//! is given, so what is given here is checked before.

use std::fs;
use std::path::Path;

use usearch::{IndexOptions, MetricKind, ScalarKind};
use xqg_data::error::DataError;
use xqg_data::file::partial_path;
use xqg_kernel::isa::Isa;

use crate::error::{IndexError, Result};
use crate::graph::code::{TRAILER, distance};
use crate::graph::manifest::Shape;

/// Links between codes; rows are its keys.
pub(super) struct Links {
    library: usearch::Index,
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

impl Links {
    /// No links yet, with room for `rows` codes of vectors of `dim` numbers.
    pub(super) fn new(path: &Path, shape: &Shape, (rows, dim): (usize, usize)) -> Result<Self> {
        let library = empty(shape, dim).and_then(|mut library| {
            measure_by_code(&mut library, dim);
            library.reserve_capacity_and_threads(rows, threads())?;
            Ok(Self { library })
        });
        library.map_err(failed("building", path))
    }

    /// Reads links to go on with, and makes room for `rows` codes.
    pub(super) fn load(path: &Path, shape: &Shape, (rows, dim): (usize, usize)) -> Result<Self> {
        let load = || -> std::result::Result<Self, Cause> {
            let mut library = empty(shape, dim)?;
            library.load(text(path)?)?;
            // Loading brings back the library's own distance.
            measure_by_code(&mut library, dim);
            library.reserve_capacity_and_threads(rows, threads())?;
            Ok(Self { library })
        };
        load().map_err(failed("reading", path))
    }

    /// Maps links to search in.
    pub(super) fn view(path: &Path, shape: &Shape, dim: usize) -> Result<Self> {
        let view = || -> std::result::Result<Self, Cause> {
            let mut library = empty(shape, dim)?;
            library.view(text(path)?)?;
            measure_by_code(&mut library, dim);
            library.reserve_capacity_and_threads(library.size(), threads())?;
            Ok(Self { library })
        };
        view().map_err(failed("reading", path))
    }

    /// How many codes are linked.
    pub(super) fn rows(&self) -> usize {
        self.library.size()
    }

    /// Links one more code. May be called from as many threads as rayon has.
    pub(super) fn add(&self, row: u32, code: &[i8]) -> std::result::Result<(), Cause> {
        Ok(self.library.add(u64::from(row), code)?)
    }

    /// How many paths a search follows at once.
    pub(super) fn set_beam(&self, beam: usize) {
        self.library.change_expansion_search(beam);
    }

    /// The rows nearest to a code, at most `wanted`.
    pub(super) fn nearest(
        &self,
        code: &[i8],
        wanted: usize,
    ) -> std::result::Result<Vec<u32>, Cause> {
        let found = self.library.search(code, wanted)?;
        Ok(found.keys.into_iter().map(|key| key as u32).collect())
    }

    /// Writes all links, whole or not at all.
    pub(super) fn save(&self, path: &Path) -> Result<()> {
        let partial = partial_path(path);
        let written = text(&partial).and_then(|text| Ok(self.library.save(text)?));
        written.map_err(failed("writing", &partial))?;
        let file = fs::File::open(&partial).map_err(DataError::io("syncing", &partial))?;
        file.sync_all().map_err(DataError::io("syncing", &partial))?;
        Ok(fs::rename(&partial, path).map_err(DataError::io("renaming to", path))?)
    }
}

fn empty(shape: &Shape, dim: usize) -> std::result::Result<usearch::Index, Cause> {
    let options = IndexOptions {
        dimensions: dim + TRAILER,
        metric: MetricKind::IP,
        quantization: ScalarKind::I8,
        connectivity: shape.neighbours,
        expansion_add: shape.beam,
        expansion_search: shape.beam,
        multi: false,
    };
    Ok(usearch::Index::new(&options)?)
}

/// Hands the library our distance in place of its own. Once, and after links are read: reading sets the
/// library's own again, and the library does not give back one that it is handed a second time.
fn measure_by_code(library: &mut usearch::Index, dim: usize) {
    let (isa, bytes) = (Isa::detect(), dim + TRAILER);
    let measure = move |a: *const i8, b: *const i8| {
        // SAFETY: the library was made for codes of so many bytes, and hands in two of those that
        // it keeps, or one of them and the query's, whose length it has compared.
        let (a, b) =
            unsafe { (std::slice::from_raw_parts(a, bytes), std::slice::from_raw_parts(b, bytes)) };
        distance(isa, a, b)
    };
    library.change_metric::<i8>(Box::new(measure));
}

fn threads() -> usize {
    rayon::current_num_threads().max(1) + 1
}

fn text(path: &Path) -> std::result::Result<&str, Cause> {
    path.to_str().ok_or_else(|| "expected a path in UTF-8, found another".into())
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(Cause) -> IndexError {
    let path = path.to_path_buf();
    move |source| IndexError::Graph { doing, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::code::Space;

    /// The library hands our distance bare addresses: in memory and in a mapped file, they must be
    /// those of whole codes.
    #[test]
    fn rows_are_found_in_memory_and_in_a_mapped_file() {
        let (rows, dim) = (150, 13);
        let vector = |row: usize| -> Vec<f32> {
            (0..dim).map(|i| ((row * 31 + i * i * 17 + 3) % 211) as f32 / 211.0 - 0.5).collect()
        };
        let space = Space::new(vec![0.0; dim], 4.0);
        let shape = Shape { neighbours: 8, beam: 64 };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("links.usearch");
        let links = Links::new(&path, &shape, (rows, dim)).unwrap();
        for row in 0..rows {
            links.add(row as u32, &space.passage(&vector(row))).unwrap();
        }
        links.save(&path).unwrap();
        let mapped = Links::view(&path, &shape, dim).unwrap();
        for row in 0..rows {
            // A passage's own code is at no distance from it.
            let code = space.passage(&vector(row));
            for links in [&links, &mapped] {
                assert_eq!(links.nearest(&code, 1).unwrap(), [row as u32]);
            }
        }
        assert_eq!(mapped.rows(), rows);
    }
}
