//! A `tokenizer.json` as a unigram tokenizer, where it is one of the shapes that are published for
//! XLM-R, multilingual E5, BGE-M3 and mT5. What is not exactly known here is left to the
//! tokenizers crate: `None` says so.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;

use super::charsmap::{Charsmap, parts};
use super::normalize::{CharRules, kept_ascii, normalize};
use super::settings::{Added, Prepend, Settings, Split, Step, Words};
use super::tables::Source;

/// How much lower than the lowest piece an unknown character scores (SentencePiece's constant).
pub const UNKNOWN_PENALTY: f64 = 10.0;

#[derive(Deserialize)]
struct File {
    version: String,
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    normalizer: Option<Value>,
    pre_tokenizer: Option<Value>,
    post_processor: Option<Value>,
    model: Model,
}

#[derive(Deserialize)]
struct Model {
    #[serde(rename = "type")]
    kind: String,
    unk_id: Option<u32>,
    vocab: Vec<(String, f64)>,
    #[serde(default)]
    byte_fallback: bool,
}

#[derive(Deserialize)]
struct AddedToken {
    id: u32,
    content: String,
    single_word: bool,
    lstrip: bool,
    rstrip: bool,
    normalized: bool,
}

/// The parts of a `tokenizer.json`, if all of them are known here.
pub fn read(bytes: &[u8]) -> Option<Source> {
    let file: File = serde_json::from_slice(bytes).ok()?;
    let model = file.model;
    let unknown = model.unk_id.filter(|&id| (id as usize) < model.vocab.len())?;
    if file.version != "1.0" || model.kind != "Unigram" {
        return None;
    }
    let (steps, charsmap) = steps(file.normalizer.as_ref())?;
    let split = split(file.pre_tokenizer.as_ref()?)?;
    let (front, back) = frame(file.post_processor.as_ref())?;
    let (rules, replacements) = parts(&charsmap)?;
    let map = Charsmap::new(&rules, replacements);
    let found = added(&file.added_tokens, &model, CharRules::new(map, &kept_ascii(map)), &steps)?;
    if !is_first_known(&split, &steps, &found) {
        return None;
    }
    let lowest = model.vocab.iter().map(|(_, score)| *score).fold(f64::INFINITY, f64::min);
    let settings = Settings {
        words: Words::Json { steps, split },
        added: found.raw,
        added_normalized: found.normalized,
        front,
        back,
        unknown,
        unknown_score: lowest - UNKNOWN_PENALTY,
        bytes: if model.byte_fallback { byte_ids(&model.vocab)? } else { Vec::new() },
    };
    Some(Source { pieces: model.vocab, charsmap, settings })
}

/// Added tokens by the text that they are looked for in.
#[derive(Default)]
struct Found {
    raw: Vec<Added>,
    normalized: Vec<Added>,
}

/// Whether it is plain what "the first word" is: the crate asks for a word's place in the text as
/// it was before normalising, which is not kept here.
fn is_first_known(split: &Split, steps: &[Step], found: &Found) -> bool {
    let trimmed = steps.iter().any(|step| matches!(step, Step::Strip { left: true, .. }));
    let moved = split.whitespace || trimmed || !found.normalized.is_empty();
    split.prepend != Prepend::First || !moved
}

/// The normalizer's steps and the charsmap among them.
fn steps(normalizer: Option<&Value>) -> Option<(Vec<Step>, Vec<u8>)> {
    let mut steps = Vec::new();
    let mut charsmap = Vec::new();
    if let Some(normalizer) = normalizer {
        push_step(normalizer, &mut steps, &mut charsmap)?;
    }
    Some((steps, charsmap))
}

fn push_step(step: &Value, steps: &mut Vec<Step>, charsmap: &mut Vec<u8>) -> Option<()> {
    match step["type"].as_str()? {
        "Sequence" => {
            let inner = step["normalizers"].as_array()?;
            return inner.iter().try_for_each(|step| push_step(step, steps, charsmap));
        }
        "Precompiled" if charsmap.is_empty() => {
            *charsmap = STANDARD.decode(step["precompiled_charsmap"].as_str()?).ok()?;
            steps.push(Step::Charsmap);
        }
        "Strip" => {
            let [left, right] = ["strip_left", "strip_right"].map(|side| step[side].as_bool());
            steps.push(Step::Strip { left: left?, right: right? });
        }
        "Replace" => {
            let content = step["content"].as_str()?.to_owned();
            steps.push(replace(step["pattern"].as_object()?, content)?);
        }
        _ => return None,
    }
    Some(())
}

fn replace(pattern: &serde_json::Map<String, Value>, content: String) -> Option<Step> {
    match pattern.iter().next()? {
        (kind, Value::String(text)) if kind == "String" && !text.is_empty() => {
            Some(Step::Replace { pattern: text.clone(), content })
        }
        (kind, Value::String(text)) if kind == "Regex" && text == " {2,}" => {
            Some(Step::Spaces { content })
        }
        _ => None,
    }
}

