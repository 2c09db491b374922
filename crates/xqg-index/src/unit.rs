//! One work unit of an index on disk: a fixed number of passages with their texts, their
//! embeddings, and for each layer the questions with their sums. Each file appears whole or not at
//! all; the last of each kind to be written is the mark that its kind is complete.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use xqg_data::error::DataError;
use xqg_data::file::{PartialFile, write_whole};
use xqg_data::lang::Lang;
use xqg_data::lines::{id_field, text_field};
use xqg_data::npy::{Counts, Dtype, Matrix, MatrixWriter, write_counts};
use xqg_data::passage::Passage;

use crate::error::Result;
use crate::gram::{Family, write_gram};
use crate::manifest::Layer;
use crate::sketch::{Against, Sketch, write_sketch};
use crate::stored::{MadeRows, Stored, StoredRows, Times};

/// The folder of one work unit.
#[derive(Debug, Clone)]
pub struct Unit {
    folder: PathBuf,
}

/// A question of a passage, as a layer stores it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// The passage's row within its unit.
    pub row: u32,
    /// The language.
    pub lang: Lang,
    /// The question.
    pub text: String,
}

/// The sums of one layer in one unit.
#[derive(Debug)]
pub struct LayerSums {
    /// The layer's languages, in the order of the blocks.
    pub langs: Vec<Lang>,
    /// The sums, language by language.
    pub sums: Stored,
    /// Their 8-bit copy, where there is one.
    pub sketch: Option<Arc<Sketch>>,
    /// The dot products between a passage's vectors, see [`crate::gram`]; there with the sketch.
    pub gram: Option<Matrix>,
    counts: Arc<Counts>,
    rows: usize,
}

impl LayerSums {
    /// Copies the sums of some rows in the `block`-th language of the layer.
    pub fn read_sums(&self, block: usize, start: usize, out: &mut [f32]) {
        self.sums.read_rows(block * self.rows + start, out);
    }

    /// How many questions are in each sum of the `block`-th language.
    pub fn counts(&self, block: usize) -> &[u32] {
        &self.counts.as_slice()[block * self.rows..][..self.rows]
    }
}

impl Unit {
    /// The unit with that number in an index folder; nothing is opened.
    pub fn new(index: &Path, number: usize) -> Self {
        Self { folder: index.join("units").join(format!("{number:05}")) }
    }

