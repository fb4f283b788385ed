//! The Security Token Service: who am I, and let me be this role.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};
use jiff::SignedDuration;
use serde_json::Value;

use crate::caller::{Ask, Caller, CallerKind};
use crate::clock::iso_seconds;
use crate::failure::{Failure, Ids};
use crate::faults::Fault;
use crate::iam::Policy;
use crate::identity::{Role, SessionRequest, session_arn};
use crate::op::{Op, Target};
use crate::reply::{Reply, reply};
use crate::sts_input::AssumeRole;
use crate::world::World;
use crate::xml::Xml;

pub(crate) const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

/// The longest session that a session may open.
const CHAINED_LIMIT: u32 = 3_600;

/// The fields of a form-encoded request.
#[derive(Debug, Clone)]
pub(crate) struct Form(Vec<(String, String)>);

impl Form {
    pub fn read(body: &Bytes) -> Form {
        Form(form_urlencoded::parse(body).into_owned().collect())
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The operation, and what it is about.
    pub fn op(&self) -> (Op, Target) {
        let op = match self.get("Action") {
            Some("AssumeRole") => Op::AssumeRole,
            Some("GetCallerIdentity") => Op::GetCallerIdentity,
            _ => Op::Other,
        };
        let target = Target {
            role_arn: self.get("RoleArn").map(str::to_owned),
            ..Target::default()
        };
        (op, target)
    }
}

/// Answers one request whose signature is good.
pub(crate) fn answer(
    world: &World,
    caller: &Caller,
    form: &Form,
    faults: &[Fault],
    ids: &Ids,
) -> Result<Reply, Failure> {
    let result = match form.get("Action") {
        Some("GetCallerIdentity") => caller_identity(caller),
        Some("AssumeRole") => assume_role(world, caller, form, faults)?,
        action => {
            let (action, version) = (
                action.unwrap_or_default(),
                form.get("Version").unwrap_or_default(),
            );
            let message = format!("Could not find operation {action} for version {version}");
            return Err(Failure::bad_request("InvalidAction", message));
        }
    };
    let action = form.get("Action").unwrap_or_default();
    Ok(document(action, &result, ids))
}

fn document(action: &str, result: &str, ids: &Ids) -> Reply {
    let (response, wrapper) = (format!("{action}Response"), format!("{action}Result"));
    let body = Xml::fragment()
        .open_in(&response, NAMESPACE)
        .open(&wrapper)
        .raw(result)
        .close(&wrapper)
        .open("ResponseMetadata")
        .text("RequestId", &ids.request)
        .close("ResponseMetadata")
        .close(&response)
        .finish();
    let mut answer = reply(StatusCode::OK, body);
    let xml = HeaderValue::from_static("text/xml");
    answer.headers_mut().insert(CONTENT_TYPE, xml);
    answer
}

/// Needs no permission, and no denial withholds it.
fn caller_identity(caller: &Caller) -> String {
    Xml::fragment()
        .text("Arn", &caller.arn)
        .text("UserId", &caller.user_id)
        .text("Account", caller.account())
        .finish()
}

fn assume_role(
    world: &World,
    caller: &Caller,
    form: &Form,
    faults: &[Fault],
) -> Result<String, Failure> {
    let input = AssumeRole::read(form)?;
    let role = permitted_role(world, caller, &input)?;
    let asked = permitted_duration(caller, &role, &input)?;
    let policy = session_policy(&input)?;
    let now = world.clock().now();
    let lifetime = lifetime(role.session_lifetime.unwrap_or(asked), faults);
    let request = SessionRequest {
        name: input.session_name.clone(),
        policy,
        issued: now,
        expires: now + lifetime,
    };
    let expires = request.expires;
    let (key, token) = world.inner().directory.write().open_session(&role, request);
    let mut xml = Xml::fragment();
    xml.open("AssumedRoleUser")
        .text(
            "AssumedRoleId",
            &format!("{}:{}", role.id, input.session_name),
        )
        .text("Arn", &session_arn(&role.arn, &input.session_name))
        .close("AssumedRoleUser")
        .open("Credentials")
        .text("AccessKeyId", &key.id)
        .text("SecretAccessKey", &key.secret)
        .text("SessionToken", &token)
        .text("Expiration", &iso_seconds(expires))
        .close("Credentials");
    if input.packed_percent() > 0 {
        xml.number("PackedPolicySize", input.packed_percent());
    }
    if let Some(identity) = &input.source_identity {
        xml.text("SourceIdentity", identity);
    }
    Ok(xml.finish())
}

/// The role, if both sides' policies let this caller be it. A role that does not exist, an unmet
/// condition and a missing permission are one and the same answer.
fn permitted_role(world: &World, caller: &Caller, input: &AssumeRole) -> Result<Role, Failure> {
    if caller.kind == CallerKind::Root {
        let message = "Roles may not be assumed by root accounts.";
        return Err(Failure::forbidden("AccessDenied", message));
    }
    let role = world
        .inner()
        .directory
        .read()
        .role(&input.role_arn)
        .cloned();
    let denied = |action: &str| {
        let message = format!(
            "User: {} is not authorized to perform: {action} on resource: {}",
            caller.arn, input.role_arn
        );
        Failure::forbidden("AccessDenied", message)
    };
    let role = role.ok_or_else(|| denied("sts:AssumeRole"))?;
    let mut context = caller.context(world.clock().now());
    input.add_context(&mut context);
    for action in input.actions() {
        let ask = Ask {
            action,
            resource: &role.arn,
            owner: &role.account,
            resource_policy: Some(&role.trust),
            context: context.clone(),
        };
        if !caller.may_assume(&ask) {
            return Err(denied(action));
        }
    }
    if input.has_mfa {
        let message = "MultiFactorAuthentication failed, unable to validate MFA code.";
        return Err(Failure::forbidden("AccessDenied", message));
    }
    Ok(role)
}

fn permitted_duration(
    caller: &Caller,
    role: &Role,
    input: &AssumeRole,
) -> Result<Duration, Failure> {
    let seconds = input.duration_seconds.unwrap_or(3_600);
    if caller.kind == CallerKind::Session && seconds > CHAINED_LIMIT {
        return Err(Failure::validation(
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.",
        ));
    }
    if seconds > role.max_session_seconds {
        return Err(Failure::validation(
            "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
        ));
    }
    Ok(Duration::from_secs(u64::from(seconds)))
}

fn session_policy(input: &AssumeRole) -> Result<Option<Policy>, Failure> {
    let percent = input.packed_percent();
    if percent > 100 {
        let message = format!(
            "Packed policy consumes {percent}% of allotted space, please use smaller policy."
        );
        return Err(Failure::bad_request("PackedPolicyTooLarge", message));
    }
    let Some(text) = &input.policy else {
        return Ok(None);
    };
    let malformed = |why: String| Failure::bad_request("MalformedPolicyDocument", why);
    let document: Value = serde_json::from_str(text)
        .map_err(|_| malformed("This policy contains invalid Json".to_owned()))?;
    Policy::parse(&document).map(Some).map_err(malformed)
}

fn lifetime(regular: Duration, faults: &[Fault]) -> SignedDuration {
    let faulty = faults.iter().find_map(|fault| match fault {
        Fault::AlreadyExpiredSession => Some(SignedDuration::from_secs(-60)),
        Fault::ShortLivedSession { seconds } => {
            i64::try_from(*seconds).ok().map(SignedDuration::from_secs)
        }
        _ => None,
    });
    faulty.unwrap_or_else(|| SignedDuration::try_from(regular).unwrap_or(SignedDuration::MAX))
}
