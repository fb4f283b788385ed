//! Walks a source hop by hop, from the base credentials to the last byte on disk, and says what is missing.
//!
//! Wrong external ID, missing role and missing permission are one and the same 403. What came before, and what else
//! is let through, tells them apart: so the hops are walked in order, up to the first that fails. Only reads are made,
//! but for one probe file in our own tree, which is removed again.

use serde::Serialize;

use crate::policy::install::Attachment;

mod archive;
mod blame;
mod content;
mod newest;
mod public_keys;
mod walk;

pub use walk::{buckets, walk};

/// One step between us and a mirrored object, in the order in which they are walked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hop {
    /// Who we are before any role.
    Credentials,
    /// The role is ours to assume.
    AssumeRole,
    /// The role is nobody's to assume who does not know the external ID.
    ExternalId,
    /// The bucket is where, and whose, the configuration says.
    Bucket,
    /// The configured folders can be listed.
    List,
    /// Other accounts' folders cannot.
    Others,
    /// The newest log and digest can be read.
    Get,
    /// They can be decrypted.
    Kms,
    /// They are what they should be.
    Content,
    /// The keys that verify digests can be had.
    PublicKeys,
    /// The copy has a place.
    Destination,
    /// Our clock is right.
    Clock,
    /// Our own reading is not logged into the logs that we read.
    Loop,
    /// What is mirrored can be deleted, where that is configured.
    Delete,
}

impl Hop {
    /// Every hop, in order.
    pub const ALL: [Self; 14] = [
        Self::Credentials,
        Self::AssumeRole,
        Self::ExternalId,
        Self::Bucket,
        Self::List,
        Self::Others,
        Self::Get,
        Self::Kms,
        Self::Content,
        Self::PublicKeys,
        Self::Destination,
        Self::Clock,
        Self::Loop,
        Self::Delete,
    ];

    /// Its name for people.
    pub fn title(self) -> &'static str {
        match self {
            Self::Credentials => "base credentials",
            Self::AssumeRole => "assume role",
            Self::ExternalId => "external ID",
            Self::Bucket => "bucket",
            Self::List => "list",
            Self::Others => "others' logs",
            Self::Get => "get",
            Self::Kms => "KMS",
            Self::Content => "content",
            Self::PublicKeys => "public keys",
            Self::Destination => "destination",
            Self::Clock => "clock",
            Self::Loop => "feedback loop",
            Self::Delete => "delete",
        }
    }
}

/// How a hop went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// As it should.
    Passed,
    /// There is nothing to walk.
    Skipped,
    /// Mirroring works, and somebody should know.
    Warned,
    /// Mirroring, or its proof, does not work; what follows was not tried.
    Failed,
}

/// What is known of one hop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which.
    pub hop: Hop,
    /// How it went.
    pub state: State,
    /// What was tried.
    pub tried: String,
    /// What came back.
    pub found: String,
    /// The service's or the system's code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The service's request id, for its support.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// What may be behind it, the likely first, each with its mend.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// The permission that is missing, or too wide.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permission: Option<Permission>,
    /// What `trailsync policy` prints for it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub policy: Vec<PolicyLine>,
    /// Nobody needs to do anything: it may work later.
    pub passing: bool,
}

/// A permission in IAM's words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Permission {
    /// The action.
    pub action: &'static str,
    /// The resource's ARN, or `*` where the action has none.
    pub resource: String,
    /// A condition under which it is needed, such as `s3:prefix = AWSLogs/`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
}

/// A statement that `trailsync policy` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicyLine {
    /// The command that prints it.
    pub command: String,
    /// In which document.
    #[serde(serialize_with = "word")]
    pub attachment: Attachment,
    /// Which statement.
    pub sid: &'static str,
}

fn word<S: serde::Serializer>(attachment: &Attachment, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(attachment.word())
}

impl Finding {
    /// A hop that went as `state` says.
    pub fn new(hop: Hop, state: State, tried: impl Into<String>, found: impl Into<String>) -> Self {
        Self {
            hop,
            state,
            tried: tried.into(),
            found: found.into(),
            code: None,
            request_id: None,
            causes: Vec::new(),
            permission: None,
            policy: Vec::new(),
            passing: false,
        }
    }
}