    /// Makes the folder.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn create(&self) -> Result<()> {
        Ok(fs::create_dir_all(&self.folder).map_err(DataError::io("creating", &self.folder))?)
    }

    /// The unit's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn passages_path(&self) -> PathBuf {
        self.folder.join("passages.jsonl")
    }

    fn ids_path(&self) -> PathBuf {
        self.folder.join("ids.txt")
    }

    fn vectors_path(&self) -> PathBuf {
        self.folder.join("d.npy")
    }

    fn layer_path(&self, layer: u32, kind: &str) -> PathBuf {
        self.folder.join(format!("q{layer:04}.{kind}"))
    }

    /// The unsorted questions of a layer that is being built.
    pub fn spill_path(&self, layer: u32) -> PathBuf {
        self.layer_path(layer, "spill")
    }

    /// Writes the passages' texts, unless they are there.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write_passages(&self, passages: &[Passage]) -> Result<()> {
        let path = self.passages_path();
        if path.exists() {
            return Ok(());
        }
        self.create()?;
        let ids: String = passages.iter().map(|p| format!("{}\n", p.docid)).collect();
        write_whole(&self.ids_path(), ids.as_bytes())?;
        let mut file = PartialFile::create(&path)?;
        for p in passages {
            let line = serde_json::json!({"_id": p.docid, "title": p.title, "text": p.text});
            writeln!(file, "{line}").map_err(DataError::io("writing", &path))?;
        }
        Ok(file.commit()?)
    }

    /// Reads the passages' texts.
    ///
    /// # Errors
    /// When the file is missing or damaged.
    pub fn read_passages(&self) -> Result<Vec<Passage>> {
        let path = self.passages_path();
        read_lines(&path, |line| serde_json::from_str(line).ok().as_ref().and_then(stored_passage))
    }

    /// Reads the passages' docids, one a line as they lie.
    ///
    /// # Errors
    /// When the file is missing.
    pub fn read_ids(&self) -> Result<String> {
        let path = self.ids_path();
        Ok(fs::read_to_string(&path).map_err(DataError::io("reading", &path))?)
    }

    fn sketch_path(&self) -> PathBuf {
        self.folder.join("d.i8")
    }

    /// Whether the passages are encoded.
    pub fn has_vectors(&self) -> bool {
        self.vectors_path().exists() || self.sketch_path().exists()
    }

    /// Writes the passages' embeddings, row after row.
    ///
    /// # Errors
    /// When a number is not finite or the disk refuses.
    pub fn write_vectors(&self, dtype: Dtype, rows: usize, vectors: &[f32]) -> Result<()> {
        let dim = vectors.len().checked_div(rows).unwrap_or(0);
        if dtype == Dtype::Int8 {
            let rows = MadeRows { values: vectors, dim, counts: None };
            return write_decoded(&self.sketch_path(), &rows);
        }
        write_matrix(&self.vectors_path(), dtype, dim, vectors)
    }

    /// Writes the sketch of the passages' embeddings, unless it is there.
    ///
    /// # Errors
    /// When the embeddings are missing or damaged, or the disk refuses.
    pub fn sketch_vectors(&self) -> Result<()> {
        if self.sketch_path().exists() {
            return Ok(());
        }
        let vectors = Matrix::open(&self.vectors_path())?;
        let rows = StoredRows(&vectors, &Times::Once);
        write_sketch(&self.sketch_path(), &rows, Against::Source)
    }

    /// Opens the passages' embeddings.
    ///
    /// # Errors
    /// When the file is missing or damaged.
    pub fn open_vectors(&self, dtype: Dtype) -> Result<Stored> {
        if dtype == Dtype::Int8 {
            let sketch = Sketch::open(&self.sketch_path())?;
            return Ok(Stored::Sketch(Arc::new(sketch), Times::Once));
        }
        Ok(Stored::Matrix(Matrix::open(&self.vectors_path())?))
    }

    /// Opens the sketch of some vectors, if there is one.
    fn open_sketch(path: &Path, of: &Stored) -> Result<Option<Arc<Sketch>>> {
        if let Stored::Sketch(sketch, _) = of {
            return Ok(Some(sketch.clone()));
        }
        if !path.exists() {
            return Ok(None);
        }
        let sketch = Sketch::open(path)?;
        let (found, expected) = ((sketch.rows(), sketch.dim()), (of.rows(), of.dim()));
        if found != expected {
            let expected = format!("{} x {}", expected.0, expected.1);
            let found = format!("{} x {}", found.0, found.1);
            return Err(DataError::unexpected(path, expected, found).into());
        }
        Ok(Some(Arc::new(sketch)))
    }

    /// Opens the sketch of the passages' embeddings, if there is one.
    ///
    /// # Errors
    /// When it is damaged or of another shape than the embeddings.
    pub fn open_vector_sketch(&self, vectors: &Stored) -> Result<Option<Arc<Sketch>>> {
        Self::open_sketch(&self.sketch_path(), vectors)
    }

    /// Whether a layer's questions are encoded.
    pub fn has_layer(&self, layer: u32) -> bool {
        self.layer_path(layer, "jsonl").exists()
    }

    /// Writes a layer: sums, counts, then the questions. What [`sketch_layer`](Self::sketch_layer)
    /// writes must be there before the questions, whose file marks the layer complete.
    ///
    /// # Errors
    /// When a number is not finite or the disk refuses.
    pub fn write_sums(&self, layer: u32, dtype: Dtype, sums: &SumBlock) -> Result<()> {
        let (values, counts) = (sums.to_f32(), Some(sums.counts.as_slice()));
        write_counts(&self.layer_path(layer, "counts.npy"), &sums.counts)?;
        if dtype == Dtype::Int8 {
            let rows = MadeRows { values: &values, dim: sums.dim, counts };
            return write_decoded(&self.layer_path(layer, "i8"), &rows);
        }
        write_matrix(&self.layer_path(layer, "sums.npy"), dtype, sums.dim, &values)
    }

    /// Writes a layer's questions, ordered by row: the mark that the layer is complete.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write_questions(&self, layer: u32, questions: &[Question]) -> Result<()> {
        let path = self.layer_path(layer, "jsonl");
        let mut file = PartialFile::create(&path)?;
        for question in questions {
            let line = serde_json::json!(question);
            writeln!(file, "{line}").map_err(DataError::io("writing", &path))?;
        }
        Ok(file.commit()?)
    }

    /// Writes the sketch of a layer's sums and the dot products of its vectors with all earlier ones,
    /// unless they are there. `layers` are those up to this one, of `shape` rows and numbers.
    ///
    /// # Errors
    /// When a file is missing or damaged, or the disk refuses.
    pub fn sketch_layer(
        &self,
        dtype: Dtype,
        layers: &[Layer],
        shape: (usize, usize),
    ) -> Result<()> {
        let Some(last) = layers.last() else { return Ok(()) };
        let open = |layer: &Layer| self.open_layer(layer, dtype, shape);
        let opened: Vec<LayerSums> = layers.iter().map(open).collect::<Result<_>>()?;
        let [.., new] = &opened[..] else { return Ok(()) };
        if let (None, Stored::Matrix(sums)) = (&new.sketch, &new.sums) {
            let times = Times::Counted(new.counts.clone());
            let path = self.layer_path(last.id, "i8");
            write_sketch(&path, &StoredRows(sums, &times), Against::Source)?;
        }
        if new.gram.is_some() {
            return Ok(());
        }
        let d = self.open_vectors(dtype)?;
        let layer = |l: &'_ LayerSums| l.langs.len();
        let mut families = vec![Family { vectors: &d, blocks: 1 }];
        families.extend(opened.iter().map(|l| Family { vectors: &l.sums, blocks: layer(l) }));
        write_gram(&self.layer_path(last.id, "gram.npy"), &families, shape.0)
    }

    /// Opens the sums of a layer over `rows` passages, each sum `dim` numbers long.
    ///
    /// # Errors
    /// When a file is missing, damaged or of another shape.
    pub fn open_layer(
        &self,
        layer: &Layer,
        dtype: Dtype,
        (rows, dim): (usize, usize),
    ) -> Result<LayerSums> {
        let langs: Vec<Lang> = layer.langs.iter().map(|l| l.lang).collect();
        let counts = Arc::new(Counts::open(&self.layer_path(layer.id, "counts.npy"))?);
        let sums = if dtype == Dtype::Int8 {
            let sketch = Sketch::open(&self.layer_path(layer.id, "i8"))?;
            Stored::Sketch(Arc::new(sketch), Times::Counted(counts.clone()))
        } else {
            Stored::Matrix(Matrix::open(&self.layer_path(layer.id, "sums.npy"))?)
        };
        let (expected, counted) = (langs.len() * rows, counts.as_slice().len());
        if (sums.rows(), sums.dim(), counted) != (expected, dim, expected) {
            let found = format!("{} x {} and {counted}", sums.rows(), sums.dim());
            let expected = format!("{expected} x {dim} and as many counts");
            return Err(DataError::unexpected(sums.path(), expected, found).into());
        }
        let sketch = Self::open_sketch(&self.layer_path(layer.id, "i8"), &sums)?;
        let gram = self.open_gram(layer.id, rows)?;
        Ok(LayerSums { langs, sums, sketch, gram, counts, rows })
    }

    fn open_gram(&self, layer: u32, rows: usize) -> Result<Option<Matrix>> {
        let path = self.layer_path(layer, "gram.npy");
        if !path.exists() {
            return Ok(None);
        }
        let gram = Matrix::open(&path)?;
        if gram.dim() != rows || gram.dtype() != Dtype::F32 {
            let expected = format!("f32 numbers, {rows} columns");
            return Err(DataError::unexpected(&path, expected, gram.dim().to_string()).into());
        }
        Ok(Some(gram))
    }

    /// Reads a layer's questions, ordered by row.
    ///
    /// # Errors
    /// When the file is missing or damaged.
    pub fn read_questions(&self, layer: u32) -> Result<Vec<Question>> {
        read_questions(&self.layer_path(layer, "jsonl"))
    }

    /// Removes what an abandoned layer left behind.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn remove_layer(&self, layer: u32) -> Result<()> {
        for kind in ["spill", "jsonl", "gram.npy", "i8", "counts.npy", "sums.npy"] {
            let path = self.layer_path(layer, kind);
            if path.exists() {
                fs::remove_file(&path).map_err(DataError::io("removing", &path))?;
            }
        }
        Ok(())
    }
}

