//! An index opened for reading: embeddings and sums mapped, docids in memory, texts on demand.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use xqg_data::embeddings::Side;
use xqg_data::error::DataError;
use xqg_data::passage::Passage;
use xqg_data::run::ScoredDoc;

use crate::add::unit_rows;
use crate::error::{IndexError, Result};
use crate::gram::pairs;
use crate::manifest::IndexManifest;
use crate::sketch::Sketch;
use crate::stored::Stored;
use crate::top_k::Ids;
use crate::unit::{LayerSums, Question, Unit};

/// One work unit, opened.
#[derive(Debug)]
pub struct OpenUnit {
    unit: Unit,
    /// The first row of this unit within the opened index.
    pub first: usize,
    /// The passages' embeddings.
    pub vectors: Stored,
    /// Their 8-bit copy, where there is one.
    pub sketch: Option<Arc<Sketch>>,
    /// The sums of each layer.
    pub layers: Vec<LayerSums>,
}

/// An index folder, opened. Rows are numbered from 0 over the units it holds.
#[derive(Debug)]
pub struct Index {
    folder: PathBuf,
    /// The folder's description.
    pub manifest: IndexManifest,
    /// The docid of each row.
    pub ids: Ids,
    units: Vec<OpenUnit>,
    /// Whether the stored numbers are read here and there, as the system was told.
    scattered: AtomicBool,
    /// Units that the system was asked to fetch.
    fetched: AtomicUsize,
}

/// Units fetched ahead of a first search.
const AHEAD: usize = 4;

