//! The model card that is written beside trained weights: what they came from, and what was measured.

use std::path::PathBuf;

use crate::config::TrainConfig;
use crate::state::Progress;

/// The settings with names that can be written down: a folder's may be any bytes.
fn told(config: &TrainConfig) -> TrainConfig {
    let told = |path: &PathBuf| PathBuf::from(path.to_string_lossy().into_owned());
    let mut config =
        TrainConfig { out: told(&config.out), model: told(&config.model), ..config.clone() };
    config.data.train = config.data.train.iter().map(told).collect();
    config
}

/// The card as Markdown with the header that model hubs read.
pub fn card(config: &TrainConfig, rows: usize, progress: &Progress) -> String {
    let base = config.model.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let corpus = config.corpus.iter().flat_map(|c| c.questions.iter().chain(&c.translations));
    let files: Vec<String> = config
        .data
        .train
        .iter()
        .chain(corpus)
        .map(|p| format!("`{}`", p.file_name().unwrap_or_default().to_string_lossy()))
        .collect();
    let licence = config.data.licence.as_deref().unwrap_or("not stated");
    let best = match progress.best {
        Some((value, step)) => {
            let measure = &progress.measure;
            format!("{measure} on held-out queries: {value:.4} after step {step}")
        }
        None => "nothing was held out, so nothing was measured".to_owned(),
    };
    let use_for = match config.corpus {
        Some(_) => format!(
            "This network encodes queries. Passages are encoded by `{base}` itself; an index of it \
             is searched with `xqg search --model`.\n\n"
        ),
        None => String::new(),
    };
    let settings = toml::to_string(&told(config)).expect("names that are Unicode are TOML");
    format!(
        "---\nbase_model: {base}\nlibrary_name: sentence-transformers\npipeline_tag: sentence-similarity\n---\n\
         # {base}, trained for retrieval across languages\n\n\
         Trained with `xqg train retriever` from `{base}` on {rows} rows of {}, {} steps.\n\n{use_for}\
         - {best}. The queries were told apart by a hash of their ids; no other data was used to \
         choose the weights.\n\
         - Licence of the training data: {licence}. The base model's licence holds too.\n\n\
         Settings:\n\n```toml\n{settings}```\n",
        files.join(", "),
        progress.step,
    )
}
