//! The policy that narrows a session to what the configured work needs; what both sides install is in [`install`].

pub mod archive;
pub mod cloudformation;
pub mod install;

use serde_json::{Value, json};

use crate::config::{OwnBucket, Source};

/// `AssumeRole` takes no longer inline policy than this (`Policy` in the STS reference).
const MOST_CHARACTERS: usize = 2048;

/// An inline session policy, and how far it narrows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionPolicy {
    /// The document, in characters that STS accepts.
    pub json: String,
    /// What may be read with it.
    pub narrowed_to: Scope,
    /// Why it does not narrow as far as the configuration says, where it does not.
    pub note: Option<String>,
}

/// What a session policy narrows to, from narrow to wide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// The folders of the configured accounts, or of everything where none are configured.
    Accounts,
    /// Everything under `[prefix/]AWSLogs/`.
    Prefix,
    /// The whole bucket.
    Bucket,
}

impl Scope {
    const ALL: [Self; 3] = [Self::Accounts, Self::Prefix, Self::Bucket];

    fn words(self) -> &'static str {
        match self {
            Self::Accounts => "the configured accounts",
            Self::Prefix => "the whole prefix",
            Self::Bucket => "the whole bucket",
        }
    }
}

/// The narrowest policy that STS accepts and the configured work can live with.
///
/// It allows to list and read the configured folders, to ask where the bucket is, and to decrypt with any key
/// through S3 in the bucket's region. It grants nothing by itself: the role's own policy must allow the same.
pub fn session_policy(source: &Source) -> SessionPolicy {
    from_scope(source, Scope::Accounts, None)
}

/// The policy that narrows a session to writing copies into a bucket of our own, and reading them again.
///
/// Uploads that were left open are listed and aborted with it; nothing can be deleted. There is no wider one.
pub fn archive_policy(source: &Source, own: &OwnBucket) -> SessionPolicy {
    let narrow = archive_document(source, own, &own.prefix);
    let fits = narrow.len() <= MOST_CHARACTERS;
    let note = (!fits).then(|| {
        "a session policy for the prefix would be too long, so the session may write the whole bucket".to_owned()
    });
    SessionPolicy {
        json: if fits { narrow } else { archive_document(source, own, "") },
        narrowed_to: Scope::Bucket,
        note,
    }
}

fn archive_document(source: &Source, own: &OwnBucket, prefix: &str) -> String {
    let partition = Partition::of(&own.region);
    let bucket = format!("arn:{}:s3:::{}", partition.name, own.bucket);
    let below = if prefix.is_empty() { "*".to_owned() } else { format!("{}/*", literal(prefix)) };
    let mut objects = vec!["s3:PutObject", "s3:GetObject", "s3:AbortMultipartUpload"];
    if own.object_lock.is_some() {
        objects.push("s3:PutObjectRetention");
    }
    let through = format!("s3.{}.{}", own.region, partition.dns_suffix);
    let mut list = json!({ "Effect": "Allow", "Action": "s3:ListBucket", "Resource": bucket });
    if !prefix.is_empty() {
        list["Condition"] = json!({ "StringLike": { "s3:prefix": below } });
    }
    let mut document = json!({
        "Version": "2012-10-17",
        "Statement": [
            list,
            { "Effect": "Allow", "Action": objects, "Resource": format!("{bucket}/{below}") },
            {
                "Effect": "Allow",
                "Action": ["s3:ListBucketMultipartUploads", "s3:GetBucketObjectLockConfiguration", "s3:GetBucketLocation"],
                "Resource": bucket,
            },
            {
                "Effect": "Allow",
                "Action": ["kms:GenerateDataKey", "kms:Decrypt"],
                "Resource": "*",
                "Condition": { "StringEquals": { "kms:ViaService": through } },
            },
        ],
    });
    if let Some(statements) = document["Statement"].as_array_mut().filter(|_| own.server_side_copy) {
        let logs = format!("arn:{}:s3:::{}/*", partition.name, source.bucket);
        statements.push(json!({ "Effect": "Allow", "Action": "s3:GetObject", "Resource": logs }));
    }
    ascii(&document.to_string())
}

