//! The status page of 500 accounts in 17 regions: how long until its first byte, and how many bytes.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use trailsync::layout::{Kind, Stream};
use trailsync::ledger::{Commit, Ledger, PassEnd};

use crate::table::{Ratio, Results};
use crate::{Setting, program};

const ACCOUNTS: usize = 500;
const REGIONS: usize = 17;
/// Milliseconds to the first byte, and bytes, at most.
const FIRST_BYTE_MS: f64 = 50.0;
const PAYLOAD: f64 = 300_000.0;
const TIMES: usize = 50;
const START: Duration = Duration::from_secs(120);

/// Measures the overview, its second page, an account and the JSON, of a daemon that cannot reach its source.
pub fn run(setting: &Setting) -> Result<Results> {
    let scratch = setting.scratch()?;
    let dir = scratch.path();
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(fill(&dir.join("state")))?;
    let daemon = Daemon::start(dir)?;
    let mut ratios = Vec::new();
    for (what, path, payload) in [
        ("overview", "/", Some(PAYLOAD)),
        ("overview, last page", "/?page=5", Some(PAYLOAD)),
        ("overview, filtered", "/?q=000000000499", Some(PAYLOAD)),
        ("account", "/account/acme/000000000007", Some(PAYLOAD)),
        ("metrics", "/metrics", None),
        ("JSON", "/api/status", None),
    ] {
        let mut times = Vec::new();
        let mut bytes = 0;
        for _ in 0..TIMES {
            let (first, length) = daemon.get(path)?;
            times.push(first.as_secs_f64() * 1e3);
            bytes = length;
        }
        times.sort_by(f64::total_cmp);
        let of_page = payload.map(|_| FIRST_BYTE_MS);
        let figure = |value, name: &str, unit, target| Ratio { what: format!("{what}: {name}"), value, unit, target };
        ratios.push(figure(times[TIMES / 2], "first byte, median", " ms", of_page));
        ratios.push(figure(times[TIMES * 95 / 100], "first byte, 95th percentile", " ms", of_page));
        ratios.push(figure(bytes as f64, "payload", " bytes", payload));
    }
    Ok(Results {
        workload: "page",
        about: format!("The status page of {ACCOUNTS} accounts in {REGIONS} regions, each asked for {TIMES} times."),
        rows: Vec::new(),
        ratios,
        notes: vec!["The state is read in the background; the first of these requests found it read.".into()],
    })
}

/// A state with a stream for each account and region, and an error in each seventh account.
async fn fill(state: &Path) -> Result<()> {
    std::fs::create_dir_all(state)?;
    let opened = Ledger::open(state, false).await?;
    let (ledger, now) = (&opened.ledger, Timestamp::now());
    let kind = Kind::named("CloudTrail").context("a kind")?;
    for account in 0..ACCOUNTS {
        for region in 0..REGIONS {
            let stream = Stream::new("acme", "AWSLogs/", None, &format!("{account:012}"), kind, &format!("r-{region}"));
            let (id, mut checkpoint) = ledger.checkpoint(&stream).await?;
            checkpoint.listed_through = Some(now);
            ledger.commit(&stream, id, &Commit::default(), &checkpoint, now).await?;
            let report = trailsync::error::Report::new("ListObjectsV2", &stream.prefix, "Access Denied");
            let error = trailsync::error::Error::of(trailsync::error::Class::Stream, report.code("AccessDenied"));
            let error = account.is_multiple_of(7).then_some(&error);
            ledger.passes_ended("acme", std::iter::once(&PassEnd::of(id, error, now, now))).await?;
        }
    }
    opened.ledger.close().await;
    Ok(())
}

struct Daemon {
    child: Child,
    address: String,
}

impl Daemon {
    fn start(dir: &Path) -> Result<Self> {
        let config = dir.join("trailsync.toml");
        let at = |name: &str| dir.join(name).display().to_string();
        let key = dir.join("key");
        std::fs::write(&key, "AKIAEXAMPLEEXAMPLE00\n")?;
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600))?;
        // Nobody listens at the source's endpoint: only the page works.
        std::fs::write(
            &config,
            format!(
                "[http]\nlisten = \"127.0.0.1:0\"\n[state]\ndir = {:?}\n[source.acme]\nbucket = \"logs\"\n\
                 region = \"eu-west-1\"\ndestination = {{ path = {:?}, allow_volatile = true }}\n\
                 credentials = {{ access_key_id_file = {key:?}, secret_access_key_file = {key:?} }}\n\
                 endpoints = {{ s3 = \"http://127.0.0.1:9\", sts = \"http://127.0.0.1:9\" }}\n\
                 [source.acme.poll]\nevery = \"10m\"\nidle_every = \"10m\"\n",
                at("state"),
                at("tree"),
                key = at("key"),
            ),
        )?;
        let mut child = program()?.arg("--config").arg(&config).arg("run").stderr(Stdio::piped()).spawn()?;
        let lines = BufReader::new(child.stderr.take().context("piped")?).lines();
        let (told, address) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some(rest) = line.split("listens on http://").nth(1) {
                    let _ = told.send(rest.split('/').next().unwrap_or_default().to_owned());
                }
            }
        });
        let mut daemon = Self { child, address: String::new() };
        daemon.address = address.recv_timeout(START).context("it never listened")?;
        let began = Instant::now();
        while daemon.get("/readyz").is_err() {
            ensure!(began.elapsed() < START, "it never was ready");
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(daemon)
    }

    /// How long until the first byte, and how many bytes the body has.
    fn get(&self, path: &str) -> Result<(Duration, usize)> {
        let mut stream = TcpStream::connect(&self.address)?;
        let sent = Instant::now();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())?;
        let mut answer = vec![0; 1];
        stream.read_exact(&mut answer)?;
        let first = sent.elapsed();
        stream.read_to_end(&mut answer)?;
        ensure!(answer.starts_with(b"HTTP/1.1 200"), "{path} is not there");
        let head = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").context("a head")?;
        Ok((first, answer.len() - head - 4))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
