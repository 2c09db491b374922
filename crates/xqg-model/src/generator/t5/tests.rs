//! T5 and mT5 against transformers (`tests/golden/make_t5.py`): prompts that went through it in one
//! padded batch give the same scores and texts here, where nothing is padded.

use serde::Deserialize;
use xqg_data::lang::Lang;
use xqg_data::passage::Passage;
use xqg_kernel::isa::Isa;

use super::T5;
use crate::error::ModelError;
use crate::generator::core::Reader as _;
use crate::generator::decoder::Scratch;
use crate::generator::tests::{check_independence, forced, golden_folder, lang};
use crate::generator::{Decoding, Generator, GeneratorOptions, Method};
use crate::linear::{Precision, Rows};

const FAMILIES: [&str; 2] = ["generator-mt5", "generator-t5"];

#[derive(Deserialize)]
struct Golden {
    max_tokens: usize,
    most_tokens: usize,
    rows: Vec<Row>,
    forced: Vec<Forced>,
}

#[derive(Deserialize)]
struct Row {
    docid: String,
    title: String,
    text: String,
    lang: Lang,
    ids: Vec<u32>,
    truncated: bool,
    greedy: Vec<Text>,
    beam: Vec<Text>,
}

#[derive(Deserialize)]
struct Text {
    text: String,
    logprob: f32,
}

#[derive(Deserialize)]
struct Forced {
    row: usize,
    target: Vec<u32>,
    scores: Vec<Vec<f32>>,
}

