//! What a failure of S3 means for the caller, and what would mend it.

use crate::config::Source;
use crate::error::{Class, Error, Report};
use crate::policy::Partition;
use crate::renewal::Refusal;
use crate::retry::is_throttling;
use crate::source::ListRequest;
use crate::source::client::{Failure, unreachable};

/// The requests that are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    /// `ListObjectsV2`
    List,
    /// `GetObject`
    Get,
    /// `DeleteObject`
    Delete,
}

impl Operation {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::List => "ListObjectsV2",
            Self::Get => "GetObject",
            Self::Delete => "DeleteObject",
        }
    }

    /// The class of what only this request's subject can be blamed for.
    fn own(self) -> Class {
        match self {
            // What is refused for one object is likely refused for all: nothing more is tried.
            Self::List | Self::Delete => Class::Stream,
            Self::Get => Class::Object,
        }
    }
}

/// What the caller of `operation` can do about a failure with this HTTP status and code.
///
/// Codes are those of the S3 reference (error responses); what is not named here goes by its status.
pub(super) fn class(operation: Operation, status: Option<u16>, code: &str) -> Class {
    class_of(operation.own(), status, code)
}

/// The same for any operation; `own` is the class of what only its subject can be blamed for.
pub fn class_of(own: Class, status: Option<u16>, code: &str) -> Class {
    match code {
        "AccessDenied" => own,
        _ if Refusal::from_code(code).is_some() => Class::Credentials,
        _ if is_throttling(code) => Class::Transient,
        "InternalError"
        | "ServiceUnavailable"
        | "OperationAborted"
        | "ConditionalRequestConflict"
        | "RequestTimeout"
        | "RequestTimeoutException"
        | "BadDigest"
        | "Timeout"
        | "ConnectionFailed"
        | "MalformedAnswer"
        // The SDK learns the service's time from this answer and signs the next request by it.
        | "RequestTimeTooSkewed" => Class::Transient,
        "NoSuchKey" | "NoSuchVersion" | "PreconditionFailed" | "InvalidObjectState" | "KeyTooLongError" => own,
        _ if code.starts_with("KMS.") => own,
        "AccountProblem"
        | "AllAccessDisabled"
        | "AuthorizationHeaderMalformed"
        | "IllegalLocationConstraintException"
        | "IncorrectEndpoint"
        | "InvalidBucketName"
        | "NoSuchBucket"
        | "NotImplemented"
        | "NotSent"
        | "PermanentRedirect"
        | "Redirect"
        | "SignatureDoesNotMatch"
        | "TemporaryRedirect"
        | "UnsupportedSignature"
        | "UntrustedCertificate" => Class::Stream,
        _ => match status {
            None | Some(200..=299 | 408 | 429 | 500..) => Class::Transient,
            Some(400..=499) => own,
            Some(_) => Class::Stream,
        },
    }
}

/// What must be known of a bucket to explain its failures.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    pub(super) name: String,
    pub(super) region: String,
    pub(super) owner: Option<String>,
    role: Option<String>,
    endpoint: Option<String>,
}

impl Bucket {
    pub(super) fn of(source: &Source) -> Self {
        Self {
            name: source.bucket.clone(),
            region: source.region.clone(),
            owner: source.bucket_owner.clone(),
            role: source.role.as_ref().map(|role| role.arn.clone()),
            endpoint: source.endpoints.s3.clone(),
        }
    }

    /// The failure of `operation` on a prefix or key, classed and with its mend.
    pub(super) fn explain(&self, operation: Operation, subject: &str, failure: Failure) -> Error {
        let class = class(operation, failure.status, &failure.code);
        let mend = self.mend(operation, subject, &failure);
        let mut report = failure.report(operation.name(), subject);
        report.mend = mend;
        Error::of(class, report)
    }

