//! Every option: its path, what it takes, its default, what it is for, and an example.
//!
//! The one home of all of these. Reading, checking, `trailsync config`, the JSON Schema and the test of
//! the reference (`config/trailsync.toml`) work from this table.

use super::shape;
use super::value::Kind;

/// One option.
#[derive(Debug)]
pub struct Opt {
    /// Its path; `*` stands for the name of a source.
    pub path: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// What holds when nobody sets it.
    pub default: Fallback,
    /// What it is for, in one sentence.
    pub doc: &'static str,
    /// A good value, as it is written in a variable.
    pub example: &'static str,
    /// Whether its value may be shown.
    pub showing: Showing,
}

/// What holds when nobody sets an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// This value, as it is written in a variable.
    Value(&'static str),
    /// Somebody must set it (where its table is there, when that is an optional one).
    Required,
    /// Nothing: the feature is off, or things are discovered.
    Absent,
    /// What the option of this path says, or a part of it.
    From(&'static str),
    /// Somebody must set it, or the option of this name beside it.
    Unless(&'static str),
}

/// Whether a value may be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Showing {
    /// In output and messages.
    Always,
    /// In output; not in messages, since somebody may have put a secret where its place was asked for.
    WhenRight,
    /// Nowhere.
    Never,
}

/// Tables that need not be there; what is required in them is required only when they are.
pub const OPTIONAL_TABLES: &[&str] =
    &["source.*.role", "source.*.destination.role", "source.*.destination.object_lock", "source.*.after_mirror"];

/// Names that would hold key material in the open, and what to write instead.
pub const REFUSED: &[(&str, &str)] = &[
    ("source.*.credentials.access_key_id", "access_key_id_file or access_key_id_env"),
    ("source.*.credentials.secret_access_key", "secret_access_key_file or secret_access_key_env"),
    ("source.*.credentials.session_token", "session_token_file or session_token_env"),
    ("source.*.destination.credentials.access_key_id", "access_key_id_file or access_key_id_env"),
    ("source.*.destination.credentials.secret_access_key", "secret_access_key_file or secret_access_key_env"),
    ("source.*.destination.credentials.session_token", "session_token_file or session_token_env"),
];

use Fallback::{Absent, From, Required, Unless, Value};

/// Every option, in the order in which people read about them.
pub static OPTIONS: &[Opt] = &[
    option("state.dir", ABSOLUTE_PATH, Value("/var/lib/trailsync"))
        .doc("Directory of the database, the manifests and the lock.")
        .example("/var/lib/trailsync"),
    option("state.ledger_days", Kind::Integer { least: 1, most: 35 }, Value("3"))
        .doc("Days for which objects stay rows of the database before they are sealed into a manifest.")
        .example("3"),
    option("log.format", Kind::Choice(&["auto", "human", "json"]), Value("auto"))
        .doc("Shape of log lines: `human`, `json`, or `auto`: colours on a terminal, plain text elsewhere.")
        .example("json"),
    option(
        "log.filter",
        Kind::Text { expected: "a level or filter directives of `tracing`", fits: shape::log_filter },
        Value("info"),
    )
    .doc("What is logged: a level (error, warn, info, debug, trace), or directives per module.")
    .example("trailsync=debug,warn"),
    option(
        "http.listen",
        Kind::Text { expected: "an address and a port, or `off`", fits: shape::listen },
        Value("127.0.0.1:9720"),
    )
    .doc("Where the daemon serves its status page, metrics and health; `off` for nowhere.")
    .example("127.0.0.1:9720"),
    option("http.token_file", ABSOLUTE_PATH, Absent)
        .doc("File that holds a token; every request but those for health must then bear it.")
        .example("/run/credentials/http_token"),
    option("concurrency.objects", CONCURRENCY, Value("128"))
        .doc("Most objects in flight, all sources together.")
        .example("128"),
    option("concurrency.passes", CONCURRENCY, Value("16")).doc("Passes under way, all sources together.").example("16"),
    option("scrub.mib_per_second", Kind::Integer { least: 0, most: 10_000 }, Value("2"))
        .doc("MiB a second at which copies are read again to find damage, all sources together; 0 switches it off.")
        .example("2"),
    option("scrub.every", Kind::Duration { least: "1h", most: "3650d" }, Value("30d"))
        .doc("From the beginning of one round of reading every copy again to that of the next.")
        .example("30d"),
    option("source.*.bucket", BUCKET, Required)
        .doc("Bucket of Account A that CloudTrail writes to.")
        .example("example-trail-logs"),
    option("source.*.region", REGION, Required).doc("Region of the bucket.").example("eu-central-1"),
    option("source.*.bucket_owner", ACCOUNT, From("role.arn"))
        .doc(
            "Account A, sent as `x-amz-expected-bucket-owner`: a bucket that somebody else re-created is refused. \
             With a role, the account of its ARN unless set: Account A owns both.",
        )
        .example("111111111111"),
    option(
        "source.*.prefix",
        Kind::Text { expected: "up to 200 characters without a slash at either end", fits: shape::prefix },
        Value(""),
    )
    .doc("What the trail puts before `AWSLogs/`, exactly as the trail has it.")
    .example("audit/trails"),
    option(
        "source.*.organization",
        Kind::Text { expected: "an organization id, `o-` and 10 to 32 of a-z and 0-9", fits: shape::organization },
        Absent,
    )
    .doc("Organization of an organization trail; unset, organizations are discovered.")
    .example("o-abcde12345"),
    option(
        "source.*.kinds",
        Kind::Texts {
            expected: "of CloudTrail, CloudTrail-Digest, CloudTrail-Insight, CloudTrail-NetworkActivity, \
                       CloudTrail-Aggregated",
            fits: shape::kind,
            least: 1,
        },
        Value("CloudTrail,CloudTrail-Digest,CloudTrail-Insight,CloudTrail-NetworkActivity,CloudTrail-Aggregated"),
    )
    .doc("Folders of each account that are mirrored. Without CloudTrail-Digest nothing can be proved.")
    .example("CloudTrail,CloudTrail-Digest"),
    option(
        "source.*.accounts",
        Kind::Texts { expected: "account ids, 12 digits each", fits: shape::account, least: 0 },
        Value(""),
    )
    .doc("Accounts to mirror; empty, they are discovered, for which the role must be allowed to list `AWSLogs/`.")
    .example("222222222222,012345678901"),
    option(
        "source.*.regions",
        Kind::Texts { expected: "regions such as \"eu-central-1\"", fits: shape::region, least: 0 },
        Value(""),
    )
    .doc("Regions to mirror; empty, they are discovered.")
    .example("eu-central-1,us-east-1"),
    option("source.*.since", Kind::Time, Absent)
        .doc("Nothing dated before this is mirrored; unset, everything that is there.")
        .example("2024-01-01"),
    option("source.*.source_retention", Kind::Duration { least: "1d", most: "10000d" }, Absent)
        .doc("Age at which the bucket's own lifecycle removes objects; younger ones that go missing raise an alarm.")
        .example("365d"),
    option(
        "source.*.kms_keys",
        Kind::Texts {
            expected: "ARNs of KMS keys, `arn:<partition>:kms:<region>:<account>:key/<id>`",
            fits: shape::kms_key,
            least: 0,
        },
        Value(""),
    )
    .doc("KMS keys that logs and digests are encrypted with, for what `trailsync policy` prints and `check` names.")
    .example("arn:aws:kms:eu-central-1:111111111111:key/1234abcd-12ab-34cd-56ef-1234567890ab"),
    option("source.*.concurrency", CONCURRENCY, Value("64"))
        .doc("Most objects of this source in flight; how many are is found by how the service answers.")
        .example("64"),
    option(
        "source.*.role.arn",
        Kind::Text { expected: "`arn:<partition>:iam::<account>:role/<name>`", fits: shape::role_arn },
        Required,
    )
    .doc("Role in Account A that is assumed.")
    .example("arn:aws:iam::111111111111:role/CloudTrailReadB"),
    option(
        "source.*.role.session_name",
        Kind::Text { expected: "2 to 64 of A-Z, a-z, 0-9 and _+=,.@-", fits: shape::session_name },
        Required,
    )
    .doc("Name of the session, as Account A defines it; its CloudTrail shows it.")
    .example("trailsync"),
    option(
        "source.*.role.external_id",
        Kind::Text { expected: "2 to 1224 of A-Z, a-z, 0-9 and _+=,.@:/-", fits: shape::external_id },
        Absent,
    )
    .doc("External ID that was agreed with Account A; a third party always has one.")
    .example("Z-7d1c0f9e")
    .showing(Showing::Never),
    option("source.*.role.duration", Kind::Duration { least: "15m", most: "12h" }, Value("1h"))
        .doc("Lifetime that is asked for each session; what the service grants is what counts.")
        .example("1h"),
    option(
        "source.*.role.source_identity",
        Kind::Text {
            expected: "2 to 64 of A-Z, a-z, 0-9 and _+=,.@-, not starting with `aws:`",
            fits: shape::source_identity,
        },
        Absent,
    )
    .doc("Source identity of the session, where Account A requires one (`sts:SetSourceIdentity`).")
    .example("log-archive"),
    option("source.*.role.tags", Kind::Tags, Absent)
        .doc("Session tags, where Account A requires them (`sts:TagSession`).")
        .example("Team=audit,CostCenter=42"),
    option("source.*.role.session_policy", Kind::Flag, Value("true"))
        .doc("Narrow each session, by an inline policy, to what the configured work needs.")
        .example("true"),
    option("source.*.role.sts_region", REGION, From("region"))
        .doc("Region of the STS endpoint that is asked.")
        .example("eu-central-1"),
    option(
        "source.*.credentials.profile",
        Kind::Text { expected: "the name of a profile", fits: shape::profile },
        Absent,
    )
    .doc("Profile of the shared AWS configuration that gives the base credentials.")
    .example("log-archive")
    .showing(Showing::WhenRight),
    option("source.*.credentials.access_key_id_file", ABSOLUTE_PATH, Absent)
        .doc("File that holds the access key id of an IAM user.")
        .example("/run/credentials/access_key_id")
        .showing(Showing::WhenRight),
    option("source.*.credentials.secret_access_key_file", ABSOLUTE_PATH, Absent)
        .doc("File that holds the secret access key.")
        .example("/run/credentials/secret_access_key")
        .showing(Showing::WhenRight),
    option("source.*.credentials.session_token_file", ABSOLUTE_PATH, Absent)
        .doc("File that holds the session token, where there is one.")
        .example("/run/credentials/session_token")
        .showing(Showing::WhenRight),
    option("source.*.credentials.access_key_id_env", VARIABLE, Absent)
        .doc("Environment variable that holds the access key id of an IAM user.")
        .example("B_ACCESS_KEY_ID")
        .showing(Showing::WhenRight),
    option("source.*.credentials.secret_access_key_env", VARIABLE, Absent)
        .doc("Environment variable that holds the secret access key.")
        .example("B_SECRET_ACCESS_KEY")
        .showing(Showing::WhenRight),
    option("source.*.credentials.session_token_env", VARIABLE, Absent)
        .doc("Environment variable that holds the session token, where there is one.")
        .example("B_SESSION_TOKEN")
        .showing(Showing::WhenRight),
    option("source.*.destination.path", ABSOLUTE_PATH, Unless("bucket"))
        .doc("Root of the copy; a tree of its own for each source. Unset where copies go to a bucket.")
        .example("/srv/trails/prod"),
    option(
        "source.*.destination.file_mode",
        Kind::Mode {
            needs: 0o400,
            expected: "permission bits in octal and quotes that let the owner read, such as \"0640\"",
        },
        Value("0640"),
    )
    .doc("Permission bits of files.")
    .example("0640"),
    option(
        "source.*.destination.dir_mode",
        Kind::Mode {
            needs: 0o700,
            expected: "permission bits in octal and quotes that give the owner all, such as \"0750\"",
        },
        Value("0750"),
    )
    .doc("Permission bits of directories.")
    .example("0750"),
    option(
        "source.*.destination.group",
        Kind::Text { expected: "the name or number of a group", fits: shape::group },
        Absent,
    )
    .doc("Group of files and directories, so that a log shipper can read them; unset, the process's own.")
    .example("adm"),
    option("source.*.destination.allow_volatile", Kind::Flag, Value("false"))
        .doc("Mirror onto tmpfs or overlayfs as well, which lose everything with the machine.")
        .example("false"),
    option("source.*.destination.reserve_mib", Kind::Integer { least: 0, most: 1 << 30 }, Absent)
        .doc("MiB of its file system that are left free; unset, 2 % of it, at least 1 GiB or a tenth of a small one.")
        .example("1024"),
    option("source.*.destination.bucket", BUCKET, Absent)
        .doc("Bucket of our own to which copies go, instead of a tree.")
        .example("our-trail-archive"),
    option(
        "source.*.destination.prefix",
        Kind::Text { expected: "up to 200 characters without a slash at either end", fits: shape::prefix },
        Absent,
    )
    .doc("Folder of that bucket for the copies of this source alone.")
    .example("trails/prod"),
    option("source.*.destination.region", REGION, Absent)
        .doc("Region of that bucket; unset, the source's.")
        .example("eu-central-1"),
    option("source.*.destination.bucket_owner", ACCOUNT, Absent)
        .doc("Account that owns that bucket, checked with every request; unset, the account of `destination.role`.")
        .example("222222222222"),
    option(
        "source.*.destination.storage_class",
        Kind::Choice(&["STANDARD", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR"]),
        Absent,
    )
    .doc("Storage class of copies, of those that can be read at once; unset, the service's own choice.")
    .example("STANDARD_IA"),
    option("source.*.destination.sse", Kind::Choice(&["AES256", "aws:kms", "aws:kms:dsse"]), Absent)
        .doc("Encryption of copies; unset, as the bucket says.")
        .example("aws:kms"),
    option(
        "source.*.destination.kms_key_id",
        Kind::Text {
            expected: "`arn:<partition>:kms:<region>:<account>:key/<id>` or an alias",
            fits: shape::kms_key_or_alias,
        },
        Absent,
    )
    .doc("KMS key of copies, with `sse = \"aws:kms\"`; unset, the account's own key for S3.")
    .example("arn:aws:kms:eu-central-1:222222222222:key/1234abcd-12ab-34cd-56ef-1234567890ab"),
    option("source.*.destination.object_lock.mode", Kind::Choice(&["GOVERNANCE", "COMPLIANCE"]), Required)
        .doc("Object Lock mode of copies: who may shorten the retention, some or nobody.")
        .example("COMPLIANCE"),
    option("source.*.destination.object_lock.days", Kind::Integer { least: 1, most: 36_500 }, Required)
        .doc("Days for which no copy can be deleted.")
        .example("365"),
    option("source.*.destination.multipart_mib", Kind::Integer { least: 5, most: 5_120 }, Absent)
        .doc("MiB above which a copy is uploaded in parts; unset, 16.")
        .example("16"),
    option("source.*.destination.server_side_copy", Kind::Flag, Absent)
        .doc(
            "Let S3 copy objects itself, which saves the upload: for credentials of the destination that may read the \
             source's bucket, too. Where the service does not let them, objects are uploaded.",
        )
        .example("true"),
    option(
        "source.*.destination.role.arn",
        Kind::Text { expected: "`arn:<partition>:iam::<account>:role/<name>`", fits: shape::role_arn },
        Required,
    )
    .doc("Role of our own that is assumed to write the copies.")
    .example("arn:aws:iam::222222222222:role/TrailArchive"),
    option(
        "source.*.destination.role.session_name",
        Kind::Text { expected: "2 to 64 of A-Z, a-z, 0-9 and _+=,.@-", fits: shape::session_name },
        Required,
    )
    .doc("Name of its sessions.")
    .example("trailsync"),
    option(
        "source.*.destination.role.external_id",
        Kind::Text { expected: "2 to 1224 of A-Z, a-z, 0-9 and _+=,.@:/-", fits: shape::external_id },
        Absent,
    )
    .doc("External ID that its trust policy demands, if it does.")
    .example("archive-41")
    .showing(Showing::Never),
    option("source.*.destination.role.duration", Kind::Duration { least: "15m", most: "12h" }, Value("1h"))
        .doc("Lifetime that is asked for each of its sessions.")
        .example("1h"),
    option("source.*.destination.role.session_policy", Kind::Flag, Value("true"))
        .doc("Narrow each of its sessions to that bucket and prefix.")
        .example("true"),
    option("source.*.destination.role.sts_region", REGION, Absent)
        .doc("Region of the STS endpoint that is asked for it; unset, the bucket's.")
        .example("eu-central-1"),
    option(
        "source.*.destination.credentials.profile",
        Kind::Text { expected: "the name of a profile", fits: shape::profile },
        Absent,
    )
    .doc("Profile of the shared AWS configuration that assumes that role, or writes to the bucket.")
    .example("archive")
    .showing(Showing::WhenRight),
    option("source.*.destination.credentials.access_key_id_file", ABSOLUTE_PATH, Absent)
        .doc("File that holds the access key id, for the bucket of copies.")
        .example("/run/archive/access_key_id")
        .showing(Showing::WhenRight),
    option("source.*.destination.credentials.secret_access_key_file", ABSOLUTE_PATH, Absent)
        .doc("File that holds the secret access key, for the bucket of copies.")
        .example("/run/archive/secret_access_key")
        .showing(Showing::WhenRight),
    option("source.*.destination.credentials.session_token_file", ABSOLUTE_PATH, Absent)
        .doc("File that holds the session token, where there is one, for the bucket of copies.")
        .example("/run/archive/session_token")
        .showing(Showing::WhenRight),
    option("source.*.destination.credentials.access_key_id_env", VARIABLE, Absent)
        .doc("Environment variable that holds the access key id, for the bucket of copies.")
        .example("ARCHIVE_ACCESS_KEY_ID")
        .showing(Showing::WhenRight),
    option("source.*.destination.credentials.secret_access_key_env", VARIABLE, Absent)
        .doc("Environment variable that holds the secret access key, for the bucket of copies.")
        .example("ARCHIVE_SECRET_ACCESS_KEY")
        .showing(Showing::WhenRight),
    option("source.*.destination.credentials.session_token_env", VARIABLE, Absent)
        .doc("Environment variable that holds the session token, where there is one, for the bucket of copies.")
        .example("ARCHIVE_SESSION_TOKEN")
        .showing(Showing::WhenRight),
    option("source.*.destination.endpoints.s3", ENDPOINT, Absent)
        .doc("Another S3 endpoint for the bucket of copies; plain HTTP only on loopback.")
        .example("https://s3.internal.example"),
    option("source.*.destination.endpoints.sts", ENDPOINT, Absent)
        .doc("Another STS endpoint for its role; plain HTTP only on loopback.")
        .example("https://sts.internal.example"),
    option("source.*.destination.endpoints.path_style", Kind::Flag, Absent)
        .doc("Ask it for `https://host/bucket/key` instead of `https://bucket.host/key`.")
        .example("true"),
    option("source.*.destination.endpoints.fips", Kind::Flag, Absent).doc("Use FIPS endpoints for it.").example("true"),
    option("source.*.destination.endpoints.dual_stack", Kind::Flag, Absent)
        .doc("Use dual-stack endpoints for it.")
        .example("true"),
    option("source.*.destination.endpoints.ca_bundle", ABSOLUTE_PATH, Absent)
        .doc("PEM file of certificate authorities that are trusted for it instead of the system's.")
        .example("/etc/ssl/internal-ca.pem"),
    option("source.*.destination.endpoints.proxy", PROXY, Absent)
        .doc("HTTP proxy for all requests to it.")
        .example("http://proxy.internal.example:3128")
        .showing(Showing::WhenRight),
    option("source.*.poll.every", Kind::Duration { least: "5s", most: "1d" }, Value("1m"))
        .doc("Interval at which a busy stream is listed.")
        .example("1m"),
    option("source.*.poll.idle_every", Kind::Duration { least: "5s", most: "1d" }, Value("14m"))
        .doc("Longest interval of a stream on which nothing happens; never shorter than `every`.")
        .example("14m"),
    option("source.*.poll.min_window", Kind::Duration { least: "1m", most: "35d" }, Value("20m"))
        .doc("Least that every poll looks back: CloudTrail delivers out of order.")
        .example("20m"),
    option("source.*.poll.max_window", Kind::Duration { least: "1m", most: "35d" }, Value("2h"))
        .doc("Most that a poll looks back when one page holds it; at most `state.ledger_days`.")
        .example("2h"),
    option("source.*.poll.lookback", Kind::Tiers, Value("2h/15m,26h/6h,35d/1d"))
        .doc("Deeper listings, shallowest first, each deeper and rarer than the one before.")
        .example("2h/15m,26h/6h,35d/1d"),
    option("source.*.poll.full_every", Kind::Duration { least: "1h", most: "365d" }, Value("30d"))
        .doc("How often everything is listed against the manifests.")
        .example("30d"),
    option("source.*.poll.tail_every", Kind::Duration { least: "1m", most: "30d" }, Value("1d"))
        .doc("How often future dates and odd names are listed.")
        .example("1d"),
    option("source.*.poll.discover_every", Kind::Duration { least: "1m", most: "30d" }, Value("1h"))
        .doc("How often organizations, accounts, kinds and regions are discovered again.")
        .example("1h"),
    option("source.*.proof.grace", Kind::Duration { least: "10m", most: "35d" }, Value("3h"))
        .doc("How late a digest may be before its hours raise an alarm.")
        .example("3h"),
    option("source.*.after_mirror.delete_after", Kind::Duration { least: "7d", most: "10000d" }, Required)
        .doc("Age at which objects that are mirrored are deleted at the source; without this table nothing ever is.")
        .example("90d"),
    option("source.*.after_mirror.require", Kind::Choice(&["proven", "stored"]), Value("proven"))
        .doc("What must hold of an object before it is deleted: a digest of a proven chain names it, or it is stored.")
        .example("proven"),
    option("source.*.after_mirror.i_accept_deletion_without_proof", Kind::Flag, Value("false"))
        .doc("Acknowledges that `require = \"stored\"` deletes logs of which nothing shows that they are genuine.")
        .example("true"),
    option("source.*.after_mirror.most", Kind::Integer { least: 1, most: 10_000_000 }, Value("10000"))
        .doc("Objects that one round deletes at most; the daemon begins one a day.")
        .example("10000"),
    option("source.*.endpoints.s3", ENDPOINT, Absent)
        .doc("Another S3 endpoint; plain HTTP only on loopback.")
        .example("https://s3.internal.example"),
    option("source.*.endpoints.sts", ENDPOINT, Absent)
        .doc("Another STS endpoint; plain HTTP only on loopback.")
        .example("https://sts.internal.example"),
    option("source.*.endpoints.cloudtrail", ENDPOINT, Absent)
        .doc("Another CloudTrail endpoint, of which public keys are asked; plain HTTP only on loopback.")
        .example("https://cloudtrail.internal.example"),
    option("source.*.endpoints.path_style", Kind::Flag, Value("false"))
        .doc("Ask for `https://host/bucket/key` instead of `https://bucket.host/key`.")
        .example("false"),
    option("source.*.endpoints.fips", Kind::Flag, Value("false")).doc("Use FIPS endpoints.").example("false"),
    option("source.*.endpoints.dual_stack", Kind::Flag, Value("false"))
        .doc("Use dual-stack endpoints, which have IPv6 addresses too.")
        .example("false"),
    option("source.*.endpoints.ca_bundle", ABSOLUTE_PATH, Absent)
        .doc("PEM file of certificate authorities that are trusted instead of the system's.")
        .example("/etc/ssl/internal-ca.pem"),
    option("source.*.endpoints.proxy", PROXY, Absent)
        .doc("HTTP proxy for all requests of this source.")
        .example("http://proxy.internal.example:3128")
        .showing(Showing::WhenRight),
];

const ABSOLUTE_PATH: Kind = Kind::Text { expected: "an absolute path without `..`", fits: shape::absolute_path };
const BUCKET: Kind = Kind::Text {
    expected: "a bucket name: 3 to 63 of a-z, 0-9, `.` and `-`, with a letter or digit at both ends",
    fits: shape::bucket,
};
const ACCOUNT: Kind = Kind::Text { expected: "an account id, 12 digits", fits: shape::account };
const PROXY: Kind = Kind::Text { expected: "`http://host:port` without user, password or path", fits: shape::proxy };
const CONCURRENCY: Kind = Kind::Integer { least: 1, most: 256 };
const REGION: Kind = Kind::Text { expected: "a region such as `eu-central-1`", fits: shape::region };
const VARIABLE: Kind = Kind::Text {
    expected: "the name of an environment variable: A-Z, 0-9 and `_`, no digit first",
    fits: shape::variable,
};
const ENDPOINT: Kind = Kind::Text {
    expected: "`https://host[:port]`, or `http://` on loopback, without user or path",
    fits: shape::endpoint,
};

const fn option(path: &'static str, kind: Kind, default: Fallback) -> Opt {
    Opt { path, kind, default, doc: "", example: "", showing: Showing::Always }
}

impl Opt {
    const fn doc(self, doc: &'static str) -> Self {
        Self { doc, ..self }
    }

    const fn example(self, example: &'static str) -> Self {
        Self { example, ..self }
    }

    const fn showing(self, showing: Showing) -> Self {
        Self { showing, ..self }
    }

    /// The path with a source's name in it.
    pub fn path_in(&self, source: &str) -> String {
        self.path.replacen('*', source, 1)
    }

    /// Whether it belongs to a source.
    pub fn is_of_source(&self) -> bool {
        self.path.starts_with("source.*.")
    }

    /// The optional table that it stands in.
    pub fn optional_table(&self) -> Option<&'static str> {
        OPTIONAL_TABLES.iter().copied().find(|table| is_inside(self.path, table))
    }
}

/// Whether the option or table at `path` is in `table`.
pub fn is_inside(path: &str, table: &str) -> bool {
    path.strip_prefix(table).is_some_and(|rest| rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_and_every_example_fits_its_own_option() {
        for option in OPTIONS {
            assert!(option.kind.read_text(option.example).is_some(), "example of {}", option.path);
            assert!(option.doc.ends_with('.'), "doc of {}", option.path);
            if let Value(text) = option.default {
                assert!(option.kind.read_text(text).is_some(), "default of {}", option.path);
            }
        }
    }

    #[test]
    fn every_path_is_there_once_and_no_option_is_a_table() {
        for (at, option) in OPTIONS.iter().enumerate() {
            assert!(OPTIONS[..at].iter().all(|other| other.path != option.path), "{}", option.path);
            assert!(!OPTIONS.iter().any(|other| is_inside(other.path, option.path)), "{}", option.path);
        }
    }
}
