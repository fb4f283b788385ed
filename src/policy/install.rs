//! What each side must install before a source can be mirrored: IAM documents, as narrow as the work allows.
//!
//! Shapes after "Sharing CloudTrail log files between AWS accounts" and "Configure AWS KMS key policies for
//! CloudTrail" of the CloudTrail user guide, tightened: no action has a wildcard, and listing is bound to a prefix.

use serde_json::{Value, json};

use super::{Partition, Scope, archive, folders, literal, one_or_many, only_by_tag};
use crate::config::shape::{kms_parts, role_parts};
use crate::config::{Role, Source};

/// `Sid`s by which a statement is found again, in what is printed and in what `trailsync check` names.
pub mod sid {
    /// Who may assume the role.
    pub const TRUST: &str = "TrailsyncTrust";
    /// `s3:ListBucket`, under its prefix.
    pub const LIST: &str = "TrailsyncList";
    /// `s3:GetObject`
    pub const GET: &str = "TrailsyncGet";
    /// `s3:DeleteObject`, by a tag alone
    pub const DELETE: &str = "TrailsyncDelete";
    /// `s3:GetBucketLocation`
    pub const LOCATE: &str = "TrailsyncLocate";
    /// `kms:Decrypt`
    pub const DECRYPT: &str = "TrailsyncDecrypt";
    /// `sts:AssumeRole`
    pub const ASSUME: &str = "TrailsyncAssume";
    /// `cloudtrail:ListPublicKeys`
    pub const PUBLIC_KEYS: &str = "TrailsyncPublicKeys";
    /// Who may assume the role of the destination.
    pub const ARCHIVE_TRUST: &str = "TrailsyncArchiveTrust";
    /// `sts:AssumeRole` for that role.
    pub const ARCHIVE_ASSUME: &str = "TrailsyncArchiveAssume";
    /// `s3:ListBucket` of the destination, under its prefix.
    pub const ARCHIVE_LIST: &str = "TrailsyncArchiveList";
    /// `s3:PutObject` and what belongs to it.
    pub const ARCHIVE_WRITE: &str = "TrailsyncArchiveWrite";
    /// `s3:ListBucketMultipartUploads`, and the bucket's Object Lock.
    pub const ARCHIVE_UPLOADS: &str = "TrailsyncArchiveUploads";
    /// `kms:GenerateDataKey`
    pub const ARCHIVE_ENCRYPT: &str = "TrailsyncArchiveEncrypt";
    /// `s3:GetObject` for what S3 copies itself.
    pub const ARCHIVE_COPY: &str = "TrailsyncArchiveCopy";
    /// Nothing is written over.
    pub const ARCHIVE_ONCE: &str = "TrailsyncArchiveOnce";
}

/// Whose account a document belongs into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// Account A, which owns bucket, role and key.
    Owner,
    /// The account that trailsync runs in.
    Consumer,
}

impl Side {
    /// As options and JSON say it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Consumer => "consumer",
        }
    }
}

/// What a document hangs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attachment {
    /// The role's trust policy: who may assume it.
    RoleTrust,
    /// A policy of the role: what its sessions may do.
    RoleAccess,
    /// Statements for the policy of a KMS key.
    KeyPolicy,
    /// Statements for the policy of the bucket.
    BucketPolicy,
    /// A policy of the user or role that trailsync runs as.
    Caller,
    /// The trust policy of the role that writes copies.
    ArchiveTrust,
    /// A policy of that role.
    ArchiveAccess,
    /// Statements for the policy of the bucket that copies go to.
    ArchiveBucket,
    /// Statements for the policy of the key that copies are encrypted with.
    ArchiveKey,
}

