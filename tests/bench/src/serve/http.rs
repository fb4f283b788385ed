//! HTTP/1.1, as much of it as the clients speak: one request after the other on a connection.

use std::cell::RefCell;
use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{World, calendar, control, list, objects, own, sts};

const HEAD_BYTES: usize = 16 * 1024;
const HEADERS: usize = 64;

/// A request.
pub struct Request {
    pub method: String,
    /// The bucket, or nothing.
    pub bucket: String,
    /// The key, decoded; empty where the bucket is meant.
    pub key: Vec<u8>,
    /// Names and values, decoded.
    pub query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// An answer; a large body is sent from where it lies.
pub struct Answer {
    pub status: &'static str,
    /// Header lines, each with its end.
    pub headers: Vec<u8>,
    pub body: Sent,
    /// How long it takes to begin.
    pub after_ms: u64,
}

/// What is sent after the headers.
pub enum Sent {
    /// Bytes made for this answer.
    Own(Vec<u8>),
    /// One of the source's bodies, by its number.
    Shared(usize),
    /// Nothing, but a length that is announced all the same (HEAD).
    Nothing(u64),
}

impl Answer {
    pub fn new(status: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: Sent::Own(body.into()), after_ms: 0 }
    }

    /// An XML document.
    pub fn xml(text: impl Into<Vec<u8>>) -> Self {
        Self::new("200 OK", text).header("content-type", "application/xml")
    }

    /// An error as S3 words it.
    pub fn error(status: &'static str, code: &str) -> Self {
        let text = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{code}</Message></Error>"
        );
        Self { status, ..Self::xml(text) }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        for part in [name, ": ", value, "\r\n"] {
            self.headers.extend_from_slice(part.as_bytes());
        }
        self
    }
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    pub fn headers(&self) -> &[(String, String)] {
        &self.headers
    }

    pub fn asks(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Serves a connection until its end.
pub async fn serve(mut stream: TcpStream, world: &RefCell<World>) -> io::Result<()> {
    let (mut buffer, mut out) = (Vec::with_capacity(HEAD_BYTES), Vec::with_capacity(HEAD_BYTES));
    while let Some(request) = read(&mut stream, &mut buffer).await? {
        let is_get = request.method == "GET" && !request.key.is_empty() && request.bucket != control::PATH;
        let began = is_get.then(|| world.borrow_mut().began());
        let answer = answer(world, &request);
        super::latency(answer.after_ms).await;
        out.clear();
        let (shared, length) = {
            let world = world.borrow();
            let shared = match &answer.body {
                Sent::Shared(number) => Some(world.source.body(*number)),
                _ => None,
            };
            let length = match (&answer.body, &shared) {
                (Sent::Own(bytes), _) => bytes.len() as u64,
                (Sent::Nothing(length), _) => *length,
                (Sent::Shared(_), shared) => shared.as_ref().map_or(0, |body| body.bytes.len() as u64),
            };
            (shared, length)
        };
        head(&answer, length, &mut out);
        let body = match (&answer.body, &shared) {
            (Sent::Own(bytes), _) => bytes.as_slice(),
            (Sent::Shared(_), Some(body)) => body.bytes.as_slice(),
            _ => &[],
        };
        // Small bodies go with their headers, in one call.
        let together = body.len().min(256 * 1024);
        out.extend_from_slice(&body[..together]);
        stream.write_all(&out).await?;
        stream.write_all(&body[together..]).await?;
        let mut world = world.borrow_mut();
        world.counters.sent_bytes += body.len() as u64;
        if let Some(began) = began {
            world.ended(began);
        }
    }
    Ok(())
}

fn head(answer: &Answer, length: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(answer.status.as_bytes());
    out.extend_from_slice(b"\r\ndate: ");
    calendar::http(control::now(), out);
    out.extend_from_slice(b"\r\nserver: AmazonS3\r\nx-amz-request-id: 0123456789ABCDEF\r\n");
    out.extend_from_slice(&answer.headers);
    if !answer.status.starts_with("304") {
        out.extend_from_slice(format!("content-length: {length}\r\n").as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

fn answer(world: &RefCell<World>, request: &Request) -> Answer {
    let mut world = world.borrow_mut();
    let is_source = request.bucket == world.spec.bucket;
    match (request.method.as_str(), request.bucket.as_str(), request.key.is_empty()) {
        (_, control::PATH, _) => control::answer(&mut world, request),
        ("POST", "", _) => sts::answer(&mut world, request),
        ("GET", "", _) => control::buckets(&world),
        ("HEAD", _, true) => Answer::new("200 OK", "").header("x-amz-bucket-region", "us-east-1"),
        ("GET", _, true) => list::answer(&mut world, request),
        ("GET" | "HEAD", _, false) if is_source => objects::answer(&mut world, request),
        _ => own::answer(&mut world, request),
    }
}

/// The next request; nothing where the connection ends before it.
async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<Request>> {
    loop {
        if let Some((mut request, length)) = parse(buffer)? {
            let body = request.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
            if request.header("expect").is_some() && buffer.len() == length {
                stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
            }
            buffer.drain(..length);
            while buffer.len() < body {
                fill(stream, buffer).await?;
            }
            request.body = buffer.drain(..body).collect();
            return Ok(Some(request));
        }
        if buffer.len() > HEAD_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        match fill(stream, buffer).await {
            Err(_) if buffer.is_empty() => return Ok(None),
            filled => filled?,
        }
    }
}

async fn fill(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<()> {
    buffer.reserve(HEAD_BYTES);
    match stream.read_buf(buffer).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

/// A request's head and its length, if it is there as a whole.
fn parse(buffer: &[u8]) -> io::Result<Option<(Request, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let length = match parsed.parse(buffer) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
    };
    let target = parsed.path.unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let path = path.strip_prefix('/').unwrap_or(path);
    let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
    let value = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let request = Request {
        method: parsed.method.unwrap_or_default().to_owned(),
        bucket: bucket.to_owned(),
        key: decoded(key),
        query: form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
        headers: parsed.headers.iter().map(|one| (one.name.to_ascii_lowercase(), value(one.value))).collect(),
        body: Vec::new(),
    };
    Ok(Some((request, length)))
}

/// A path without its percent signs.
pub fn decoded(text: &str) -> Vec<u8> {
    let (mut bytes, mut plain) = (text.bytes(), Vec::with_capacity(text.len()));
    while let Some(byte) = bytes.next() {
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16)).unwrap_or(0) as u8;
        plain.push(match byte {
            b'%' => 16 * digit(bytes.next()) + digit(bytes.next()),
            byte => byte,
        });
    }
    plain
}
