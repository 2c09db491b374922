//! The unfinished work of mining, in `OUT.units.partial`: the plan it began with, for each finished
//! unit its counts and then its rows. At the end the rows of all units become one file at `OUT`;
//! killed or not, the bytes are the same.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;
use xqg_data::error::DataError;
use xqg_data::file::{
    PartialFile, partial_path, refuse_existing, remove, writable_folder, write_whole,
};
use xqg_data::training::{TrainingExample, write_example};

use super::counts::Counts;

const PLAN: &str = "plan.json";
/// All units are finished, and the file at the output's place may be ours already.
const FINISHING: &str = "finishing";

/// Inputs by hash, and settings: what decides the bytes.
pub type Plan = BTreeMap<String, Value>;

/// The work folder of an output.
pub struct Work {
    out: PathBuf,
    /// The folder.
    pub folder: PathBuf,
    /// Whether it was empty when opened.
    pub fresh: bool,
}

/// Refuses an output that exists, unless `force` is set or a killed run was about to end there.
///
/// # Errors
/// [`DataError::Exists`].
pub fn refuse_finished(out: &Path, force: bool) -> Result<(), DataError> {
    if out.is_dir() {
        return Err(DataError::unexpected(out, "the name of a file", "a folder"));
    }
    if folder_of(out).join(FINISHING).exists() { Ok(()) } else { refuse_existing(out, force) }
}

fn folder_of(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".units");
    partial_path(Path::new(&name))
}

impl Work {
    /// Opens the work folder of an output: that of a killed run with the same plan, or a new one.
    ///
    /// # Errors
    /// When another plan's work lies there and `force` is not set, or the disk refuses.
    pub fn open(out: &Path, plan: &Plan, force: bool) -> Result<Self> {
        let folder = folder_of(out);
        let path = folder.join(PLAN);
        let old =
            fs::read_to_string(&path).ok().and_then(|t| serde_json::from_str::<Plan>(&t).ok());
        let fresh = old.as_ref() != Some(plan);
        if let Some(old) = old.filter(|_| fresh && !force) {
            bail!(
                "resuming {}: expected the inputs and settings it began with, found others: {}\n\
                 hint: --force throws the unfinished work away and starts anew",
                folder.display(),
                difference(&old, plan)
            );
        }
        if fresh {
            remove(&folder)?;
            writable_folder(&folder)?;
            let mut text = serde_json::to_string_pretty(plan)?;
            text.push('\n');
            write_whole(&path, text.as_bytes())?;
        }
        Ok(Self { out: out.to_path_buf(), folder, fresh })
    }

    fn rows(&self, unit: usize) -> PathBuf {
        self.folder.join(format!("unit-{unit:06}.jsonl"))
    }

    fn counts(&self, unit: usize) -> PathBuf {
        self.folder.join(format!("unit-{unit:06}.json"))
    }

    /// Whether a unit is finished: its rows come last.
    pub fn has(&self, unit: usize) -> bool {
        self.rows(unit).exists()
    }

    /// Writes a finished unit.
    pub fn write(&self, unit: usize, examples: &[TrainingExample], counts: &Counts) -> Result<()> {
        write_whole(&self.counts(unit), serde_json::to_string(counts)?.as_bytes())?;
        let path = self.rows(unit);
        let mut file = PartialFile::create(&path)?;
        let written = examples.iter().try_for_each(|e| write_example(&mut file, e));
        written.map_err(DataError::io("writing", &path))?;
        Ok(file.commit()?)
    }

    /// The counts of the first `units` units together.
    pub fn total(&self, units: usize) -> Result<Counts> {
        let mut total = Counts::default();
        for unit in 0..units {
            let path = self.counts(unit);
            let text = fs::read_to_string(&path).map_err(DataError::io("reading", &path))?;
            total.add(&serde_json::from_str(&text)?);
        }
        Ok(total)
    }

    /// Puts the rows of all units at the output's place and removes the folder.
    pub fn finish(self, units: usize) -> Result<()> {
        write_whole(&self.folder.join(FINISHING), b"")?;
        let mut file = PartialFile::create(&self.out)?;
        let written = if self.out.extension().is_some_and(|e| e == "gz") {
            let mut gz = GzEncoder::new(&mut file, Compression::default());
            self.copy_rows(units, &mut gz).and_then(|()| gz.finish().map(|_| ()))
        } else {
            self.copy_rows(units, &mut file)
        };
        written.map_err(DataError::io("writing", &self.out))?;
        file.commit()?;
        Ok(remove(&self.folder)?)
    }

    fn copy_rows(&self, units: usize, out: &mut impl io::Write) -> io::Result<()> {
        (0..units).try_for_each(|unit| io::copy(&mut File::open(self.rows(unit))?, out).map(|_| ()))
    }
}

/// The names of what differs, with both values.
fn difference(old: &Plan, new: &Plan) -> String {
    let keys = old.keys().chain(new.keys().filter(|key| !old.contains_key(*key)));
    let differs = keys.filter(|key| old.get(*key) != new.get(*key));
    let none = Value::Null;
    let both = |key: &String| {
        format!("{key}: {} | {}", old.get(key).unwrap_or(&none), new.get(key).unwrap_or(&none))
    };
    differs.map(both).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(seed: u64) -> Plan {
        Plan::from([("seed".to_owned(), seed.into()), ("queries".to_owned(), "hash".into())])
    }

    #[test]
    fn work_goes_on_with_the_same_plan_only() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("m.jsonl");
        let work = Work::open(&out, &plan(1), false).unwrap();
        work.write(0, &[], &Counts::default()).unwrap();
        let same = Work::open(&out, &plan(1), false).unwrap();
        assert!(!same.fresh && same.has(0) && !same.has(1));
        let error = Work::open(&out, &plan(2), false).err().unwrap().to_string();
        assert!(error.contains("seed: 1 | 2") && error.contains("hint: --force"), "{error}");
        let forced = Work::open(&out, &plan(2), true).unwrap();
        assert!(forced.fresh && !forced.has(0));
        forced.write(0, &[], &Counts::default()).unwrap();
        forced.finish(1).unwrap();
        assert_eq!(fs::read(&out).unwrap(), b"");
        assert!(!folder_of(&out).exists());
        assert!(refuse_finished(&out, false).is_err() && refuse_finished(&out, true).is_ok());
    }
}
