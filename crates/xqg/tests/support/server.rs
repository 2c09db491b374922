//! A server as language models stand behind: it answers `POST /v1/chat/completions` as a test tells it
//! to, well or badly, and remembers what it was asked.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// What the server does with a request.
#[derive(Clone)]
pub enum Reply {
    /// Answers with this text.
    Text(String),
    /// Answers with this text, cut at the greatest length.
    Cut(String),
    /// Answers with a status, a header line and a body.
    Status(&'static str, &'static str, &'static str),
    /// Promises more bytes than it sends.
    Short,
    /// Says nothing until the client hangs up.
    Silence,
    /// Hangs up.
    HangUp,
}

/// A request: the headers in lower case, and the body.
#[derive(Clone)]
pub struct Asked {
    /// Request line and headers.
    pub head: String,
    /// The body.
    pub body: Value,
}

impl Asked {
    /// The prompt.
    pub fn prompt(&self) -> &str {
        self.body["messages"][0]["content"].as_str().unwrap()
    }
}

/// A running server; it ends with the test's process.
pub struct Server {
    /// Its address, as `--endpoint` takes it.
    pub url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    /// Starts a server; `reply` is told how many requests came before, and the request.
    pub fn start(reply: impl Fn(usize, &Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (known, reply) = (asked.clone(), Arc::new(reply));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (known, reply) = (known.clone(), reply.clone());
                std::thread::spawn(move || {
                    let mut stream = BufReader::new(stream);
                    while let Some(asked) = read(&mut stream) {
                        let before = {
                            let mut known = known.lock().unwrap();
                            known.push(asked.clone());
                            known.len() - 1
                        };
                        if !answer(&mut stream, &reply(before, &asked)) {
                            return;
                        }
                    }
                });
            }
        });
        Self { url, asked }
    }

    /// What it was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

fn read(stream: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut head = String::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            break;
        }
        head.push_str(&line);
    }
    let lower = head.to_lowercase();
    let length = lower.lines().find_map(|l| l.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.trim().parse().unwrap()];
    stream.read_exact(&mut body).ok()?;
    assert!(head.starts_with("POST /v1/chat/completions "), "{head}");
    Some(Asked { head, body: serde_json::from_slice(&body).unwrap() })
}

/// Answers; whether the connection may go on.
fn answer(stream: &mut BufReader<TcpStream>, reply: &Reply) -> bool {
    let completion = |text: &str, reason: &str| {
        let choice =
            json!({"message": {"role": "assistant", "content": text}, "finish_reason": reason});
        let usage = json!({"prompt_tokens": 100, "completion_tokens": 10});
        json!({"choices": [choice], "usage": usage}).to_string()
    };
    let (status, header, body) = match reply {
        Reply::Text(text) => ("200 OK", "", completion(text, "stop")),
        Reply::Cut(text) => ("200 OK", "", completion(text, "length")),
        Reply::Status(status, header, body) => (*status, *header, (*body).to_owned()),
        Reply::Short => {
            let text = "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"choices\": [";
            let _ = stream.get_mut().write_all(text.as_bytes());
            return false;
        }
        Reply::Silence => {
            let _ = stream.read(&mut [0]);
            return false;
        }
        Reply::HangUp => return false,
    };
    let length = body.len();
    let text = format!("HTTP/1.1 {status}\r\n{header}Content-Length: {length}\r\n\r\n{body}");
    stream.get_mut().write_all(text.as_bytes()).is_ok()
}
