//! What a copy is of, as the small file `.trailsync/sources/<name>.json` in it.
//!
//! With it a copy that was carried elsewhere still says which bucket it mirrors, and from when on: a chain whose first
//! digest here names an older one from before `since` begins here as it should.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::own_file::{self, Refused, VERSION};

/// Where these files stand, below `.trailsync/`.
pub const FOLDER: &str = "sources";

/// What one source mirrors into this tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CopyOf {
    version: u32,
    /// Name of the source.
    pub source: String,
    /// The bucket that it reads.
    pub bucket: String,
    /// What stands before `AWSLogs/` there, without slashes at the ends.
    pub prefix: String,
    /// `o-…` where one is configured.
    pub organization: Option<String>,
    /// Nothing that is dated before this is mirrored.
    pub since: Option<Timestamp>,
    /// Folder names of the kinds that are mirrored, sorted.
    pub kinds: Vec<String>,
    /// When this source first wrote here.
    pub first_written: Timestamp,
    #[serde(skip_serializing, default, rename = "sha256")]
    _sum: String,
}

impl CopyOf {
    /// What a source of this name mirrors, from a time on.
    pub fn new(source: &str, bucket: &str, prefix: &str, first_written: Timestamp) -> Self {
        Self {
            version: VERSION,
            source: source.to_owned(),
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            organization: None,
            since: None,
            kinds: Vec::new(),
            first_written,
            _sum: String::new(),
        }
    }

    /// The file's bytes.
    pub fn render(&self) -> Vec<u8> {
        own_file::render(self)
    }

    /// Reads a file; one flipped bit anywhere in it is noticed.
    ///
    /// # Errors
    /// `Damaged` or `Newer`.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refused> {
        own_file::parse::<Self>(bytes).map(|file| Self { _sum: String::new(), ..file })
    }
}

/// The name of a source's file, below `.trailsync/`.
pub fn file_name(source: &str) -> String {
    own_file::name(FOLDER, source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_back_and_any_flipped_bit_is_noticed() {
        let mut copy = CopyOf::new("prod", "example-trail-logs", "p/q", Timestamp::from_second(1_795_521_600).unwrap());
        copy.since = Some("2026-01-01T00:00:00Z".parse().unwrap());
        copy.kinds = vec!["CloudTrail".into(), "CloudTrail-Digest".into()];
        let bytes = copy.render();
        assert_eq!(CopyOf::parse(&bytes), Ok(copy));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(CopyOf::parse(&flipped).is_err(), "bit {bit}");
        }
        assert_eq!(file_name("prod"), "sources/prod.json");
    }
}
