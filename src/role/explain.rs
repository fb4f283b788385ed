//! Why a session could not be had, in words that name the mend.

use aws_credential_types::provider::error::CredentialsError;

use super::sts::Identity;
use crate::config::{Credentials, Role, Source};
use crate::error::{Class, Error, Report};
use crate::retry::is_throttling;
use crate::source::client::{Failure, chain, unreachable};

/// The base credentials could not be read.
pub(crate) fn base(credentials: &Credentials, error: &CredentialsError) -> Error {
    let (class, code) = match error {
        CredentialsError::CredentialsNotLoaded(_) => (Class::Stream, "NoCredentials"),
        CredentialsError::InvalidConfiguration(_) => (Class::Stream, "BadCredentials"),
        _ => (Class::Transient, "CredentialsUnavailable"),
    };
    let mend = match (credentials, chain(error)) {
        (_, text) if text.contains("AWS_ENDPOINT_URL") => {
            "unset it, and name the endpoint of STS in `endpoints.sts` of the configuration instead"
        }
        (Credentials::Default, _) => {
            "give this machine, task or pod a role, or name a profile, files or variables in `credentials`"
        }
        (Credentials::Profile(_), _) => "check the profile in the shared AWS configuration of the user that runs this",
        (Credentials::Files { .. }, _) => "each file must hold one key and be readable by the user that runs this",
        (Credentials::Environment { .. }, _) => "set the variables in the environment of this process",
    };
    Error::of(class, Report::new("read base credentials", place(credentials), chain(error)).code(code).mend(mend))
}

/// The base credentials did not come in time.
pub(crate) fn base_timeout(credentials: &Credentials) -> Error {
    let report = Report::new("read base credentials", place(credentials), "nothing came in time").code("Timeout");
    Error::of(Class::Transient, report)
}

pub(crate) fn place(credentials: &Credentials) -> String {
    match credentials {
        Credentials::Default => "default chain".to_owned(),
        Credentials::Profile(name) => format!("profile {name}"),
        Credentials::Files { access_key_id, .. } => access_key_id.display().to_string(),
        Credentials::Environment { access_key_id, .. } => access_key_id.clone(),
    }
}

/// The caller is an account's root user.
pub(crate) fn root(identity: &Identity) -> Error {
    let report = Report::new("GetCallerIdentity", &identity.arn, "an account's root user may not assume a role")
        .code("RootCaller")
        .mend(format!(
            "create an IAM user or role in account {} that may `sts:AssumeRole`, and use its credentials",
            identity.account
        ));
    Error::of(Class::Stream, report)
}

/// It could not be asked who the caller is.
pub(super) fn identity(failure: Failure, source: &Source) -> Error {
    let mend = common_mend(&failure, source.role.as_ref(), source);
    finish(failure, "GetCallerIdentity", "base credentials", mend)
}

/// The role could not be assumed by `caller`.
pub(super) fn assume(failure: Failure, role: &Role, source: &Source, caller: Option<&str>) -> Error {
    let mend = match failure.code.as_str() {
        "AccessDenied" | "AccessDeniedException" => Some(denied(&failure.message, role, caller)),
        "ValidationError" => Some(invalid(&failure.message, role)),
        "MalformedPolicyDocument" | "MalformedPolicyDocumentException" => Some(
            "check `prefix`, `bucket` and `region`, of which the session policy is made, or set `session_policy = false`"
                .to_owned(),
        ),
        "PackedPolicyTooLarge" | "PackedPolicyTooLargeException" => {
            Some("use fewer or shorter session tags, or set `session_policy = false`".to_owned())
        }
        _ => common_mend(&failure, Some(role), source),
    };
    finish(failure, "AssumeRole", &role.arn, mend)
}

fn finish(failure: Failure, operation: &'static str, subject: &str, mend: Option<String>) -> Error {
    let class = if is_passing(&failure) { Class::Transient } else { Class::Stream };
    let mut report = failure.report(operation, subject);
    report.mend = mend;
    Error::of(class, report)
}