impl Index {
    /// Opens a finished index and checks its files against each other.
    ///
    /// # Errors
    /// When a file is missing, damaged or of another shape.
    pub fn open(folder: &Path) -> Result<Self> {
        let manifest = IndexManifest::read(folder)?;
        let (mut ids, mut units) = (Ids::default(), Vec::new());
        for number in manifest.units() {
            let unit = Unit::new(folder, number);
            let (first, rows) = (ids.len(), unit_rows(&manifest, number));
            let (shape, dtype) = ((rows, manifest.plan.contract.dim), manifest.plan.dtype);
            let vectors = unit.open_vectors(dtype)?;
            let named = ids.extend_lines(&unit.read_ids()?);
            check_shape(&vectors, shape, named)?;
            let layers = manifest.layers.iter().map(|layer| unit.open_layer(layer, dtype, shape));
            let layers = layers.collect::<Result<Vec<_>>>()?;
            check_gram(&layers)?;
            let sketch = unit.open_vector_sketch(&vectors)?;
            units.push(OpenUnit { unit, first, vectors, sketch, layers });
        }
        let (scattered, fetched) = Default::default();
        Ok(Self { folder: folder.to_path_buf(), manifest, ids, units, scattered, fetched })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The number of passages.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether it holds no passage.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The length of an embedding.
    pub fn dim(&self) -> usize {
        self.manifest.plan.contract.dim
    }

    /// The opened units, in order.
    pub fn units(&self) -> &[OpenUnit] {
        &self.units
    }

    /// Whether every unit has its 8-bit copy, and for fused scores the dot products beside it.
    pub fn is_sketched(&self, fused: bool) -> bool {
        let layers = !fused || !self.manifest.layers.is_empty();
        let whole = |u: &OpenUnit| {
            u.layers.iter().all(|l| !fused || (l.sketch.is_some() && l.gram.is_some()))
        };
        layers && self.units.iter().all(|u| u.sketch.is_some() && whole(u))
    }

    /// Tells the system whether the stored numbers will be read here and there, as a search by
    /// sketches or by a graph does, or from end to end. Around a row it would else fetch thirty times as
    /// much as is wanted, and push out what the next query needs.
    pub(crate) fn expect_scattered(&self, scattered: bool) {
        if self.scattered.swap(scattered, Ordering::Relaxed) == scattered {
            return;
        }
        for unit in &self.units {
            unit.vectors.expect_scattered(scattered);
            unit.layers.iter().for_each(|layer| layer.sums.expect_scattered(scattered));
        }
    }

    /// Asks the system, once, for what a search by sketches reads of the units next to one that is
    /// being read; the sums only where they count.
    pub(crate) fn fetch_ahead(&self, number: usize, fused: bool) {
        let to = (number + AHEAD).min(self.units.len());
        for unit in
            self.units.get(self.fetched.fetch_max(to, Ordering::Relaxed)..to).into_iter().flatten()
        {
            unit.sketch.iter().for_each(|sketch| sketch.fetch());
            for layer in unit.layers.iter().filter(|_| fused) {
                layer.sketch.iter().for_each(|sketch| sketch.fetch());
                layer.gram.iter().for_each(|gram| gram.fetch());
            }
        }
    }

    /// A hit as runs have it.
    pub fn scored(&self, (score, row): (f32, u32)) -> ScoredDoc {
        ScoredDoc { docid: self.ids.get(row).to_owned(), score: f64::from(score) }
    }

    pub(crate) fn unit_of(&self, row: u32) -> (&OpenUnit, usize) {
        let at = self.units.partition_point(|u| u.first <= row as usize) - 1;
        (&self.units[at], row as usize - self.units[at].first)
    }

    /// The texts of some rows, in the order asked; each unit's file is read once.
    ///
    /// # Errors
    /// When a file is missing or damaged.
    pub fn passages(&self, rows: &[u32]) -> Result<Vec<Passage>> {
        if self.manifest.collapsed.as_ref().is_some_and(|collapsed| !collapsed.texts) {
            return Ok(rows.iter().map(|&row| self.bare_passage(row)).collect());
        }
        let found = self.collect(rows, Unit::read_passages, |all: &Vec<Passage>, place| {
            all.get(place).cloned().into_iter().collect()
        })?;
        let first = |(found, &row): (Vec<Passage>, &u32)| {
            found.into_iter().next().ok_or_else(|| self.no_passage(row))
        };
        found.into_iter().zip(rows).map(first).collect()
    }

    /// A passage of an index that was collapsed without texts.
    fn bare_passage(&self, row: u32) -> Passage {
        let (docid, text) = (self.ids.get(row).to_owned(), String::new());
        Passage { docid, title: text.clone(), text }
    }

    fn no_passage(&self, row: u32) -> IndexError {
        let (unit, place) = self.unit_of(row);
        let expected = format!("a passage on line {}", place + 1);
        DataError::unexpected(&unit.unit.passages_path(), expected, "the end of the file").into()
    }

    /// The questions attached to some rows, in the order asked, over all layers, each with the side
    /// of the encoder that it went through.
    ///
    /// # Errors
    /// When a file is missing or damaged.
    pub fn questions(&self, rows: &[u32]) -> Result<Vec<Vec<(Side, Question)>>> {
        let read = |unit: &Unit| -> Result<Vec<(Side, Question)>> {
            let mut all = Vec::new();
            for layer in &self.manifest.layers {
                let questions = unit.read_questions(layer.id)?;
                all.extend(questions.into_iter().map(|q| (layer.side, q)));
            }
            Ok(all)
        };
        self.collect(rows, read, |all, place| {
            all.iter().filter(|(_, q)| q.row as usize == place).cloned().collect()
        })
    }

    /// Reads something of each unit that holds one of the rows, once, and picks from it.
    fn collect<T, U>(
        &self,
        rows: &[u32],
        read: impl Fn(&Unit) -> Result<T>,
        pick: impl Fn(&T, usize) -> Vec<U>,
    ) -> Result<Vec<Vec<U>>> {
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|&i| rows[i]);
        let mut found: Vec<Vec<U>> = rows.iter().map(|_| Vec::new()).collect();
        let mut open: Option<(usize, T)> = None;
        for i in order {
            let (unit, place) = self.unit_of(rows[i]);
            let content = match open.take() {
                Some((first, content)) if first == unit.first => content,
                _ => read(&unit.unit)?,
            };
            found[i] = pick(&content, place);
            open = Some((unit.first, content));
        }
        Ok(found)
    }
}

/// Checks that each layer has a row of dot products for each of its pairs of vectors.
fn check_gram(layers: &[LayerSums]) -> Result<()> {
    let mut from = 1;
    for layer in layers {
        let to = from + layer.langs.len();
        let expected = pairs(from, to).count();
        if let Some(gram) = layer.gram.as_ref().filter(|g| g.rows() != expected) {
            let found = format!("{} rows", gram.rows());
            let expected = format!("{expected} rows");
            return Err(DataError::unexpected(gram.path(), expected, found).into());
        }
        from = to;
    }
    Ok(())
}

fn check_shape(vectors: &Stored, expected: (usize, usize), named: usize) -> Result<()> {
    let found = (vectors.rows(), vectors.dim());
    if found == expected && named == expected.0 {
        return Ok(());
    }
    let expected = format!("{} x {} and as many docids", expected.0, expected.1);
    let found = format!("{} x {} and {named} docids", found.0, found.1);
    Err(DataError::unexpected(vectors.path(), expected, found).into())
}
