//! What a failure at a bucket of our own means for the caller, and what would mend it.

use crate::config::OwnBucket;
use crate::error::{Class, Error, Report};
use crate::policy::Partition;
use crate::renewal::Refusal;
use crate::source::client::Failure;
use crate::source::s3::class_of;

/// The requests that are made, besides those that read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Put,
    Copy,
    Head,
    CreateUpload,
    UploadPart,
    CompleteUpload,
    AbortUpload,
    ListUploads,
    GetObjectLock,
}

impl Operation {
    pub fn name(self) -> &'static str {
        match self {
            Self::Put => "PutObject",
            Self::Copy => "CopyObject",
            Self::Head => "HeadObject",
            Self::CreateUpload => "CreateMultipartUpload",
            Self::UploadPart => "UploadPart",
            Self::CompleteUpload => "CompleteMultipartUpload",
            Self::AbortUpload => "AbortMultipartUpload",
            Self::ListUploads => "ListMultipartUploads",
            Self::GetObjectLock => "GetObjectLockConfiguration",
        }
    }

    /// What must be allowed for it.
    fn permission(self) -> &'static str {
        match self {
            Self::Put | Self::Copy | Self::CreateUpload | Self::UploadPart | Self::CompleteUpload => "s3:PutObject",
            Self::Head => "s3:GetObject",
            Self::AbortUpload => "s3:AbortMultipartUpload",
            Self::ListUploads => "s3:ListBucketMultipartUploads",
            Self::GetObjectLock => "s3:GetBucketObjectLockConfiguration",
        }
    }

    /// Whether it is made on the bucket, not on one object.
    fn is_of_the_bucket(self) -> bool {
        matches!(self, Self::ListUploads | Self::GetObjectLock)
    }

    fn writes(self) -> bool {
        self.permission() == "s3:PutObject"
    }
}

/// Whether the service refuses this one object, whatever is tried: others may be taken.
pub fn is_of_the_object(code: &str) -> bool {
    matches!(
        code,
        "KeyTooLongError" | "MetadataTooLarge" | "EntityTooLarge" | "InvalidObjectName" | "XMinioInvalidObjectName"
    )
}

/// What must be known of the bucket to explain its failures.
#[derive(Debug, Clone)]
pub struct Target {
    name: String,
    region: String,
    owner: Option<String>,
    role: Option<String>,
    with_kms: bool,
    with_lock: bool,
}

impl Target {
    pub fn of(own: &OwnBucket) -> Self {
        Self {
            name: own.bucket.clone(),
            region: own.region.clone(),
            owner: own.bucket_owner.clone(),
            role: own.role.as_ref().map(|role| role.arn.clone()),
            with_kms: own.sse.as_deref().is_some_and(|sse| sse.starts_with("aws:kms")),
            with_lock: own.object_lock.is_some(),
        }
    }

    /// The failure of `operation` on a key or prefix, classed and with its mend.
    pub fn explain(&self, operation: Operation, subject: &str, failure: Failure) -> Error {
        // What is refused of one object is refused of the next: only the codes above are an object's own.
        let class = match failure.code.as_str() {
            "NoSuchUpload" => Class::Transient,
            // A HEAD has no body and so no code.
            "NotFound" | "HTTP 404" if operation == Operation::Head => Class::Object,
            code => class_of(Class::Stream, failure.status, code),
        };
        let mend = self.mend(operation, subject, &failure);
        let mut report = failure.report(operation.name(), subject);
        report.mend = mend;
        Error::of(class, report)
    }

    /// Object Lock is configured here and not there.
    pub fn unlocked(&self) -> Error {
        let report = Report::new(Operation::GetObjectLock.name(), &self.name, "the bucket has no Object Lock");
        let mend = "use a bucket that was made with Object Lock, or enable it there; or take `object_lock` out of the \
                    configuration, and copies can be deleted";
        Error::of(Class::Stream, report.code("ObjectLockConfigurationNotFoundError").mend(mend))
    }