impl Attachment {
    /// As JSON says it.
    pub fn word(self) -> &'static str {
        match self {
            Self::RoleTrust => "role-trust",
            Self::RoleAccess => "role-access",
            Self::KeyPolicy => "key-policy",
            Self::BucketPolicy => "bucket-policy",
            Self::Caller => "caller",
            Self::ArchiveTrust => "archive-trust",
            Self::ArchiveAccess => "archive-access",
            Self::ArchiveBucket => "archive-bucket-policy",
            Self::ArchiveKey => "archive-key-policy",
        }
    }

    /// What to do with the document, in one sentence.
    pub fn instruction(self) -> &'static str {
        match self {
            Self::RoleTrust | Self::ArchiveTrust => "The trust policy of the role: replace the one that it has.",
            Self::RoleAccess | Self::ArchiveAccess => "A permissions policy of the role, the only one that it needs.",
            Self::KeyPolicy | Self::ArchiveKey => {
                "Add the statement to the policy of the key; what is in it already stays."
            }
            Self::ArchiveBucket => "Add the statements to the policy of the bucket that the copies go to.",
            Self::BucketPolicy => "Add the statements to the policy of the bucket; what CloudTrail has in it stays.",
            Self::Caller => "A permissions policy of the user or role that trailsync runs as.",
        }
    }

    fn side(self) -> Side {
        match self {
            Self::RoleTrust | Self::RoleAccess | Self::KeyPolicy | Self::BucketPolicy => Side::Owner,
            Self::Caller | Self::ArchiveTrust | Self::ArchiveAccess | Self::ArchiveBucket | Self::ArchiveKey => {
                Side::Consumer
            }
        }
    }

    /// The most characters that IAM takes, white space left out ("IAM and AWS STS quotas"; S3 for bucket policies).
    fn most_characters(self) -> usize {
        match self {
            Self::RoleTrust | Self::ArchiveTrust => 2_048,
            Self::RoleAccess | Self::ArchiveAccess => 10_240,
            Self::KeyPolicy | Self::ArchiveKey => 32_768,
            Self::BucketPolicy | Self::ArchiveBucket => 20_480,
            Self::Caller => 6_144,
        }
    }
}

/// One document for one place.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Name of the source that needs it.
    pub source: String,
    /// What it hangs on.
    pub attachment: Attachment,
    /// ARN of what it hangs on; for a caller that is not named, the account.
    pub target: String,
    /// The account that it belongs into, as far as the configuration says.
    pub account: Option<String>,
    /// The policy.
    pub policy: Value,
}

impl Document {
    /// Whose account it belongs into.
    pub fn side(&self) -> Side {
        self.attachment.side()
    }
}

/// Everything that one source needs, and what people should know about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Installation {
    /// Account A's documents first.
    pub documents: Vec<Document>,
    /// Sentences.
    pub notes: Vec<String>,
}

/// Who assumes the role, or reads the bucket where there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// 12 digits.
    pub account: String,
    /// The ARN that a policy names: a user's, a role's, or the account's root.
    pub arn: Option<String>,
}

impl Principal {
    /// Reads an account id, or the ARN of an IAM user, role or account.
    ///
    /// # Errors
    /// A sentence that says what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        if crate::layout::is_account(text) {
            return Ok(Self { account: text.to_owned(), arn: None });
        }
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        match parts.as_slice() {
            ["arn", _, "iam", "", account, resource] if crate::layout::is_account(account) && is_identity(resource) => {
                let arn = (*resource != "root").then(|| text.to_owned());
                Ok(Self { account: (*account).to_owned(), arn })
            }
            ["arn", _, "sts", ..] => {
                Err("this is a session; name the role itself, `arn:aws:iam::<account>:role/<path and name>`".to_owned())
            }
            _ => Err("expected an account id (12 digits) or the ARN of an IAM user or role".to_owned()),
        }
    }

    pub(super) fn arn_in(&self, partition: Partition) -> String {
        self.arn.clone().unwrap_or_else(|| format!("arn:{}:iam::{}:root", partition.name, self.account))
    }
}

fn is_identity(resource: &str) -> bool {
    let named = ["user/", "role/"].iter().any(|kind| resource.strip_prefix(kind).is_some_and(|name| !name.is_empty()));
    let sound = resource.bytes().all(|byte| byte.is_ascii_graphic() && !b"*?\"".contains(&byte));
    sound && (named || resource == "root")
}

/// Who the caller is as far as the configuration says: the one account that mirrors its own logs.
///
/// With an external ID the caller is a third party, whose account nothing here names.
pub fn configured_caller(source: &Source) -> Option<Principal> {
    let third_party = source.role.as_ref().is_some_and(|role| role.external_id.is_some());
    match source.accounts.as_slice() {
        [account] if !third_party => Some(Principal { account: account.clone(), arn: None }),
        _ => None,
    }
}

/// Everything that `source` needs when `caller` runs trailsync.
pub fn installation(source: &Source, caller: &Principal) -> Installation {
    let context = Context { source, caller, partition: Partition::of(&source.region) };
    let archive = source.destination.bucket().map(|own| archive::needed(source, own, caller));
    let calling = archive.as_ref().map(|archive| archive.calling.clone()).unwrap_or_default();
    let mut documents = match &source.role {
        Some(role) => context.through(role, calling),
        None => context.direct(calling),
    };
    let mut notes = context.notes(&documents);
    if let Some(archive) = archive {
        documents.extend(archive.documents);
        notes.extend(archive.notes);
    }
    notes.extend(documents.iter().filter_map(too_long));
    Installation { documents, notes }
}

struct Context<'a> {
    source: &'a Source,
    caller: &'a Principal,
    partition: Partition,
}

