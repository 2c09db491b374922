//! An 8-bit copy of a matrix: a quarter of the bytes of f32, and for each row a bound on what the
//! copy leaves out, so that a search may read only this and still know which rows can be among the
//! best. `d.i8` lies beside `d.npy`, `q0001.i8` beside `q0001.sums.npy`.
//!
//! Row i of the matrix is `x = times * centre + scale * codes + rest`, where the centre is the mean
//! of the file's rows, `times` how often it is in row i (1 for an embedding, the number of questions
//! for a sum), and the rest is no longer than `error`. Embeddings lie close together around
//! their mean, so what is left after the centre needs half the scale.
//!
//! All numbers are little-endian; every section begins at a multiple of 64 bytes, filled up with
//! zeros:
//!
//! ```text
//! header   64 bytes: "XQGSKTCH", version u32 = 1, dim u32, rows u64, stride u32, zeros up
//!          to byte 56, then xxh3 of these 56 as u64 (zero in files of earlier versions)
//! codes    rows x stride i8, from -127 to 127; stride is dim rounded up to 64, the rest zeros
//! centre   dim f32
//! scales   rows f32
//! errors   rows f32, not less than the length of the rest
//! reaches  rows f32, not less than the length of scale * codes
//! sums     rows i32, the sum of the row's codes
//! ```

use std::io::Write as _;
use std::path::Path;

use xqg_data::error::DataError;
use xqg_data::file::PartialFile;
use xqg_data::map::MappedFile;
use xxhash_rust::xxh3::xxh3_64;

use crate::error::Result;

/// The version that this code writes and reads.
pub const VERSION: u32 = 1;
const MAGIC: &[u8; 8] = b"XQGSKTCH";
/// Sections and rows begin at multiples of a cache line, which is also the widest register.
pub const ALIGN: usize = 64;
/// Bytes of a header that its checksum is of.
const CHECKED: usize = ALIGN - 8;
/// The greatest length of an embedding: sums of `dim` products of 7 and 8 bits fit 32 bits.
const MAX_DIM: usize = 1 << 16;

/// A sketch opened for reading: mapped, its header and length checked.
#[derive(Debug)]
pub struct Sketch {
    map: MappedFile,
    layout: Layout,
}

/// Where the sections lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Layout {
    rows: usize,
    dim: usize,
}

impl Layout {
    fn stride(self) -> usize {
        self.dim.next_multiple_of(ALIGN)
    }

    /// The beginnings of the sections and the end of the file; nothing where a number is too great.
    fn sections(self) -> Option<[usize; 7]> {
        let column = self.rows.checked_mul(4)?.checked_next_multiple_of(ALIGN)?;
        let codes = self.rows.checked_mul(self.stride())?;
        let centre = (self.dim * 4).next_multiple_of(ALIGN);
        let mut at = [ALIGN; 7];
        for (i, bytes) in [codes, centre, column, column, column, column].into_iter().enumerate() {
            at[i + 1] = at[i].checked_add(bytes)?;
        }
        Some(at)
    }

    /// The header with its checksum: a shape that was damaged may still fit a file that was cut.
    fn header(self) -> [u8; ALIGN] {
        let mut bytes = self.unchecked_header();
        let sum = xxh3_64(&bytes[..CHECKED]);
        bytes[CHECKED..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// The header of earlier versions.
    fn unchecked_header(self) -> [u8; ALIGN] {
        let mut bytes = [0; ALIGN];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&(self.dim as u32).to_le_bytes());
        bytes[16..24].copy_from_slice(&(self.rows as u64).to_le_bytes());
        bytes[24..28].copy_from_slice(&(self.stride() as u32).to_le_bytes());
        bytes
    }

    /// The layout that a header describes; nothing where it is none of this version.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let head = bytes.get(..ALIGN)?;
        let dim = u32::from_le_bytes(head[12..16].try_into().ok()?);
        let rows = u64::from_le_bytes(head[16..24].try_into().ok()?);
        let layout = Self { rows: rows.try_into().ok()?, dim: dim.try_into().ok()? };
        let possible = (1..=MAX_DIM).contains(&layout.dim);
        let known = [layout.header(), layout.unchecked_header()];
        (possible && known.iter().any(|header| header == head)).then_some(layout)
    }
}