    fn mend(&self, operation: Operation, subject: &str, failure: &Failure) -> Option<String> {
        let Self { name, region, .. } = self;
        let mend = match failure.code.as_str() {
            "AccessDenied" | "HTTP 403" | "Forbidden" => self.allow(operation, subject),
            "NoSuchBucket" => format!("make the bucket `{name}`, or mend `destination.bucket`"),
            "AllAccessDisabled" | "AccountProblem" => {
                "ask AWS why access to the account or bucket is disabled".to_owned()
            }
            "InvalidRequest" if self.with_lock => {
                "check that the bucket was made with Object Lock, as `object_lock` needs".to_owned()
            }
            "InvalidStorageClass" => "check `destination.storage_class`".to_owned(),
            "RequestTimeTooSkewed" => "set this machine's clock: it is more than 15 minutes off".to_owned(),
            "SignatureDoesNotMatch" => "the secret access key is wrong, or a proxy changes requests".to_owned(),
            "NotSent" => {
                "check `bucket`, `region` and `endpoints` of the destination: together they make no endpoint".to_owned()
            }
            "NotImplemented" => "this service has no conditional writes, without which no copy is safe".to_owned(),
            "UntrustedCertificate" => {
                "check who answers at this endpoint; behind a private authority, set `destination.endpoints.ca_bundle`"
                    .to_owned()
            }
            code if code.starts_with("KMS.") => {
                "the KMS key of the copies is disabled, being deleted or gone: enable it, or mend `kms_key_id`"
                    .to_owned()
            }
            code if Refusal::from_code(code) == Some(Refusal::Credentials) => {
                "the credentials of the destination were refused: check that they are active and of this partition"
                    .to_owned()
            }
            _ => match &failure.region {
                Some(actual) if **actual != **region => {
                    format!("the bucket is in {actual}: set `destination.region = \"{actual}\"`")
                }
                _ => return None,
            },
        };
        Some(mend)
    }

    fn allow(&self, operation: Operation, subject: &str) -> String {
        let bucket = format!("arn:{}:s3:::{}", Partition::of(&self.region).name, self.name);
        let resource = if operation.is_of_the_bucket() { bucket } else { format!("{bucket}/{subject}") };
        let who = self.role.as_deref().map_or_else(|| "the caller".to_owned(), |role| format!("`{role}`"));
        let mut mend = format!("allow {who} `{}` on `{resource}`", operation.permission());
        if operation.writes() && self.with_lock {
            mend.push_str(" and `s3:PutObjectRetention`");
        }
        if self.with_kms && !operation.is_of_the_bucket() {
            mend.push_str(", and `kms:GenerateDataKey` and `kms:Decrypt` with the key of the copies");
        }
        if operation == Operation::Head {
            mend.push_str("; without `s3:ListBucket` a missing object is denied, too");
        }
        if let Some(owner) = &self.owner {
            mend.push_str(&format!("; or `destination.bucket_owner` is wrong: the bucket is not account {owner}'s"));
        }
        mend
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(status: u16, code: &str) -> Failure {
        Failure { status: Some(status), code: code.into(), message: "said".into(), ..Failure::default() }
    }

    fn target() -> Target {
        Target {
            name: "ours".into(),
            region: "eu-west-1".into(),
            owner: Some("222222222222".into()),
            role: Some("arn:aws:iam::222222222222:role/W".into()),
            with_kms: true,
            with_lock: true,
        }
    }

    #[test]
    fn a_denial_names_the_missing_permissions_and_where() {
        for (operation, words) in [
            (
                Operation::Put,
                "`s3:PutObject` on `arn:aws:s3:::ours/k` and `s3:PutObjectRetention`, and `kms:GenerateDataKey`",
            ),
            (Operation::CompleteUpload, "`s3:PutObject` on `arn:aws:s3:::ours/k`"),
            (Operation::Head, "`s3:GetObject` on `arn:aws:s3:::ours/k`"),
            (Operation::AbortUpload, "`s3:AbortMultipartUpload` on `arn:aws:s3:::ours/k`"),
            (Operation::ListUploads, "`s3:ListBucketMultipartUploads` on `arn:aws:s3:::ours`"),
            (Operation::GetObjectLock, "`s3:GetBucketObjectLockConfiguration` on `arn:aws:s3:::ours`"),
        ] {
            let error = target().explain(operation, "k", failure(403, "AccessDenied"));
            assert_eq!(error.class(), Class::Stream, "nothing else can be written either");
            let said = error.to_string();
            assert!(said.contains(words) && said.contains("not account 222222222222's"), "{said}");
        }
    }

    #[test]
    fn what_waiting_mends_is_transient_and_nothing_is_a_copy_s_own_but_what_is() {
        for (status, code, class) in [
            (409, "ConditionalRequestConflict", Class::Transient),
            (503, "SlowDown", Class::Transient),
            (200, "InternalError", Class::Transient),
            (404, "NoSuchUpload", Class::Transient),
            (400, "BadDigest", Class::Transient),
            (400, "ExpiredToken", Class::Credentials),
            (404, "NoSuchBucket", Class::Stream),
            (400, "InvalidRequest", Class::Stream),
        ] {
            assert_eq!(target().explain(Operation::Put, "k", failure(status, code)).class(), class, "{code}");
        }
        assert!(is_of_the_object("KeyTooLongError") && !is_of_the_object("AccessDenied"));
    }
}