impl Context<'_> {
    /// Through a role of Account A.
    fn through(&self, role: &Role, more: Vec<Value>) -> Vec<Document> {
        let owner = role_parts(&role.arn).map(|(_, account)| account.to_owned());
        let mut access = self.reading(None);
        access.extend(decrypting_identity(&self.keys_outside(owner.as_deref())));
        let mut documents = vec![
            self.document(
                Attachment::RoleTrust,
                &role.arn,
                owner.clone(),
                vec![trusting(role, sid::TRUST, &self.caller.arn_in(self.partition))],
            ),
            self.document(Attachment::RoleAccess, &role.arn, owner.clone(), access),
        ];
        let elsewhere = self.source.bucket_owner.clone().filter(|bucket| Some(bucket) != owner.as_ref());
        if elsewhere.is_some() {
            let statements = self.reading(Some(&role.arn));
            documents.push(self.document(Attachment::BucketPolicy, &self.bucket(), elsewhere, statements));
        }
        documents.extend(self.key_policies(&role.arn));
        let mut calling = vec![allow(sid::ASSUME, assuming(role), &role.arn)];
        calling.extend(self.public_keys());
        calling.extend(more);
        documents.push(self.for_caller(calling));
        documents
    }

    /// Without a role: the bucket's policy names the caller, and the caller's own policy allows the same.
    fn direct(&self, more: Vec<Value>) -> Vec<Document> {
        let bucket = self.bucket();
        let caller = self.caller.arn_in(self.partition);
        let owner = self.source.bucket_owner.clone();
        let mut documents = Vec::new();
        if owner.as_ref() != Some(&self.caller.account) {
            let statements = self.reading(Some(&caller));
            documents.push(self.document(Attachment::BucketPolicy, &bucket, owner, statements));
        }
        documents.extend(self.key_policies(&caller));
        let mut calling = self.reading(None);
        calling.extend(decrypting_identity(&self.keys_outside(Some(&self.caller.account))));
        calling.extend(self.public_keys());
        calling.extend(more);
        documents.push(self.for_caller(calling));
        documents
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

    fn for_caller(&self, statements: Vec<Value>) -> Document {
        let target = self.caller.arn.clone().unwrap_or_else(|| self.caller.account.clone());
        self.document(Attachment::Caller, &target, Some(self.caller.account.clone()), statements)
    }

    /// The keys that belong to other accounts than whoever reads.
    fn keys_outside(&self, account: Option<&str>) -> Vec<String> {
        self.source.kms_keys.iter().filter(|key| account_of_key(key) != account).cloned().collect()
    }

    fn bucket(&self) -> String {
        format!("arn:{}:s3:::{}", self.partition.name, self.source.bucket)
    }

    /// To list and read the configured folders, and to ask where the bucket is.
    fn reading(&self, principal: Option<&str>) -> Vec<Value> {
        let bucket = self.bucket();
        let folders = folders(self.source, Scope::Accounts);
        let below: Vec<String> = folders.iter().map(|folder| format!("{}*", literal(folder))).collect();
        let objects: Vec<String> = below.iter().map(|below| format!("{bucket}/{below}")).collect();
        let mut list = allow(sid::LIST, vec!["s3:ListBucket".to_owned()], &bucket);
        list["Condition"] = json!({ "StringLike": { "s3:prefix": one_or_many(&below) } });
        let mut get = allow(sid::GET, vec!["s3:GetObject".to_owned()], &bucket);
        get["Resource"] = one_or_many(&objects);
        let locate = allow(sid::LOCATE, vec!["s3:GetBucketLocation".to_owned()], &bucket);
        let mut statements = vec![list, get, locate];
        if self.source.after_mirror.is_some() {
            let mut delete = allow(sid::DELETE, vec!["s3:DeleteObject".to_owned()], &bucket);
            (delete["Resource"], delete["Condition"]) = (one_or_many(&objects), only_by_tag());
            statements.push(delete);
        }
        if let Some(principal) = principal {
            statements.iter_mut().for_each(|statement| statement["Principal"] = json!({ "AWS": principal }));
        }
        statements
    }

    /// What CloudTrail encrypted with these keys may be decrypted, and nothing else.
    fn key_policies(&self, principal: &str) -> Vec<Document> {
        let documents = self.source.kms_keys.iter().map(|key| {
            let mut statement = allow(sid::DECRYPT, vec!["kms:Decrypt".to_owned()], key);
            statement["Principal"] = json!({ "AWS": principal });
            statement["Condition"] = json!({ "Null": { "kms:EncryptionContext:aws:cloudtrail:arn": "false" } });
            let account = account_of_key(key).map(str::to_owned);
            self.document(Attachment::KeyPolicy, key, account, vec![statement])
        });
        documents.collect()
    }

    /// The keys that verify digests; the action has no resources to choose from (Service Authorization Reference).
    fn public_keys(&self) -> Option<Value> {
        let digests = self.source.kinds.iter().any(|kind| kind == "CloudTrail-Digest");
        digests.then(|| allow(sid::PUBLIC_KEYS, vec!["cloudtrail:ListPublicKeys".to_owned()], "*"))
    }

    fn notes(&self, documents: &[Document]) -> Vec<String> {
        let source = self.source;
        let mut notes = Vec::new();
        if source.role.is_some() && !source.accounts.is_empty() {
            notes.push(AWS_EXAMPLES.to_owned());
        }
        if source.kms_keys.is_empty() {
            notes.push(
                "No KMS key is configured. If the trail encrypts with one, name it in `kms_keys` and its \
                 statement is printed."
                    .to_owned(),
            );
        }
        if source.after_mirror.is_some() {
            notes.push(
                "`after_mirror` is configured: with `s3:DeleteObject` logs are deleted at the source, for every reader. \
                 It is allowed with `If-Match` alone."
                    .to_owned(),
            );
        }
        if source.organization.is_none() && source.accounts.is_empty() {
            notes.push("All accounts are covered, those of organizations too; `accounts` narrows it.".to_owned());
        }
        let third_party = source.accounts.is_empty() || self.caller.account != source.accounts[0];
        if third_party && source.role.as_ref().is_some_and(|role| role.external_id.is_none()) {
            notes.push(
                "The role can be assumed without an external ID. A third party should have one: make it with \
                 `trailsync policy --new-external-id` and set `role.external_id`."
                    .to_owned(),
            );
        }
        if source.role.is_some() && self.caller.arn.is_some() {
            notes.push(
                "The trust policy names one user or role. IAM keeps its unique id: when it is deleted and made again, \
                 save the trust policy once more."
                    .to_owned(),
            );
        }
        if documents.iter().any(|document| document.attachment == Attachment::BucketPolicy) {
            notes.push(
                "Objects must belong to the bucket's owner: Object Ownership `Bucket owner enforced`, the default of \
                 buckets made since April 2023."
                    .to_owned(),
            );
        }
        notes
    }
}

