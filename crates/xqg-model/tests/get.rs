//! Fetching a model from a hub on this machine: whole, damaged, cut and continued, and offline.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod hub;

use std::path::{Path, PathBuf};
use std::time::Duration;

use hub::{COMMIT, Hub, Model};
use xqg_model::get::{GetError, GetOptions, HubSettings, Progress, Source, get};

const ID: &str = "someone/tiny-model";
const WEIGHTS: &str = "model.safetensors";

/// A model with files that are wanted and files that are not.
fn model() -> Model {
    let modules = r#"[{"path":"","type":"t.Transformer"},{"path":"1_Pooling","type":"t.Pooling"}]"#;
    let files = [
        ("README.md", b"a readme".to_vec()),
        ("config.json", b"{}".to_vec()),
        ("tokenizer.json", b"{\"version\": \"1.0\"}".to_vec()),
        ("modules.json", modules.as_bytes().to_vec()),
        ("1_Pooling/config.json", b"{\"pooling_mode_mean_tokens\": true}".to_vec()),
        (WEIGHTS, (0..200_000u32).flat_map(u32::to_le_bytes).collect()),
        ("pytorch_model.bin", vec![1; 1000]),
        ("onnx/model.onnx", vec![2; 1000]),
    ];
    let files = files.into_iter().map(|(name, contents)| (name.to_string(), contents)).collect();
    Model { files, ..Model::default() }
}

/// Options that reach that hub and keep their cache in `folder`.
fn options(hub: &Hub, folder: &Path) -> GetOptions {
    let mut settings = HubSettings::new(folder.join("cache"));
    settings.endpoint = Some(hub.endpoint.clone());
    settings.connect_timeout = Duration::from_secs(2);
    settings.retries = 0;
    GetOptions::new(ID, settings)
}

fn quietly(options: &GetOptions) -> Result<PathBuf, GetError> {
    get(options, &mut |_| ())
}

/// How many of the hub's requests so far were for that file.
fn asked(hub: &Hub, name: &str) -> usize {
    hub.requests().iter().filter(|path| path.ends_with(name)).count()
}

fn blob(folder: &Path, name: &str) -> PathBuf {
    let hash = hub::hash(name, &model().files[name]);
    folder.join("cache/models--someone--tiny-model/blobs").join(hash)
}

#[test]
fn a_model_comes_into_the_hubs_cache_in_the_hubs_layout() {
    let (hub, folder) = (Hub::start(model()), tempfile::tempdir().unwrap());
    let mut last = (0, 0);
    let found = get(&options(&hub, folder.path()), &mut |progress| {
        if let Progress::File { name: WEIGHTS, done, total } = progress {
            last = (done, total);
        }
    });
    let root = folder.path().join("cache/models--someone--tiny-model");
    let found = found.unwrap();
    assert_eq!(found, root.join("snapshots").join(COMMIT));
    assert_eq!(std::fs::read(found.join(WEIGHTS)).unwrap(), model().files[WEIGHTS]);
    assert!(found.join("1_Pooling/config.json").is_file());
    assert!(!found.join("onnx").exists() && !found.join("pytorch_model.bin").exists());
    assert_eq!(std::fs::read_to_string(root.join("refs/main")).unwrap(), COMMIT);
    assert_eq!(std::fs::read_dir(root.join("refs")).unwrap().count(), 1);
    assert!(blob(folder.path(), WEIGHTS).is_file());
    assert_eq!(last, (800_000, 800_000));
}

#[test]
fn a_cached_model_is_not_asked_for_again() {
    let (hub, folder) = (Hub::start(model()), tempfile::tempdir().unwrap());
    let options = options(&hub, folder.path());
    let first = quietly(&options).unwrap();
    let requests = hub.requests().len();
    assert_eq!(quietly(&options).unwrap(), first);
    assert_eq!(hub.requests().len(), requests);
}

