//! The state of a run on disk: parameters, moments, step and best value so far, in one folder that
//! is replaced as a whole. A run that was killed goes on from it and ends with the same bits.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use xqg_data::error::DataError;
use xqg_data::file::{partial_path, remove, replace_folder, write_whole};
use xqg_model::checkpoint::Checkpoint;

use crate::config::TrainConfig;
use crate::error::TrainError;
use crate::optimiser::{Moments, Optimiser};
use crate::parameters::{Kind, Parameters, write_tensors};
use crate::towers::Towers;

/// How far a run is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Steps done.
    pub step: u64,
    /// The best value of the validation measure, and after which step.
    pub best: Option<(f64, u64)>,
    /// That measure's name.
    #[serde(default)]
    pub measure: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct StateFile<C> {
    format: String,
    progress: Progress,
    /// A hash of the files that are learned from: other data is another run.
    data: String,
    config: C,
}

const FORMAT: &str = "xqg-train-state-2";

/// Where the state of a run lies.
pub fn state_folder(out: &Path) -> PathBuf {
    out.join("state")
}

/// A hash of files, one after the other: what a run learns from.
///
/// # Errors
/// When one cannot be read.
pub fn hash_files<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> Result<String, DataError> {
    let mut hasher = blake3::Hasher::new();
    for path in paths {
        let mut file = fs::File::open(path).map_err(DataError::io("reading", path))?;
        let length =
            std::io::copy(&mut file, &mut hasher).map_err(DataError::io("reading", path))?;
        hasher.update(&length.to_le_bytes());
    }
    Ok(hasher.finalize().to_hex()[..32].to_owned())
}

/// Saves a run; what was saved before is replaced when all is written.
///
/// # Errors
/// When the disk refuses; what was saved before is then untouched.
pub fn save(
    config: &TrainConfig,
    data: &str,
    towers: &Towers,
    progress: &Progress,
) -> Result<(), TrainError> {
    let networks: Vec<_> =
        towers.all.iter().map(|t| (&t.encoder.parameters, &t.optimiser)).collect();
    let same = TrainConfig { out: PathBuf::new(), ..config.clone() };
    save_run(&config.out, (&same, data), &networks, progress)
}

/// Saves networks and their optimisers with the settings of their run and the hash of its data.
///
/// # Errors
/// As [`save`].
pub fn save_run<C: Serialize>(
    out: &Path,
    (config, data): (&C, &str),
    networks: &[(&Parameters, &Optimiser)],
    progress: &Progress,
) -> Result<(), TrainError> {
    let folder = state_folder(out);
    let partial = partial_path(&folder);
    remove(&partial)?;
    fs::create_dir_all(&partial).map_err(DataError::io("creating", &partial))?;
    for (i, (parameters, optimiser)) in networks.iter().enumerate() {
        parameters.write(&partial.join(format!("parameters-{i}.safetensors")), &[])?;
        let path = partial.join(format!("moments-{i}.safetensors"));
        save_moments(&path, parameters, optimiser)?;
    }
    let (format, data) = (FORMAT.into(), data.to_owned());
    let state = StateFile { format, progress: progress.clone(), data, config };
    let text = serde_json::to_vec_pretty(&state).expect("a state is JSON");
    write_whole(&partial.join("state.json"), &text)?;
    Ok(replace_folder(&partial, &folder)?)
}

fn save_moments(
    path: &Path,
    parameters: &Parameters,
    optimiser: &Optimiser,
) -> Result<(), TrainError> {
    let rows: Vec<Vec<f32>> = optimiser.moments.iter().map(row_numbers).collect();
    let mut names = Vec::new();
    for parameter in &parameters.0 {
        names.push(["first", "second", "rows"].map(|part| format!("{part}.{}", parameter.name)));
    }
    let mut tensors: Vec<(&str, Vec<usize>, &[f32])> = Vec::new();
    for ((names, moments), rows) in names.iter().zip(&optimiser.moments).zip(&rows) {
        let [first, second, numbers] = names;
        tensors.push((first, vec![moments.first.len()], &moments.first));
        tensors.push((second, vec![moments.second.len()], &moments.second));
        tensors.push((numbers, vec![rows.len()], rows));
    }
    let tensors: Vec<(&str, &[usize], &[f32])> =
        tensors.iter().map(|(name, shape, values)| (*name, shape.as_slice(), *values)).collect();
    write_tensors(path, &tensors, &[("steps", optimiser.steps.to_string())])
}

/// The rows of a table that have moments, in their order. Row numbers are below 2²⁴, so they are
/// exact in single precision.
fn row_numbers(moments: &Moments) -> Vec<f32> {
    let mut rows = vec![0.0; moments.places.len()];
    moments.places.iter().for_each(|(&row, &place)| rows[place] = row as f32);
    rows
}