/// The next wider policy, for when STS finds the packed one too large; `None` when there is none.
pub fn wider_policy(source: &Source, policy: &SessionPolicy) -> Option<SessionPolicy> {
    let next = Scope::ALL.into_iter().find(|scope| {
        *scope > policy.narrowed_to && document(source, *scope) != document(source, policy.narrowed_to)
    })?;
    let reason = "STS found the packed session policy too large".to_owned();
    Some(from_scope(source, next, Some(reason)))
}

fn from_scope(source: &Source, narrowest: Scope, reason: Option<String>) -> SessionPolicy {
    let fits = |scope: &Scope| document(source, *scope).len() <= MOST_CHARACTERS;
    let narrowed_to = Scope::ALL.into_iter().filter(|scope| *scope >= narrowest).find(fits).unwrap_or(Scope::Bucket);
    let too_long = || {
        let length = document(source, narrowest).len();
        format!("a session policy for {} would have {length} characters of {MOST_CHARACTERS}", narrowest.words())
    };
    let reason = reason.or_else(|| (narrowed_to != narrowest).then(too_long));
    let note = reason.map(|reason| format!("{reason}, so the session may read {}", narrowed_to.words()));
    SessionPolicy { json: document(source, narrowed_to), narrowed_to, note }
}

/// The folders that are read, each with `/` at its end; none for the whole bucket.
pub(crate) fn folders(source: &Source, scope: Scope) -> Vec<String> {
    let logs = match source.prefix.as_str() {
        "" => "AWSLogs/".to_owned(),
        prefix => format!("{prefix}/AWSLogs/"),
    };
    let base = match &source.organization {
        Some(organization) => format!("{logs}{organization}/"),
        None => logs.clone(),
    };
    match scope {
        Scope::Bucket => Vec::new(),
        Scope::Prefix => vec![logs],
        Scope::Accounts if source.accounts.is_empty() => vec![base],
        Scope::Accounts => source.accounts.iter().map(|account| format!("{base}{account}/")).collect(),
    }
}

fn document(source: &Source, scope: Scope) -> String {
    let partition = Partition::of(&source.region);
    let bucket = format!("arn:{}:s3:::{}", partition.name, source.bucket);
    let patterns: Vec<String> = folders(source, scope).iter().map(|folder| format!("{}*", literal(folder))).collect();
    let mut list = json!({ "Effect": "Allow", "Action": "s3:ListBucket", "Resource": bucket });
    if !patterns.is_empty() {
        list["Condition"] = json!({ "StringLike": { "s3:prefix": one_or_many(&patterns) } });
    }
    let objects: Vec<String> = match patterns.as_slice() {
        [] => vec![format!("{bucket}/*")],
        patterns => patterns.iter().map(|pattern| format!("{bucket}/{pattern}")).collect(),
    };
    let through = format!("s3.{}.{}", source.region, partition.dns_suffix);
    let mut statements = vec![
        list,
        json!({ "Effect": "Allow", "Action": "s3:GetObject", "Resource": one_or_many(&objects) }),
        json!({ "Effect": "Allow", "Action": "s3:GetBucketLocation", "Resource": bucket }),
        json!({
            "Effect": "Allow",
            "Action": "kms:Decrypt",
            "Resource": "*",
            "Condition": { "StringEquals": { "kms:ViaService": through } },
        }),
    ];
    if source.after_mirror.is_some() {
        let mut delete = json!({ "Effect": "Allow", "Action": "s3:DeleteObject", "Resource": one_or_many(&objects) });
        delete["Condition"] = only_by_tag();
        statements.push(delete);
    }
    ascii(&json!({ "Version": "2012-10-17", "Statement": statements }).to_string())
}

/// Deleting is allowed with `If-Match` alone (S3 guide, "Enforce conditional deletes on Amazon S3 buckets").
pub(crate) fn only_by_tag() -> Value {
    json!({ "Null": { "s3:if-match": "false" } })
}

fn one_or_many(values: &[String]) -> Value {
    match values {
        [one] => json!(one),
        many => json!(many),
    }
}

/// Text as itself in a pattern: `*`, `?` and `$` are special there (IAM guide, policy variables).
fn literal(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        match c {
            '*' | '?' | '$' => out.extend(['$', '{', c, '}']),
            _ => out.push(c),
        }
        out
    })
}

