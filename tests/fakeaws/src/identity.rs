//! Who there is: users, roles, sessions, and the keys that speak for them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::caller::{Caller, CallerKind};
use crate::iam::{Names, Policy};

/// A key pair as IAM shows it once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessKey {
    pub id: String,
    pub secret: String,
}

/// A role to create.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct RoleSpec {
    /// Who may assume it.
    pub trust: Value,
    /// What its sessions may do.
    pub policy: Value,
    pub max_session_seconds: u32,
    /// Overrides every lifetime that is asked for: a demo shows renewals with sessions of 20 s.
    pub session_lifetime: Option<Duration>,
}

impl Default for RoleSpec {
    fn default() -> Self {
        let nothing = serde_json::json!({"Version": "2012-10-17", "Statement": []});
        RoleSpec { trust: nothing.clone(), policy: nothing, max_session_seconds: 3_600, session_lifetime: None }
    }
}

#[derive(Debug)]
struct User {
    id: String,
    policy: Arc<Policy>,
}

#[derive(Debug, Clone)]
pub(crate) struct Role {
    pub arn: String,
    pub id: String,
    pub account: String,
    pub trust: Arc<Policy>,
    pub policies: Vec<Arc<Policy>>,
    pub max_session_seconds: u32,
    pub session_lifetime: Option<Duration>,
}

/// A session about to be issued.
#[derive(Debug)]
pub(crate) struct SessionRequest {
    pub name: String,
    pub policy: Option<Policy>,
    pub issued: Timestamp,
    pub expires: Timestamp,
}

#[derive(Debug)]
struct Session {
    token: String,
    role_arn: String,
    role_id: String,
    request: SessionRequest,
    policy: Option<Arc<Policy>>,
}

#[derive(Debug)]
struct Key {
    secret: String,
    active: bool,
    holder: Holder,
}

#[derive(Debug)]
enum Holder {
    Root(String),
    User(String),
    Session(Box<Session>),
}

/// Why a key does not identify anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rejection {
    UnknownKey,
    BadToken,
    ExpiredToken,
}

/// The users, roles and keys of every account.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    keys: HashMap<String, Key>,
    users: HashMap<String, User>,
    roles: HashMap<String, Role>,
}

impl Directory {
    pub fn add_user(&mut self, account: &str, name: &str, policy: Policy) -> AccessKey {
        let arn = user_arn(account, name);
        let user = User { id: unique_id("AIDA"), policy: Arc::new(policy) };
        self.users.insert(arn.clone(), user);
        self.issue_key(Holder::User(arn))
    }

    pub fn set_user_policy(&mut self, arn: &str, policy: Policy) -> bool {
        let user = self.users.get_mut(arn);
        user.map(|user| user.policy = Arc::new(policy)).is_some()
    }

    pub fn add_root_key(&mut self, account: &str) -> AccessKey {
        self.issue_key(Holder::Root(account.to_owned()))
    }

    fn issue_key(&mut self, holder: Holder) -> AccessKey {
        let key = AccessKey { id: unique_id("AKIA"), secret: random(40, SECRET_ALPHABET) };
        self.keep(&key, holder);
        key
    }

    fn keep(&mut self, key: &AccessKey, holder: Holder) {
        let stored = Key { secret: key.secret.clone(), active: true, holder };
        self.keys.insert(key.id.clone(), stored);
    }

    pub fn disable_key(&mut self, id: &str) {
        if let Some(key) = self.keys.get_mut(id) {
            key.active = false;
        }
    }

    /// A role that is made again is another role: sessions of the first one stay powerless.
    pub fn add_role(&mut self, account: &str, name: &str, spec: &RoleSpec) -> Result<String, String> {
        let arn = format!("arn:aws:iam::{account}:role/{name}");
        let role = Role {
            id: unique_id("AROA"),
            account: account.to_owned(),
            trust: Arc::new(Policy::parse(&spec.trust)?),
            policies: vec![Arc::new(Policy::parse(&spec.policy)?)],
            max_session_seconds: spec.max_session_seconds,
            session_lifetime: spec.session_lifetime,
            arn: arn.clone(),
        };
        self.roles.insert(arn.clone(), role);
        Ok(arn)
    }

    pub fn role(&self, arn: &str) -> Option<&Role> {
        self.roles.get(arn)
    }

    pub fn role_mut(&mut self, arn: &str) -> Option<&mut Role> {
        self.roles.get_mut(arn)
    }