/// Whether waiting may mend it, without anybody's help.
pub(crate) fn is_passing(failure: &Failure) -> bool {
    let code = failure.code.as_str();
    is_throttling(code)
        || matches!(code, "Timeout" | "ConnectionFailed" | "MalformedAnswer" | "InternalFailure" | "ServiceUnavailable")
        // The SDK learns the service's time from this answer and signs the next request by it.
        || is_skewed(failure)
        || failure.status.is_some_and(|status| status >= 500 || status == 429)
}

/// Whether the request was signed at a time that the service does not accept.
pub(crate) fn is_skewed(failure: &Failure) -> bool {
    let timed = ["Signature expired", "Signature not yet current"];
    matches!(failure.code.as_str(), "RequestExpired" | "RequestTimeTooSkewed")
        || timed.iter().any(|words| failure.message.contains(words))
}

/// Mends for failures that any request to STS may have.
pub(crate) fn common_mend(failure: &Failure, role: Option<&Role>, source: &Source) -> Option<String> {
    let region = role.map_or("the region", |role| role.sts_region.as_str());
    let mend = match failure.code.as_str() {
        _ if is_skewed(failure) => "set this machine's clock: it is more than 15 minutes off".to_owned(),
        "ExpiredToken" | "ExpiredTokenException" => {
            "the base credentials have expired: whoever issues them must renew them".to_owned()
        }
        "InvalidClientTokenId" | "UnrecognizedClientException" => format!(
            "the base access key is unknown, inactive, of another partition, or of an account that has not enabled {region}"
        ),
        "SignatureDoesNotMatch" | "IncompleteSignature" => {
            "the base secret access key does not belong to the access key id, or a proxy changes requests".to_owned()
        }
        "RegionDisabledException" => {
            let account = role.and_then(|role| role.arn.split(':').nth(4)).unwrap_or("A");
            format!("activate STS in {region} for account {account}, or set `sts_region` to one where it is active")
        }
        "OptInRequired" => "enable the region for the caller's account, or set `sts_region` to another".to_owned(),
        "UntrustedCertificate" => {
            "check who answers at this endpoint; behind a private authority, set `ca_bundle`".to_owned()
        }
        "ConnectionFailed" | "Timeout" => unreachable("STS", source.endpoints.sts.as_deref(), region),
        "NotSent" => "check `region`, `sts_region` and `endpoints`: together they make no endpoint".to_owned(),
        _ => return None,
    };
    Some(mend)
}

/// `AccessDenied` is the same for all of these: the likely ones first.
fn denied(message: &str, role: &Role, caller: Option<&str>) -> String {
    if message.contains("root accounts") {
        return "use an IAM user or role instead of the root user".to_owned();
    }
    let caller = caller.unwrap_or("the caller");
    let external = match &role.external_id {
        Some(_) => "its `sts:ExternalId` condition equals the configured `external_id`",
        None => "it has no `sts:ExternalId` condition (none is configured here)",
    };
    format!(
        "check in this order: (1) the role's trust policy names `{caller}` or its account as principal; (2) {external}; \
         (3) `{caller}` is allowed `sts:AssumeRole` on `{}`, and nothing denies it; (4) the role exists under exactly \
         this name and path, upper and lower case included",
        role.arn
    )
}

pub(crate) fn invalid(message: &str, role: &Role) -> String {
    if message.contains("chaining") {
        return "set `duration` to an hour at most: the base credentials are a role session themselves".to_owned();
    }
    if message.contains("MaxSessionDuration") {
        let asked = role.duration.as_secs();
        return format!("lower `duration`, or have the role's maximum session duration raised to {asked} seconds");
    }
    "check `role_arn`, `session_name`, `external_id`, `duration` and the session tags".to_owned()
}
