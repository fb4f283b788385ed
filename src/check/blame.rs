//! What may be behind a refusal, the likely first; decided from what was said and what else is let through.

use super::{Permission, PolicyLine};
use crate::config::shape::{kms_parts, role_parts};
use crate::config::{Endpoints, Source};
use crate::policy::install::{Attachment, configured_caller, sid};
use crate::policy::{Partition, Scope, folders};
use crate::role::Identity;
use crate::role::explain::{common_mend, invalid, is_passing, is_skewed};
use crate::source::client::Failure;

/// Causes, the permission in question, and the statements that grant it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Blame {
    pub causes: Vec<String>,
    pub permission: Option<Permission>,
    pub policy: Vec<PolicyLine>,
    pub passing: bool,
}

/// A source, and who reads it.
#[derive(Clone, Copy)]
pub(super) struct Scene<'a> {
    pub source: &'a Source,
    pub caller: Option<&'a Identity>,
}

/// Why an object could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Denied {
    /// `s3:GetObject` is missing.
    Reading,
    /// `kms:Decrypt` is missing.
    Decrypting,
    /// One of them.
    Either,
}

/// What else is known when an object could not be read.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Evidence {
    /// Another object below the same folder could be read.
    pub another_was_read: bool,
    /// `HeadObject` of the same object was let through.
    pub head_was_allowed: bool,
}

/// What stands behind a refusal to read an object: S3 has one code for both, and, in part, words.
pub(super) fn denied(failure: &Failure, evidence: Evidence) -> Denied {
    match failure.message.as_str() {
        said if said.contains("kms:Decrypt") => Denied::Decrypting,
        said if said.contains("s3:GetObject") => Denied::Reading,
        _ if evidence.another_was_read || evidence.head_was_allowed => Denied::Decrypting,
        _ => Denied::Either,
    }
}

pub(super) fn is_denial(failure: &Failure) -> bool {
    matches!(failure.code.as_str(), "AccessDenied" | "AccessDeniedException" | "HTTP 403")
}

/// Whether the failure is our clock's.
pub(super) fn is_clock(failure: &Failure) -> bool {
    is_skewed(failure)
}

