//! The options as the rest of the program sees them: typed, checked, complete.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::mistake::HIDDEN;
use crate::clock::Timestamp;

/// The whole configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// `[state]`
    pub state: State,
    /// `[log]`
    pub log: Log,
    /// `[http]`
    pub http: Http,
    /// `[concurrency]`
    pub concurrency: Concurrency,
    /// `[scrub]`
    pub scrub: Scrub,
    /// `[source.<name>]`, by name.
    pub sources: BTreeMap<String, Source>,
}

/// Where progress is kept.
#[derive(Debug, Clone)]
pub struct State {
    /// Directory of the database, the manifests and the lock.
    pub dir: PathBuf,
    /// How many days of objects stay rows before they are sealed into a manifest.
    pub ledger_days: u32,
}

/// How the program speaks about itself on stderr.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// `auto` (people on a terminal, else plain), `human` or `json`.
    pub format: LogFormat,
    /// A `tracing` filter directive, such as `info` or `trailsync=debug,warn`.
    pub filter: String,
}

/// The shape of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Colours on a terminal, plain text elsewhere.
    Auto,
    /// Text for people.
    Human,
    /// One JSON object a line.
    Json,
}

/// The status page and its JSON.
#[derive(Debug, Clone)]
pub struct Http {
    /// Where the daemon listens; `None`: nowhere.
    pub listen: Option<SocketAddr>,
    /// File that holds the token which every request must bear.
    pub token_file: Option<PathBuf>,
}

/// Bounds for the whole process.
#[derive(Debug, Clone)]
pub struct Concurrency {
    /// Objects in flight, all sources together.
    pub objects: usize,
    /// Passes under way, all sources together.
    pub passes: usize,
}

/// How copies are read again to find damage.
#[derive(Debug, Clone, Copy)]
pub struct Scrub {
    /// MiB a second, all sources together; 0: never.
    pub mib_per_second: u64,
    /// From the beginning of one round to that of the next.
    pub every: Duration,
}

/// One bucket (and prefix) of Account A, reached through one role, with one destination.
#[derive(Debug, Clone)]
pub struct Source {
    /// The table's name.
    pub name: String,
    /// Bucket of Account A.
    pub bucket: String,
    /// Region of the bucket.
    pub region: String,
    /// Account A: sent as `x-amz-expected-bucket-owner`.
    pub bucket_owner: Option<String>,
    /// What stands before `AWSLogs/`, without slashes at the ends; may be empty.
    pub prefix: String,
    /// `o-…` when listed in the configuration; else organizations are discovered.
    pub organization: Option<String>,
    /// Folder names of the kinds to mirror (`CloudTrail`, …).
    pub kinds: Vec<String>,
    /// Account ids, 12 digits; empty: discovered.
    pub accounts: Vec<String>,
    /// Regions; empty: discovered.
    pub regions: Vec<String>,
    /// Nothing that is dated before this is mirrored.
    pub since: Option<Timestamp>,
    /// Age at which the source's own lifecycle removes objects: then they are expected to go.
    pub source_retention: Option<Duration>,
    /// ARNs of the KMS keys that logs and digests are encrypted with, as far as is known here.
    pub kms_keys: Vec<String>,
    /// The role to assume; `None`: the bucket policy grants us directly.
    pub role: Option<Role>,
    /// The credentials that assume the role, or read the bucket where there is no role.
    pub credentials: Credentials,
    /// Where copies go.
    pub destination: Storage,
    /// When and how far back streams are listed.
    pub poll: Poll,
    /// How the copy is proved.
    pub proof: Proof,
    /// What is deleted at the source once it is mirrored; `None`: nothing, ever.
    pub after_mirror: Option<AfterMirror>,
    /// Objects of this source in flight.
    pub concurrency: usize,
    /// How the services are reached.
    pub endpoints: Endpoints,
}

/// The role in Account A. Its `Debug` hides the external ID.
#[derive(Clone)]
pub struct Role {
    /// `arn:<partition>:iam::<account>:role/<path/name>`
    pub arn: String,
    /// As Account A defines it.
    pub session_name: String,
    /// As agreed with Account A.
    pub external_id: Option<String>,
    /// What is asked for, 900 s to 43,200 s; the server's `Expiration` is what counts.
    pub duration: Duration,
    /// `sts:SourceIdentity`
    pub source_identity: Option<String>,
    /// Session tags.
    pub tags: BTreeMap<String, String>,
    /// Narrow every session by an inline policy to what the configured work needs.
    pub session_policy: bool,
    /// Region of the STS endpoint; by default the bucket's.
    pub sts_region: String,
}

impl fmt::Debug for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Role")
            .field("arn", &self.arn)
            .field("session_name", &self.session_name)
            .field("external_id", &self.external_id.as_ref().map(|_| HIDDEN))
            .field("duration", &self.duration)
            .field("source_identity", &self.source_identity)
            .field("tags", &self.tags)
            .field("session_policy", &self.session_policy)
            .field("sts_region", &self.sts_region)
            .finish()
    }
}

