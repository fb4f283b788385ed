//! Who we are, and the role that is ours to assume and nobody else's.

use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials as _;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use tokio::time::timeout;

use super::{Reader, Step, Walk, of_error};
use crate::check::{Finding, Hop, State, blame};
use crate::config::{self, Role, Source};
use crate::policy::install::{Attachment, sid};
use crate::policy::{SessionPolicy, session_policy, wider_policy};
use crate::renewal::duration_for;
use crate::role::{AssumeRequest, Assumed, AwsSts, Identity, LONGEST_BASE, Sts as _, base, explain};
use crate::source::client::Failure;
use crate::source::s3::probe::Probe;

impl Walk<'_> {
    /// Base credentials, who they are, and the role.
    pub(super) async fn session(&mut self, sts: &AwsSts, http: SharedHttpClient) -> Step<Reader> {
        let base = self.credentials(sts, http).await?;
        let chained = base.session_token().is_some() || self.caller.as_ref().is_some_and(Identity::is_session);
        let narrow = match &self.source.role {
            Some(role) => self.assume(sts, role, &base, chained).await?,
            None => {
                self.skipped(Hop::AssumeRole, "no role is configured");
                base.clone()
            }
        };
        Ok(Reader { base, chained, narrow })
    }

    async fn credentials(&mut self, sts: &AwsSts, http: SharedHttpClient) -> Step<Credentials> {
        let credentials = &self.source.credentials;
        let provider = base::provider(self.source, &self.process.environment, http);
        let loaded = match timeout(LONGEST_BASE, provider.provide_credentials()).await {
            Ok(Ok(base)) => Ok(base),
            Ok(Err(error)) => Err(explain::base(credentials, &error)),
            Err(_) => Err(explain::base_timeout(credentials)),
        };
        let base = loaded.map_err(|error| {
            self.stop(of_error(Hop::Credentials, &format!("to read {}", described(credentials)), &error))
        })?;
        let tried = format!("GetCallerIdentity with {}", described(credentials));
        match sts.caller_identity(&base).await {
            Ok(identity) => self.identified(identity, &base, tried)?,
            // Nobody needs a permission for this call, but a VPC endpoint's policy may not let it through.
            Err(failure) if blame::is_denial(&failure) => {
                let mut finding = Finding::new(Hop::Credentials, State::Warned, tried, failure.message);
                finding.causes =
                    vec!["the policy of a VPC endpoint does not let `sts:GetCallerIdentity` through".into()];
                finding.code = Some(failure.code);
                self.findings.push(finding);
            }
            Err(failure) => {
                let blame = self.scene().identity(&failure);
                return Err(self.refused(Hop::Credentials, tried, failure, blame));
            }
        }
        Ok(base)
    }

    fn identified(&mut self, identity: Identity, base: &Credentials, tried: String) -> Step<()> {
        if identity.is_root() && self.source.role.is_some() {
            return Err(self.stop(of_error(Hop::Credentials, &tried, &explain::root(&identity))));
        }
        let chained = base.session_token().is_some() || identity.is_session();
        let cut = self.source.role.as_ref().is_some_and(|role| duration_for(role.duration, chained).1);
        let mut finding = Finding::new(Hop::Credentials, State::Passed, tried, identity.arn.clone());
        if chained {
            finding.found += ", itself a session: roles that it assumes last an hour at most";
        }
        if cut {
            finding.state = State::Warned;
            finding.causes = vec![
                "`role.duration` is longer than an hour and is cut to one: set it to `1h`, or start \
                                   from the keys of an IAM user"
                    .to_owned(),
            ];
        }
        self.findings.push(finding);
        self.caller = Some(identity);
        Ok(())
    }

    async fn assume(&mut self, sts: &AwsSts, role: &Role, base: &Credentials, chained: bool) -> Step<Credentials> {
        let tried = format!("AssumeRole of {} as `{}`", role.arn, role.session_name);
        let mut policy = role.session_policy.then(|| session_policy(self.source));
        loop {
            match assumed(sts, role, base, chained, policy.as_ref()).await {
                Ok(session) => {
                    self.served_at = session.served_at.or(self.served_at);
                    let note =
                        policy.and_then(|policy| policy.note).map(|note| format!("; {note}")).unwrap_or_default();
                    self.passed(Hop::AssumeRole, tried, format!("a session until {}{note}", session.expires));
                    return Ok(session.credentials);
                }
                Err(failure) => match next_wider(self.source, &failure, policy.as_ref()) {
                    Some(wider) => policy = Some(wider),
                    None => {
                        let blame = self.scene().assume(&failure);
                        return Err(self.refused(Hop::AssumeRole, tried, failure, blame));
                    }
                },
            }
        }
    }

    /// Whoever learns the role's ARN must not get in without the external ID (IAM guide, "The confused deputy
    /// problem").
    pub(super) async fn external_id(&mut self, sts: &AwsSts, reader: &Reader) {
        let Some(role) = self.source.role.as_ref() else {
            return self.skipped(Hop::ExternalId, "no role is configured");
        };
        if role.external_id.is_none() {
            return self.skipped(Hop::ExternalId, "no external ID is configured");
        }
        let without = Role { external_id: None, ..role.clone() };
        let tried = "AssumeRole without the external ID, which must be refused";
        let mut finding = Finding::new(Hop::ExternalId, State::Warned, tried, "");
        match assumed(sts, &without, &reader.base, reader.chained, None).await {
            Ok(_) => {
                finding.found = "a session, although no external ID was named".into();
                finding.causes = vec![
                    "the trust policy has no `sts:ExternalId` condition: somebody who can make us use this role's ARN \
                     reaches these logs (the confused deputy)"
                        .into(),
                ];
                finding.policy = vec![self.scene().line(Attachment::RoleTrust, sid::TRUST)];
            }
            Err(failure) if blame::is_denial(&failure) => {
                finding.state = State::Passed;
                finding.found = "refused, as it must be".into();
            }
            Err(failure) => {
                finding.found = failure.message;
                finding.code = Some(failure.code);
                finding.causes = vec!["it could not be told whether the external ID is asked for: try again".into()];
                finding.passing = true;
            }
        }
        self.findings.push(finding);
    }

    /// The bucket without our own session policy, which would hide what the role could do.
    pub(super) async fn wide(&self, sts: &AwsSts, reader: &Reader, http: SharedHttpClient) -> Option<Probe> {
        let role = self.source.role.as_ref().filter(|role| role.session_policy)?;
        let session = assumed(sts, role, &reader.base, reader.chained, None).await.ok()?;
        Some(Probe::new(self.source, session.credentials, http))
    }
}

/// One try, with this session policy.
async fn assumed(
    sts: &AwsSts,
    role: &Role,
    base: &Credentials,
    chained: bool,
    policy: Option<&SessionPolicy>,
) -> Result<Assumed, Failure> {
    let (duration, _) = duration_for(role.duration, chained);
    sts.assume(AssumeRequest { role, base, duration, policy: policy.map(|policy| policy.json.as_str()) }).await
}

fn next_wider(source: &Source, failure: &Failure, policy: Option<&SessionPolicy>) -> Option<SessionPolicy> {
    let too_large = failure.code.starts_with("PackedPolicyTooLarge");
    policy.filter(|_| too_large).and_then(|policy| wider_policy(source, policy))
}

fn described(credentials: &config::Credentials) -> String {
    let place = explain::place(credentials);
    match credentials {
        config::Credentials::Default => "the default chain of credentials".to_owned(),
        config::Credentials::Profile(_) => format!("the {place}"),
        config::Credentials::Files { .. } | config::Credentials::Environment { .. } => format!("the key in {place}"),
    }
}