impl Scene<'_> {
    pub(super) fn bucket_arn(&self) -> String {
        format!("arn:{}:s3:::{}", Partition::of(&self.source.region).name, self.source.bucket)
    }

    /// Whoever reads the bucket, for people.
    pub(super) fn reader(&self) -> String {
        let role = self.source.role.as_ref().map(|role| role.arn.clone());
        role.or_else(|| self.caller.map(|caller| caller.arn.clone())).unwrap_or_else(|| "the caller".to_owned())
    }

    fn who(&self) -> &str {
        self.caller.map_or("the caller", |caller| caller.arn.as_str())
    }

    pub(super) fn line(&self, attachment: Attachment, sid: &'static str) -> PolicyLine {
        let mut command = format!("trailsync policy {}", self.source.name);
        if configured_caller(self.source).is_none() {
            let caller = self.caller.map_or("ACCOUNT", |caller| caller.account.as_str());
            command += &format!(" --caller {caller}");
        }
        PolicyLine { command, attachment, sid }
    }

    /// Statements that let the reader do something to the bucket.
    fn reading(&self, sid: &'static str) -> Vec<PolicyLine> {
        match &self.source.role {
            Some(_) => vec![self.line(Attachment::RoleAccess, sid)],
            None => vec![self.line(Attachment::BucketPolicy, sid), self.line(Attachment::Caller, sid)],
        }
    }

    fn reading_place(&self) -> &'static str {
        match &self.source.role {
            Some(_) => "the role's access policy",
            None => "the bucket's policy, or the caller's own,",
        }
    }

    /// `GetCallerIdentity` needs no permission: what fails it fails everything.
    pub(super) fn identity(&self, failure: &Failure) -> Blame {
        self.service(failure, Service::Sts)
    }

    /// The role could not be assumed.
    pub(super) fn assume(&self, failure: &Failure) -> Blame {
        let Some(role) = &self.source.role else { return Blame::default() };
        if failure.code == "ValidationError" {
            return Blame { causes: vec![invalid(&failure.message, role)], ..Blame::default() };
        }
        if !is_denial(failure) {
            return self.service(failure, Service::Sts);
        }
        let permission = |action| Some(Permission { action, resource: role.arn.clone(), condition: None });
        let trust = self.line(Attachment::RoleTrust, sid::TRUST);
        let own = self.line(Attachment::Caller, sid::ASSUME);
        let mut causes = vec![
            format!("the role's trust policy does not name `{}` or its account as principal", self.who()),
            match &role.external_id {
                Some(_) => "the trust policy's `sts:ExternalId` is not the configured `role.external_id`".to_owned(),
                None => {
                    "the trust policy asks for an `sts:ExternalId`, and `role.external_id` is not configured".to_owned()
                }
            },
            format!("`{}` is not allowed `sts:AssumeRole` on this role, or something denies it", self.who()),
            "the role does not exist under exactly this name and path, upper and lower case included".to_owned(),
        ];
        let mut policy = vec![trust, own];
        // Tags and a source identity are permissions of their own; only they are named in the answer.
        for (action, option) in [("sts:TagSession", "role.tags"), ("sts:SetSourceIdentity", "role.source_identity")] {
            if failure.message.contains(action) {
                causes = vec![
                    format!("the role's trust policy does not allow `{action}`, which `{option}` needs"),
                    format!("`{}` is not allowed `{action}` on this role", self.who()),
                ];
                return Blame { causes, permission: permission(action), policy, passing: false };
            }
        }
        // IAM sometimes says which side it is ("Troubleshoot access denied error messages").
        if failure.message.contains("identity-based policy") || failure.message.contains("permissions boundary") {
            causes.swap(0, 2);
            policy.swap(0, 1);
        } else if failure.message.contains("service control policy") {
            causes.insert(0, "a service control policy of the caller's organization denies it".to_owned());
        }
        Blame { causes, permission: permission("sts:AssumeRole"), policy, passing: false }
    }

    /// The bucket could not be asked where it is; `owned` says whether it may be asked without naming the owner.
    pub(super) fn bucket(&self, failure: &Failure, wrong_owner: bool) -> Blame {
        let owner = self.source.bucket_owner.as_deref().unwrap_or("another account");
        if wrong_owner {
            let cause = format!(
                "the bucket is not account {owner}'s: `bucket_owner` is wrong, or somebody else has made a \
                 bucket of this name"
            );
            return Blame { causes: vec![cause], ..Blame::default() };
        }
        if let Some(region) = failure.region.as_deref().filter(|region| *region != self.source.region) {
            let cause = format!("the bucket is in {region}: set `region = \"{region}\"`");
            return Blame { causes: vec![cause], ..Blame::default() };
        }
        if !is_denial(failure) {
            return self.service(failure, Service::S3);
        }
        let permission = Permission { action: "s3:GetBucketLocation", resource: self.bucket_arn(), condition: None };
        let causes = vec![
            format!("{} does not allow `{}` `s3:GetBucketLocation` on the bucket", self.reading_place(), self.reader()),
            "the bucket's policy, a service control policy or a VPC endpoint's policy denies it".to_owned(),
        ];
        Blame { causes, permission: Some(permission), policy: self.reading(sid::LOCATE), passing: false }
    }

    /// A folder could not be listed.
    pub(super) fn list(&self, failure: &Failure, prefix: &str) -> Blame {
        if !is_denial(failure) {
            return self.service(failure, Service::S3);
        }
        let permission = Permission {
            action: "s3:ListBucket",
            resource: self.bucket_arn(),
            condition: Some(format!("s3:prefix = {prefix}")),
        };
        let mut causes = vec![
            format!("{} does not allow `{}` `s3:ListBucket` on the bucket", self.reading_place(), self.reader()),
            format!(
                "it allows it for another `s3:prefix`: `prefix` ({}) and `organization` ({}) must be \
                 exactly the trail's",
                shown(Some(&self.source.prefix)),
                shown(self.source.organization.as_deref())
            ),
        ];
        if self.source.accounts.is_empty() {
            causes.push(
                "the role may list one account's folder only: set `accounts`, and nothing above it is listed"
                    .to_owned(),
            );
        }
        causes.push("the bucket's policy, a service control policy or a VPC endpoint's policy denies it".to_owned());
        Blame { causes, permission: Some(permission), policy: self.reading(sid::LIST), passing: false }
    }

    /// An object could not be read.
    pub(super) fn get(&self, failure: &Failure, key: &str, denied: Denied) -> Blame {
        if !is_denial(failure) {
            return self.service(failure, Service::S3);
        }
        let folder = folders(self.source, Scope::Accounts).into_iter().find(|folder| key.starts_with(folder));
        let resource = format!("{}/{}*", self.bucket_arn(), folder.unwrap_or_default());
        let reading =
            format!("{} does not allow `{}` `s3:GetObject` on the object", self.reading_place(), self.reader());
        let get = Blame {
            causes: vec![reading],
            permission: Some(Permission { action: "s3:GetObject", resource, condition: None }),
            policy: self.reading(sid::GET),
            passing: false,
        };
        match denied {
            Denied::Reading => Blame { causes: [get.causes, vec![others()]].concat(), ..get },
            Denied::Decrypting => self.decrypt(failure),
            Denied::Either => {
                let decrypt = self.decrypt(failure);
                let causes = [get.causes, decrypt.causes, vec![others()]].concat();
                Blame { causes, policy: [get.policy, decrypt.policy].concat(), ..get }
            }
        }
    }

    /// An object could not be asked to be deleted; it could be read.
    pub(super) fn delete(&self, key: &str) -> Blame {
        let folder = folders(self.source, Scope::Accounts).into_iter().find(|folder| key.starts_with(folder));
        let resource = format!("{}/{}*", self.bucket_arn(), folder.unwrap_or_default());
        let not_allowed =
            format!("{} does not allow `{}` `s3:DeleteObject` on the objects", self.reading_place(), self.reader());
        let unwanted = "nothing is to be deleted at the source: set no `after_mirror`".to_owned();
        Blame {
            causes: vec![not_allowed, others(), unwanted],
            permission: Some(Permission { action: "s3:DeleteObject", resource, condition: None }),
            policy: self.reading(sid::DELETE),
            passing: false,
        }
    }

    fn decrypt(&self, failure: &Failure) -> Blame {
        let named = failure.message.split_whitespace().find(|word| word.starts_with("arn:") && word.contains(":kms:"));
        let key = named.or(self.source.kms_keys.first().map(String::as_str));
        let mut causes = vec![format!("the policy of the KMS key does not allow `{}` `kms:Decrypt`", self.reader())];
        let mut policy = vec![self.line(Attachment::KeyPolicy, sid::DECRYPT)];
        if self.is_of_another_account(key) != Some(false) {
            let own =
                "the key belongs to another account than the reader, whose own policy must allow `kms:Decrypt`, too";
            causes.push(own.to_owned());
        }
        if self.is_of_another_account(key) == Some(true) {
            let own = if self.source.role.is_some() { Attachment::RoleAccess } else { Attachment::Caller };
            policy.push(self.line(own, sid::DECRYPT));
        }
        causes.push(
            "the key's statement has a condition on the trail's encryption context, and the bucket, not the \
             trail, encrypts"
                .to_owned(),
        );
        if self.source.kms_keys.is_empty() {
            causes.push("name the key in `kms_keys`, and `trailsync policy` prints the statement".to_owned());
        }
        let resource = key.unwrap_or("the key that the object is encrypted with").to_owned();
        let permission = Permission { action: "kms:Decrypt", resource, condition: None };
        Blame { causes, permission: Some(permission), policy, passing: false }
    }

    /// Whether a key is not the reader's account's; `None` where one of them is not known.
    fn is_of_another_account(&self, key: Option<&str>) -> Option<bool> {
        let (_, _, of_key) = kms_parts(key?)?;
        let reader = match &self.source.role {
            Some(role) => role_parts(&role.arn).map(|(_, account)| account),
            None => self.caller.map(|caller| caller.account.as_str()),
        };
        Some(of_key != reader?)
    }

    /// The keys that verify digests could not be had.
    pub(super) fn public_keys(&self, failure: &Failure) -> Blame {
        if !is_denial(failure) {
            return self.service(failure, Service::CloudTrail);
        }
        let permission = Permission { action: "cloudtrail:ListPublicKeys", resource: "*".to_owned(), condition: None };
        let causes = vec![
            format!("`{}` is not allowed `cloudtrail:ListPublicKeys`", self.who()),
            "a service control policy or a VPC endpoint's policy denies it".to_owned(),
        ];
        let policy = vec![self.line(Attachment::Caller, sid::PUBLIC_KEYS)];
        Blame { causes, permission: Some(permission), policy, passing: false }
    }

    /// What is nobody's permission: the way to a service, and what it thinks of the request.
    pub(super) fn service(&self, failure: &Failure, service: Service) -> Blame {
        let cause = service.cause(failure, self.source);
        let causes =
            cause.or_else(|| common_mend(failure, self.source.role.as_ref(), self.source)).into_iter().collect();
        // What began well and broke off may end well the next time.
        let broken = failure.code.starts_with("Body") || failure.code == "WrongLength";
        Blame { causes, passing: broken || is_passing(failure), ..Blame::default() }
    }
}

