//! The limit: GET by GET with a bare HTTP client, a signature, and a file that is renamed into its place.
//!
//! No listing, no checksum, no hash, no durability, no record: what is left when everything that can be left out is.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::client::identity::Identity;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::serve::{Keys, Spec};

/// What is done with what was fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Keep {
    /// Nothing: how fast the server is.
    Nothing,
    /// A file with a temporary name, renamed.
    Files,
}

/// Fetches every object of a specification, so many at a time.
pub fn run(spec: &Path, endpoint: &str, root: &Path, in_flight: u64, keep: Keep) -> Result<()> {
    let spec: Spec = serde_json::from_slice(&std::fs::read(spec)?)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    let work = Rc::new(Work { keys: Keys::new(spec.shape), bucket: spec.bucket, root: root.to_owned(), keep });
    let host = endpoint.strip_prefix("http://").context("an endpoint")?.to_owned();
    local.block_on(&runtime, async move {
        let each: Vec<_> = (0..in_flight)
            .map(|first| tokio::task::spawn_local(work.clone().connection(host.clone(), first, in_flight)))
            .collect();
        for one in each {
            one.await??;
        }
        Ok(())
    })
}

struct Work {
    keys: Keys,
    bucket: String,
    root: PathBuf,
    keep: Keep,
}

impl Work {
    /// Every `step`th object over one connection.
    async fn connection(self: Rc<Self>, host: String, first: u64, step: u64) -> Result<()> {
        let stream = TcpStream::connect(&host).await?;
        stream.set_nodelay(true)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::task::spawn_local(connection);
        let identity = credentials();
        let (mut key, mut folder) = (Vec::new(), PathBuf::new());
        for number in (first..self.keys.len()).step_by(step as usize) {
            self.keys.write(number, &mut key);
            let key = std::str::from_utf8(&key)?;
            let request = signed(&host, &self.bucket, key, &identity)?;
            let answer = sender.send_request(request).await?;
            ensure!(answer.status().is_success(), "{key}: {}", answer.status());
            let body = answer.into_body().collect().await?.to_bytes();
            if self.keep == Keep::Files {
                keep(&self.root.join(key), &mut folder, &body)?;
            }
        }
        Ok(())
    }
}

fn credentials() -> Identity {
    Credentials::new("ASIABENCHBENCHBENCH0", "0".repeat(40), Some("0".repeat(200)), None, "bench").into()
}

fn signed(host: &str, bucket: &str, key: &str, identity: &Identity) -> Result<hyper::Request<Empty<Bytes>>> {
    let url = format!("http://{host}/{bucket}/{key}");
    let mut settings = SigningSettings::default();
    settings.expires_in = None::<Duration>;
    let params = v4::SigningParams::builder()
        .identity(identity)
        .region("us-east-1")
        .name("s3")
        .time(SystemTime::now())
        .settings(settings)
        .build()?
        .into();
    let headers = [("host", host), ("x-amz-checksum-mode", "ENABLED")];
    let signable = SignableRequest::new("GET", &url, headers.into_iter(), SignableBody::UnsignedPayload)?;
    let (instructions, _) = sign(signable, &params)?.into_parts();
    let mut request = hyper::Request::get(format!("/{bucket}/{key}"));
    for (name, value) in headers.into_iter().chain(instructions.headers()) {
        request = request.header(name, value);
    }
    Ok(request.body(Empty::new())?)
}

fn keep(path: &Path, folder: &mut PathBuf, bytes: &[u8]) -> std::io::Result<()> {
    if let Some(parent) = path.parent().filter(|parent| **parent != *folder) {
        std::fs::create_dir_all(parent)?;
        folder.clone_from(&parent.to_owned());
    }
    let staged = path.with_extension("staged");
    std::fs::write(&staged, bytes)?;
    std::fs::rename(&staged, path)
}