    /// The region that a failure says the bucket is in, if another try there is sensible.
    ///
    /// Only ever another region of the same partition: the host is then made of the region by the SDK, never
    /// taken from the answer.
    pub(super) fn redirected_to(&self, failure: &Failure, tried: Option<&str>) -> Option<String> {
        let codes = ["PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"];
        let redirect = failure.status == Some(301) || codes.contains(&failure.code.as_str());
        let region = failure.region.as_deref().filter(|region| redirect && is_region(region))?;
        let sensible = region != tried.unwrap_or(&self.region) && Partition::of(region) == Partition::of(&self.region);
        sensible.then(|| region.to_owned())
    }

    /// A listed key whose bytes are not UTF-8.
    pub(super) fn not_utf8(&self, request: &ListRequest, encoded: &str) -> Error {
        let message = format!("the key `{encoded}` (as it was sent) is not UTF-8, which S3 does not allow");
        let report = Report::new(Operation::List.name(), &request.prefix, message).code("KeyNotUtf8");
        Error::of(Class::Stream, report)
    }

    /// A page that says that there is more, and not where.
    pub(super) fn endless(&self, request: &ListRequest) -> Error {
        let message = "the listing is said to go on, but with no token or the one that was sent";
        let report = Report::new(Operation::List.name(), &request.prefix, message)
            .code("EndlessListing")
            .mend("the service does not page as S3 does: nothing after this page can be seen");
        Error::of(Class::Stream, report)
    }

    /// An answer that lacks what every answer has.
    pub(super) fn malformed(&self, request: &ListRequest, what: &str) -> Error {
        let report = Report::new(Operation::List.name(), &request.prefix, what).code("MalformedAnswer");
        Error::of(Class::Transient, report)
    }

    fn mend(&self, operation: Operation, subject: &str, failure: &Failure) -> Option<String> {
        let Self { name, region, .. } = self;
        let mend = match failure.code.as_str() {
            "AccessDenied" => self.permission(operation, subject),
            "AllAccessDisabled" | "AccountProblem" => {
                "the owner of the bucket must ask AWS why access to the account or bucket is disabled".to_owned()
            }
            "NoSuchBucket" => format!("check `bucket`: there is no bucket `{name}`"),
            "InvalidObjectState" => {
                "the object is archived: its owner must restore it, or keep logs out of archive classes".to_owned()
            }
            "RequestTimeTooSkewed" => "set this machine's clock: it is more than 15 minutes off".to_owned(),
            "UnsupportedSignature" => {
                format!("tokens of the global STS endpoint are not valid in {region}: set `sts_region` to a region")
            }
            "SignatureDoesNotMatch" => "the secret access key is wrong, or a proxy changes requests".to_owned(),
            "NotSent" => "check `bucket`, `region` and `endpoints`: together they make no endpoint".to_owned(),
            "UntrustedCertificate" => {
                "check who answers at this endpoint; behind a private authority, set `ca_bundle`".to_owned()
            }
            "ConnectionFailed" | "Timeout" => unreachable("S3", self.endpoint.as_deref(), region),
            "TemporaryRedirect" | "Redirect" => {
                "redirects are not followed; a bucket that is hours old is reached directly later".to_owned()
            }
            code if code.starts_with("KMS.") => {
                "the KMS key of the object is disabled, being deleted or gone: its owner must enable it".to_owned()
            }
            code if Refusal::from_code(code) == Some(Refusal::Credentials) => self.session(),
            _ => match failure.region.as_deref() {
                Some(actual) if actual != region => format!("the bucket is in {actual}: set `region = \"{actual}\"`"),
                _ => return None,
            },
        };
        Some(mend)
    }

