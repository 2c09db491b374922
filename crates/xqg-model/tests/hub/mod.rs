//! A model hub of one model on 127.0.0.1: the two kinds of requests that a download makes, with
//! faults that tests ask for. It serves one request per connection and notes each path and range.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sha1::Digest as _;

/// The commit that the model is at.
pub const COMMIT: &str = "00112233445566778899aabbccddeeff00112233";

/// What the hub has, and what it does wrong.
#[derive(Default, Clone)]
pub struct Model {
    /// Files by name.
    pub files: BTreeMap<String, Vec<u8>>,
    /// This file is sent with its last byte changed.
    pub falsified: Option<String>,
    /// This file's first so many whole downloads are cut in the middle.
    pub cut: Option<(String, usize)>,
    /// The status that the file list is answered with instead.
    pub refused: Option<u16>,
    /// Whether sizes and hashes are missing from the file list, as on some mirrors.
    pub terse: bool,
    /// This file's first so many downloads pause that long in the middle.
    pub pause: Option<(String, usize, Duration)>,
    /// Whether ranges are not understood, so that every answer is the whole file.
    pub rangeless: bool,
    /// Whether files lie elsewhere, and only the redirection there tells their hash.
    pub redirected: bool,
    /// The commit in the file list, if not [`COMMIT`].
    pub listed_commit: Option<String>,
    /// Header lines that files come with in place of their hash and commit.
    pub headers: Option<String>,
}

/// A running hub; it ends with the test's process.
pub struct Hub {
    pub endpoint: String,
    model: Arc<Mutex<Model>>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Hub {
    /// Starts serving on a free port.
    pub fn start(model: Model) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let model = Arc::new(Mutex::new(model));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let hub = Self { endpoint, model: Arc::clone(&model), requests: Arc::clone(&requests) };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (model, requests) = (Arc::clone(&model), Arc::clone(&requests));
                std::thread::spawn(move || serve(stream, &model, &requests));
            }
        });
        hub
    }

    /// The paths asked for, in order.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// Changes what the hub has or does.
    pub fn change(&self, change: impl FnOnce(&mut Model)) {
        change(&mut self.model.lock().unwrap());
    }
}

/// A request's path and the first byte it asks for, if it does, with the last one likewise.
struct Request {
    path: String,
    from: Option<usize>,
    to: Option<usize>,
}

fn read_request(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let path = lines.next()?.split(' ').nth(1)?.to_string();
    let mut request = Request { path, from: None, to: None };
    for line in lines.take_while(|line| !line.is_empty()) {
        if let Some(range) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
            let (from, to) = range.split_once('-')?;
            request.from = Some(from.parse().ok()?);
            request.to = to.parse().ok();
        }
    }
    Some(request)
}

/// What is sent: the pieces, with a pause between them.
type Answer = (Vec<Vec<u8>>, Duration);

fn serve(mut stream: TcpStream, model: &Mutex<Model>, requests: &Mutex<Vec<String>>) {
    let Some(request) = read_request(&stream) else {
        return;
    };
    requests.lock().unwrap().push(request.path.clone());
    let (pieces, pause) = answer(&request, &mut model.lock().unwrap());
    for (number, piece) in pieces.iter().enumerate() {
        if number > 0 {
            std::thread::sleep(pause);
        }
        // A client that hangs up early is part of some tests.
        let _sent = stream.write_all(piece);
    }
}

fn answer(request: &Request, model: &mut Model) -> Answer {
    if request.path.starts_with("/api/models/") {
        return match model.refused {
            Some(status) => whole(status, "", &[]),
            None => whole(200, "content-type: application/json\r\n", list(model).as_bytes()),
        };
    }
    let place = if model.redirected { "elsewhere" } else { "resolve" };
    if let Some((_, name)) = request.path.split_once(&format!("/resolve/{COMMIT}/"))
        && model.redirected
    {
        let etag = hash(name, &model.files[name]);
        let more = format!("x-linked-etag: \"{etag}\"\r\nlocation: /elsewhere/{COMMIT}/{name}\r\n");
        return whole(302, &more, &[]);
    }
    let name = request.path.split_once(&format!("/{place}/{COMMIT}/")).map(|(_, name)| name);
    match name.filter(|name| model.files.contains_key(*name)) {
        Some(name) => send(request, name, model),
        None => whole(404, "", &[]),
    }
}