impl Sketch {
    /// Opens a sketch and checks header and length; nothing else is read yet.
    ///
    /// # Errors
    /// When it is missing, of another version or cut short.
    pub fn open(path: &Path) -> Result<Self> {
        let map = MappedFile::open(path)?;
        let damaged = |expected: String, found: String| DataError::Unexpected {
            path: path.to_path_buf(),
            expected,
            found,
            hint: "remove the file and run `xqg index sketch --index INDEX`, which makes it again",
        };
        let layout = Layout::parse(map.bytes()).ok_or_else(|| {
            damaged(format!("a sketch of version {VERSION}"), "something else".to_owned())
        })?;
        let (expected, found) = (layout.sections().map(|s| s[6]), map.bytes().len());
        if expected != Some(found) {
            let expected = expected.map_or("a possible shape".to_owned(), |n| format!("{n} bytes"));
            return Err(damaged(expected, format!("{found} bytes")).into());
        }
        Ok(Self { map, layout })
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.layout.rows
    }

    /// The length of a row, without what fills it up.
    pub fn dim(&self) -> usize {
        self.layout.dim
    }

    /// Bytes from one row's codes to the next one's.
    pub fn stride(&self) -> usize {
        self.layout.stride()
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.map.path()
    }

    /// As [`MappedFile::fetch`].
    pub fn fetch(&self) {
        self.map.fetch();
    }

    fn section(&self, i: usize, bytes: usize) -> &[u8] {
        let sections = self.layout.sections().expect("checked on opening");
        &self.map.bytes()[sections[i]..][..bytes]
    }

    /// The codes of all rows, [`stride`](Self::stride) bytes each.
    pub fn codes(&self) -> &[i8] {
        bytemuck::cast_slice(self.section(0, self.layout.rows * self.stride()))
    }

    /// The mean of the rows: `dim` numbers.
    pub fn centre(&self) -> &[f32] {
        bytemuck::cast_slice(self.section(1, self.layout.dim * 4))
    }

    /// The scale of each row.
    pub fn scales(&self) -> &[f32] {
        bytemuck::cast_slice(self.section(2, self.layout.rows * 4))
    }

    /// A bound on the length of what each row's code leaves out.
    pub fn errors(&self) -> &[f32] {
        bytemuck::cast_slice(self.section(3, self.layout.rows * 4))
    }

    /// A bound on the length of each row's `scale * codes`.
    pub fn reaches(&self) -> &[f32] {
        bytemuck::cast_slice(self.section(4, self.layout.rows * 4))
    }

    /// The sum of each row's codes.
    pub fn sums(&self) -> &[i32] {
        bytemuck::cast_slice(self.section(5, self.layout.rows * 4))
    }

    /// Writes what the sketch holds of a row: `times * centre + scale * codes`, each product and
    /// the sum rounded once, so the same numbers everywhere. `times` is 1 for an embedding and the
    /// number of questions for a sum.
    ///
    /// # Panics
    /// When there is no such row, or `out` is shorter than one.
    pub fn read_row(&self, row: usize, times: u32, out: &mut [f32]) {
        let codes = &self.codes()[row * self.stride()..][..self.dim()];
        decode(codes, self.scales()[row], (times as f32, self.centre()), &mut out[..self.dim()]);
    }
}

fn decode(codes: &[i8], scale: f32, (times, centre): (f32, &[f32]), out: &mut [f32]) {
    for ((o, &code), c) in out.iter_mut().zip(codes).zip(centre) {
        *o = times * c + scale * f32::from(code);
    }
}

/// A number not less than `x`, in single precision; room is left for the rounding of what led to it.
pub(crate) fn round_up(x: f64) -> f32 {
    let near = x.mul_add(1e-9, x) as f32;
    if near.is_finite() { near.next_up() } else { f32::INFINITY }
}

