//! A client that is no SDK: it signs requests itself and reads answers as they are.
//!
//! The signer shares no code with the server, so that a mistake in one is not excused by the other.
#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "each test binary uses a part of it"
)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use aws_lc_rs::{digest, hmac};
use fakeaws::{AccessKey, FakeAws, FakeClock, World};
use jiff::Timestamp;

pub const OWNER: &str = "111111111111";
pub const B: &str = "222222222222";
pub const C: &str = "333333333333";

pub fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

/// A world whose clock stands still at a time far from the machine's.
pub fn world() -> World {
    World::new(FakeClock::fixed_at(at("2024-03-05T06:07:08Z")))
}

pub async fn serve(world: &World) -> FakeAws {
    FakeAws::start(world.clone()).await.expect("a server")
}

/// Whoever signs.
#[derive(Clone, Debug)]
pub struct Signer {
    pub key: AccessKey,
    pub token: Option<String>,
    pub region: String,
}

impl From<&AccessKey> for Signer {
    fn from(key: &AccessKey) -> Signer {
        Signer {
            key: key.clone(),
            token: None,
            region: "us-east-1".into(),
        }
    }
}

impl Signer {
    pub fn in_region(mut self, region: &str) -> Signer {
        self.region = region.into();
        self
    }
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// How the connection ended, if before the end of the body.
    pub broken: Option<std::io::ErrorKind>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The text of the first element of this name.
    pub fn element(&self, name: &str) -> Option<String> {
        elements(&self.text(), name).into_iter().next()
    }

    pub fn elements(&self, name: &str) -> Vec<String> {
        elements(&self.text(), name)
    }

    pub fn code(&self) -> String {
        self.element("Code").unwrap_or_default()
    }
}

fn elements(text: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let after = text.split(&open).skip(1);
    after
        .filter_map(|rest| rest.split_once(&close).map(|(inner, _)| inner.to_owned()))
        .collect()
}

/// A request; [`send`](Call::send) signs it and takes it there.
pub struct Call<'a> {
    pub aws: &'a FakeAws,
    pub signer: Option<Signer>,
    pub method: &'a str,
    /// As it goes over the wire.
    pub path: String,
    pub query: Vec<(String, String)>,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub service: &'a str,
    pub signed_at: Timestamp,
}

impl<'a> Call<'a> {
    pub fn new(
        aws: &'a FakeAws,
        signer: impl Into<Signer>,
        method: &'a str,
        path: &str,
    ) -> Call<'a> {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let query = pairs.map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (key.to_owned(), value.to_owned())
        });
        Call {
            aws,
            signer: Some(signer.into()),
            method,
            path: path.to_owned(),
            query: query.collect(),
            headers: Vec::new(),
            body: Vec::new(),
            service: "s3",
            signed_at: aws.world().clock().now(),
        }
    }

    pub fn sts(aws: &'a FakeAws, signer: impl Into<Signer>, fields: &[(&str, &str)]) -> Call<'a> {
        let mut call = Call::new(aws, signer, "POST", "/");
        call.service = "sts";
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("Version", "2011-06-15")
            .extend_pairs(fields);
        call.body = form.finish().into_bytes();
        call.header("content-type", "application/x-www-form-urlencoded")
    }

    pub fn assume(
        aws: &'a FakeAws,
        signer: impl Into<Signer>,
        role: &str,
        more: &[(&str, &str)],
    ) -> Call<'a> {
        let mut fields = vec![
            ("Action", "AssumeRole"),
            ("RoleArn", role),
            ("RoleSessionName", "session"),
        ];
        fields.retain(|(name, _)| more.iter().all(|(other, _)| other != name));
        fields.extend_from_slice(more);
        Call::sts(aws, signer, &fields)
    }

    pub fn public_keys(aws: &'a FakeAws, signer: impl Into<Signer>, body: &str) -> Call<'a> {
        let mut call = Call::new(aws, signer, "POST", "/");
        call.service = "cloudtrail";
        call.body = body.into();
        call.header("content-type", "application/x-amz-json-1.1")
            .header(
                "x-amz-target",
                "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101.ListPublicKeys",
            )
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.query.push((name.into(), value.into()));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub fn signed_at(mut self, at: Timestamp) -> Self {
        self.signed_at = at;
        self
    }

    pub fn send(self) -> Answer {
        let (address, method) = (self.aws.address(), self.method);
        exchange(address, &self.bytes("close"), method)
    }

    /// The signed request as it goes over the wire.
    pub fn bytes(mut self, connection: &str) -> Vec<u8> {
        let host = self.aws.address().to_string();
        self.headers.push(("host".into(), host));
        if let Some(signer) = self.signer.clone() {
            self.sign(&signer);
        }
        let mut line = format!("{} {}", self.method, self.path);
        if !self.query.is_empty() {
            line = format!("{line}?{}", self.query_string());
        }
        let mut request = format!("{line} HTTP/1.1\r\n");
        for (name, value) in &self.headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        let length = self.body.len();
        request.push_str(&format!(
            "content-length: {length}\r\nconnection: {connection}\r\n\r\n"
        ));
        let mut bytes = request.into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }

    fn query_string(&self) -> String {
        let mut pairs: Vec<String> = self
            .query
            .iter()
            .map(|(key, value)| format!("{}={}", escape(key), escape(value)))
            .collect();
        pairs.sort();
        pairs.join("&")
    }

    fn sign(&mut self, signer: &Signer) {
        let stamp = self.signed_at.strftime("%Y%m%dT%H%M%SZ").to_string();
        let day = &stamp[..8];
        let payload = hex::encode(digest::digest(&digest::SHA256, &self.body));
        self.headers.push(("x-amz-date".into(), stamp.clone()));
        if self.service == "s3" {
            self.headers
                .push(("x-amz-content-sha256".into(), payload.clone()));
        }
        if let Some(token) = &signer.token {
            self.headers
                .push(("x-amz-security-token".into(), token.clone()));
        }
        let mut headers = self.headers.clone();
        headers.sort();
        let names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
        let names = names.join(";");
        let lines: String = headers
            .iter()
            .map(|(name, value)| format!("{name}:{}\n", value.trim()))
            .collect();
        let canonical = format!(
            "{}\n{}\n{}\n{lines}\n{names}\n{payload}",
            self.method,
            self.path,
            self.query_string()
        );
        let scope = format!("{day}/{}/{}/aws4_request", signer.region, self.service);
        let hash = hex::encode(digest::digest(&digest::SHA256, canonical.as_bytes()));
        let to_sign = format!("AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hash}");
        let mut key = format!("AWS4{}", signer.key.secret).into_bytes();
        for part in [day, &signer.region, self.service, "aws4_request"] {
            key = mac(&key, part);
        }
        let signature = hex::encode(mac(&key, &to_sign));
        let id = &signer.key.id;
        self.headers.push((
            "authorization".into(),
            format!("AWS4-HMAC-SHA256 Credential={id}/{scope}, SignedHeaders={names}, Signature={signature}"),
        ));
    }
}

fn mac(key: &[u8], message: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message.as_bytes())
        .as_ref()
        .to_vec()
}