fn whole(status: u16, more: &str, body: &[u8]) -> Answer {
    (vec![[head(status, body.len(), more).as_slice(), body].concat()], Duration::ZERO)
}

fn head(status: u16, length: usize, more: &str) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n");
    format!("{head}{more}\r\n").into_bytes()
}

/// Sends a file, or the part of it that was asked for.
fn send(request: &Request, name: &str, model: &mut Model) -> Answer {
    let mut contents = model.files[name].clone();
    let etag = hash(name, &contents);
    if model.falsified.as_deref() == Some(name) {
        *contents.last_mut().unwrap() ^= 1;
    }
    let own = format!("etag: \"{etag}\"\r\nx-repo-commit: {COMMIT}\r\n");
    let more = model.headers.clone().unwrap_or(own);
    let total = contents.len();
    let from = request.from.filter(|_| !model.rangeless);
    let Some(from) = from else {
        return pieces(request, name, (head(200, total, &more), &contents), model);
    };
    if from >= total {
        return whole(416, &more, &[]);
    }
    let end = request.to.map_or(total, |to| (to + 1).min(total));
    let range = format!("content-range: bytes {from}-{}/{total}\r\n", end - 1);
    let head = head(206, end - from, &format!("{more}{range}"));
    pieces(request, name, (head, &contents[from..end]), model)
}

/// Cuts an answer or makes it pause, where a test asks for that.
fn pieces(
    request: &Request,
    name: &str,
    (head, body): (Vec<u8>, &[u8]),
    model: &mut Model,
) -> Answer {
    let half = body.len() / 2;
    let first = [head.as_slice(), &body[..half]].concat();
    let is_download = request.to.is_none();
    match &mut model.cut {
        Some((cut, times)) if cut == name && *times > 0 && is_download => {
            *times -= 1;
            return (vec![first], Duration::ZERO);
        }
        _ => {}
    }
    match &mut model.pause {
        Some((slow, times, pause)) if slow == name && *times > 0 && is_download => {
            *times -= 1;
            (vec![first, body[half..].to_vec()], *pause)
        }
        _ => (vec![[head.as_slice(), body].concat()], Duration::ZERO),
    }
}

/// SHA-256 for weights, which the hub keeps outside of git, and git's hash for the rest.
pub fn hash(name: &str, contents: &[u8]) -> String {
    if is_large(name) {
        return hex(&sha2::Sha256::digest(contents));
    }
    let blob = [format!("blob {}\0", contents.len()).as_bytes(), contents].concat();
    hex(&sha1::Sha1::digest(blob))
}

fn is_large(name: &str) -> bool {
    name.ends_with(".safetensors") || name.ends_with(".bin")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The file list as the hub gives it with `?blobs=true`.
fn list(model: &Model) -> String {
    let siblings = model.files.iter().map(|(name, contents)| {
        let hash = hash(name, contents);
        let size = contents.len();
        if model.terse {
            serde_json::json!({"rfilename": name})
        } else if is_large(name) {
            let lfs = serde_json::json!({"sha256": hash, "size": size, "pointerSize": 130});
            serde_json::json!({"rfilename": name, "size": size, "blobId": "0", "lfs": lfs})
        } else {
            serde_json::json!({"rfilename": name, "size": size, "blobId": hash})
        }
    });
    let commit = model.listed_commit.as_deref().unwrap_or(COMMIT);
    serde_json::json!({"sha": commit, "siblings": siblings.collect::<Vec<_>>()}).to_string()
}