/// What a sketch is made from: rows that can be read again and again.
pub trait Rows {
    /// The number of rows and their length.
    fn shape(&self) -> (usize, usize);
    /// Copies a row.
    fn read(&self, row: usize, out: &mut [f32]);
    /// How often the centre is in a row.
    fn times(&self, row: usize) -> u32;
}

/// Which row a sketch's errors are measured against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Against {
    /// The rows it was made from, which are stored beside it.
    Source,
    /// The rows that it decodes to: nothing else is stored.
    Decoded,
}

/// Writes the sketch of a matrix; returns nothing but the file.
///
/// # Errors
/// When the disk refuses.
pub fn write_sketch(path: &Path, rows: &dyn Rows, against: Against) -> Result<()> {
    let (n, dim) = rows.shape();
    let layout = Layout { rows: n, dim };
    let centre = mean(rows);
    let mut file = PartialFile::create(path)?;
    let mut write = |bytes: &[u8]| file.write_all(bytes).map_err(DataError::io("writing", path));
    write(&layout.header())?;
    let (mut row, mut coded) = (vec![0.0; dim], Coded::default());
    coded.codes = vec![0; layout.stride()];
    let mut columns = Columns::default();
    for i in 0..n {
        rows.read(i, &mut row);
        let times = rows.times(i) as f32;
        coded.encode(&row, (times, &centre));
        if against == Against::Decoded {
            decode(&coded.codes, coded.scale, (times, &centre), &mut row);
        }
        columns.push(&coded, &row, (times, &centre));
        write(bytemuck::cast_slice(&coded.codes))?;
    }
    write(&padded(bytemuck::cast_slice(&centre)))?;
    for column in [&columns.scales, &columns.errors, &columns.reaches] {
        write(&padded(bytemuck::cast_slice(column)))?;
    }
    write(&padded(bytemuck::cast_slice(&columns.sums)))?;
    Ok(file.commit()?)
}

fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut all = bytes.to_vec();
    all.resize(bytes.len().next_multiple_of(ALIGN), 0);
    all
}

/// The sum of all rows over the number of times that the centre is in them.
fn mean(rows: &dyn Rows) -> Vec<f32> {
    let (n, dim) = rows.shape();
    let (mut total, mut row, mut times) = (vec![0f64; dim], vec![0.0; dim], 0f64);
    for i in 0..n {
        rows.read(i, &mut row);
        times += f64::from(rows.times(i));
        total.iter_mut().zip(&row).for_each(|(t, &x)| *t += f64::from(x));
    }
    total.iter().map(|t| if times > 0.0 { (t / times) as f32 } else { 0.0 }).collect()
}

/// One row in 8 bits.
#[derive(Default)]
struct Coded {
    codes: Vec<i8>,
    scale: f32,
}

impl Coded {
    fn encode(&mut self, row: &[f32], (times, centre): (f32, &[f32])) {
        let times = f64::from(times);
        let centred = |(x, c): (&f32, &f32)| f64::from(*x) - times * f64::from(*c);
        let greatest = row.iter().zip(centre).map(centred).fold(0f64, |m, x| m.max(x.abs()));
        self.scale = (greatest / 127.0) as f32;
        let inverse = if self.scale > 0.0 { 1.0 / f64::from(self.scale) } else { 0.0 };
        for (code, pair) in self.codes.iter_mut().zip(row.iter().zip(centre)) {
            *code = (centred(pair) * inverse).round().clamp(-127.0, 127.0) as i8;
        }
    }
}

/// The numbers that are stored for each row beside its codes.
#[derive(Default)]
struct Columns {
    scales: Vec<f32>,
    errors: Vec<f32>,
    reaches: Vec<f32>,
    sums: Vec<i32>,
}

