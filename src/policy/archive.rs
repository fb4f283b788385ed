//! What a bucket of our own needs: who may write copies there, and that what was written is never written over.

use serde_json::{Value, json};

use super::install::{Attachment, Document, Principal, allow, assuming, sid, trusting};
use super::{Partition, Scope, folders, literal, one_or_many};
use crate::config::shape::{kms_parts, role_parts};
use crate::config::{OwnBucket, Role, Source};
use crate::destination::bucket::name::{OBJECTS, VERSIONS};
use crate::layout::root;

/// Documents for the destination of a source, and what its caller must be allowed besides.
pub struct Needed {
    /// What hangs on the role, the bucket and the key.
    pub documents: Vec<Document>,
    /// Statements for the caller.
    pub calling: Vec<Value>,
    /// Sentences.
    pub notes: Vec<String>,
}

/// What the bucket `own` of `source` needs when `caller` runs trailsync.
///
/// Nothing allows to delete. The bucket's policy denies everybody to write a copy without the condition that nothing
/// is there ("Enforce conditional writes on Amazon S3 buckets" in the S3 user guide); the few small files of our own,
/// which are replaced, are left out of that.
pub fn needed(source: &Source, own: &OwnBucket, caller: &Principal) -> Needed {
    let context = Context { source, own, partition: Partition::of(&own.region) };
    let (mut documents, calling) = match &own.role {
        Some(role) => (context.through(role, caller), assume(role, caller)),
        None => (Vec::new(), context.using()),
    };
    let writer = match &own.role {
        Some(role) => (role.arn.clone(), role_parts(&role.arn).map(|(_, account)| account.to_owned())),
        None => (caller.arn_in(context.partition), Some(caller.account.clone())),
    };
    documents.push(context.bucket_policy(&writer.0, writer.1.as_deref()));
    documents.extend(context.key_policy(&writer.0));
    documents.extend(context.source_policy(&writer.0, writer.1.as_deref()));
    Needed { documents, calling, notes: context.notes() }
}

/// A trust policy that names a user or role of its own account is enough ("Cross-account policy evaluation logic" of
/// the IAM guide: within one account either side may allow).
fn assume(role: &Role, caller: &Principal) -> Vec<Value> {
    let is_named = caller.arn.is_some() && role_parts(&role.arn).is_some_and(|(_, account)| account == caller.account);
    if is_named { Vec::new() } else { vec![allow(sid::ARCHIVE_ASSUME, assuming(role), &role.arn)] }
}

struct Context<'a> {
    source: &'a Source,
    own: &'a OwnBucket,
    partition: Partition,
}