    fn permission(&self, operation: Operation, subject: &str) -> String {
        let bucket = format!("arn:{}:s3:::{}", Partition::of(&self.region).name, self.name);
        let who = self.role.as_deref().map_or_else(|| "the caller".to_owned(), |role| format!("`{role}`"));
        let mut mend = match operation {
            Operation::List => format!("allow {who} `s3:ListBucket` on `{bucket}` with `s3:prefix` `{subject}`"),
            Operation::Get => format!(
                "allow {who} `s3:GetObject` on `{bucket}/{subject}`, or, if that is allowed and the object is encrypted \
                 with a KMS key, `kms:Decrypt` in the role's policy and in the key's; without `s3:ListBucket` a missing \
                 object is denied, too"
            ),
            Operation::Delete => format!(
                "allow {who} `s3:DeleteObject` and `s3:GetObject` on `{bucket}/{subject}`, in the session's policy, too \
                 (`trailsync policy` prints both), and see that no policy of the bucket denies it"
            ),
        };
        if operation == Operation::Delete {
            mend.push_str("; or set no `after_mirror`, and nothing is deleted");
        }
        if let Some(owner) = &self.owner {
            mend.push_str(&format!("; or `bucket_owner` is wrong: the bucket is not account {owner}'s"));
        }
        mend
    }

    fn session(&self) -> String {
        match &self.role {
            Some(_) => "the session was refused before its end: it is renewed at most once a minute".to_owned(),
            None => "the base credentials were refused: check that they are active and of this partition".to_owned(),
        }
    }
}

