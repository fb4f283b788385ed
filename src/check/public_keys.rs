//! Whether CloudTrail gives the keys that verify digests.

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_cloudtrail::Client;
use aws_sdk_cloudtrail::config::{BehaviorVersion, Builder, IdentityCache, Region, StalledStreamProtectionConfig};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_types::retry::RetryConfig;
use futures_util::future::BoxFuture;
use std::time::Duration;

use crate::config::Endpoints;
use crate::source::client::answer::Bounded;
use crate::source::client::{Failure, timeouts};

const FIRST_BYTE: Duration = Duration::from_secs(10);
const WHOLE_ANSWER: Duration = Duration::from_secs(20);

/// Who gives the public keys of a region.
pub(super) trait PublicKeys: Send + Sync {
    /// How many keys are valid now (`ListPublicKeys`).
    fn valid<'a>(&'a self, region: &'a str) -> BoxFuture<'a, Result<usize, Failure>>;
}

/// CloudTrail, asked with the base credentials: keys are the same for every caller.
pub(super) struct CloudTrail(Client);

impl CloudTrail {
    pub fn new(endpoints: &Endpoints, base: Credentials, http: SharedHttpClient) -> Self {
        let mut config = Builder::new()
            .behavior_version(BehaviorVersion::latest())
            .http_client(http)
            .credentials_provider(SharedCredentialsProvider::new(base))
            .timeout_config(timeouts(FIRST_BYTE, WHOLE_ANSWER))
            .retry_config(RetryConfig::disabled())
            .identity_cache(IdentityCache::no_cache())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .use_fips(endpoints.fips)
            .use_dual_stack(endpoints.dual_stack)
            .interceptor(Bounded::Always);
        config.set_endpoint_url(endpoints.cloudtrail.clone());
        Self(Client::from_conf(config.build()))
    }
}

impl PublicKeys for CloudTrail {
    fn valid<'a>(&'a self, region: &'a str) -> BoxFuture<'a, Result<usize, Failure>> {
        Box::pin(async move {
            let request = self.0.list_public_keys().customize();
            let region = Builder::new().region(Region::new(region.to_owned()));
            let answer = request.config_override(region).send().await.map_err(|error| Failure::of(&error))?;
            Ok(answer.public_key_list.unwrap_or_default().len())
        })
    }
}