/// A passage as a unit stores it; one that was imported as a vector alone has no text.
fn stored_passage(object: &serde_json::Value) -> Option<Passage> {
    let text = |key| text_field(object, key).ok().map(Option::unwrap_or_default);
    let docid = id_field(object, "_id").ok()?;
    Some(Passage { docid, title: text("title")?, text: text("text")? })
}

/// Reads questions, one JSON object a line.
///
/// # Errors
/// When the file is missing or damaged.
pub fn read_questions(path: &Path) -> Result<Vec<Question>> {
    read_lines(path, |line| serde_json::from_str(line).ok())
}

fn read_lines<T>(path: &Path, parse: impl Fn(&str) -> Option<T>) -> Result<Vec<T>> {
    let file = fs::File::open(path).map_err(DataError::io("reading", path))?;
    let mut all = Vec::new();
    for (i, line) in BufReader::new(file).lines().enumerate() {
        let line = match line {
            Err(e) if e.kind() == ErrorKind::InvalidData => None,
            line => Some(line.map_err(DataError::io("reading", path))?),
        };
        let noun = line.as_deref().and_then(&parse).ok_or_else(|| {
            let found = format!("line {} damaged", i + 1);
            DataError::unexpected(path, "the lines that the build wrote", found)
        })?;
        all.push(noun);
    }
    Ok(all)
}

