//! A model hub of one model on 127.0.0.1: the two kinds of requests that a download makes, with
//! faults that tests ask for. It serves one request per connection and notes each path.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

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
                serve(stream, &model, &requests);
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

/// A request's path and the first byte it asks for, with the last one if it asks for that.
struct Request {
    path: String,
    from: usize,
    to: Option<usize>,
}

fn read_request(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let path = lines.next()?.split(' ').nth(1)?.to_string();
    let mut request = Request { path, from: 0, to: None };
    for line in lines.take_while(|line| !line.is_empty()) {
        if let Some(range) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
            let (from, to) = range.split_once('-')?;
            request.from = from.parse().ok()?;
            request.to = to.parse().ok();
        }
    }
    Some(request)
}

fn serve(stream: TcpStream, model: &Mutex<Model>, requests: &Mutex<Vec<String>>) {
    let Some(request) = read_request(&stream) else {
        return;
    };
    requests.lock().unwrap().push(request.path.clone());
    let mut model = model.lock().unwrap();
    // A client that hangs up early is part of some tests.
    let _sent = answer(&stream, &request, &mut model);
}

fn answer(stream: &TcpStream, request: &Request, model: &mut Model) -> std::io::Result<()> {
    if request.path.starts_with("/api/models/") {
        return match model.refused {
            Some(status) => head(stream, status, 0, ""),
            None => {
                let list = list(model);
                head(stream, 200, list.len(), "content-type: application/json\r\n")?;
                stream.try_clone()?.write_all(list.as_bytes())
            }
        };
    }
    let name = request.path.split_once(&format!("/resolve/{COMMIT}/")).map(|(_, name)| name);
    match name.filter(|name| model.files.contains_key(*name)) {
        Some(name) => send(stream, request, name, model),
        None => head(stream, 404, 0, ""),
    }
}

fn head(mut stream: &TcpStream, status: u16, length: usize, more: &str) -> std::io::Result<()> {
    let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n");
    stream.write_all(format!("{head}{more}\r\n").as_bytes())
}

/// Sends a file, or the part of it that was asked for.
fn send(
    mut stream: &TcpStream,
    request: &Request,
    name: &str,
    model: &mut Model,
) -> std::io::Result<()> {
    let mut contents = model.files[name].clone();
    let etag = hash(name, &contents);
    if model.falsified.as_deref() == Some(name) {
        *contents.last_mut().unwrap() ^= 1;
    }
    let total = contents.len();
    let end = request.to.map_or(total, |to| (to + 1).min(total));
    let part = &contents[request.from.min(end)..end];
    let range = format!("content-range: bytes {}-{}/{total}\r\n", request.from, end.max(1) - 1);
    let more = format!("etag: \"{etag}\"\r\nx-repo-commit: {COMMIT}\r\n{range}");
    head(stream, 206, part.len(), &more)?;
    match &mut model.cut {
        Some((cut, times)) if cut == name && *times > 0 && request.to.is_none() => {
            *times -= 1;
            stream.write_all(&part[..part.len() / 2])
        }
        _ => stream.write_all(part),
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
    serde_json::json!({"sha": COMMIT, "siblings": siblings.collect::<Vec<_>>()}).to_string()
}
