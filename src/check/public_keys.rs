//! Whether CloudTrail gives the keys that verify digests.

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_cloudtrail::Client;
use aws_sdk_cloudtrail::config::{Builder, Region};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use futures_util::future::BoxFuture;

use crate::config::Endpoints;
use crate::keyring::client;
use crate::source::client::Failure;

/// Who gives the public keys of a region.
pub(super) trait PublicKeys: Send + Sync {
    /// How many keys are valid now (`ListPublicKeys`).
    fn valid<'a>(&'a self, region: &'a str) -> BoxFuture<'a, Result<usize, Failure>>;
}

/// CloudTrail, asked with the base credentials: keys are the same for every caller.
pub(super) struct CloudTrail(Client);

impl CloudTrail {
    pub fn new(endpoints: &Endpoints, base: Credentials, http: SharedHttpClient) -> Self {
        let config = client(endpoints, http).credentials_provider(SharedCredentialsProvider::new(base));
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