/// Which service is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    Sts,
    S3,
    CloudTrail,
}

impl Service {
    fn endpoint(self, endpoints: &Endpoints) -> (&'static str, Option<&str>) {
        match self {
            Self::Sts => ("`endpoints.sts`", endpoints.sts.as_deref()),
            Self::S3 => ("`endpoints.s3`", endpoints.s3.as_deref()),
            Self::CloudTrail => ("`endpoints.cloudtrail`", endpoints.cloudtrail.as_deref()),
        }
    }

    fn cause(self, failure: &Failure, source: &Source) -> Option<String> {
        let (option, address) = self.endpoint(&source.endpoints);
        let place = address.map_or_else(
            || format!("the service's endpoint in {}", source.region),
            |address| format!("{address} ({option})"),
        );
        let cause = match failure.code.as_str() {
            "ConnectionFailed" => {
                format!("nothing answers at {place}: check the address, name resolution, routes, firewall and proxy")
            }
            "Timeout" => format!("no answer came in time from {place}: check routes, firewall and proxy"),
            "UntrustedCertificate" => {
                format!(
                    "who answers at {place} shows a certificate that is not trusted: behind a private authority, \
                     set `endpoints.ca_bundle`"
                )
            }
            code if code.starts_with("Body") || code == "WrongLength" => {
                "the connection broke while the object was on its way: try again; a proxy may cut answers short"
                    .to_owned()
            }
            "SlowDown" | "ThrottlingException" | "Throttling" => {
                "the service asks for fewer requests of this account: try again later".to_owned()
            }
            "InternalFailure" | "InternalError" | "ServiceUnavailable" | "MalformedAnswer" => {
                "the service is in trouble: try again later".to_owned()
            }
            "NoSuchBucket" => format!("there is no bucket `{}`: check `bucket`", source.bucket),
            "AllAccessDisabled" | "AccountProblem" => {
                "the owner of the bucket must settle its account with AWS".to_owned()
            }
            "ExpiredToken" if self == Self::S3 => "the session was over before its time: see the clock".to_owned(),
            "InvalidAccessKeyId" => "the base access key is unknown or inactive".to_owned(),
            "InvalidObjectState" => {
                "the object is archived: its owner must restore it; newer ones may still be readable".to_owned()
            }
            code if code.starts_with("KMS.") => {
                "the KMS key of the object is disabled, being deleted or gone: its owner must enable it".to_owned()
            }
            _ => return None,
        };
        Some(cause)
    }
}

