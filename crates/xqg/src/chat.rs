//! One question to a language model behind an OpenAI-compatible server (`POST …/chat/completions`), and
//! its answer. Servers are busy, slow, cut off or gone: what may pass is tried again, waiting twice
//! as long each time or as long as the server says; what will not pass stops the work with its reason.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use serde_json::{Value, json};
use ureq::Agent;
use ureq::Body;
use ureq::http::Response;
use xqg_data::error::quote;

use crate::args::{EndpointArgs, Usage};

/// The first wait before a request is made again.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// The longest, whatever a server says.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// The longest wait for an answer, whatever the user says: a year, which any clock can add.
const LONGEST_TIMEOUT: f32 = 31_536_000.0;
/// The largest answer that is read.
const MOST_BYTES: u64 = 16 << 20;

/// A model behind an endpoint.
pub struct Chat {
    agent: Agent,
    url: String,
    model: String,
    key: Option<String>,
    retries: u32,
    concurrency: usize,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    /// The prompt, the only message.
    pub prompt: String,
    /// Tokens of the answer at most.
    pub max_tokens: usize,
    /// As servers know it; theirs where there is none.
    pub temperature: Option<f32>,
    /// As servers know it; theirs where there is none.
    pub top_p: Option<f32>,
    /// The seed, for servers that take one.
    pub seed: u64,
}

/// What was answered.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answer {
    /// The text; empty where it could not be used.
    pub text: String,
    /// Whether it ends at the greatest length.
    pub cut: bool,
    /// Tokens sent, over all tries.
    pub prompt_tokens: u64,
    /// Tokens received, over all tries.
    pub answer_tokens: u64,
    /// Tries after the first.
    pub retries: u64,
    /// Whether the last try was of use.
    pub usable: bool,
    /// From the first try to the last answer.
    pub took: Duration,
}

/// A try that failed.
struct Failure {
    /// What the message says was found.
    found: String,
    /// Whether another try may do better.
    again: bool,
    /// How long the server wants us to wait.
    wait: Option<Duration>,
}

impl Failure {
    fn passing(found: impl Into<String>) -> Self {
        Self { found: found.into(), again: true, wait: None }
    }
}

impl Chat {
    /// A client; the key comes from the environment.
    ///
    /// # Errors
    /// Without an endpoint, or with one that is no address.
    pub fn new(model: &str, args: &EndpointArgs) -> Result<Self> {
        let Some(endpoint) = args.endpoint.as_deref() else {
            bail!(Usage(format!(
                "openai:{model}: expected --endpoint URL beside it, found none\n\
                 hint: Ollama is at http://localhost:11434/v1, vLLM at http://localhost:8000/v1, \
                 llama.cpp at http://localhost:8080/v1"
            )));
        };
        if model.is_empty()
            || !(endpoint.starts_with("http://") || endpoint.starts_with("https://"))
        {
            bail!(Usage(format!(
                "--endpoint: expected openai:NAME and http://HOST:PORT/v1, found `openai:{model}` and \
                 `{endpoint}`"
            )));
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs_f32(args.timeout.min(LONGEST_TIMEOUT))))
            .build();
        let key = std::env::var(&args.api_key_env).ok().filter(|key| !key.is_empty());
        let model = model.to_owned();
        let (retries, concurrency) = (args.retries, args.concurrency);
        Ok(Self {
            agent: config.into(),
            url: completions(endpoint),
            model,
            key,
            retries,
            concurrency,
        })
    }

    /// The model's name.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Asks until `accept` finds the answer of use, or the tries are used up: then the answer says so.
    ///
    /// # Errors
    /// When the server cannot be reached or understood, or refuses.
    pub fn ask(&self, ask: &Ask, accept: impl Fn(&Answer) -> bool) -> Result<Answer> {
        let (begun, mut total) = (Instant::now(), Answer::default());
        loop {
            let tried = total.retries;
            let failure = match self.attempt(ask, tried) {
                Ok(answer) => {
                    total.prompt_tokens += answer.prompt_tokens;
                    total.answer_tokens += answer.answer_tokens;
                    (total.text, total.cut, total.took) =
                        (answer.text, answer.cut, begun.elapsed());
                    total.usable = accept(&total);
                    if total.usable || tried >= u64::from(self.retries) {
                        return Ok(total);
                    }
                    None
                }
                Err(failure) if failure.again && tried < u64::from(self.retries) => Some(failure),
                Err(failure) => return Err(self.error(&failure, tried)),
            };
            total.retries += 1;
            // An answer that is of no use comes from a server that is well: no need to wait.
            if let Some(failure) = failure {
                log::info!("{}: {}, trying again", self.url, failure.found);
                std::thread::sleep(failure.wait.unwrap_or(wait(tried)).min(LONGEST_WAIT));
            }
        }
    }

    /// Asks all, as many at a time as was said; answers come in the order of the questions. The first
    /// error ends it, when those that are under way have ended.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub fn ask_all(
        &self,
        asks: &[Ask],
        accept: impl Fn(&Answer) -> bool + Sync,
    ) -> Result<Vec<Answer>> {
        let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let answers = Mutex::new(vec![None; asks.len()]);
        let work = || -> Result<()> {
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                if i >= asks.len() || stop.load(Ordering::Relaxed) {
                    return Ok(());
                }
                let answer = self.ask(&asks[i], &accept).inspect_err(|_| {
                    stop.store(true, Ordering::Relaxed);
                })?;
                answers.lock().expect("no panic while locked")[i] = Some(answer);
            }
        };
        let workers = self.concurrency.min(asks.len());
        std::thread::scope(|scope| -> Result<()> {
            let handles: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
            let ends = handles.into_iter().map(|h| h.join().expect("no panic in a request"));
            ends.collect::<Vec<_>>().into_iter().collect()
        })?;
        let answers = answers.into_inner().expect("no panic while locked");
        Ok(answers.into_iter().map(|a| a.expect("all are answered without an error")).collect())
    }

    fn error(&self, failure: &Failure, tried: u64) -> anyhow::Error {
        let hint = if failure.again {
            "when the server is well again, the same command goes on where it was"
        } else {
            "check --endpoint, the model's name and the key in the variable of --api-key-env"
        };
        let tries = if tried > 0 { format!(" ({} tries)", tried + 1) } else { String::new() };
        anyhow!(
            "asking {}: expected an answer of {}, found {}{tries}\nhint: {hint}",
            self.url,
            self.model,
            failure.found
        )
    }

    fn attempt(&self, ask: &Ask, tried: u64) -> Result<Answer, Failure> {
        let mut request = self.agent.post(&self.url);
        if let Some(key) = &self.key {
            request = request.header("Authorization", format!("Bearer {key}"));
        }
        let sent = request.send_json(self.body(ask, tried));
        let mut response = sent.map_err(|e| Failure::passing(e.to_string()))?;
        check_status(&mut response)?;
        let text = read(&mut response)?;
        let value: Value = serde_json::from_str(&text)
            .map_err(|e| Failure::passing(format!("no JSON ({e}): {}", quote(&text))))?;
        parse(&value)
    }

    fn body(&self, ask: &Ask, tried: u64) -> Value {
        let mut body = json!({
            "model": self.model,
            "messages": [{"role": "user", "content": ask.prompt}],
            "max_tokens": ask.max_tokens,
            // Another seed for another try; servers read 32 bits with a sign.
            "seed": (ask.seed.wrapping_add(tried)) & 0x7fff_ffff,
            "stream": false,
        });
        for (name, value) in [("temperature", ask.temperature), ("top_p", ask.top_p)] {
            if let Some(value) = value {
                body[name] = json!(crate::generating::writer::rounded(value));
            }
        }
        body
    }
}