/// Everything but the unreserved characters becomes `%XX`.
pub fn escape(text: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes()
        .map(|byte| {
            if keep(byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

/// A key as part of a path: slashes stay, everything else as in [`escape`].
pub fn path_of(bucket: &str, key: &str) -> String {
    let parts: Vec<String> = key.split('/').map(escape).collect();
    format!("/{bucket}/{}", parts.join("/"))
}

/// Sends bytes and reads an answer, whatever becomes of it.
pub fn exchange(address: SocketAddr, request: &[u8], method: &str) -> Answer {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream
        .set_read_timeout(Some(Duration::from_secs(3)))
        .expect("a timeout");
    stream.write_all(request).expect("to be heard");
    let (mut received, mut broken) = (Vec::new(), None);
    let mut buffer = [0; 65_536];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => received.extend_from_slice(&buffer[..read]),
            Err(why) => {
                broken = Some(why.kind());
                break;
            }
        }
    }
    parse(&received, broken, method)
}

fn parse(received: &[u8], broken: Option<std::io::ErrorKind>, method: &str) -> Answer {
    let end = received.windows(4).position(|window| window == b"\r\n\r\n");
    let Some(end) = end else {
        return Answer {
            status: 0,
            headers: Vec::new(),
            body: Vec::new(),
            broken,
        };
    };
    let head = String::from_utf8_lossy(&received[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1)?.parse().ok())
        .unwrap_or(0);
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let mut answer = Answer {
        status,
        headers,
        body: received[end + 4..].to_vec(),
        broken,
    };
    let announced = answer
        .header("content-length")
        .and_then(|length| length.parse::<usize>().ok());
    if method != "HEAD" && announced.is_some_and(|announced| announced > answer.body.len()) {
        answer.broken = answer.broken.or(Some(std::io::ErrorKind::UnexpectedEof));
    }
    answer
}

/// Assumes a role and becomes its session.
pub fn session(
    aws: &FakeAws,
    signer: impl Into<Signer>,
    role: &str,
    more: &[(&str, &str)],
) -> Signer {
    let signer = signer.into();
    let region = signer.region.clone();
    let answer = Call::assume(aws, signer, role, more).send();
    assert_eq!(answer.status, 200, "{}", answer.text());
    Signer {
        region,
        ..signer_of(&answer)
    }
}

/// The credentials in an answer to `AssumeRole`.
pub fn signer_of(answer: &Answer) -> Signer {
    let get = |name| answer.element(name).unwrap_or_default();
    Signer {
        key: AccessKey {
            id: get("AccessKeyId"),
            secret: get("SecretAccessKey"),
        },
        token: Some(get("SessionToken")),
        region: "us-east-1".into(),
    }
}
