//! `ListPublicKeys` of `CloudTrail`, asked with our own credentials.

use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_cloudtrail::Client;
use aws_sdk_cloudtrail::config::{BehaviorVersion, Builder, IdentityCache, Region, StalledStreamProtectionConfig};
use aws_sdk_cloudtrail::types;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_types::DateTime;
use aws_smithy_types::retry::RetryConfig;
use futures_util::future::BoxFuture;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

use crate::clock::Timestamp;
use crate::config::Endpoints;
use crate::digest::PublicKey;
use crate::error::{Class, Error, Report};
use crate::key::Shown;
use crate::retry::is_throttling;
use crate::role::Keeper;
use crate::source::client::answer::Bounded;
use crate::source::client::measure::Measured;
use crate::source::client::{Failure, timeouts, timestamp};

/// `CloudTrail` takes ten requests a second of an account in a region; others ask, too.
const PACE: Duration = Duration::from_millis(250);
const FIRST_BYTE: Duration = Duration::from_secs(10);
const WHOLE_ANSWER: Duration = Duration::from_secs(20);
/// A region has a few keys at a time; the token of a next page is "reserved for future use".
const PAGES: u32 = 100;

/// Who gives the public keys of a region. Implementations neither retry nor cache.
pub trait ListPublicKeys: Send + Sync + 'static {
    /// The keys that were valid at some moment of the window.
    ///
    /// # Errors
    /// `Transient` where waiting may help, `Stream` with the mend where somebody must act.
    fn list<'a>(&'a self, region: &'a str, window: (Timestamp, Timestamp)) -> BoxFuture<'a, Result<Given, Error>>;
}

/// What `ListPublicKeys` gave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Given {
    /// Keys whose fingerprint is that of their bytes.
    pub keys: Vec<PublicKey>,
    /// What was given and is no such key, and why.
    pub refused: Vec<String>,
}

/// `CloudTrail` over aws-sdk-cloudtrail, at its regional endpoints, with a keeper's base credentials.
///
/// Never with the role in Account A: keys are the same for every caller.
pub struct CloudTrail {
    client: Client,
    keeper: Arc<Keeper>,
    measured: Measured,
    last: Mutex<Option<Instant>>,
}

impl CloudTrail {
    /// A client for a source's endpoints.
    pub fn new(endpoints: &Endpoints, keeper: Arc<Keeper>, http: SharedHttpClient) -> Self {
        let measured = Measured::of(keeper.source_name(), "ListPublicKeys");
        Self { client: Client::from_conf(client(endpoints, http).build()), keeper, measured, last: Mutex::new(None) }
    }

    async fn pages(&self, region: &str, (from, to): (Timestamp, Timestamp)) -> Result<Given, Error> {
        let base = self.keeper.base_credentials().await?;
        let (mut given, mut token) = (Given::default(), None);
        for _ in 0..PAGES {
            self.wait_for_turn().await;
            let request = self
                .client
                .list_public_keys()
                .start_time(DateTime::from_secs(from.as_second()))
                .end_time(DateTime::from_secs(to.as_second()))
                .set_next_token(token.take());
            let config = signed_by(&base).region(Region::new(region.to_owned()));
            let answer = self.measured.time(request.customize().config_override(config).send()).await;
            let answer = answer.map_err(|error| explain(Failure::of(&error), region, &self.caller()))?;
            for key in answer.public_key_list.unwrap_or_default() {
                match public_key(key) {
                    Ok(key) => given.keys.push(key),
                    Err(why) => given.refused.push(why),
                }
            }
            match answer.next_token.filter(|token| !token.is_empty()) {
                Some(next) => token = Some(next),
                None => return Ok(given),
            }
        }
        let report = Report::new("ListPublicKeys", region, format_args!("it has more than {PAGES} pages"));
        Err(Error::of(Class::Transient, report.code("MalformedAnswer")))
    }

    async fn wait_for_turn(&self) {
        let mut last = self.last.lock().await;
        if let Some(last) = *last {
            sleep_until(last + PACE).await;
        }
        *last = Some(Instant::now());
    }

    fn caller(&self) -> String {
        self.keeper.state().caller_arn.unwrap_or_else(|| "the base credentials' user or role".to_owned())
    }
}

/// A client as every use of the service has it: no retries, no cached identities.
pub(crate) fn client(endpoints: &Endpoints, http: SharedHttpClient) -> Builder {
    let mut config = Builder::new()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http)
        .timeout_config(timeouts(FIRST_BYTE, WHOLE_ANSWER))
        .retry_config(RetryConfig::disabled())
        .identity_cache(IdentityCache::no_cache())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .use_fips(endpoints.fips)
        .use_dual_stack(endpoints.dual_stack)
        .interceptor(Bounded::Always);
    config.set_endpoint_url(endpoints.cloudtrail.clone());
    config
}

impl ListPublicKeys for CloudTrail {
    fn list<'a>(&'a self, region: &'a str, window: (Timestamp, Timestamp)) -> BoxFuture<'a, Result<Given, Error>> {
        Box::pin(self.pages(region, window))
    }
}

fn signed_by(base: &Credentials) -> Builder {
    Builder::new()
        .credentials_provider(SharedCredentialsProvider::new(base.clone()))
        .identity_cache(IdentityCache::no_cache())
}

fn public_key(key: types::PublicKey) -> Result<PublicKey, String> {
    let fingerprint = key.fingerprint.ok_or("it has no fingerprint")?;
    let der = key.value.ok_or_else(|| format!("{fingerprint} has no value"))?.into_inner();
    let time = |time: Option<DateTime>| time.as_ref().and_then(timestamp);
    let (Some(from), Some(until)) = (time(key.validity_start_time), time(key.validity_end_time)) else {
        return Err(format!("{fingerprint} does not say when it is valid"));
    };
    PublicKey::new(der, &fingerprint, from, until).map_err(|refused| format!("{fingerprint}: {refused}"))
}

fn explain(failure: Failure, region: &str, caller: &str) -> Error {
    let code = failure.code.as_str();
    let mend = match code {
        "AccessDenied" | "AccessDeniedException" => Some(format!(
            "allow `{caller}` the action `cloudtrail:ListPublicKeys` on `*` in our own account; proof waits for it, \
             mirroring goes on"
        )),
        "UnrecognizedClientException" | "InvalidClientTokenId" | "OptInRequired" => {
            Some(format!("enable the region {} for the caller's account, or check its access key", Shown(region)))
        }
        "ConnectionFailed" | "Timeout" => {
            Some("let this host reach the endpoint of CloudTrail in that region, or set `endpoints.cloudtrail`".into())
        }
        "UntrustedCertificate" => Some("behind a private authority, set `ca_bundle`".to_owned()),
        _ => None,
    };
    let passing = is_throttling(code)
        || matches!(code, "Timeout" | "ConnectionFailed" | "MalformedAnswer" | "InternalFailure")
        || failure.status.is_some_and(|status| status >= 500 || status == 429);
    let mut report = failure.report("ListPublicKeys", region);
    report.mend = mend;
    Error::of(if passing { Class::Transient } else { Class::Stream }, report)
}