/// Whether text from an answer has the shape of a region, as it becomes part of a host name.
fn is_region(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let (Some(area), Some(number)) = (parts.first(), parts.last()) else { return false };
    let plain = parts
        .iter()
        .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()));
    let shaped = parts.len() >= 3 && area.len() >= 2 && number.bytes().all(|byte| byte.is_ascii_digit());
    plain && shaped && text.len() <= 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::tests::source;

    /// Every code of the S3 reference that matters here: HTTP status, class for a listing, class for an object.
    const TABLE: &[(&str, u16, Class, Class)] = {
        use Class::{Credentials, Object, Stream, Transient};
        &[
            ("AccessDenied", 403, Stream, Object),
            ("AllAccessDisabled", 403, Stream, Stream),
            ("AccountProblem", 403, Stream, Stream),
            ("AuthorizationHeaderMalformed", 400, Stream, Stream),
            ("BadDigest", 400, Transient, Transient),
            ("ConditionalRequestConflict", 409, Transient, Transient),
            ("ExpiredToken", 400, Credentials, Credentials),
            ("IllegalLocationConstraintException", 400, Stream, Stream),
            ("IncorrectEndpoint", 400, Stream, Stream),
            ("InternalError", 500, Transient, Transient),
            ("InvalidAccessKeyId", 403, Credentials, Credentials),
            ("InvalidArgument", 400, Stream, Object),
            ("InvalidObjectState", 403, Stream, Object),
            ("InvalidRequest", 400, Stream, Object),
            ("InvalidToken", 400, Credentials, Credentials),
            ("KMS.DisabledException", 400, Stream, Object),
            ("KMS.InvalidKeyUsageException", 400, Stream, Object),
            ("KMS.KMSInvalidStateException", 400, Stream, Object),
            ("KMS.NotFoundException", 400, Stream, Object),
            ("KeyTooLongError", 400, Stream, Object),
            ("MethodNotAllowed", 405, Stream, Object),
            ("NoSuchBucket", 404, Stream, Stream),
            ("NoSuchKey", 404, Stream, Object),
            ("NoSuchVersion", 404, Stream, Object),
            ("NotImplemented", 501, Stream, Stream),
            ("OperationAborted", 409, Transient, Transient),
            ("PermanentRedirect", 301, Stream, Stream),
            ("PreconditionFailed", 412, Stream, Object),
            ("Redirect", 307, Stream, Stream),
            ("RequestTimeout", 400, Transient, Transient),
            ("RequestTimeTooSkewed", 403, Transient, Transient),
            ("ServiceUnavailable", 503, Transient, Transient),
            ("SignatureDoesNotMatch", 403, Stream, Stream),
            ("SlowDown", 503, Transient, Transient),
            ("TemporaryRedirect", 307, Stream, Stream),
            ("ThrottlingException", 400, Transient, Transient),
            ("TokenRefreshRequired", 400, Credentials, Credentials),
            ("UnsupportedSignature", 400, Stream, Stream),
            ("HTTP 301", 301, Stream, Stream),
            ("HTTP 403", 403, Stream, Object),
            ("HTTP 404", 404, Stream, Object),
            ("HTTP 429", 429, Transient, Transient),
            ("HTTP 502", 502, Transient, Transient),
            ("HTTP 504", 504, Transient, Transient),
            ("MalformedAnswer", 200, Transient, Transient),
        ]
    };

    fn failure(status: u16, code: &str) -> Failure {
        Failure { status: Some(status), code: code.into(), message: "said".into(), ..Failure::default() }
    }

    fn bucket() -> Bucket {
        Bucket::of(&Source { bucket_owner: Some("111111111111".into()), ..source() })
    }

    #[test]
    fn every_code_has_its_class() {
        for (code, status, list, get) in TABLE {
            assert_eq!(class(Operation::List, Some(*status), code), *list, "{code} of a listing");
            assert_eq!(class(Operation::Get, Some(*status), code), *get, "{code} of an object");
        }
        for code in ["Timeout", "ConnectionFailed"] {
            assert_eq!(class(Operation::Get, None, code), Class::Transient);
        }
        for code in ["UntrustedCertificate", "NotSent"] {
            assert_eq!(class(Operation::Get, None, code), Class::Stream);
        }
    }

    #[test]
    fn a_denial_names_the_missing_permission_and_the_other_causes() {
        let list = bucket().explain(Operation::List, "AWSLogs/1/", failure(403, "AccessDenied")).to_string();
        assert!(list.contains("`s3:ListBucket` on `arn:aws:s3:::trail-logs` with `s3:prefix` `AWSLogs/1/`"), "{list}");
        assert!(list.contains("the bucket is not account 111111111111's"), "{list}");
        let get = bucket().explain(Operation::Get, "AWSLogs/1/x.gz", failure(403, "AccessDenied")).to_string();
        assert!(get.contains("`s3:GetObject` on `arn:aws:s3:::trail-logs/AWSLogs/1/x.gz`"), "{get}");
        assert!(get.contains("`kms:Decrypt`"), "{get}");
    }

    #[test]
    fn codes_with_a_known_mend_name_it() {
        for (code, words) in [
            ("NoSuchBucket", "`bucket`"),
            ("RequestTimeTooSkewed", "clock"),
            ("UnsupportedSignature", "`sts_region`"),
            ("KMS.DisabledException", "KMS key"),
            ("InvalidObjectState", "restore"),
            ("ExpiredToken", "renewed"),
            ("UntrustedCertificate", "`ca_bundle`"),
        ] {
            let error = bucket().explain(Operation::Get, "k", failure(400, code)).to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn only_another_region_of_the_same_partition_is_followed() {
        let to = |status, code, region: &str| {
            let failure = Failure { region: Some(region.into()), ..failure(status, code) };
            bucket().redirected_to(&failure, None)
        };
        assert_eq!(to(301, "PermanentRedirect", "us-east-2").as_deref(), Some("us-east-2"));
        assert_eq!(to(400, "AuthorizationHeaderMalformed", "ap-southeast-4").as_deref(), Some("ap-southeast-4"));
        assert_eq!(to(301, "HTTP 301", "us-east-2").as_deref(), Some("us-east-2"));
        assert_eq!(to(301, "PermanentRedirect", "eu-west-1"), None, "it is there already");
        assert_eq!(to(301, "PermanentRedirect", "cn-north-1"), None, "another partition");
        assert_eq!(to(403, "AccessDenied", "us-east-2"), None, "not a redirect");
        for hostile in ["evil.example", "us-east-1.evil.example", "x", "us-east-1/", "US-EAST-1", "us--1", "a-b-c", ""]
        {
            assert_eq!(to(301, "PermanentRedirect", hostile), None, "{hostile}");
        }
    }

    #[test]
    fn a_wrong_region_that_is_not_followed_is_named() {
        let failure = Failure { region: Some("us-east-2".into()), ..failure(301, "PermanentRedirect") };
        let error = bucket().explain(Operation::List, "", failure).to_string();
        assert!(error.contains("set `region = \"us-east-2\"`"), "{error}");
    }
}
