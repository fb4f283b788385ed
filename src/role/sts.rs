//! STS: who somebody is, and the assuming of roles.

use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_sts::config::{BehaviorVersion, Builder, IdentityCache, Region, StalledStreamProtectionConfig};
use aws_sdk_sts::types::Tag;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_types::retry::RetryConfig;
use futures_util::future::BoxFuture;

use crate::clock::Timestamp;
use crate::config::{Role, Source};
use crate::source::client::answer::{Bounded, EndsIn, ServedAt};
use crate::source::client::measure::Measured;
use crate::source::client::{Failure, timeouts, timestamp};

/// STS answers in less than a second. One that hangs must not keep the permits of other roles for long.
const FIRST_BYTE: Duration = Duration::from_secs(8);

/// The same for the whole answer.
const WHOLE_ANSWER: Duration = Duration::from_secs(10);

/// The Security Token Service. Implementations neither retry nor cache.
pub trait Sts: Send + Sync + 'static {
    /// Who these credentials are (`GetCallerIdentity`).
    fn caller_identity<'a>(&'a self, base: &'a Credentials) -> BoxFuture<'a, Result<Identity, Failure>>;

    /// Assumes a role (`AssumeRole`).
    fn assume<'a>(&'a self, request: AssumeRequest<'a>) -> BoxFuture<'a, Result<Assumed, Failure>>;
}

/// A role to assume.
#[derive(Debug, Clone, Copy)]
pub struct AssumeRequest<'a> {
    /// The role, its session's name, external ID and tags.
    pub role: &'a Role,
    /// Who assumes it.
    pub base: &'a Credentials,
    /// What is asked for; the answer says what is given.
    pub duration: Duration,
    /// The inline session policy.
    pub policy: Option<&'a str>,
}

/// A session that STS gave.
#[derive(Debug, Clone)]
pub struct Assumed {
    /// The credentials.
    pub credentials: Credentials,
    /// When they end by the server's clock.
    pub expires: Timestamp,
    /// What the server's clock showed when it answered.
    pub served_at: Option<Timestamp>,
}

/// Who somebody is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The account, 12 digits.
    pub account: String,
    /// `arn:…:user/…`, `arn:…:assumed-role/…`, `arn:…:federated-user/…` or `arn:…:root`.
    pub arn: String,
}

impl Identity {
    /// The account's root user, which may assume no role.
    pub fn is_root(&self) -> bool {
        self.arn.ends_with(":root")
    }

    /// Somebody whose credentials come from STS: roles that it assumes are chained.
    pub fn is_session(&self) -> bool {
        self.arn.contains(":assumed-role/") || self.arn.contains(":federated-user/")
    }
}

/// STS over aws-sdk-sts, at its regional endpoint.
///
/// `AWS_ENDPOINT_URL` does not count: only the configuration names another endpoint.
#[derive(Debug, Clone)]
pub struct AwsSts {
    client: aws_sdk_sts::Client,
    identity: Measured,
    assume: Measured,
}

impl AwsSts {
    /// A client for the STS region and endpoints of a source.
    pub fn new(source: &Source, http: SharedHttpClient) -> Self {
        let region = source.role.as_ref().map_or(&source.region, |role| &role.sts_region);
        let mut config = Builder::new()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(region.clone()))
            .http_client(http)
            .timeout_config(timeouts(FIRST_BYTE, WHOLE_ANSWER))
            .retry_config(RetryConfig::disabled())
            .identity_cache(IdentityCache::no_cache())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .use_fips(source.endpoints.fips)
            .use_dual_stack(source.endpoints.dual_stack)
            .interceptor(Bounded::Always);
        config.set_endpoint_url(source.endpoints.sts.clone());
        let client = aws_sdk_sts::Client::from_conf(config.build());
        let of = |operation| Measured::of(&source.name, operation);
        Self { client, identity: of("GetCallerIdentity"), assume: of("AssumeRole") }
    }
}

impl Sts for AwsSts {
    fn caller_identity<'a>(&'a self, base: &'a Credentials) -> BoxFuture<'a, Result<Identity, Failure>> {
        Box::pin(async move {
            let operation = self
                .client
                .get_caller_identity()
                .customize()
                .interceptor(EndsIn("</GetCallerIdentityResponse>"))
                .config_override(signed_by(base));
            let answer = self.identity.time(operation.send()).await.map_err(|error| Failure::of(&error))?;
            match (answer.account, answer.arn) {
                (Some(account), Some(arn)) => Ok(Identity { account, arn }),
                _ => Err(malformed("it names no account or ARN")),
            }
        })
    }

    fn assume<'a>(&'a self, request: AssumeRequest<'a>) -> BoxFuture<'a, Result<Assumed, Failure>> {
        Box::pin(async move {
            let AssumeRequest { role, base, duration, policy } = request;
            let served_at = ServedAt::default();
            let operation = self
                .client
                .assume_role()
                .role_arn(&role.arn)
                .role_session_name(&role.session_name)
                .duration_seconds(duration.as_secs().try_into().unwrap_or(i32::MAX))
                .set_external_id(role.external_id.clone())
                .set_source_identity(role.source_identity.clone())
                .set_policy(policy.map(str::to_owned))
                .set_tags(tags(role)?)
                .customize()
                .interceptor(served_at.clone())
                .interceptor(EndsIn("</AssumeRoleResponse>"))
                .config_override(signed_by(base));
            let answer = self.assume.time(operation.send()).await.map_err(|error| Failure::of(&error))?;
            let given = answer.credentials.ok_or_else(|| malformed("it holds no credentials"))?;
            let expires = timestamp(&given.expiration).ok_or_else(|| malformed("its expiration is out of bounds"))?;
            // Without their end, so that no layer below decides by this machine's clock that they are over.
            let (id, secret, token) = (given.access_key_id, given.secret_access_key, given.session_token);
            let credentials = Credentials::new(id, secret, Some(token), None, "AssumeRole");
            Ok(Assumed { credentials, expires, served_at: served_at.get() })
        })
    }
}

/// One request's own credentials, which no cache keeps.
fn signed_by(base: &Credentials) -> Builder {
    Builder::new()
        .credentials_provider(SharedCredentialsProvider::new(base.clone()))
        .identity_cache(IdentityCache::no_cache())
}

fn tags(role: &Role) -> Result<Option<Vec<Tag>>, Failure> {
    let tag = |(key, value): (&String, &String)| Tag::builder().key(key).value(value).build();
    let tags = role.tags.iter().map(tag).collect::<Result<Vec<_>, _>>();
    let tags =
        tags.map_err(|error| Failure { code: "NotSent".to_owned(), message: error.to_string(), ..Failure::default() })?;
    Ok((!tags.is_empty()).then_some(tags))
}

fn malformed(why: &str) -> Failure {
    Failure {
        status: Some(200),
        code: "MalformedAnswer".to_owned(),
        message: format!("the answer cannot be used: {why}"),
        ..Failure::default()
    }
}