impl Context<'_> {
    fn through(&self, role: &Role, caller: &Principal) -> Vec<Document> {
        let account = role_parts(&role.arn).map(|(_, account)| account.to_owned());
        let trust = trusting(role, sid::ARCHIVE_TRUST, &caller.arn_in(self.partition));
        vec![
            self.document(Attachment::ArchiveTrust, &role.arn, account.clone(), vec![trust]),
            self.document(Attachment::ArchiveAccess, &role.arn, account, self.using()),
        ]
    }

    fn document(
        &self,
        attachment: Attachment,
        target: &str,
        account: Option<String>,
        statements: Vec<Value>,
    ) -> Document {
        let policy = json!({ "Version": "2012-10-17", "Statement": statements });
        Document { source: self.source.name.clone(), attachment, target: target.to_owned(), account, policy }
    }

    fn bucket(&self) -> String {
        format!("arn:{}:s3:::{}", self.partition.name, self.own.bucket)
    }

    /// With its slash, or empty.
    fn folder(&self) -> String {
        if self.own.prefix.is_empty() { String::new() } else { format!("{}/", literal(&self.own.prefix)) }
    }

    /// What whoever writes is allowed.
    fn using(&self) -> Vec<Value> {
        self.writing().into_iter().chain(self.copying()).collect()
    }

    /// To write copies where nothing is, to read them again, and to end uploads that were left open.
    fn writing(&self) -> Vec<Value> {
        let (bucket, folder) = (self.bucket(), self.folder());
        let mut list = allow(sid::ARCHIVE_LIST, vec!["s3:ListBucket".to_owned()], &bucket);
        if !folder.is_empty() {
            list["Condition"] = json!({ "StringLike": { "s3:prefix": format!("{folder}*") } });
        }
        let is_locked = self.own.object_lock.is_some();
        let mut objects = vec!["s3:PutObject", "s3:GetObject", "s3:AbortMultipartUpload"];
        objects.extend(is_locked.then_some("s3:PutObjectRetention"));
        let mut whole = vec!["s3:ListBucketMultipartUploads"];
        whole.extend(is_locked.then_some("s3:GetBucketObjectLockConfiguration"));
        let owned = |actions: Vec<&str>| actions.into_iter().map(str::to_owned).collect();
        let mut statements = vec![
            list,
            allow(sid::ARCHIVE_WRITE, owned(objects), &format!("{bucket}/{folder}*")),
            allow(sid::ARCHIVE_UPLOADS, owned(whole), &bucket),
        ];
        statements.extend(self.key().map(|key| self.encrypting(key)));
        statements
    }

    /// To read what S3 is to copy itself; nothing, where whoever writes may read it already.
    fn copying(&self) -> Option<Value> {
        let reads_already = self.own.role.is_none() && self.source.role.is_none();
        (self.own.server_side_copy && !reads_already).then(|| {
            let bucket = format!("arn:{}:s3:::{}", self.partition.name, self.source.bucket);
            let below = folders(self.source, Scope::Accounts);
            let objects: Vec<String> = below.iter().map(|folder| format!("{bucket}/{}*", literal(folder))).collect();
            let mut get = allow(sid::ARCHIVE_COPY, vec!["s3:GetObject".to_owned()], &bucket);
            get["Resource"] = one_or_many(&objects);
            get
        })
    }

    /// Account A's side of that.
    fn source_policy(&self, writer: &str, account: Option<&str>) -> Option<Document> {
        let mut statement = self.copying()?;
        let owner = self.source.bucket_owner.clone();
        if owner.as_deref() == account {
            return None;
        }
        statement["Principal"] = json!({ "AWS": writer });
        let bucket = format!("arn:{}:s3:::{}", self.partition.name, self.source.bucket);
        Some(self.document(Attachment::BucketPolicy, &bucket, owner, vec![statement]))
    }

    /// Writes in parts read the key, too: S3 decrypts the parts to put them together.
    fn encrypting(&self, key: &str) -> Value {
        let through = format!("s3.{}.{}", self.own.region, self.partition.dns_suffix);
        let actions = vec!["kms:GenerateDataKey".to_owned(), "kms:Decrypt".to_owned()];
        let mut statement = allow(sid::ARCHIVE_ENCRYPT, actions, key);
        statement["Condition"] = json!({ "StringEquals": { "kms:ViaService": through } });
        statement
    }

    /// The key by its own ARN; an alias cannot stand in a statement's resource.
    fn key(&self) -> Option<&str> {
        self.own.kms_key_id.as_deref().filter(|key| kms_parts(key).is_some())
    }

    fn bucket_policy(&self, writer: &str, account: Option<&str>) -> Document {
        let (bucket, folder) = (self.bucket(), self.folder());
        let below = |path: &str| format!("{bucket}/{folder}{path}*");
        let copies = [below(&literal(&root(&self.source.prefix))), below(OBJECTS), below(VERSIONS)];
        let mut statements = vec![json!({
            "Sid": sid::ARCHIVE_ONCE,
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:PutObject",
            "Resource": one_or_many(&copies),
            "Condition": {
                "Null": { "s3:if-none-match": "true" },
                "Bool": { "s3:ObjectCreationOperation": "true" },
            },
        })];
        let owner = self.own.bucket_owner.clone();
        if owner.as_deref().is_some_and(|owner| Some(owner) != account) {
            statements.extend(self.writing().into_iter().filter(|allowed| allowed["Sid"] != sid::ARCHIVE_ENCRYPT).map(
                |mut statement| {
                    statement["Principal"] = json!({ "AWS": writer });
                    statement
                },
            ));
        }
        self.document(Attachment::ArchiveBucket, &bucket, owner, statements)
    }

    fn key_policy(&self, writer: &str) -> Option<Document> {
        let key = self.key()?;
        let mut statement = self.encrypting(key);
        statement["Principal"] = json!({ "AWS": writer });
        let account = kms_parts(key).map(|(_, _, account)| account.to_owned());
        Some(self.document(Attachment::ArchiveKey, key, account, vec![statement]))
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.own.kms_key_id.is_some() && self.key().is_none() {
            notes.push(
                "`destination.kms_key_id` is an alias, which no statement can name: give the key's own ARN, and its \
                 statements are printed."
                    .to_owned(),
            );
        }
        notes.push(
            "The bucket's policy denies everybody to write a copy over another: S3 then takes only writes with \
             `If-None-Match`. Nothing here allows to delete copies; an expiry is the bucket's own lifecycle rule."
                .to_owned(),
        );
        notes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::install::installation;
    use crate::policy::tests::{own_bucket, source};

    fn policy(source: &Source, attachment: Attachment) -> Option<Value> {
        let caller = Principal::parse("222222222222").unwrap();
        let documents = installation(source, &caller).documents;
        documents.into_iter().find(|document| document.attachment == attachment).map(|document| document.policy)
    }

    fn archived(change: impl FnOnce(&mut OwnBucket)) -> Source {
        let mut own = own_bucket();
        change(&mut own);
        Source { destination: crate::config::Storage::Bucket(Box::new(own)), prefix: "audit".into(), ..source() }
    }

    #[test]
    fn a_role_writes_below_the_prefix_and_may_neither_delete_nor_write_over() {
        let source = archived(|_| {});
        assert_eq!(
            policy(&source, Attachment::ArchiveAccess).unwrap()["Statement"],
            json!([
                {
                    "Sid": "TrailsyncArchiveList", "Effect": "Allow", "Action": "s3:ListBucket",
                    "Resource": "arn:aws:s3:::our-archive",
                    "Condition": { "StringLike": { "s3:prefix": "trails/acme/*" } },
                },
                {
                    "Sid": "TrailsyncArchiveWrite", "Effect": "Allow",
                    "Action": ["s3:PutObject", "s3:GetObject", "s3:AbortMultipartUpload"],
                    "Resource": "arn:aws:s3:::our-archive/trails/acme/*",
                },
                {
                    "Sid": "TrailsyncArchiveUploads", "Effect": "Allow", "Action": "s3:ListBucketMultipartUploads",
                    "Resource": "arn:aws:s3:::our-archive",
                },
            ])
        );
        let once = &policy(&source, Attachment::ArchiveBucket).unwrap()["Statement"][0];
        assert_eq!((&once["Effect"], &once["Action"]), (&json!("Deny"), &json!("s3:PutObject")));
        assert_eq!(
            once["Resource"],
            json!([
                "arn:aws:s3:::our-archive/trails/acme/audit/AWSLogs/*",
                "arn:aws:s3:::our-archive/trails/acme/.trailsync/objects/*",
                "arn:aws:s3:::our-archive/trails/acme/.trailsync/versions/*",
            ])
        );
        let calling = policy(&source, Attachment::Caller).unwrap()["Statement"].to_string();
        assert!(calling.contains("TrailsyncArchiveAssume"), "{calling}");
    }

    #[test]
    fn another_account_s_bucket_and_key_name_who_writes() {
        let key = "arn:aws:kms:eu-west-1:333333333333:key/k-1";
        let source = archived(|own| {
            own.bucket_owner = Some("333333333333".into());
            own.kms_key_id = Some(key.into());
        });
        let bucket = policy(&source, Attachment::ArchiveBucket).unwrap();
        let role = "arn:aws:iam::222222222222:role/Archive";
        assert_eq!(bucket["Statement"][2]["Principal"], json!({ "AWS": role }));
        let of_key = policy(&source, Attachment::ArchiveKey).unwrap();
        assert_eq!(of_key["Statement"][0]["Principal"], json!({ "AWS": role }));
        assert_eq!(of_key["Statement"][0]["Action"], json!(["kms:GenerateDataKey", "kms:Decrypt"]));
        let alias = archived(|own| own.kms_key_id = Some("arn:aws:kms:eu-west-1:222222222222:alias/copies".into()));
        assert_eq!(policy(&alias, Attachment::ArchiveKey), None);
    }

    #[test]
    fn what_s3_copies_itself_may_be_read_by_whoever_writes_on_both_sides() {
        let mut source = archived(|own| own.server_side_copy = true);
        source.bucket_owner = Some("111111111111".into());
        let access = policy(&source, Attachment::ArchiveAccess).unwrap();
        let logs = "arn:aws:s3:::trail-logs/audit/AWSLogs/*";
        let get =
            json!({ "Sid": "TrailsyncArchiveCopy", "Effect": "Allow", "Action": "s3:GetObject", "Resource": logs });
        assert_eq!(access["Statement"][3], get);
        let theirs = &policy(&source, Attachment::BucketPolicy).unwrap()["Statement"][0];
        assert_eq!(theirs["Principal"], json!({ "AWS": "arn:aws:iam::222222222222:role/Archive" }));
        source.bucket_owner = Some("222222222222".into());
        let theirs = policy(&source, Attachment::BucketPolicy).unwrap().to_string();
        assert!(!theirs.contains("TrailsyncArchiveCopy"), "its own account needs none: {theirs}");
    }

    #[test]
    fn object_lock_asks_for_two_more_and_without_a_role_the_caller_writes() {
        let source = archived(|own| {
            own.role = None;
            own.object_lock = Some(crate::config::ObjectLock { mode: "COMPLIANCE".into(), days: 30 });
        });
        assert_eq!(policy(&source, Attachment::ArchiveAccess), None);
        let calling = policy(&source, Attachment::Caller).unwrap()["Statement"].to_string();
        for action in ["s3:PutObjectRetention", "s3:GetBucketObjectLockConfiguration", "s3:AbortMultipartUpload"] {
            assert!(calling.contains(action), "{action}: {calling}");
        }
    }
}