/// Both are in "Sharing CloudTrail log files between AWS accounts", one for each scenario.
const AWS_EXAMPLES: &str = "Tighter than AWS's own examples on purpose. The CloudTrail user guide prints two access \
    policies for such roles, one for the account's own logs and one for all; both allow `s3:Get*` and `s3:List*` on \
    the whole bucket, which lets the reader list every account's keys and read the bucket's configuration. Here \
    `s3:ListBucket` is allowed only under the account's own `s3:prefix`.";

/// Who may assume a role, and under which external ID.
pub(super) fn trusting(role: &Role, sid: &str, caller: &str) -> Value {
    let mut statement = json!({
        "Sid": sid,
        "Effect": "Allow",
        "Principal": { "AWS": caller },
        "Action": one_or_many(&assuming(role)),
    });
    if let Some(id) = &role.external_id {
        statement["Condition"] = json!({ "StringEquals": { "sts:ExternalId": id } });
    }
    statement
}

/// What a session of this role needs to be allowed on both sides.
pub(super) fn assuming(role: &Role) -> Vec<String> {
    let mut actions = vec!["sts:AssumeRole"];
    actions.extend((!role.tags.is_empty()).then_some("sts:TagSession"));
    actions.extend(role.source_identity.is_some().then_some("sts:SetSourceIdentity"));
    actions.into_iter().map(str::to_owned).collect()
}

pub(super) fn allow(sid: &str, actions: Vec<String>, resource: &str) -> Value {
    json!({ "Sid": sid, "Effect": "Allow", "Action": one_or_many(&actions), "Resource": resource })
}

/// A key of another account must be allowed on both sides (KMS guide, "Allowing users in other accounts to use a KMS
/// key"); for one of the same account its own policy is enough.
fn decrypting_identity(keys: &[String]) -> Option<Value> {
    let mut statement = allow(sid::DECRYPT, vec!["kms:Decrypt".to_owned()], "");
    statement["Resource"] = one_or_many(keys);
    (!keys.is_empty()).then_some(statement)
}

fn account_of_key(key: &str) -> Option<&str> {
    kms_parts(key).map(|(_, _, account)| account)
}

fn too_long(document: &Document) -> Option<String> {
    let (length, most) = (document.policy.to_string().len(), document.attachment.most_characters());
    (length > most).then(|| {
        format!(
            "The {} document has {length} characters of the {most} that AWS takes: part the accounts into several \
             sources, each with a role of its own.",
            document.attachment.word()
        )
    })
}

#[cfg(test)]
mod tests;