fn golden(family: &str) -> Golden {
    let bytes = std::fs::read(golden_folder(family).join("golden.json")).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn options(isa: Isa, precision: Precision, golden: &Golden) -> GeneratorOptions {
    GeneratorOptions {
        isa: Some(isa),
        precision,
        passage_max_tokens: Some(golden.most_tokens),
        ..GeneratorOptions::default()
    }
}

fn open(family: &str, isa: Isa, precision: Precision) -> Generator {
    let options = options(isa, precision, &golden(family));
    Generator::open(&golden_folder(family), &options).unwrap()
}

fn passage(row: &Row) -> Passage {
    Passage { docid: row.docid.clone(), title: row.title.clone(), text: row.text.clone() }
}

fn passages(golden: &Golden) -> Vec<Passage> {
    golden.rows.iter().step_by(3).map(passage).collect()
}

fn langs() -> Vec<Lang> {
    ["ar", "fi", "te"].map(lang).to_vec()
}

#[test]
fn prompts_and_scores_are_those_of_transformers() {
    for family in FAMILIES {
        let golden = golden(family);
        for isa in Isa::available() {
            let options = options(isa, Precision::F32, &golden);
            let t5 = T5::open(&golden_folder(family), &options).unwrap();
            for case in &golden.forced {
                let row = &golden.rows[case.row];
                let spoken = t5.spoken(&[row.lang], false);
                let reading = t5.read(0, &passage(row), &spoken, 1).unwrap();
                assert_eq!((reading.count, reading.truncated), (row.ids.len(), row.truncated));
                let states = Rows { data: &reading.states, stride: reading.stride };
                let mut scratch = Scratch::default();
                let memory = t5.core.decoder.remember(states, reading.count, &mut scratch);
                let found = forced(&t5.core, &memory, spoken[0].start, &case.target);
                for (ours, theirs) in found.concat().iter().zip(case.scores.concat()) {
                    let near = 1e-4 * theirs.abs().max(1.0);
                    assert!((ours - theirs).abs() < near, "{family} {isa:?}: {ours} for {theirs}");
                }
            }
        }
    }
}

#[test]
fn likelihoods_are_the_means_of_transformers_scores() {
    for family in FAMILIES {
        let golden = golden(family);
        for isa in Isa::available() {
            let options = options(isa, Precision::F32, &golden);
            let t5 = T5::open(&golden_folder(family), &options).unwrap();
            for case in golden.forced.iter().filter(|case| case.target.last() == Some(&t5.core.end))
            {
                let logs = case.target.iter().zip(&case.scores).map(|(&token, scores)| {
                    let total: f64 = scores.iter().map(|&s| f64::from(s).exp()).sum();
                    f64::from(scores[token as usize]) - total.ln()
                });
                let theirs = logs.sum::<f64>() / case.target.len() as f64;
                let row = &golden.rows[case.row];
                let (passages, spoken) =
                    ([passage(row), passage(row)], t5.spoken(&[row.lang], false)[0]);
                let tokens = case.target[..case.target.len() - 1].to_vec();
                let found = t5.core.likelihoods(&t5, &passages, spoken, tokens).unwrap();
                assert_eq!((found.values.len(), found.cut), (2, false));
                for ours in found.values {
                    assert!(
                        (f64::from(ours) - theirs).abs() < 1e-4,
                        "{family} {isa:?}: {ours} {theirs}"
                    );
                }
            }
        }
    }
}

#[test]
fn greedy_and_beam_search_write_what_transformers_does() {
    for family in FAMILIES {
        let golden = golden(family);
        for isa in Isa::available() {
            let generator = open(family, isa, Precision::F32);
            for (method, n) in [(Method::Greedy, 1), (Method::Beam { width: 4 }, 3)] {
                let max_tokens = golden.max_tokens;
                let how = Decoding { n, method, max_tokens, seed: 0, shortlist: false };
                let written = generator.write(&passages(&golden), &langs(), &how).unwrap();
                let ours = written.iter().flat_map(|w| &w.questions);
                let theirs =
                    golden.rows.iter().flat_map(|r| if n == 1 { &r.greedy } else { &r.beam });
                for (ours, theirs) in ours.zip(theirs) {
                    assert_eq!(ours.text, theirs.text, "{family} {isa:?} {method:?}");
                    assert!((ours.logprob - theirs.logprob).abs() < 1e-3, "{ours:?}");
                }
                let count = written.iter().map(|w| w.questions.len()).sum::<usize>();
                assert_eq!(count, golden.rows.len() * n);
                let cut: Vec<bool> = written.iter().map(|w| w.truncated).collect();
                assert_eq!(cut, [false, false, true, false]);
            }
        }
    }
}

#[test]
fn a_question_depends_on_nothing_beside_it() {
    for family in FAMILIES {
        for precision in [Precision::F32, Precision::Int8] {
            check_independence(&open(family, Isa::detect(), precision), &langs());
        }
    }
}

#[test]
fn a_shortlist_changes_no_text_that_is_inside_it() {
    for precision in [Precision::F32, Precision::Int8] {
        let (mut same, mut inside) = (0, 0);
        for family in FAMILIES {
            let generator = open(family, Isa::detect(), precision);
            let passages: Vec<Passage> = (0..40)
                .map(|i| Passage {
                    docid: format!("d{i}"),
                    title: String::new(),
                    text: "the old mill ".repeat(1 + i % 7) + &"bridge ".repeat(i),
                })
                .collect();
            let how =
                Decoding { n: 1, method: Method::Greedy, max_tokens: 4, seed: 0, shortlist: false };
            let langs = ["fi", "ru", "ja"].map(lang);
            let write = |shortlist| {
                generator.write(&passages, &langs, &Decoding { shortlist, ..how }).unwrap()
            };
            let (whole, listed) = (write(false), write(true));
            let pairs =
                whole.iter().zip(&listed).flat_map(|(a, b)| a.questions.iter().zip(&b.questions));
            for (whole, listed) in pairs {
                let scripts = crate::scripts::scripts(whole.lang.code()).unwrap();
                let fits = |text: &str| text.chars().all(|c| crate::scripts::is_in(c, scripts));
                let short = |c: char| c.is_ascii_alphabetic();
                assert!(
                    listed.text.chars().all(|c| short(c) || fits(&c.to_string())),
                    "{listed:?}"
                );
                if whole.tokens > 0 && fits(&whole.text) && !whole.cut {
                    inside += 1;
                    same += usize::from(whole.text == listed.text);
                    assert!(listed.logprob >= whole.logprob - 1e-4);
                }
            }
        }
        assert!(inside > 0 && same == inside, "{same} of {inside}");
    }
}

#[test]
fn laid_out_weights_write_the_same() {
    for family in FAMILIES {
        let golden = golden(family);
        for precision in [Precision::F32, Precision::Int8] {
            let folder = tempfile::tempdir().unwrap();
            for entry in std::fs::read_dir(golden_folder(family)).unwrap() {
                let path = entry.unwrap().path();
                std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
            }
            let isa = Isa::detect();
            let options =
                GeneratorOptions { keep_packed: true, ..options(isa, precision, &golden) };
            let how = Decoding { max_tokens: 6, n: 2, ..Decoding::default() };
            let write = |options: &GeneratorOptions| {
                let generator = Generator::open(folder.path(), options).unwrap();
                generator.write(&passages(&golden), &langs(), &how).unwrap()
            };
            let plain = write(&GeneratorOptions { keep_packed: false, ..options.clone() });
            assert_eq!(write(&options), plain, "the first time");
            let name = format!("generator-{}-{}.safetensors", precision.name(), isa.name());
            let kept = folder.path().join(".xqg").join(name);
            assert!(kept.exists());
            let written = std::fs::metadata(&kept).unwrap().modified().unwrap();
            assert_eq!(write(&options), plain, "from what was laid out");
            assert_eq!(std::fs::metadata(&kept).unwrap().modified().unwrap(), written);
            let bytes = std::fs::read(&kept).unwrap();
            std::fs::write(&kept, &bytes[..bytes.len() / 2]).unwrap();
            assert_eq!(write(&options), plain, "and from the model's own where that is damaged");
        }
    }
}

#[test]
fn what_does_not_fit_is_refused_in_words() {
    let from = golden_folder("generator-mt5");
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors", "spiece.model"] {
        std::fs::copy(from.join(name), folder.path().join(name)).unwrap();
    }
    let path = folder.path().join("config.json");
    let sound = std::fs::read_to_string(&path).unwrap();
    let refused = |options: &GeneratorOptions| {
        Generator::open(folder.path(), options).unwrap_err().to_string()
    };
    for (from, to, said) in [
        ("\"d_model\": 32", "\"d_model\": 16", "expected"),
        ("\"num_layers\": 2", "\"num_layers\": 3", "encoder.block.2"),
        ("gated-gelu", "gated-silu", "feed_forward_proj relu or gated-gelu"),
    ] {
        assert!(sound.contains(from), "{from}");
        std::fs::write(&path, sound.replace(from, to)).unwrap();
        let error = refused(&GeneratorOptions::default());
        assert!(error.contains(said), "{error}");
    }
    std::fs::write(&path, &sound).unwrap();
    let long = GeneratorOptions { passage_max_tokens: Some(1 << 20), ..Default::default() };
    assert!(refused(&long).contains("at most 8192 tokens"));
    std::fs::remove_file(folder.path().join("spiece.model")).unwrap();
    assert!(refused(&GeneratorOptions::default()).contains("tokenizer.json"));

    let generator = open("generator-t5", Isa::detect(), Precision::F32);
    assert!(generator.languages().is_none());
    let golden = golden("generator-t5");
    let how = Decoding { max_tokens: 4, ..Decoding::default() };
    let error: ModelError =
        generator.encode_and_write(&passages(&golden), &langs(), &how).unwrap_err();
    assert!(error.to_string().contains("a shared-encoder generator, found a T5"), "{error}");
    let nothing = [Passage { docid: "e".into(), title: String::new(), text: String::new() }];
    let written = generator.write(&nothing, &langs(), &how).unwrap();
    assert_eq!(written[0].questions.len(), 15, "a blank passage leaves the prompt");
}
