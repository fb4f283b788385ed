//! What must hold where copies go to a bucket.

use std::collections::BTreeMap;

use super::Verdict;
use crate::config::mistake::Origin;
use crate::config::section::Section;

/// Options of a tree and of a bucket that mean nothing to the other; those of a tree that have a default are passed over.
const OF_A_TREE: [&str; 3] = ["destination.path", "destination.group", "destination.reserve_mib"];
const OF_A_BUCKET: [&str; 9] = [
    "destination.prefix",
    "destination.region",
    "destination.bucket_owner",
    "destination.storage_class",
    "destination.sse",
    "destination.kms_key_id",
    "destination.multipart_mib",
    "destination.object_lock.mode",
    "destination.role.arn",
];

impl Verdict {
    /// A tree or a bucket, with what belongs to it and nothing else.
    pub(super) fn storage(
        &mut self,
        source: &Section<'_>,
        sources: &[Section<'_>],
        environment: &BTreeMap<String, String>,
    ) {
        let Some(bucket) = source.text("destination.bucket") else {
            return self.foreign(source, &OF_A_BUCKET, "is of a bucket, and copies go to a tree");
        };
        self.foreign(source, &OF_A_TREE, "is of a tree, and copies go to a bucket");
        let own = source.destination();
        self.partitions(&own, own.text("region").or(source.text("region")));
        self.credentials(&own, environment);
        self.files(&own);
        self.encryption(&own);
        for other in sources {
            self.no_loop(source, bucket, other);
        }
    }

    fn foreign(&mut self, source: &Section<'_>, names: &[&str], problem: &str) {
        for name in names {
            if source.origin(name).is_some_and(|origin| !matches!(origin, Origin::Default)) {
                self.refuse(
                    source,
                    name,
                    problem,
                    "set `destination.path` for a tree, or `destination.bucket` for a bucket",
                );
            }
        }
    }

    fn encryption(&mut self, own: &Section<'_>) {
        let with_kms = own.text("sse").is_some_and(|sse| sse.starts_with("aws:kms"));
        if own.text("kms_key_id").is_some() && !with_kms {
            self.refuse(
                own,
                "kms_key_id",
                "names a key, and `sse` is not `aws:kms`",
                "set `sse = \"aws:kms\"` beside it",
            );
        }
    }

    /// A mirror into what is mirrored would never end.
    fn no_loop(&mut self, source: &Section<'_>, bucket: &str, other: &Section<'_>) {
        let elsewhere = source.text("destination.endpoints.s3") != other.text("endpoints.s3");
        if elsewhere || other.text("bucket") != Some(bucket) {
            return;
        }
        let copies = folder(source.text("destination.prefix"));
        let logs = format!("{}AWSLogs/", folder(other.text("prefix")));
        if nested(&copies, &logs) {
            let problem = format!("puts copies among the logs that `{}` reads", other.path("bucket"));
            self.refuse(
                source,
                "destination.bucket",
                problem,
                "use a bucket of your own, or a `destination.prefix` apart",
            );
        }
    }

    /// Two sources never share a folder of copies.
    pub(super) fn buckets_apart(&mut self, earlier: &Section<'_>, later: &Section<'_>) {
        let own = |source: &Section<'_>| {
            let bucket = source.text("destination.bucket")?.to_owned();
            Some((bucket, source.text("destination.endpoints.s3").map(str::to_owned)))
        };
        let prefix = |source: &Section<'_>| folder(source.text("destination.prefix"));
        if own(earlier).is_some() && own(earlier) == own(later) && nested(&prefix(earlier), &prefix(later)) {
            let problem = format!("is the same as `{}`, or inside it", earlier.path("destination.prefix"));
            self.refuse(later, "destination.prefix", problem, "give the copies of each source a prefix of their own");
        }
    }
}

/// A prefix as the start of keys.
fn folder(prefix: Option<&str>) -> String {
    prefix.filter(|prefix| !prefix.is_empty()).map(|prefix| format!("{prefix}/")).unwrap_or_default()
}

fn nested(one: &str, other: &str) -> bool {
    one.starts_with(other) || other.starts_with(one)
}
