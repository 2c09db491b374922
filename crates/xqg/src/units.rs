//! The unfinished work of a verb that writes JSON lines, in `OUT.units.partial`: the plan it began
//! with, for each finished unit its counts and then its rows. At the end the rows of all units become
//! one file at `OUT`; killed or not, the bytes are the same.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use xqg_data::error::DataError;
use xqg_data::file::{
    PartialFile, partial_path, refuse_existing, remove, writable_folder, write_whole,
};

const PLAN: &str = "plan.json";
/// All units are finished, and the file at the output's place may be ours already.
const FINISHING: &str = "finishing";

/// Inputs by hash, and settings: what decides the bytes.
pub type Plan = BTreeMap<String, Value>;

/// A plan of the keys of a JSON object.
pub fn plan(settings: &Value) -> Plan {
    settings.as_object().into_iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// The work folder of an output.
pub struct Work {
    /// The folder.
    pub folder: PathBuf,
    /// Whether it was empty when opened.
    pub fresh: bool,
}

/// Refuses outputs that exist, unless `force` is set or a killed run was about to end there; the
/// first names the work folder.
///
/// # Errors
/// [`DataError::Exists`].
pub fn refuse_finished(outs: &[&Path], force: bool) -> Result<(), DataError> {
    if let Some(folder) = outs.iter().find(|out| out.is_dir()) {
        return Err(DataError::unexpected(folder, "the name of a file", "a folder"));
    }
    if outs.first().is_some_and(|out| folder_of(out).join(FINISHING).exists()) {
        return Ok(());
    }
    outs.iter().try_for_each(|out| refuse_existing(out, force))
}

/// The work folder of an output whose units are all finished.
pub fn finishing(out: &Path) -> Option<PathBuf> {
    Some(folder_of(out)).filter(|folder| folder.join(FINISHING).exists())
}

/// Removes the work folder of an output that is there.
///
/// # Errors
/// When the disk refuses.
pub fn tidy(out: &Path) -> Result<()> {
    Ok(remove(&folder_of(out))?)
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
        Ok(Self { folder, fresh })
    }

    /// Passes a result on; where it is an error, the folder was fresh and no unit is finished, takes the
    /// folder away: bad input is mended and comes back as another file, which could not go on with this.
    pub fn prepared<T>(&self, result: Result<T>) -> Result<T> {
        if result.is_err() && self.fresh && !self.has_any() {
            let _ = remove(&self.folder);
        }
        result
    }

    /// The file of a finished unit's rows.
    pub fn rows(&self, unit: usize) -> PathBuf {
        self.folder.join(format!("unit-{unit:06}.jsonl"))
    }

    fn counts(&self, unit: usize) -> PathBuf {
        self.folder.join(format!("unit-{unit:06}.json"))
    }

    /// Whether a unit is finished, or was about to be.
    fn has_any(&self) -> bool {
        let names =
            fs::read_dir(&self.folder).into_iter().flatten().flatten().map(|e| e.file_name());
        names.into_iter().any(|name| name.to_string_lossy().starts_with("unit-"))
    }

    /// Whether a unit is finished. Its rows come last, but a kill while the folder is removed may
    /// leave them alone.
    pub fn has(&self, unit: usize) -> bool {
        self.rows(unit).exists() && self.counts(unit).exists()
    }

    /// Writes a finished unit.
    pub fn write(&self, unit: usize, rows: &[u8], counts: &impl Serialize) -> Result<()> {
        write_whole(&self.counts(unit), serde_json::to_string(counts)?.as_bytes())?;
        Ok(write_whole(&self.rows(unit), rows)?)
    }

    /// Reads the counts of a finished unit.
    pub fn read_counts<T: DeserializeOwned>(&self, unit: usize) -> Result<T> {
        let path = self.counts(unit);
        let text = fs::read_to_string(&path).map_err(DataError::io("reading", &path))?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Lets `publish` put the finished rows at the output's place, then removes the folder.
    pub fn finish<T>(self, publish: impl FnOnce(&Self) -> Result<T>) -> Result<T> {
        let mark = self.folder.join(FINISHING);
        write_whole(&mark, b"")?;
        let done = publish(&self)?;
        // The mark goes first: a folder that is half removed must not bring the work back.
        remove(&mark)?;
        remove(&self.folder)?;
        Ok(done)
    }

    /// Writes the rows of some units, one after the other.
    pub fn join(&self, units: impl IntoIterator<Item = usize>, out: &Path) -> Result<()> {
        write_lines(out, |file| {
            for unit in units {
                let path = self.rows(unit);
                let mut rows = File::open(&path).map_err(DataError::io("reading", &path))?;
                io::copy(&mut rows, file).map_err(DataError::io("writing", out))?;
            }
            Ok(())
        })
    }
}

/// Writes a file by way of a partial one, compressed where its name ends in `.gz`.
pub fn write_lines(out: &Path, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let mut file = PartialFile::create(out)?;
    if out.extension().is_some_and(|e| e == "gz") {
        let mut gz = GzEncoder::new(&mut file, Compression::default());
        write(&mut gz)?;
        gz.finish().map_err(DataError::io("writing", out))?;
    } else {
        write(&mut file)?;
    }
    Ok(file.commit()?)
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

    fn seeded(seed: u64) -> Plan {
        plan(&serde_json::json!({"seed": seed, "queries": "hash"}))
    }

    #[test]
    fn work_goes_on_with_the_same_plan_only() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("m.jsonl");
        let work = Work::open(&out, &seeded(1), false).unwrap();
        work.write(0, b"old\n", &0).unwrap();
        let same = Work::open(&out, &seeded(1), false).unwrap();
        assert!(!same.fresh && same.has(0) && !same.has(1));
        let error = Work::open(&out, &seeded(2), false).err().unwrap().to_string();
        assert!(error.contains("seed: 1 | 2") && error.contains("hint: --force"), "{error}");
        let forced = Work::open(&out, &seeded(2), true).unwrap();
        assert!(forced.fresh && !forced.has(0));
        forced.write(0, b"a\n", &1).unwrap();
        forced.write(2, b"b\n", &2).unwrap();
        assert_eq!(forced.read_counts::<u32>(2).unwrap(), 2);
        forced.finish(|work| work.join([0, 2], &out)).unwrap();
        assert_eq!(fs::read(&out).unwrap(), b"a\nb\n");
        assert!(!folder_of(&out).exists());
        assert!(refuse_finished(&[&out], false).is_err() && refuse_finished(&[&out], true).is_ok());
    }

    #[test]
    fn what_fails_while_it_is_prepared_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let work = Work::open(&folder.path().join("m.jsonl"), &seeded(1), false).unwrap();
        assert!(work.prepared(Ok(())).is_ok() && work.folder.exists());
        assert!(work.prepared::<()>(Err(anyhow::anyhow!("bad"))).is_err());
        assert!(!work.folder.exists());
        let work = Work::open(&folder.path().join("m.jsonl"), &seeded(1), false).unwrap();
        work.write(3, b"a\n", &0).unwrap();
        assert!(work.prepared::<()>(Err(anyhow::anyhow!("a full disk"))).is_err() && work.has(3));
    }
}