impl Columns {
    fn push(&mut self, coded: &Coded, row: &[f32], (times, centre): (f32, &[f32])) {
        let (mut rest, mut reach, mut sum) = (0f64, 0f64, 0i32);
        for ((&x, &c), &code) in row.iter().zip(centre).zip(&coded.codes) {
            let decoded = f64::from(coded.scale) * f64::from(code);
            let left = f64::from(x) - f64::from(times) * f64::from(c) - decoded;
            rest += left * left;
            reach += decoded * decoded;
            sum += i32::from(code);
        }
        self.scales.push(coded.scale);
        self.errors.push(round_up(rest.sqrt()));
        self.reaches.push(round_up(reach.sqrt()));
        self.sums.push(sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Made<'a>(&'a [f32], usize);

    impl Rows for Made<'_> {
        fn shape(&self) -> (usize, usize) {
            (self.0.len() / self.1, self.1)
        }
        fn read(&self, row: usize, out: &mut [f32]) {
            out.copy_from_slice(&self.0[row * self.1..][..self.1]);
        }
        fn times(&self, row: usize) -> u32 {
            row as u32 % 4
        }
    }

    fn length(x: impl Iterator<Item = f64>) -> f64 {
        x.map(|x| x * x).sum::<f64>().sqrt()
    }

    proptest! {
        #[test]
        fn no_row_is_farther_from_its_sketch_than_it_says(
            values in proptest::collection::vec(-1e3f32..1e3, 0..600),
            dim in 1usize..70,
            decoded in any::<bool>(),
        ) {
            let values = &values[..values.len() / dim * dim];
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("x.i8");
            let against = if decoded { Against::Decoded } else { Against::Source };
            write_sketch(&path, &Made(values, dim), against).unwrap();
            let sketch = Sketch::open(&path).unwrap();
            prop_assert_eq!((sketch.rows(), sketch.dim()), (values.len() / dim, dim));
            let mut back = vec![0.0; dim];
            for (row, x) in values.chunks_exact(dim).enumerate() {
                let times = row as u32 % 4;
                sketch.read_row(row, times, &mut back);
                let x = if decoded { &back[..] } else { x };
                let codes = &sketch.codes()[row * sketch.stride()..][..sketch.stride()];
                let scale = f64::from(sketch.scales()[row]);
                let left = |i: usize| f64::from(x[i])
                    - f64::from(times) * f64::from(sketch.centre()[i])
                    - scale * f64::from(codes[i]);
                let (error, reach) = (sketch.errors()[row], sketch.reaches()[row]);
                prop_assert!(length((0..dim).map(left)) <= f64::from(error));
                prop_assert!(length(codes.iter().map(|&c| scale * f64::from(c))) <= f64::from(reach));
                prop_assert_eq!(codes.iter().map(|&c| i32::from(c)).sum::<i32>(), sketch.sums()[row]);
                prop_assert!(!decoded || error <= 1e-3, "decoding rounds only: {}", error);
            }
        }

        #[test]
        fn no_damaged_sketch_panics(cut in 0usize..500, flip in 0usize..64, byte in 0u8..=255) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("x.i8");
            write_sketch(&path, &Made(&[1.0, 2.0, 3.0, 4.0], 2), Against::Source).unwrap();
            let mut bytes = std::fs::read(&path).unwrap();
            let whole = bytes.clone();
            bytes[flip] = byte;
            bytes.truncate(bytes.len() - cut % bytes.len());
            std::fs::write(&path, &bytes).unwrap();
            prop_assert_eq!(Sketch::open(&path).is_ok(), bytes == whole);
        }
    }

    #[test]
    fn a_shape_that_fits_a_cut_file_is_refused_and_a_sketch_of_earlier_versions_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.i8");
        write_sketch(&path, &Made(&[1.0, 2.0, 3.0, 4.0], 2), Against::Source).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let opens = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            Sketch::open(&path).is_ok()
        };
        let mut cut = whole[..whole.len() - ALIGN].to_vec();
        cut[16] = 1;
        assert!(!opens(&cut), "one row in place of two, and its 64 bytes of codes gone");
        let mut earlier = whole.clone();
        earlier[CHECKED..ALIGN].fill(0);
        assert!(opens(&earlier) && opens(&whole));
    }
}
