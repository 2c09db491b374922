//! Expanding a query: a language model writes the passage that it would be answered by, and that is
//! searched for in its stead (Gao et al., ACL 2023, "Precise Zero-Shot Dense Retrieval without Relevance
//! Labels") or together with it (Wang, Yang and Wei, EMNLP 2023, "Query2doc"). It costs a call for each
//! query, so it is off unless asked for, and what it costs in time is said.

use std::time::Duration;

use anyhow::{Result, bail};
use xqg_data::query::Query;

use crate::args::{EndpointArgs, ExpandModeArg, SearchArgs, Usage};
use crate::chat::{Answer, Ask, Chat};
use crate::generating::endpoint::{Prompts, fill, without_thoughts};
use crate::output;

/// The prompt where nobody gives another.
const PROMPT: &str = "Write a passage in {language}, of at most four sentences as an encyclopedia has \
    them, that answers the question below. Write the passage only.\n\n{query}";

/// Tokens of such a passage at most.
const PASSAGE_TOKENS: usize = 256;

/// Texts to be encoded as passages in the place of the queries.
pub fn expand(queries: &[Query], args: &SearchArgs, model: &str) -> Result<Vec<String>> {
    let Some(name) = model.strip_prefix("openai:") else {
        bail!(Usage(format!("--expand: expected openai:NAME, found `{model}`")));
    };
    let prompts = Prompts::read(&args.endpoint.prompt_file, PROMPT, "{query}")?;
    let chat = Chat::new(name, &args.endpoint)?;
    let asks: Vec<Ask> = queries.iter().map(|query| ask(query, &prompts, args)).collect();
    let answers = chat.ask_all(&asks, |answer| !passage(answer).is_empty())?;
    tell(&answers, &args.endpoint);
    let text = |(query, answer): (&Query, &Answer)| match (args.expand_mode, passage(answer)) {
        (_, "") => query.text.clone(),
        (ExpandModeArg::Replace, passage) => passage.to_owned(),
        (ExpandModeArg::Concat, passage) => format!("{} {passage}", query.text),
    };
    Ok(queries.iter().zip(&answers).map(text).collect())
}

fn ask(query: &Query, prompts: &Prompts, args: &SearchArgs) -> Ask {
    let lang = args.expand_lang.0;
    let values = [("language", lang.name()), ("lang", lang.code()), ("query", query.text.as_str())];
    Ask {
        prompt: fill(prompts.of(query.lang), &values),
        max_tokens: PASSAGE_TOKENS,
        // The likeliest passage: the same query finds the same.
        temperature: Some(0.0),
        top_p: None,
        seed: 0,
    }
}

/// What an answer holds; one that was cut is of use all the same.
fn passage(answer: &Answer) -> &str {
    without_thoughts(&answer.text)
}

fn tell(answers: &[Answer], args: &EndpointArgs) {
    let mut times: Vec<Duration> = answers.iter().map(|a| a.took).collect();
    times.sort();
    let (Some(longest), half) = (times.last(), times.len() / 2) else { return };
    output::note(format_args!(
        "expansion: {} queries, {:.2} s each (median; the slowest {:.2} s), {} at a time",
        times.len(),
        times[half].as_secs_f64(),
        longest.as_secs_f64(),
        args.concurrency.min(times.len())
    ));
    let failed = answers.iter().filter(|answer| !answer.usable).count();
    if failed > 0 {
        output::warn(format_args!("{failed} queries got no passage and are searched as they are"));
    }
}
