//! The daemon with its page, in front of account A, and somebody who asks it over HTTP.

use std::fs;
use std::io::Write as _;
use std::time::Duration;

use fakeaws::ObjectSpec;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::account::{B, BUCKET, Shared};
use crate::program::Program;

pub const SOON: Duration = Duration::from_secs(60);
pub const OFTEN: &str = "[source.acme.poll]\nevery = \"5s\"\nidle_every = \"5s\"";

/// The daemon with its page on a port of its own.
pub struct Daemon {
    pub child: Child,
    pub address: String,
    lines: mpsc::UnboundedReceiver<String>,
}

impl Daemon {
    pub async fn start(program: &Program, more: &[&str]) -> Self {
        Self::launch(program.command(&[&["run", "--set", "http.listen=127.0.0.1:0"], more].concat())).await
    }

    pub async fn launch(mut command: Command) -> Self {
        let mut child = command.spawn().expect("the daemon starts");
        let mut stderr = BufReader::new(child.stderr.take().expect("piped")).lines();
        let (sender, lines) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok(Some(line)) = stderr.next_line().await {
                let _ = sender.send(line);
            }
        });
        let mut daemon = Self { child, address: String::new(), lines };
        daemon.address = daemon.listens().await;
        daemon
    }

    pub async fn listens(&mut self) -> String {
        let line = self.says("listens on http://").await;
        line.split("http://").nth(1).expect("an address").split('/').next().expect("an address").to_owned()
    }

    /// The next line of its log that contains this.
    pub async fn says(&mut self, what: &str) -> String {
        let wait = async {
            loop {
                let line = self.lines.recv().await.unwrap_or_else(|| panic!("it ended without saying {what:?}"));
                if line.contains(what) {
                    return line;
                }
            }
        };
        timeout(SOON, wait).await.unwrap_or_else(|_| panic!("it never said {what:?}"))
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await
    }

    pub async fn ask(&self, request: &str) -> Answer {
        let mut stream = TcpStream::connect(&self.address).await.expect("it listens");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut text = Vec::new();
        timeout(SOON, stream.read_to_end(&mut text)).await.expect("an answer in time").expect("an answer");
        Answer::of(&text)
    }

    /// Sends bytes and nothing more; `None` when no answer comes back.
    pub async fn send(&self, request: &[u8]) -> Option<Answer> {
        let mut stream = TcpStream::connect(&self.address).await.expect("it listens");
        // It may hang up at the first wrong byte.
        let _ = stream.write_all(request).await;
        let _ = stream.shutdown().await;
        let mut text = Vec::new();
        let _ = timeout(SOON, stream.read_to_end(&mut text)).await.expect("it ends");
        (!text.is_empty()).then(|| Answer::of(&text))
    }

    /// A connection whose answer has begun and does not end.
    pub async fn open(&self, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).await.expect("it listens");
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.expect("sent");
        let mut first = [0; 12];
        timeout(SOON, stream.read_exact(&mut first)).await.expect("an answer in time").expect("an answer");
        assert_eq!(&first, b"HTTP/1.1 200");
        stream
    }

    /// Asks until the answer is as it should be.
    pub async fn until(&self, path: &str, good: impl Fn(&Answer) -> bool) -> Answer {
        let wait = async {
            loop {
                let answer = self.get(path).await;
                if good(&answer) {
                    return answer;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        timeout(SOON, wait).await.unwrap_or_else(|_| panic!("{path} never was as it should be"))
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = self.child.id().and_then(|id| rustix::process::Pid::from_raw(i32::try_from(id).ok()?));
        rustix::process::kill_process(pid.expect("it runs"), signal).expect("sent");
    }

    /// Open sockets of the daemon.
    pub fn sockets(&self) -> usize {
        let fds = fs::read_dir(format!("/proc/{}/fd", self.child.id().expect("it runs"))).expect("it runs");
        let is_socket =
            |fd: &fs::DirEntry| fs::read_link(fd.path()).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"));
        fds.flatten().filter(is_socket).count()
    }

    pub fn resident_mib(&self) -> u64 {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.child.id().expect("it runs"))).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("a size");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") / 1024
    }
}

/// What came back.
pub struct Answer {
    pub code: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    fn of(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        Self { code, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    pub fn json(&self) -> serde_json::Value {
        let start = self.body.find('{').expect("an object");
        let end = self.body.rfind('}').expect("an object");
        serde_json::from_str(&self.body[start..=end]).expect("JSON")
    }
}

/// Somebody who mirrors so many logs.
pub async fn mirrored(objects: usize) -> (Shared, Program) {
    let shared = Shared::own_logs().await;
    for n in 0..objects {
        deliver(&shared, n);
    }
    let program = Program::new(&shared, "", OFTEN);
    (shared, program)
}

/// A log of the present minute is delivered.
pub fn deliver(shared: &Shared, n: usize) {
    let now = jiff::Timestamp::now();
    let (day, minute) = (now.strftime("%Y/%m/%d"), now.strftime("%Y%m%dT%H%MZ"));
    let key = format!("AWSLogs/{B}/CloudTrail/eu-west-1/{day}/{B}_CloudTrail_eu-west-1_{minute}_{n:016}.json.gz");
    shared.world.put_object(BUCKET, &key, ObjectSpec::log(empty_log()));
}

pub fn empty_log() -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(b"{\"Records\":[]}").expect("in memory");
    gzip.finish().expect("in memory")
}
