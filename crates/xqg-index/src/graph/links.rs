//! Making the graph's links: all that is said to the library that does. It is C++ and trusts what it is
//! given, so what is given here is checked before. Searching is ours ([`super::walk`]), on what it wrote.

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

    /// How many codes are linked.
    pub(super) fn rows(&self) -> usize {
        self.library.size()
    }

    /// Links one more code. May be called from as many threads as rayon has.
    pub(super) fn add(&self, row: u32, code: &[i8]) -> std::result::Result<(), Cause> {
        Ok(self.library.add(u64::from(row), code)?)
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
    use crate::graph::file::LinksFile;
    use crate::graph::walk::Walk;

    const DIM: usize = 13;
    const ROWS: usize = 1500;

    /// No two are equally far from a third.
    fn vector(row: usize) -> Vec<f32> {
        let hash =
            |i: usize| xxhash_rust::xxh3::xxh3_64(&[row, i].map(usize::to_le_bytes).concat());
        (0..DIM).map(|i| (hash(i) >> 40) as f32 / (1 << 24) as f32 - 0.5).collect()
    }

    fn space() -> Space {
        Space::new(vec![0.0; DIM], 4.0)
    }

    /// Links of few neighbours, so that there are several levels and some codes are hard to reach.
    fn linked(path: &Path) -> Links {
        let links = Links::new(path, &Shape { neighbours: 4, beam: 16 }, (ROWS, DIM)).unwrap();
        for row in 0..ROWS {
            links.add(row as u32, &space().passage(&vector(row))).unwrap();
        }
        links.save(path).unwrap();
        links
    }

    /// The library hands our distance bare addresses, and its file is read by what is known of it: the
    /// same rows must come out of both.
    #[test]
    fn our_walk_finds_what_the_librarys_own_search_finds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("links.usearch");
        let links = linked(&path);
        let file = LinksFile::open(&path, DIM + TRAILER).unwrap();
        assert!(file.entry().1 > 1, "several levels");
        let mut walk = Walk::new(&file);
        let mut found = 0;
        for beam in [1, 8, 50] {
            links.library.change_expansion_search(beam);
            for row in (0..ROWS).step_by(7) {
                let code = space().query(&vector(row));
                let theirs = links.library.search(&code, beam.min(10)).unwrap().keys;
                let ours = walk.nearest(&code, beam, beam.min(10));
                assert_eq!(
                    ours,
                    theirs.iter().map(|&key| key as u32).collect::<Vec<_>>(),
                    "{beam}"
                );
                found += usize::from(ours[0] == row as u32);
            }
        }
        assert!(found > 300, "some rows are found: {found}");
    }

    #[test]
    fn links_read_again_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("links.usearch");
        linked(&path);
        let shape = Shape { neighbours: 4, beam: 16 };
        let links = Links::load(&path, &shape, (ROWS + 1, DIM)).unwrap();
        links.add(ROWS as u32, &space().passage(&[0.6; DIM])).unwrap();
        links.save(&path).unwrap();
        let file = LinksFile::open(&path, DIM + TRAILER).unwrap();
        let code = space().query(&[0.6; DIM]);
        assert_eq!(Walk::new(&file).nearest(&code, 50, 1), [ROWS as u32]);
    }
}
