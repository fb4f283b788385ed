//! moto as an independent S3, from the witness's private Python environment.

use std::ffi::OsStr;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const MEND: &str = "make it with `python3 -m venv target/witness && target/witness/bin/pip install -q -r \
                    tests/witness-requirements.txt`, or set TRAILSYNC_WITNESS=skip";

/// Where the witness's programs are; `None` when it was sent away.
pub fn witness() -> Option<PathBuf> {
    let named = std::env::var_os("TRAILSYNC_WITNESS");
    if named.as_deref() == Some(OsStr::new("skip")) {
        println!("SKIPPED: TRAILSYNC_WITNESS=skip: no independent witness was heard");
        return None;
    }
    let place = named.map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/witness"), PathBuf::from);
    let programs = place.join("bin");
    assert!(programs.join("moto_server").exists() && programs.join("aws").exists(), "no witness in {place:?}: {MEND}");
    Some(programs)
}

/// A moto server of our own, ended with its owner.
pub struct Moto {
    server: Child,
    address: SocketAddr,
    pub programs: PathBuf,
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl Moto {
    pub fn start(programs: PathBuf) -> Self {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
        let address = free.expect("a free port");
        let server = Command::new(programs.join("moto_server"))
            .args(["-H", "127.0.0.1", "-p", &address.port().to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("moto starts");
        let mut moto = Self { server, address, programs };
        let patience = Instant::now() + Duration::from_secs(90);
        while TcpStream::connect(address).is_err() {
            assert!(moto.server.try_wait().expect("asked").is_none(), "moto ended at once: {MEND}");
            assert!(Instant::now() < patience, "moto does not listen");
            std::thread::sleep(Duration::from_millis(100));
        }
        moto
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A bare request without a signature; the answer's status.
    pub fn raw(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> u16 {
        let mut stream = TcpStream::connect(self.address).expect("connected");
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n",
            self.address
        );
        stream.write_all(&[head.as_bytes(), body].concat()).expect("sent");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("answered");
        let answer = String::from_utf8_lossy(&answer);
        answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("no answer: {answer}"))
    }

    /// Puts an object as `CloudTrail` would.
    pub fn put<'m>(
        &self,
        bucket: &str,
        key: &str,
        metadata: impl IntoIterator<Item = (&'m str, &'m str)>,
        body: &[u8],
    ) {
        let metadata = metadata.into_iter().map(|(name, value)| format!("x-amz-meta-{name}: {value}\r\n"));
        let headers = metadata.chain(["Content-Type: application/json\r\nContent-Encoding: gzip\r\n".into()]);
        let status = self.raw("PUT", &format!("/{bucket}/{}", encoded(key)), &headers.collect::<String>(), body);
        assert_eq!(status, 200, "{key}");
    }
}

fn encoded(key: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(byte);
    key.bytes().map(|b| if plain(&b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}