    pub fn remove_role(&mut self, arn: &str) {
        self.roles.remove(arn);
    }

    /// Issues credentials; the caller has checked that this may happen.
    pub fn open_session(&mut self, role: &Role, mut request: SessionRequest) -> (AccessKey, String) {
        let key = AccessKey { id: unique_id("ASIA"), secret: random(40, SECRET_ALPHABET) };
        let token = format!("IQoJb3JpZ2luX2Vj{}", random(340, SECRET_ALPHABET));
        let session = Session {
            token: token.clone(),
            role_arn: role.arn.clone(),
            role_id: role.id.clone(),
            policy: request.policy.take().map(Arc::new),
            request,
        };
        self.keep(&key, Holder::Session(Box::new(session)));
        (key, token)
    }

    /// Secret and token of every session.
    pub fn sessions(&self) -> Vec<(String, String)> {
        let token = |key: &Key| match &key.holder {
            Holder::Session(session) => Some((key.secret.clone(), session.token.clone())),
            _ => None,
        };
        self.keys.values().filter_map(token).collect()
    }

    pub fn secret(&self, key_id: &str) -> Option<String> {
        let key = self.keys.get(key_id).filter(|key| key.active)?;
        Some(key.secret.clone())
    }

    /// Finds who speaks, with the policies as they are now: permissions are evaluated on every
    /// request, so whatever changed since the session began counts.
    pub fn identify(&self, key_id: &str, token: Option<&str>, now: Timestamp) -> Result<Caller, Rejection> {
        let key = self.keys.get(key_id).filter(|key| key.active);
        let key = key.ok_or(Rejection::UnknownKey)?;
        match (&key.holder, token) {
            (Holder::Session(session), Some(token)) => self.in_session(session, token, now),
            // Real services do not know temporary keys without their token.
            (Holder::Session(_), None) => Err(Rejection::UnknownKey),
            (_, Some(_)) => Err(Rejection::BadToken),
            (Holder::Root(account), None) => Ok(Caller::root(account)),
            (Holder::User(arn), None) => self.as_user(arn),
        }
    }

    fn as_user(&self, arn: &str) -> Result<Caller, Rejection> {
        let user = self.users.get(arn).ok_or(Rejection::UnknownKey)?;
        Ok(Caller {
            arn: arn.to_owned(),
            user_id: user.id.clone(),
            names: Names { account: account_of(arn).to_owned(), principal: arn.to_owned(), session: None },
            kind: CallerKind::User,
            policies: vec![Arc::clone(&user.policy)],
            session_policy: None,
            issued: None,
        })
    }

    fn in_session(&self, session: &Session, token: &str, now: Timestamp) -> Result<Caller, Rejection> {
        if session.token != token {
            return Err(Rejection::BadToken);
        }
        if now >= session.request.expires {
            return Err(Rejection::ExpiredToken);
        }
        let role = self.roles.get(&session.role_arn);
        let role = role.filter(|role| role.id == session.role_id);
        let arn = session_arn(&session.role_arn, &session.request.name);
        Ok(Caller {
            user_id: format!("{}:{}", session.role_id, session.request.name),
            names: Names {
                account: account_of(&session.role_arn).to_owned(),
                principal: session.role_arn.clone(),
                session: Some(arn.clone()),
            },
            arn,
            kind: CallerKind::Session,
            policies: role.map_or_else(Vec::new, |role| role.policies.clone()),
            session_policy: session.policy.clone(),
            issued: Some(session.request.issued),
        })
    }
}

const ID_ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const SECRET_ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn unique_id(kind: &str) -> String {
    format!("{kind}{}", random(16, ID_ALPHABET))
}

pub(crate) fn random(length: usize, alphabet: &[u8]) -> String {
    let pick = || char::from(alphabet[fastrand::usize(..alphabet.len())]);
    std::iter::repeat_with(pick).take(length).collect()
}

pub(crate) fn user_arn(account: &str, name: &str) -> String {
    format!("arn:aws:iam::{account}:user/{name}")
}

/// The assumed-role ARN, which drops the role's path.
pub(crate) fn session_arn(role_arn: &str, session: &str) -> String {
    let (account, name) = (account_of(role_arn), last_component(role_arn));
    format!("arn:aws:sts::{account}:assumed-role/{name}/{session}")
}

pub(crate) fn account_of(arn: &str) -> &str {
    arn.split(':').nth(4).unwrap_or_default()
}

fn last_component(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}
