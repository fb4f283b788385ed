//! Whoever asks, and what the policies on both sides let them do.

use std::sync::Arc;

use jiff::Timestamp;

use crate::clock::iso_seconds;
use crate::iam::{Context, Grant, Names, Policy, Verdict};

/// Everything that a policy may want to know about who is asking.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub arn: String,
    pub user_id: String,
    pub names: Names,
    pub kind: CallerKind,
    pub policies: Vec<Arc<Policy>>,
    pub session_policy: Option<Arc<Policy>>,
    pub issued: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallerKind {
    Root,
    User,
    Session,
}

/// What a caller wants to do, to what, and who owns it.
pub(crate) struct Ask<'a> {
    pub action: &'a str,
    pub resource: &'a str,
    pub owner: &'a str,
    pub resource_policy: Option<&'a Policy>,
    pub context: Context,
}

impl Caller {
    pub fn root(account: &str) -> Caller {
        let arn = format!("arn:aws:iam::{account}:root");
        Caller {
            arn: arn.clone(),
            user_id: account.to_owned(),
            names: Names {
                account: account.to_owned(),
                principal: arn,
                session: None,
            },
            kind: CallerKind::Root,
            policies: Vec::new(),
            session_policy: None,
            issued: None,
        }
    }

    pub fn account(&self) -> &str {
        &self.names.account
    }

    /// The context keys that every request carries.
    pub fn context(&self, now: Timestamp) -> Context {
        let mut context = Context::default()
            .with("aws:PrincipalArn", &self.names.principal)
            .with("aws:PrincipalAccount", self.account())
            .with("aws:userid", &self.user_id)
            .with("aws:CurrentTime", iso_seconds(now))
            .with("aws:EpochTime", now.as_second().to_string())
            .with("aws:SecureTransport", "false");
        if let Some(issued) = self.issued {
            context.set("aws:TokenIssueTime", issued.to_string());
            context.set("aws:MultiFactorAuthPresent", "false");
        }
        if let (CallerKind::User, Some((_, name))) = (self.kind, self.arn.rsplit_once('/')) {
            context.set("aws:username", name);
        }
        context
    }

    /// Whether the policies on both sides let this happen.
    ///
    /// Within an account either side suffices, across accounts both must allow; a session policy
    /// narrows whatever does not name the very session; a denial anywhere ends it.
    /// (IAM user guide, "Policy evaluation logic".)
    pub fn may(&self, ask: &Ask<'_>) -> bool {
        let Some((own, granted)) = self.weigh(ask) else {
            return false;
        };
        if self.account() != ask.owner {
            return own && granted.is_some();
        }
        own || match granted {
            Some(Grant::Session) => true,
            Some(Grant::Principal) => self.session_policy_allows(ask),
            Some(Grant::Account) | None => false,
        }
    }

    /// Whether a role's trust policy and the caller's own let it assume the role: trust is never
    /// optional, and naming the account leaves the decision to that account.
    pub fn may_assume(&self, ask: &Ask<'_>) -> bool {
        let Some((own, granted)) = self.weigh(ask) else {
            return false;
        };
        let same_account = self.account() == ask.owner;
        match granted {
            None => false,
            Some(Grant::Principal | Grant::Session) if same_account => true,
            Some(_) => own,
        }
    }

    /// What the caller's own policies and the resource's say; `None` when anything denies.
    fn weigh(&self, ask: &Ask<'_>) -> Option<(bool, Option<Grant>)> {
        let own = self.own_verdict(ask)?;
        let granted = match ask.resource_policy {
            None => None,
            Some(policy) => {
                match policy.for_resource(&self.names, ask.action, ask.resource, &ask.context) {
                    Verdict::Deny => return None,
                    Verdict::Allow(grant) => Some(grant),
                    Verdict::Silent => None,
                }
            }
        };
        Some((own, granted))
    }

    fn own_verdict(&self, ask: &Ask<'_>) -> Option<bool> {
        let mut allowed = self.kind == CallerKind::Root;
        for policy in &self.policies {
            match policy.for_identity(ask.action, ask.resource, &ask.context) {
                Verdict::Deny => return None,
                Verdict::Allow(()) => allowed = true,
                Verdict::Silent => {}
            }
        }
        match self.session_verdict(ask) {
            Verdict::Deny => None,
            Verdict::Allow(()) => Some(allowed),
            Verdict::Silent => Some(false),
        }
    }

    fn session_verdict(&self, ask: &Ask<'_>) -> Verdict<()> {
        self.session_policy
            .as_ref()
            .map_or(Verdict::Allow(()), |policy| {
                policy.for_identity(ask.action, ask.resource, &ask.context)
            })
    }

    fn session_policy_allows(&self, ask: &Ask<'_>) -> bool {
        self.session_verdict(ask) == Verdict::Allow(())
    }
}
