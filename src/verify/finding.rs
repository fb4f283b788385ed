//! What verification can find, from the worst to what is only said.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// What is said of a file or an hour; in order, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Its bytes are not those that were vouched for.
    Altered,
    /// It should be here, and is not.
    Missing,
    /// Its signature does not hold.
    BadSignature,
    /// An hour that no digest vouches for.
    Gap,
    /// It is not what it should be: no gzip, no digest, more than one member.
    Malformed,
    /// It cannot be read: permissions, or a failing disk.
    Unreadable,
    /// It was signed with a key that is not at hand.
    UnknownKey,
    /// It stands where digests cover everything, and none names it.
    Unreferenced,
    /// No digest names it, but another trail without digests may have written it.
    Unknown,
    /// What vouches for it may still come.
    Pending,
    /// Logging was stopped and started again: the hours between have no logs.
    Stopped,
    /// Its bytes are right; only the place is not the one for which it was signed.
    Moved,
    /// A later version beside the first, which no digest names.
    Later,
    /// It is what was vouched for.
    Valid,
}

/// Every verdict, the worst first.
pub const VERDICTS: [Verdict; 14] = [
    Verdict::Altered,
    Verdict::Missing,
    Verdict::BadSignature,
    Verdict::Gap,
    Verdict::Malformed,
    Verdict::Unreadable,
    Verdict::UnknownKey,
    Verdict::Unreferenced,
    Verdict::Unknown,
    Verdict::Pending,
    Verdict::Stopped,
    Verdict::Moved,
    Verdict::Later,
    Verdict::Valid,
];

/// What a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A log, or another object that is no digest.
    Log,
    /// A digest.
    Digest,
    /// The metadata of a digest, which hold its signature.
    Metadata,
    /// An hour of a chain.
    Hour,
    /// A manifest of a sealed day.
    Manifest,
    /// A file of public keys.
    Keys,
    /// The file that says what the copy is of.
    Source,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What is said.
    pub verdict: Verdict,
    /// About what.
    pub what: What,
    /// 12 digits, where it belongs to one account.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub account: String,
    /// The region's folder.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub region: String,
    /// The trail, where digests of one say it.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub trail: String,
    /// The key in the copy, or the name of a file of our own below `.trailsync/`.
    pub key: String,
    /// The first moment of an hour, or what a digest covers.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub from: Option<Timestamp>,
    /// The last one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub to: Option<Timestamp>,
    /// One sentence.
    pub detail: String,
}

impl Verdict {
    /// Something is wrong with the copy.
    pub fn is_failure(self) -> bool {
        self <= Self::UnknownKey || self == Self::Unreferenced
    }

    /// The word for people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Altered => "altered",
            Self::Missing => "missing",
            Self::BadSignature => "bad signature",
            Self::Gap => "gap",
            Self::Malformed => "malformed",
            Self::Unreadable => "unreadable",
            Self::UnknownKey => "unknown key",
            Self::Unreferenced => "unreferenced",
            Self::Unknown => "unknown",
            Self::Pending => "pending",
            Self::Stopped => "stopped",
            Self::Moved => "moved",
            Self::Later => "later version",
            Self::Valid => "valid",
        }
    }

    /// What to do about it.
    pub fn mend(self, what: What) -> &'static str {
        match (self, what) {
            (Self::Altered | Self::Malformed | Self::Missing, What::Log | What::Digest) => {
                "keep this copy as evidence; fetch the object from the source again and compare"
            }
            (Self::Altered | Self::Malformed | Self::Missing, What::Metadata) => {
                "fetch the digest's user metadata from the source again (`aws s3api head-object`)"
            }
            (Self::Altered | Self::Malformed | Self::Missing, What::Manifest) => {
                "restore it from the daemon's state directory or from another copy"
            }
            (_, What::Keys) => "restore it from another copy, or let the daemon export the keys again",
            (_, What::Source) => "let the daemon write it again, or restore it from another copy",
            (Self::BadSignature, _) => "fetch the digest and its metadata from the source again and compare",
            (Self::Gap | Self::Missing | Self::Altered | Self::Malformed, _) => {
                "look for the digest at the source; if the copy is meant to begin or end here, say so with --from and --to"
            }
            (Self::Unreadable, _) => "run as a user that may read the copy; check the disk",
            (Self::UnknownKey, _) => {
                "bring the region's keys into `.trailsync/public-keys/` (`aws cloudtrail list-public-keys`)"
            }
            (Self::Unreferenced, _) => "ask the owner of the trail: CloudTrail does not vouch for this file",
            (Self::Unknown, _) => "turn on log file validation for every trail that writes here",
            (Self::Pending, _) => "verify again when the next digest is here",
            (Self::Stopped | Self::Moved | Self::Later | Self::Valid, _) => "",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl What {
    /// The word for people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Digest => "digest",
            Self::Metadata => "metadata",
            Self::Hour => "hour",
            Self::Manifest => "manifest",
            Self::Keys => "public keys",
            Self::Source => "description",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verdict_is_listed_once_the_worst_first() {
        assert!(VERDICTS.is_sorted());
        assert_eq!(VERDICTS.len(), Verdict::Valid as usize + 1);
        let failures = VERDICTS.iter().filter(|verdict| verdict.is_failure()).count();
        assert_eq!(failures, 8);
    }
}
