//! What the objects of a served bucket hold: some different bodies, each under many names.

use anyhow::Result;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use crc_fast::CrcAlgorithm;
use jiff::Timestamp;
use md5::{Digest as _, Md5};
use serde::{Deserialize, Serialize};

use crate::archive::{genuine, gzip};

/// What kind of bodies, and how many different ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Gzip as large as genuine logs.
    Genuine(u64),
    /// So many bytes that no compression makes smaller, and no gzip.
    Plain(u64, usize),
    /// Gzip files of so many bytes inside, of logs as genuine ones are, one after the other.
    Large(u64, usize),
}

/// One body, and what the service says of it.
#[derive(Debug)]
pub struct Body {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its MD5, as S3's tags are.
    pub etag: String,
    /// The checksum that S3 keeps of every object, base64.
    pub crc64: String,
}

impl Body {
    /// Takes bytes.
    pub fn of(bytes: Vec<u8>) -> Self {
        let etag = hex::encode(Md5::digest(&bytes));
        let crc64 = BASE64.encode(crc_fast::checksum(CrcAlgorithm::Crc64Nvme, &bytes).to_be_bytes());
        Self { bytes, etag, crc64 }
    }
}

/// SHA-256 as S3 writes it.
pub fn sha256(bytes: &[u8]) -> String {
    BASE64.encode(digest(&SHA256, bytes))
}

/// Makes the bodies, with all processors.
pub fn make(kind: Kind) -> Result<Vec<Body>> {
    let count = match kind {
        Kind::Genuine(count) | Kind::Plain(count, _) | Kind::Large(count, _) => count,
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let part = move |thread: u64| (thread..count).step_by(threads as usize).map(|number| one(kind, number)).collect();
    std::thread::scope(|scope| {
        let parts: Vec<_> = (0..threads).map(|thread| scope.spawn(move || part(thread))).collect();
        let mut made: Vec<std::vec::IntoIter<Body>> = Vec::new();
        for thread in parts {
            let part: Vec<Body> = thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?;
            made.push(part.into_iter());
        }
        let turns = (0..count).map(|number| (number % threads) as usize);
        Ok(turns.filter_map(|thread| made[thread].next()).collect())
    })
}

fn one(kind: Kind, number: u64) -> Body {
    match kind {
        Kind::Genuine(_) => {
            let text = genuine(number, Timestamp::UNIX_EPOCH);
            Body::of(gzip(&text))
        }
        Kind::Plain(_, size) => {
            let mut random = fastrand::Rng::with_seed(number);
            let bytes = std::iter::repeat_with(|| random.u8(..)).take(size).collect();
            Body::of(bytes)
        }
        Kind::Large(_, size) => {
            let mut text = Vec::with_capacity(size + 1_000_000);
            for part in 0.. {
                if text.len() >= size {
                    break;
                }
                text.extend_from_slice(&genuine(number * 100_000 + part, Timestamp::UNIX_EPOCH));
            }
            Body::of(gzip(&text))
        }
    }
}