#[test]
fn with_a_target_a_plain_folder_is_written() {
    let (hub, folder) = (Hub::start(model()), tempfile::tempdir().unwrap());
    let target = folder.path().join("here");
    let options = GetOptions { to: Some(target.clone()), ..options(&hub, folder.path()) };
    assert_eq!(quietly(&options).unwrap(), target);
    assert!(std::fs::symlink_metadata(target.join(WEIGHTS)).unwrap().is_file());
    assert_eq!(std::fs::read(target.join("config.json")).unwrap(), b"{}");
    let requests = hub.requests().len();
    assert!(matches!(quietly(&options), Err(GetError::NotEmpty { .. })));
    assert_eq!(hub.requests().len(), requests);
}

#[test]
fn a_damaged_file_is_deleted_and_told() {
    for terse in [false, true] {
        let falsified = Some(WEIGHTS.to_string());
        let hub = Hub::start(Model { falsified, terse, ..model() });
        let folder = tempfile::tempdir().unwrap();
        let options = options(&hub, folder.path());
        let error = quietly(&options).err().unwrap();
        assert!(matches!(&error, GetError::Damaged { file, .. } if file == WEIGHTS), "{error}");
        assert!(!blob(folder.path(), WEIGHTS).exists());
        hub.change(|model| model.falsified = None);
        let found = quietly(&options).unwrap();
        assert_eq!(std::fs::read(found.join(WEIGHTS)).unwrap(), model().files[WEIGHTS]);
    }
}

#[test]
fn a_cut_download_is_continued_by_the_next_run() {
    let cut = Some((WEIGHTS.to_string(), 1));
    let (hub, folder) = (Hub::start(Model { cut, ..model() }), tempfile::tempdir().unwrap());
    let options = options(&hub, folder.path());
    assert!(matches!(quietly(&options), Err(GetError::Download { file, .. }) if file == WEIGHTS));
    let part = blob(folder.path(), WEIGHTS).with_extension("part");
    assert_eq!(std::fs::metadata(part).unwrap().len(), 400_000);
    let mut first = None;
    let found = get(&options, &mut |progress| {
        if let Progress::File { name: WEIGHTS, done, .. } = progress {
            first = first.or(Some(done).filter(|done| *done > 0));
        }
    });
    assert_eq!(std::fs::read(found.unwrap().join(WEIGHTS)).unwrap(), model().files[WEIGHTS]);
    assert_eq!(first, Some(400_000));
}

#[test]
fn a_cut_download_is_continued_in_the_same_run_if_retries_are_left() {
    let cut = Some((WEIGHTS.to_string(), 2));
    let (hub, folder) = (Hub::start(Model { cut, ..model() }), tempfile::tempdir().unwrap());
    let mut options = options(&hub, folder.path());
    options.hub.retries = 2;
    let found = quietly(&options).unwrap();
    assert_eq!(std::fs::read(found.join(WEIGHTS)).unwrap(), model().files[WEIGHTS]);
}

#[test]
fn a_run_that_ended_just_before_the_renaming_does_no_harm() {
    let (hub, folder) = (Hub::start(model()), tempfile::tempdir().unwrap());
    let blob = blob(folder.path(), WEIGHTS);
    std::fs::create_dir_all(blob.parent().unwrap()).unwrap();
    for length in [800_000, 900_000] {
        std::fs::write(blob.with_extension("part"), vec![7; length]).unwrap();
        let found = quietly(&options(&hub, folder.path())).unwrap();
        assert_eq!(std::fs::read(found.join(WEIGHTS)).unwrap(), model().files[WEIGHTS]);
        std::fs::remove_dir_all(found).unwrap();
        std::fs::remove_file(&blob).unwrap();
    }
}

#[test]
fn force_finds_a_cached_file_that_has_changed() {
    let (hub, folder) = (Hub::start(model()), tempfile::tempdir().unwrap());
    let mut options = options(&hub, folder.path());
    quietly(&options).unwrap();
    let blob = blob(folder.path(), WEIGHTS);
    std::fs::write(&blob, vec![0; 800_000]).unwrap();
    let before = asked(&hub, WEIGHTS);
    options.force = true;
    quietly(&options).unwrap();
    assert_eq!(std::fs::read(&blob).unwrap(), model().files[WEIGHTS]);
    assert!(asked(&hub, WEIGHTS) > before);
    assert_eq!(asked(&hub, "config.json"), asked(&hub, "1_Pooling/config.json") * 2);
}

