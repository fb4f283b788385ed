//! The server of `bench serve` as the benchmark sees it: started, asked, told, ended.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::serve::{Counters, Delivery, Lags, Spec};

/// A server that runs until its owner is done with it.
pub struct Server {
    child: Child,
    port: u16,
    /// What it serves.
    pub spec: Spec,
}

impl Server {
    /// Starts one; returns once it listens.
    pub fn start(spec: Spec, scratch: &Path) -> Result<Self> {
        let file = scratch.join(format!("serve-{:08x}.json", fastrand::u32(..)));
        std::fs::write(&file, serde_json::to_vec(&spec)?)?;
        let mut child = Command::new(std::env::current_exe()?)
            .arg("serve")
            .arg(&file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("its output")?).read_line(&mut line)?;
        let port = line.trim().parse().context("the server did not start")?;
        Ok(Self { child, port, spec })
    }

    /// Where it is.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What it was asked since the last reset.
    pub fn counters(&self) -> Result<Counters> {
        Ok(serde_json::from_slice(&self.ask("GET", "counters", &[])?)?)
    }

    /// What became of a day's deliveries.
    pub fn lags(&self) -> Result<Lags> {
        Ok(serde_json::from_slice(&self.ask("GET", "lags", &[])?)?)
    }

    /// Counts from nothing again.
    pub fn reset(&self) -> Result<()> {
        self.ask("POST", "reset", &[]).map(drop)
    }

    /// New objects appear.
    pub fn deliver(&self, delivery: Delivery) -> Result<()> {
        self.ask("POST", "deliver", &serde_json::to_vec(&delivery)?).map(drop)
    }

    fn ask(&self, method: &str, what: &str, body: &[u8]) -> Result<Vec<u8>> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        write!(stream, "{method} /_bench/{what} HTTP/1.1\r\ncontent-length: {}\r\n\r\n", body.len())?;
        stream.write_all(body)?;
        let (mut reader, mut length, mut status) = (BufReader::new(stream), 0, String::new());
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            if status.is_empty() {
                status.clone_from(&line);
            }
            match line.trim().strip_prefix("content-length: ") {
                Some(text) => length = text.parse()?,
                None if line.trim().is_empty() => break,
                None => {}
            }
        }
        ensure!(status.contains("200"), "the server said {status}");
        let mut answer = vec![0; length];
        reader.read_exact(&mut answer)?;
        Ok(answer)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It ends with its input; the signal is for one that hangs.
        drop(self.child.stdin.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