/// Base credentials of a source.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// The SDK's default chain: environment, profiles, web identity, ECS, IMDS.
    Default,
    /// A profile of the shared configuration.
    Profile(String),
    /// An IAM user's key pair, each part in a file of its own.
    Files {
        /// File that holds the access key id.
        access_key_id: PathBuf,
        /// File that holds the secret access key.
        secret_access_key: PathBuf,
        /// File that holds a session token, where there is one.
        session_token: Option<PathBuf>,
    },
    /// An IAM user's key pair in environment variables of these names.
    Environment {
        /// Variable that holds the access key id.
        access_key_id: String,
        /// Variable that holds the secret access key.
        secret_access_key: String,
        /// Variable that holds a session token, where there is one.
        session_token: Option<String>,
    },
}

/// Where copies go.
#[derive(Debug, Clone)]
pub enum Storage {
    /// Files and directories.
    Tree(Destination),
    /// Objects in S3.
    Bucket(Box<OwnBucket>),
}

impl Storage {
    /// The local tree, when it is one.
    pub fn tree(&self) -> Option<&Destination> {
        match self {
            Self::Tree(tree) => Some(tree),
            Self::Bucket(_) => None,
        }
    }

    /// The bucket of our own, when it is one.
    pub fn bucket(&self) -> Option<&OwnBucket> {
        match self {
            Self::Tree(_) => None,
            Self::Bucket(bucket) => Some(bucket),
        }
    }
}

/// A bucket of our own.
#[derive(Debug, Clone)]
pub struct OwnBucket {
    /// Its name.
    pub bucket: String,
    /// The folder of this source's copies, without slashes at the ends; may be empty.
    pub prefix: String,
    /// Its region.
    pub region: String,
    /// Its owner, checked with every request.
    pub bucket_owner: Option<String>,
    /// The role that writes; `None`: the credentials do.
    pub role: Option<Role>,
    /// The credentials that assume the role, or write.
    pub credentials: Credentials,
    /// How it is reached.
    pub endpoints: Endpoints,
    /// Storage class of copies; `None`: the service's own choice.
    pub storage_class: Option<String>,
    /// Encryption of copies; `None`: as the bucket says.
    pub sse: Option<String>,
    /// KMS key of copies.
    pub kms_key_id: Option<String>,
    /// For how long no copy can be deleted.
    pub object_lock: Option<ObjectLock>,
    /// MiB above which a copy is uploaded in parts.
    pub multipart_mib: u64,
    /// S3 copies objects itself where these credentials may read the source.
    pub server_side_copy: bool,
}

/// Retention of copies, as S3 Object Lock keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectLock {
    /// `GOVERNANCE` or `COMPLIANCE`.
    pub mode: String,
    /// Days from the upload.
    pub days: u32,
}

/// A local tree.
#[derive(Debug, Clone)]
pub struct Destination {
    /// Root of the tree.
    pub path: PathBuf,
    /// Permission bits of files.
    pub file_mode: u32,
    /// Permission bits of directories.
    pub dir_mode: u32,
    /// Group of files and directories, by name or number.
    pub group: Option<String>,
    /// Mirror onto tmpfs or overlayfs as well, which lose everything with the machine.
    pub allow_volatile: bool,
    /// MiB of the file system that are left free; unset, 2 % of it, at least 1 GiB or a tenth.
    pub reserve_mib: Option<u64>,
}

/// When and how far back streams are listed.
#[derive(Debug, Clone)]
pub struct Poll {
    /// Interval of a busy stream.
    pub every: Duration,
    /// Longest interval of a stream on which nothing happens.
    pub idle_every: Duration,
    /// Least that every poll looks back.
    pub min_window: Duration,
    /// Most that a poll looks back when one page holds it.
    pub max_window: Duration,
    /// Deeper listings, shallowest first.
    pub tiers: Vec<Tier>,
    /// How often everything is listed against the manifests.
    pub full_every: Duration,
    /// How often future dates and odd names are listed.
    pub tail_every: Duration,
    /// How often organizations, accounts, kinds and regions are discovered again.
    pub discover_every: Duration,
}

/// One tier of lookback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tier {
    /// How far back it lists.
    pub depth: Duration,
    /// How often.
    pub every: Duration,
}

/// How the copy is proved.
#[derive(Debug, Clone, Copy)]
pub struct Proof {
    /// How late a digest may be before its hours raise an alarm.
    pub grace: Duration,
}

/// What is deleted at the source once it is mirrored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AfterMirror {
    /// Objects that are younger stay.
    pub delete_after: Duration,
    /// What must hold of the others.
    pub require: Require,
    /// Objects of one round.
    pub most: u64,
}

/// What must hold of an object before it is deleted at the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Require {
    /// A verified digest inside of the proven range names it as it is here.
    Proven,
    /// It is here, and was acknowledged to be enough.
    Stored,
}

/// How the services are reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// Another S3 endpoint; plain HTTP only on loopback.
    pub s3: Option<String>,
    /// Another STS endpoint; plain HTTP only on loopback.
    pub sts: Option<String>,
    /// Another CloudTrail endpoint; plain HTTP only on loopback.
    pub cloudtrail: Option<String>,
    /// `https://host/bucket/key` instead of `https://bucket.host/key`.
    pub path_style: bool,
    /// FIPS endpoints.
    pub fips: bool,
    /// Dual-stack endpoints.
    pub dual_stack: bool,
    /// PEM file of certificate authorities that are trusted instead of the system's.
    pub ca_bundle: Option<PathBuf>,
    /// HTTP proxy, `http://host:port`.
    pub proxy: Option<String>,
}
