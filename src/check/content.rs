//! Whether a log is a log and a digest a digest, and whether our own reading is in it.

use std::io::Read as _;

use flate2::read::GzDecoder;
use futures_util::StreamExt as _;
use serde::Deserialize;
use serde_json::Value;

use crate::content;
use crate::object::Gzip;
use crate::source::Fetched;
use crate::source::client::Failure;

/// A log is rarely larger than some megabytes; one that is, is not read for this.
pub(super) const MOST_BYTES: u64 = 32 * 1024 * 1024;
/// The same for what it inflates to.
const MOST_INFLATED: u64 = 64 * 1024 * 1024;

/// What a log holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Log {
    pub events: usize,
    /// Reads of an object of the bucket, by anybody.
    pub reads: usize,
    /// Those of them that were ours.
    pub own_reads: usize,
}

/// Reads a body to its end.
///
/// # Errors
/// What ended it, or that it is larger than [`MOST_BYTES`].
pub(super) async fn collect(fetched: Fetched) -> Result<Vec<u8>, Failure> {
    let failed = |code: &str, message: String| Failure { code: code.to_owned(), message, ..Failure::default() };
    if fetched.size > MOST_BYTES {
        return Err(failed(
            "TooLarge",
            format!("the object has {} bytes, more than are read for a check", fetched.size),
        ));
    }
    let (mut body, mut bytes) = (fetched.body, Vec::new());
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|error| failed(error.code(), error.report().message.clone()))?;
        bytes.extend_from_slice(&chunk);
    }
    match u64::try_from(bytes.len()) == Ok(fetched.size) {
        true => Ok(bytes),
        false => {
            let message = format!("the body has {} bytes where the headers promised {}", bytes.len(), fetched.size);
            Err(failed("WrongLength", message))
        }
    }
}

/// Reads a log; `reader` is the ARN that our own reads are logged under.
///
/// # Errors
/// Why it is none, in words.
pub(super) fn log(bytes: &[u8], bucket: &str, reader: &str) -> Result<Log, String> {
    #[derive(Deserialize)]
    struct File {
        #[serde(rename = "Records")]
        records: Vec<Event>,
    }
    let file: File = serde_json::from_slice(&inflated(bytes)?).map_err(|error| no_json(&error))?;
    let reads = file.records.iter().filter(|event| event.reads(bucket));
    let own_reads = reads.clone().filter(|event| event.user["arn"] == reader).count();
    Ok(Log { events: file.records.len(), reads: reads.count(), own_reads })
}

/// Reads a digest: what the "CloudTrail digest file structure" names is there.
///
/// # Errors
/// Why it is none, in words.
pub(super) fn digest(bytes: &[u8]) -> Result<(), String> {
    let digest: Value = serde_json::from_slice(&inflated(bytes)?).map_err(|error| no_json(&error))?;
    let missing =
        ["digestS3Object", "digestPublicKeyFingerprint", "logFiles"].iter().find(|name| digest[**name].is_null());
    missing.map_or(Ok(()), |name| Err(format!("it is JSON, but no digest: `{name}` is missing")))
}

/// The part of an event that is looked at.
#[derive(Deserialize)]
struct Event {
    #[serde(default, rename = "eventSource")]
    source: Value,
    #[serde(default, rename = "eventName")]
    name: Value,
    #[serde(default, rename = "requestParameters")]
    parameters: Value,
    #[serde(default, rename = "userIdentity")]
    user: Value,
}

impl Event {
    fn reads(&self, bucket: &str) -> bool {
        self.source == "s3.amazonaws.com" && self.name == "GetObject" && self.parameters["bucketName"] == bucket
    }
}

fn inflated(bytes: &[u8]) -> Result<Vec<u8>, String> {
    match content::of(bytes, true).gzip {
        Gzip::Whole { size, .. } if size <= MOST_INFLATED => {}
        Gzip::Whole { size, .. } => return Err(format!("it inflates to {size} bytes, more than are read for a check")),
        Gzip::Broken(why) => return Err(format!("it is no whole gzip file: {why}")),
        Gzip::NotExpected => return Err("it is no gzip file".to_owned()),
    }
    let mut text = Vec::new();
    GzDecoder::new(bytes).take(MOST_INFLATED).read_to_end(&mut text).map_err(|error| error.to_string())?;
    Ok(text)
}

/// The parser's words hold no text of the log.
fn no_json(error: &serde_json::Error) -> String {
    format!("it is no log in JSON: {} at line {}, column {}", kind(error), error.line(), error.column())
}

fn kind(error: &serde_json::Error) -> &'static str {
    match error.classify() {
        serde_json::error::Category::Eof => "it ends in the middle",
        serde_json::error::Category::Data => "it has another shape",
        _ => "it is damaged",
    }
}