/// The pre-tokenizer: Metaspace, or WhitespaceSplit and then Metaspace.
fn split(pre_tokenizer: &Value) -> Option<Split> {
    let inner = match pre_tokenizer["type"].as_str()? {
        "Sequence" => pre_tokenizer["pretokenizers"].as_array()?.as_slice(),
        _ => std::slice::from_ref(pre_tokenizer),
    };
    match inner {
        [metaspace] => read_metaspace(metaspace, false),
        [space, metaspace] if space["type"] == "WhitespaceSplit" => read_metaspace(metaspace, true),
        _ => None,
    }
}

fn read_metaspace(step: &Value, whitespace: bool) -> Option<Split> {
    let prepend = match step.get("prepend_scheme").map(Value::as_str) {
        None | Some(Some("always")) => Prepend::Always,
        Some(Some("first")) => Prepend::First,
        Some(Some("never")) => Prepend::Never,
        _ => return None,
    };
    let no_prefix = step.get("add_prefix_space").is_some_and(|said| said == false);
    if step["type"] != "Metaspace" || (no_prefix && prepend != Prepend::Never) {
        return None;
    }
    let marker = step["replacement"].as_str()?.to_owned();
    let split = step.get("split").map_or(Some(true), Value::as_bool)?;
    (!marker.is_empty()).then_some(Split { whitespace, marker, prepend, split })
}

/// The ids before and after a text.
fn frame(post_processor: Option<&Value>) -> Option<(Vec<u32>, Vec<u32>)> {
    let Some(post_processor) = post_processor else { return Some(Default::default()) };
    match post_processor["type"].as_str()? {
        "TemplateProcessing" => template(post_processor),
        "RobertaProcessing" | "BertProcessing" => {
            let id = |name: &str| Some(vec![id(&post_processor[name][1])?]);
            Some((id("cls")?, id("sep")?))
        }
        _ => None,
    }
}

fn template(post_processor: &Value) -> Option<(Vec<u32>, Vec<u32>)> {
    let pieces = post_processor["single"].as_array()?;
    let is_text = |piece: &Value| piece["Sequence"]["id"] == "A";
    let text = pieces.iter().position(is_text)?;
    let ids = |pieces: &[Value]| {
        let special = |piece: &Value| {
            let name = piece["SpecialToken"]["id"].as_str()?;
            let ids = post_processor["special_tokens"][name]["ids"].as_array()?;
            ids.iter().map(id).collect::<Option<Vec<u32>>>()
        };
        pieces.iter().map(special).collect::<Option<Vec<_>>>().map(|ids| ids.concat())
    };
    Some((ids(&pieces[..text])?, ids(&pieces[text + 1..])?))
}

fn id(value: &Value) -> Option<u32> {
    value.as_u64()?.try_into().ok()
}

/// The added tokens that are looked for in the text and in the normalised text, provided that the
/// tokenizers crate would give them the ids that the file says.
fn added(file: &[AddedToken], model: &Model, rules: CharRules, steps: &[Step]) -> Option<Found> {
    let mut known: BTreeMap<&str, Option<u32>> =
        file.iter().map(|token| (token.content.as_str(), None)).collect();
    for (id, (piece, _)) in (0..).zip(&model.vocab) {
        if let Some(place) = known.get_mut(piece.as_str()) {
            *place = Some(id);
        }
    }
    let mut next = u32::try_from(model.vocab.len()).ok()?;
    let mut found = Found::default();
    for token in file {
        let expected = known.remove(token.content.as_str())?.unwrap_or_else(|| {
            next += 1;
            next - 1
        });
        if token.single_word || expected != token.id {
            return None;
        }
        let content = if token.normalized {
            let mut out = Vec::new();
            normalize(steps, rules, &token.content, &mut out, &mut Vec::new());
            String::from_utf8(out).ok()?
        } else {
            token.content.clone()
        };
        let list = if token.normalized { &mut found.normalized } else { &mut found.raw };
        if content.is_empty() || list.iter().any(|other: &Added| other.content == content) {
            return None;
        }
        list.push(Added { content, id: token.id, lstrip: token.lstrip, rstrip: token.rstrip });
    }
    Some(found)
}

/// The ids of the pieces `<0x00>` to `<0xFF>`, the last of equal ones; all must be there.
fn byte_ids(vocab: &[(String, f64)]) -> Option<Vec<u32>> {
    let mut ids = [None; 256];
    for (id, (piece, _)) in (0..).zip(vocab) {
        let byte = piece.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
        let byte = byte.filter(|digits| digits.len() == 2 && !digits.starts_with('+'));
        let upper = byte.filter(|digits| !digits.contains(|c: char| c.is_ascii_lowercase()));
        if let Some(byte) = upper.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            ids[usize::from(byte)] = Some(id);
        }
    }
    ids.into_iter().collect()
}
