//! How requests to a bucket of our own are made: signed with what the keeper holds, bounded in time, tried again.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    BehaviorVersion, Builder, IdentityCache, Region, RequestChecksumCalculation, StalledStreamProtectionConfig,
};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_types::retry::RetryConfig;
use tracing::debug;

use super::explain::{Operation, Target};
use crate::config::OwnBucket;
use crate::error::{Class, Error};
use crate::retry::PassDelays;
use crate::role::Keeper;
use crate::source::client::measure::Measured;
use crate::source::client::{Failure, timeouts};

/// Tries of one request.
const TRIES: u32 = 4;
/// An answer to a request without a body worth mentioning.
const ANSWER: Duration = Duration::from_secs(20);
/// An upload that is slower than so many bytes a second is given up.
const LEAST_PER_SECOND: u64 = 64 * 1024;

/// The bucket as requests see it.
pub struct Requests {
    pub client: Client,
    pub bucket: String,
    pub owner: Option<String>,
    pub target: Target,
    keeper: Arc<Keeper>,
    /// As which its requests are counted.
    name: String,
    /// Multiplies the delays between tries; 1 outside tests.
    pub pace: f64,
}

impl Requests {
    pub fn new(own: &OwnBucket, keeper: Arc<Keeper>, http: SharedHttpClient) -> Self {
        let mut config = Builder::new()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(own.region.clone()))
            .http_client(http)
            .retry_config(RetryConfig::disabled())
            .identity_cache(IdentityCache::no_cache())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            // The checksums that are sent are those of the bytes that were staged, not of what is read again.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .force_path_style(own.endpoints.path_style)
            .use_fips(own.endpoints.fips)
            .use_dual_stack(own.endpoints.dual_stack);
        config.set_endpoint_url(own.endpoints.s3.clone());
        Self {
            client: Client::from_conf(config.build()),
            bucket: own.bucket.clone(),
            owner: own.bucket_owner.clone(),
            target: Target::of(own),
            name: keeper.source_name().to_owned(),
            keeper,
            pace: 1.0,
        }
    }

    /// Makes a request that carries `size` bytes: again after what passes by itself, and once with renewed credentials.
    pub async fn call<T, F>(
        &self,
        operation: Operation,
        subject: &str,
        size: u64,
        send: impl Fn(Builder) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let mut delays = PassDelays::default();
        let mut renewed = false;
        let measured = Measured::of(&self.name, operation.name());
        loop {
            let credentials = self.keeper.ready().await?;
            let key_id = credentials.access_key_id().to_owned();
            let config = Builder::new()
                .credentials_provider(SharedCredentialsProvider::new(credentials))
                .identity_cache(IdentityCache::no_cache())
                .timeout_config(timeouts(patience(size), patience(size)));
            let failure = match measured.time(send(config)).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let code = failure.code.clone();
            let error = self.target.explain(operation, subject, failure);
            if !renewed {
                match self.keeper.refused(&key_id, &code).await {
                    Ok(true) => {
                        renewed = true;
                        continue;
                    }
                    // That the role can no longer be assumed says more than that its session is refused.
                    Err(why) if why.class() == Class::Stream => return Err(why),
                    Ok(false) | Err(_) => {}
                }
            }
            // A lost upload is begun anew by the caller.
            if error.class() != Class::Transient || code == "NoSuchUpload" || delays.failures() + 1 >= TRIES {
                return Err(error);
            }
            debug!(%error, "Asking again");
            tokio::time::sleep(delays.after(&error, fastrand::f64()).mul_f64(self.pace)).await;
        }
    }
}

/// How long an answer may take when so many bytes are sent first.
fn patience(size: u64) -> Duration {
    ANSWER + Duration::from_secs(size / LEAST_PER_SECOND)
}