fn write_matrix(path: &Path, dtype: Dtype, dim: usize, numbers: &[f32]) -> Result<()> {
    let rows = numbers.len().checked_div(dim).unwrap_or(0);
    let mut writer = MatrixWriter::create(path, dtype, rows, dim)?;
    writer.push(numbers)?;
    Ok(writer.commit()?)
}

/// Writes a sketch that is all there is of some vectors.
fn write_decoded(path: &Path, rows: &MadeRows) -> Result<()> {
    if !rows.values.iter().all(|x| x.is_finite()) {
        let (expected, found) = ("finite numbers in every embedding", "NaN or infinity");
        return Err(DataError::unexpected(path, expected, found).into());
    }
    write_sketch(path, rows, Against::Decoded)
}

/// The sums and counts of one unit in the making. Sums are kept in double precision, so the order
/// of the questions does not show in the stored numbers.
#[derive(Debug)]
pub struct SumBlock {
    /// The length of an embedding.
    pub dim: usize,
    rows: usize,
    sums: Vec<f64>,
    counts: Vec<u32>,
}

impl SumBlock {
    /// Zero sums for some rows in some languages.
    pub fn new(langs: usize, rows: usize, dim: usize) -> Self {
        let (sums, counts) = (vec![0.0; langs * rows * dim], vec![0; langs * rows]);
        Self { dim, rows, sums, counts }
    }

    /// Adds one question's embedding to its passage's sum in the `block`-th language.
    pub fn add(&mut self, block: usize, row: usize, vector: &[f32]) {
        let at = block * self.rows + row;
        self.counts[at] += 1;
        for (sum, &x) in self.sums[at * self.dim..].iter_mut().zip(vector) {
            *sum += f64::from(x);
        }
    }

    fn to_f32(&self) -> Vec<f32> {
        self.sums.iter().map(|&x| x as f32).collect()
    }
}