#[test]
fn a_blob_of_another_commit_is_used_again() {
    let (hub, folder) = (Hub::start(model()), tempfile::tempdir().unwrap());
    let options = options(&hub, folder.path());
    let snapshot = quietly(&options).unwrap();
    std::fs::remove_dir_all(&snapshot).unwrap();
    let before = asked(&hub, WEIGHTS);
    assert_eq!(quietly(&options).unwrap(), snapshot);
    assert_eq!(asked(&hub, WEIGHTS), before);
    assert_eq!(std::fs::read(snapshot.join(WEIGHTS)).unwrap(), model().files[WEIGHTS]);
}

#[test]
fn refusals_of_the_hub_are_told_apart() {
    let (hub, folder) = (Hub::start(model()), tempfile::tempdir().unwrap());
    let options = options(&hub, folder.path());
    let refused = |status| {
        hub.change(|model| model.refused = Some(status));
        quietly(&options).err().unwrap()
    };
    assert!(matches!(refused(401), GetError::Refused { status: 401, .. }));
    assert!(matches!(refused(404), GetError::NotFound { .. }));
    assert!(matches!(refused(503), GetError::Unreachable { .. }));
    hub.change(|model| {
        model.refused = None;
        model.files.retain(|name, _| !name.starts_with(WEIGHTS) && !name.ends_with(".bin"));
    });
    assert!(matches!(quietly(&options), Err(GetError::Lacks { .. })));
}

#[test]
fn offline_the_cache_is_used_and_the_network_is_not() {
    let (hub, folder) = (Hub::start(model()), tempfile::tempdir().unwrap());
    let online = options(&hub, folder.path());
    let mut offline = online.clone();
    offline.hub.offline = true;
    let error = quietly(&offline).err().unwrap();
    assert!(matches!(error, GetError::NotCached { .. }) && error.to_string().contains("hint:"));
    assert!(hub.requests().is_empty());
    let found = quietly(&online).unwrap();
    let requests = hub.requests().len();
    for source in [Source::Auto, Source::Hub] {
        assert_eq!(quietly(&GetOptions { source, ..offline.clone() }).unwrap(), found);
    }
    assert_eq!(hub.requests().len(), requests);
}

/// Options for the model that pip has, with a hub that nobody listens at and a Python that is
/// not there.
fn e5_without_network(folder: &Path, offline: bool) -> GetOptions {
    let mut settings = HubSettings::new(folder.join("cache"));
    settings.endpoint = Some("http://127.0.0.1:9".to_string());
    settings.offline = offline;
    let options = GetOptions::new("multilingual-e5-small", settings);
    GetOptions { python: folder.join("no-python"), ..options }
}

#[test]
fn without_a_hub_e5_small_is_tried_with_pip_and_that_is_said() {
    for offline in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let mut notes = Vec::new();
        let options = e5_without_network(folder.path(), offline);
        let tried = get(&options, &mut |progress| {
            if let Progress::Note(note) = progress {
                notes.push(note.to_string());
            }
        });
        assert!(matches!(tried, Err(GetError::NoPython { .. })));
        assert!(notes[0].contains("4 bits"), "{notes:?}");
        let from_hub = GetOptions { source: Source::Hub, ..options };
        let error = quietly(&from_hub).err().unwrap();
        assert!(matches!(error, GetError::Unreachable { .. } | GetError::NotCached { .. }));
    }
}

#[test]
fn only_e5_small_comes_with_pip() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = e5_without_network(folder.path(), true);
    options.source = Source::Pip;
    options.revision = Some("v2".to_string());
    assert!(matches!(quietly(&options), Err(GetError::NotInPip { .. })));
    options.revision = None;
    options.name = "LaBSE".to_string();
    assert!(matches!(quietly(&options), Err(GetError::NotInPip { .. })));
}

#[test]
fn a_folder_is_its_own_model() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), "{}").unwrap();
    let name = folder.path().to_str().unwrap();
    let options = GetOptions::new(name, HubSettings::new(folder.path().join("cache")));
    assert_eq!(quietly(&options).unwrap(), folder.path());
}