/// `http://host/v1` or the whole address.
fn completions(endpoint: &str) -> String {
    let endpoint = endpoint.trim_end_matches('/');
    if endpoint.ends_with("/chat/completions") {
        return endpoint.to_owned();
    }
    format!("{endpoint}/chat/completions")
}

fn wait(tried: u64) -> Duration {
    FIRST_WAIT.saturating_mul(1 << tried.min(10))
}

fn read(response: &mut Response<Body>) -> Result<String, Failure> {
    let body = response.body_mut().with_config().limit(MOST_BYTES).read_to_string();
    body.map_err(|e| Failure::passing(format!("an answer cut off: {e}")))
}

fn check_status(response: &mut Response<Body>) -> Result<(), Failure> {
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    let header = response.headers().get("retry-after").and_then(|v| v.to_str().ok());
    let wait = header.and_then(|v| v.trim().parse::<f32>().ok()).filter(|s| *s >= 0.0);
    let wait = wait.map(|s| Duration::from_secs_f32(s.min(1e6)));
    let said = read(response).unwrap_or_default();
    let again = status.is_server_error() || [408, 409, 425, 429].contains(&status.as_u16());
    Err(Failure { found: format!("HTTP status {status}: {}", quote(&said)), again, wait })
}

fn parse(value: &Value) -> Result<Answer, Failure> {
    let choice = &value["choices"][0];
    let text = match &choice["message"]["content"] {
        Value::String(text) => text,
        // A model that was cut off while it thought has said nothing.
        Value::Null if choice["message"].is_object() => "",
        _ => {
            let said = quote(&value.to_string());
            return Err(Failure::passing(format!("no choice with a message: {said}")));
        }
    };
    let tokens = |name: &str| value["usage"][name].as_u64().unwrap_or(0);
    Ok(Answer {
        text: text.to_owned(),
        cut: choice["finish_reason"] == "length",
        prompt_tokens: tokens("prompt_tokens"),
        answer_tokens: tokens("completion_tokens"),
        ..Answer::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_waits() {
        for endpoint in ["http://h/v1", "http://h/v1/", "http://h/v1/chat/completions"] {
            assert_eq!(completions(endpoint), "http://h/v1/chat/completions");
        }
        assert_eq!([wait(0), wait(3)], [FIRST_WAIT, FIRST_WAIT * 8]);
        assert!(wait(99) > wait(9));
    }

    #[test]
    fn an_answer_is_read_and_what_is_none_is_named() {
        let value = json!({
            "choices": [{"message": {"content": "x?"}, "finish_reason": "length"}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 2},
        });
        let answer = parse(&value).ok().unwrap();
        assert_eq!((answer.text.as_str(), answer.cut, answer.prompt_tokens), ("x?", true, 7));
        let silent =
            json!({"choices": [{"message": {"content": null}, "finish_reason": "length"}]});
        assert!(parse(&silent).is_ok_and(|answer| answer.text.is_empty() && answer.cut));
        let failure = parse(&json!({"error": "no"})).err().unwrap();
        assert!(failure.again && failure.found.contains("no choice"), "{}", failure.found);
    }
}