fn others() -> String {
    "the bucket's policy, a service control policy or a VPC endpoint's policy denies it".to_owned()
}

fn shown(text: Option<&str>) -> String {
    match text {
        None | Some("") => "none is configured".to_owned(),
        Some(text) => format!("`{text}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::tests::source;

    fn refusal(message: &str) -> Failure {
        Failure { status: Some(403), code: "AccessDenied".into(), message: message.into(), ..Failure::default() }
    }

    #[test]
    fn what_iam_says_of_the_side_that_refuses_comes_first() {
        let source = source();
        let scene = Scene { source: &source, caller: None };
        let first = |message: &str| {
            let blame = scene.assume(&refusal(message));
            (blame.causes[0].clone(), blame.policy[0].attachment)
        };
        assert_eq!(first("not authorized").1, Attachment::RoleTrust);
        let (cause, attachment) = first("because no identity-based policy allows the sts:AssumeRole action");
        assert!(cause.contains("is not allowed `sts:AssumeRole`"), "{cause}");
        assert_eq!(attachment, Attachment::Caller);
        let (cause, _) = first("with an explicit deny in a service control policy");
        assert!(cause.contains("service control policy"), "{cause}");
    }

    #[test]
    fn a_refused_read_is_the_key_s_when_it_says_so_or_when_something_else_was_let_through() {
        let plain = refusal("Access Denied");
        let none = Evidence::default();
        assert_eq!(denied(&plain, none), Denied::Either);
        assert_eq!(denied(&plain, Evidence { another_was_read: true, ..none }), Denied::Decrypting);
        assert_eq!(denied(&plain, Evidence { head_was_allowed: true, ..none }), Denied::Decrypting);
        assert_eq!(denied(&refusal("is not authorized to perform: kms:Decrypt on resource"), none), Denied::Decrypting);
        let reading = refusal("is not authorized to perform: s3:GetObject on resource");
        assert_eq!(denied(&reading, Evidence { another_was_read: true, ..none }), Denied::Reading);
    }

    #[test]
    fn a_key_that_is_named_in_the_answer_is_the_one_that_is_missing() {
        let source = source();
        let scene = Scene { source: &source, caller: None };
        let key = "arn:aws:kms:eu-west-1:444444444444:key/k";
        let said = refusal(&format!("User: u is not authorized to perform: kms:Decrypt on resource: {key} because"));
        let blame = scene.get(&said, "AWSLogs/1/x.gz", Denied::Decrypting);
        let permission = blame.permission.unwrap();
        assert_eq!((permission.action, permission.resource.as_str()), ("kms:Decrypt", key));
    }

    #[test]
    fn whose_account_it_is_is_in_the_command_when_the_configuration_does_not_say() {
        let caller = Identity { account: "999999999999".into(), arn: "arn:aws:iam::999999999999:user/z".into() };
        let all = source();
        let line = Scene { source: &all, caller: Some(&caller) }.line(Attachment::RoleTrust, sid::TRUST);
        assert_eq!(line.command, "trailsync policy acme --caller 999999999999");
        let own = Source { accounts: vec!["222222222222".into()], ..source() };
        let line = Scene { source: &own, caller: Some(&caller) }.line(Attachment::RoleTrust, sid::TRUST);
        assert_eq!(line.command, "trailsync policy acme");
    }
}