/// JSON in ASCII: STS takes no character above U+00FF in a policy, JSON's escapes stand for them all.
fn ascii(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            let mut units = [0; 2];
            out.extend(c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    out
}

/// One of AWS's separate worlds: regions in one share no accounts or names with those in another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    /// As in ARNs.
    pub name: &'static str,
    /// What endpoints and service names end in.
    pub dns_suffix: &'static str,
}

impl Partition {
    /// The partition of a region, by the region's shape; an unknown shape is taken for `aws`.
    pub fn of(region: &str) -> Self {
        let partition = |name, dns_suffix| Self { name, dns_suffix };
        match region {
            r if r.starts_with("cn-") => partition("aws-cn", "amazonaws.com.cn"),
            r if r.starts_with("us-gov-") => partition("aws-us-gov", "amazonaws.com"),
            r if r.starts_with("eusc-") => partition("aws-eusc", "amazonaws.eu"),
            r if r.starts_with("us-isob-") => partition("aws-iso-b", "sc2s.sgov.gov"),
            r if r.starts_with("us-isof-") => partition("aws-iso-f", "csp.hci.ic.gov"),
            r if r.starts_with("us-iso-") => partition("aws-iso", "c2s.ic.gov"),
            r if r.starts_with("eu-isoe-") => partition("aws-iso-e", "cloud.adc-e.uk"),
            _ => partition("aws", "amazonaws.com"),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::config::{Credentials, Destination, Endpoints, Poll, Role, Storage};

    /// A source as the simplest configuration makes it.
    pub(crate) fn own_bucket() -> OwnBucket {
        let role = source().role.map(|role| Role { arn: "arn:aws:iam::222222222222:role/Archive".into(), ..role });
        OwnBucket {
            server_side_copy: false,
            bucket: "our-archive".into(),
            prefix: "trails/acme".into(),
            region: "eu-west-1".into(),
            bucket_owner: Some("222222222222".into()),
            role,
            credentials: Credentials::Default,
            endpoints: Endpoints::default(),
            storage_class: None,
            sse: None,
            kms_key_id: None,
            object_lock: None,
            multipart_mib: 16,
        }
    }

    pub(crate) fn source() -> Source {
        let day = Duration::from_secs(86_400);
        Source {
            name: "acme".into(),
            bucket: "trail-logs".into(),
            region: "eu-west-1".into(),
            bucket_owner: None,
            prefix: String::new(),
            organization: None,
            kinds: vec!["CloudTrail".into()],
            accounts: Vec::new(),
            regions: Vec::new(),
            since: None,
            source_retention: None,
            kms_keys: Vec::new(),
            role: Some(Role {
                arn: "arn:aws:iam::111111111111:role/logs/CloudTrailRead".into(),
                session_name: "trailsync".into(),
                external_id: None,
                duration: Duration::from_secs(3600),
                source_identity: None,
                tags: BTreeMap::new(),
                session_policy: true,
                sts_region: "eu-west-1".into(),
            }),
            credentials: Credentials::Default,
            destination: Storage::Tree(Destination {
                path: "/var/lib/trailsync/acme".into(),
                file_mode: 0o640,
                dir_mode: 0o750,
                group: None,
                allow_volatile: true,
                reserve_mib: None,
            }),
            poll: Poll {
                every: day,
                idle_every: day,
                min_window: day,
                max_window: day,
                tiers: Vec::new(),
                full_every: day,
                tail_every: day,
                discover_every: day,
            },
            proof: crate::config::Proof { grace: day },
            after_mirror: None,
            concurrency: 8,
            endpoints: Endpoints::default(),
        }
    }

    fn accounts(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("{n:012}")).collect()
    }

    fn parsed(policy: &SessionPolicy) -> Value {
        serde_json::from_str(&policy.json).unwrap()
    }

    #[test]
    fn without_accounts_everything_under_the_prefix_may_be_listed_and_read() {
        let policy = session_policy(&Source { prefix: "a/b".into(), ..source() });
        assert_eq!(
            parsed(&policy)["Statement"],
            json!([
                {
                    "Effect": "Allow", "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::trail-logs",
                    "Condition": { "StringLike": { "s3:prefix": "a/b/AWSLogs/*" } },
                },
                { "Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::trail-logs/a/b/AWSLogs/*" },
                { "Effect": "Allow", "Action": "s3:GetBucketLocation", "Resource": "arn:aws:s3:::trail-logs" },
                {
                    "Effect": "Allow", "Action": "kms:Decrypt", "Resource": "*",
                    "Condition": { "StringEquals": { "kms:ViaService": "s3.eu-west-1.amazonaws.com" } },
                },
            ])
        );
        assert_eq!((policy.narrowed_to, policy.note), (Scope::Accounts, None));
    }

    #[test]
    fn with_accounts_nothing_above_them_may_be_listed() {
        let organization = Some("o-abcdefghij".to_owned());
        let policy = session_policy(&Source { accounts: accounts(2), organization, ..source() });
        let statements = &parsed(&policy)["Statement"];
        assert_eq!(
            statements[0]["Condition"]["StringLike"]["s3:prefix"],
            json!(["AWSLogs/o-abcdefghij/000000000000/*", "AWSLogs/o-abcdefghij/000000000001/*"])
        );
        assert_eq!(
            statements[1]["Resource"],
            json!([
                "arn:aws:s3:::trail-logs/AWSLogs/o-abcdefghij/000000000000/*",
                "arn:aws:s3:::trail-logs/AWSLogs/o-abcdefghij/000000000001/*"
            ])
        );
    }

    #[test]
    fn too_many_accounts_fall_back_to_the_prefix_and_say_so() {
        let policy = session_policy(&Source { accounts: accounts(40), prefix: "p".into(), ..source() });
        assert_eq!(policy.narrowed_to, Scope::Prefix);
        assert_eq!(parsed(&policy)["Statement"][1]["Resource"], "arn:aws:s3:::trail-logs/p/AWSLogs/*");
        let note = policy.note.unwrap();
        assert!(note.contains("of 2048") && note.ends_with("so the session may read the whole prefix"), "{note}");
    }

    #[test]
    fn every_policy_has_at_most_2048_characters_that_sts_accepts() {
        for prefix in ["", "logs", "ä/€", &"*?$".repeat(60), &"€".repeat(200)] {
            for count in [0, 1, 5, 10, 20, 100] {
                let policy = session_policy(&Source { accounts: accounts(count), prefix: prefix.into(), ..source() });
                assert!(policy.json.len() <= MOST_CHARACTERS, "{prefix} {count}: {}", policy.json.len());
                assert!(policy.json.is_ascii());
                assert!(parsed(&policy)["Statement"].as_array().unwrap().len() == 4);
            }
        }
    }

    #[test]
    fn pattern_characters_in_a_prefix_stand_for_themselves() {
        let policy = session_policy(&Source { prefix: "a*b?c${d}/é".into(), ..source() });
        assert_eq!(
            parsed(&policy)["Statement"][0]["Condition"]["StringLike"]["s3:prefix"],
            "a${*}b${?}c${$}{d}/é/AWSLogs/*"
        );
    }

    #[test]
    fn a_wider_policy_is_found_until_there_is_none() {
        let source = Source { accounts: accounts(2), ..source() };
        let prefix = wider_policy(&source, &session_policy(&source)).unwrap();
        assert_eq!(prefix.narrowed_to, Scope::Prefix);
        assert!(prefix.note.as_ref().unwrap().contains("packed"));
        let bucket = wider_policy(&source, &prefix).unwrap();
        assert_eq!(bucket.narrowed_to, Scope::Bucket);
        assert_eq!(wider_policy(&source, &bucket), None);
    }

    #[test]
    fn names_are_right_in_every_partition() {
        for (region, arn, via) in [
            ("cn-north-1", "arn:aws-cn:s3:::trail-logs", "s3.cn-north-1.amazonaws.com.cn"),
            ("us-gov-west-1", "arn:aws-us-gov:s3:::trail-logs", "s3.us-gov-west-1.amazonaws.com"),
            ("eusc-de-east-1", "arn:aws-eusc:s3:::trail-logs", "s3.eusc-de-east-1.amazonaws.eu"),
            ("us-isob-east-1", "arn:aws-iso-b:s3:::trail-logs", "s3.us-isob-east-1.sc2s.sgov.gov"),
        ] {
            let policy = parsed(&session_policy(&Source { region: region.into(), ..source() }));
            assert_eq!(policy["Statement"][2]["Resource"], arn);
            assert_eq!(policy["Statement"][3]["Condition"]["StringEquals"]["kms:ViaService"], via);
        }
    }
}