/// Loads a saved run into towers of the same configuration; `None` where nothing was saved.
///
/// # Errors
/// When another run lies there, or its files are damaged.
pub fn load(
    config: &TrainConfig,
    data: &str,
    towers: &mut Towers,
) -> Result<Option<Progress>, TrainError> {
    let same = TrainConfig { out: PathBuf::new(), ..config.clone() };
    let mut networks: Vec<_> =
        towers.all.iter_mut().map(|t| (&mut t.encoder.parameters, &mut t.optimiser)).collect();
    load_run(&config.out, (&same, data), &mut networks)
}

/// Loads networks and optimisers of a run with these settings and data; `None` where nothing was
/// saved.
///
/// # Errors
/// As [`load`].
pub fn load_run<C: DeserializeOwned + PartialEq>(
    out: &Path,
    (config, data): (&C, &str),
    networks: &mut [(&mut Parameters, &mut Optimiser)],
) -> Result<Option<Progress>, TrainError> {
    let folder = state_folder(out);
    recover(&folder)?;
    let path = folder.join("state.json");
    if !path.exists() {
        return Ok(None);
    }
    let bytes = fs::read(&path).map_err(DataError::io("reading", &path))?;
    let found: StateFile<C> = serde_json::from_slice(&bytes).map_err(|e| unexpected(&path, e))?;
    if found.config != *config || found.data != data || found.format != FORMAT {
        return Err(TrainError::Unexpected {
            path,
            expected: "the state of this configuration and these files of rows".into(),
            found: "that of another run".into(),
            hint: "give back the old settings and files to go on, name another `out`, or use --force to begin anew",
        });
    }
    for (i, (parameters, optimiser)) in networks.iter_mut().enumerate() {
        let from = Checkpoint::open_file(&folder.join(format!("parameters-{i}.safetensors")))?;
        load_parameters(&from, parameters)?;
        let moments = Checkpoint::open_file(&folder.join(format!("moments-{i}.safetensors")))?;
        load_moments(&moments, parameters, optimiser)?;
        optimiser.steps = found.progress.step;
    }
    Ok(Some(found.progress))
}

/// A kill between the two renames of a save leaves the old state beside its place.
fn recover(folder: &Path) -> Result<(), TrainError> {
    let mut old = folder.as_os_str().to_owned();
    old.push(".old");
    let old = partial_path(Path::new(&old));
    if !folder.exists() && old.exists() {
        fs::rename(&old, folder).map_err(DataError::io("renaming", &old))?;
    }
    Ok(())
}

fn unexpected(path: &Path, error: serde_json::Error) -> TrainError {
    TrainError::Unexpected {
        path: path.to_path_buf(),
        expected: "the state of a training run".into(),
        found: error.to_string(),
        hint: "--force begins anew",
    }
}

fn load_parameters(from: &Checkpoint, to: &mut Parameters) -> Result<(), TrainError> {
    for parameter in &mut to.0 {
        parameter.values = from.tensor(&parameter.name, &parameter.shape)?;
    }
    Ok(())
}

fn load_moments(
    from: &Checkpoint,
    parameters: &Parameters,
    optimiser: &mut Optimiser,
) -> Result<(), TrainError> {
    for (parameter, moments) in parameters.0.iter().zip(&mut optimiser.moments) {
        let read = |part: &str| {
            let name = format!("{part}.{}", parameter.name);
            let shape = from.shape(&name).unwrap_or_default().to_vec();
            from.tensor(&name, &shape)
        };
        let (first, second, rows) = (read("first")?, read("second")?, read("rows")?);
        let places: BTreeMap<u32, usize> =
            rows.iter().enumerate().map(|(place, &row)| (row as u32, place)).collect();
        let width = parameter.shape.last().copied().unwrap_or(1);
        let size = match parameter.kind {
            Kind::Table => rows.len() * width,
            Kind::Frozen => 0,
            Kind::Weight | Kind::Plain => parameter.values.len(),
        };
        let height = parameter.shape.first().copied().unwrap_or_default();
        let inside = places.last_key_value().is_none_or(|(&row, _)| (row as usize) < height);
        if first.len() != size || second.len() != size || places.len() != rows.len() || !inside {
            return Err(TrainError::Unexpected {
                path: from.files().first().cloned().unwrap_or_default(),
                expected: format!("{size} moments of {}", parameter.name),
                found: format!("{}", first.len()),
                hint: "the file is damaged; --force begins anew",
            });
        }
        *moments = Moments { places, first, second };
    }
    Ok(())
}
