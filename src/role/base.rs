//! Base credentials: where they come from. They are read anew each time, so that rotation needs no restart.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_types::region::Region;
use tokio::io::AsyncReadExt as _;

use crate::config::{self, Source};

/// A key or token in a file is shorter than this.
const MOST_BYTES: u64 = 64 * 1024;

/// The provider of a source's base credentials.
///
/// `environment` is the process's environment, for variables that the configuration names.
pub fn provider(
    source: &Source,
    environment: &BTreeMap<String, String>,
    http: SharedHttpClient,
) -> SharedCredentialsProvider {
    let chain = || {
        ProviderConfig::without_region()
            .with_region(Some(Region::new(source.region.clone())))
            .with_use_fips(Some(source.endpoints.fips))
            .with_use_dual_stack(Some(source.endpoints.dual_stack))
            .with_http_client(http.clone())
    };
    let value = |name: &String| (name.clone(), environment.get(name).cloned());
    let base = match &source.credentials {
        config::Credentials::Default => Base::Default { config: chain(), diverted: diversion(environment) },
        config::Credentials::Profile(name) => {
            Base::Profile { config: chain(), name: name.clone(), diverted: diversion(environment) }
        }
        config::Credentials::Files { access_key_id, secret_access_key, session_token } => {
            Base::Files { id: access_key_id.clone(), secret: secret_access_key.clone(), token: session_token.clone() }
        }
        config::Credentials::Environment { access_key_id, secret_access_key, session_token } => Base::Environment {
            id: value(access_key_id),
            secret: value(secret_access_key),
            token: session_token.as_ref().map(value),
        },
    };
    SharedCredentialsProvider::new(base)
}

/// Where base credentials come from; a variable of the environment comes with its value.
enum Base {
    Default { config: ProviderConfig, diverted: Option<String> },
    Profile { config: ProviderConfig, name: String, diverted: Option<String> },
    Files { id: PathBuf, secret: PathBuf, token: Option<PathBuf> },
    Environment { id: Variable, secret: Variable, token: Option<Variable> },
}

type Variable = (String, Option<String>);

impl Base {
    async fn load(&self) -> Result<Credentials, CredentialsError> {
        match self {
            Self::Default { diverted: Some(name), .. } | Self::Profile { diverted: Some(name), .. } => {
                Err(CredentialsError::invalid_configuration(format!(
                    "`{name}` is set, which would send the credential chain's own requests elsewhere"
                )))
            }
            // Built anew, because the providers keep what they once read.
            Self::Default { config, .. } => {
                DefaultCredentialsChain::builder().configure(config.clone()).build().await.provide_credentials().await
            }
            Self::Profile { config, name, .. } => {
                let profile = ProfileFileCredentialsProvider::builder().configure(config).profile_name(name);
                profile.build().provide_credentials().await
            }
            Self::Files { id, secret, token } => {
                let token = match token {
                    Some(path) => Some(read(path).await?),
                    None => None,
                };
                Ok(Credentials::new(read(id).await?, read(secret).await?, token, None, "files"))
            }
            Self::Environment { id, secret, token } => {
                let token = token.as_ref().map(variable).transpose()?;
                Ok(Credentials::new(variable(id)?, variable(secret)?, token, None, "environment"))
            }
        }
    }
}

impl ProvideCredentials for Base {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.load())
    }
}

impl std::fmt::Debug for Base {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Default { .. } => "Default",
            Self::Profile { .. } => "Profile",
            Self::Files { .. } => "Files",
            Self::Environment { .. } => "Environment",
        })
    }
}

/// The variable that would divert the credential chain's own STS and SSO calls, unless it makes none.
///
/// The chain cannot be told to disregard it, and only the configuration may name endpoints.
fn diversion(environment: &BTreeMap<String, String>) -> Option<String> {
    let own_keys = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"].iter().all(|name| environment.contains_key(*name));
    let mut diverting = environment.keys().filter(|name| name.starts_with("AWS_ENDPOINT_URL"));
    diverting.find(|name| !own_keys && matches!(name.as_str(), "AWS_ENDPOINT_URL" | "AWS_ENDPOINT_URL_STS")).cloned()
}

fn variable((name, value): &Variable) -> Result<String, CredentialsError> {
    let value = value.as_deref().unwrap_or_default().trim();
    sound(value, &format!("the environment variable `{name}`"))
}

async fn read(path: &Path) -> Result<String, CredentialsError> {
    let place = format!("the file `{}`", path.display());
    let unreadable = |error| CredentialsError::invalid_configuration(format!("{place} cannot be read: {error}"));
    let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
    let mut text = String::new();
    file.take(MOST_BYTES).read_to_string(&mut text).await.map_err(unreadable)?;
    sound(text.trim(), &place)
}

/// A key or token on one line; never part of the message when it is not.
fn sound(value: &str, place: &str) -> Result<String, CredentialsError> {
    let fault = match value {
        "" => "is empty or missing",
        value if !value.bytes().all(|byte| byte.is_ascii_graphic()) => "holds more than one word of plain characters",
        value => return Ok(value.to_owned()),
    };
    Err(CredentialsError::invalid_configuration(format!("{place} {fault}")))
}
