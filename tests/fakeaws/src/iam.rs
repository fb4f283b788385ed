//! Decides what a policy document says about one action on one resource.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::conditions::Condition;

/// The context keys of one request, by lower-case name.
#[derive(Debug, Clone, Default)]
pub struct Context(BTreeMap<String, Vec<String>>);

impl Context {
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.set(key, value);
        self
    }

    pub fn set(&mut self, key: &str, value: impl Into<String>) {
        self.0.insert(key.to_ascii_lowercase(), vec![value.into()]);
    }

    pub(crate) fn values(&self, lower_key: &str) -> &[String] {
        self.0.get(lower_key).map_or(&[], Vec::as_slice)
    }
}

/// The names under which a policy can mean a caller.
#[derive(Debug, Clone)]
pub struct Names {
    pub account: String,
    /// User or role ARN; the root ARN for root.
    pub principal: String,
    /// Assumed-role ARN, for a session.
    pub session: Option<String>,
}

/// How closely a resource policy names the caller that it allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grant {
    /// The caller's account: its own policies must allow, too.
    Account,
    /// The user or role, or everyone.
    Principal,
    /// This very session.
    Session,
}

/// What one document says; a denial outweighs everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict<A> {
    Deny,
    Allow(A),
    Silent,
}

/// One parsed policy document: identity, session, bucket, trust or key policy.
#[derive(Debug, Clone)]
pub struct Policy {
    statements: Vec<Statement>,
}

#[derive(Debug, Clone)]
struct Statement {
    allow: bool,
    principals: Option<Patterns<Principal>>,
    actions: Patterns<String>,
    resources: Option<Patterns<String>>,
    conditions: Vec<Condition>,
}

/// `Action` or `NotAction`, and so on.
#[derive(Debug, Clone)]
struct Patterns<T> {
    negated: bool,
    any_of: Vec<T>,
}

#[derive(Debug, Clone)]
enum Principal {
    Everyone,
    Account(String),
    Arn(String),
    /// A service or an identity provider: never one of our callers.
    Elsewhere,
}

impl Policy {
    /// Reads a document, refusing whatever the evaluator does not model, so that no test passes
    /// because a condition was ignored.
    ///
    /// # Errors
    /// A sentence that names the offending element.
    pub fn parse(document: &Value) -> Result<Policy, String> {
        let document = document.as_object().ok_or("a policy is a JSON object")?;
        let statements = match document.get("Statement") {
            Some(Value::Array(many)) => many.iter().map(Statement::parse).collect(),
            Some(one @ Value::Object(_)) => Statement::parse(one).map(|one| vec![one]),
            _ => Err("Statement is missing".into()),
        }?;
        Ok(Policy { statements })
    }

    /// What an identity's own policy says.
    pub fn for_identity(&self, action: &str, resource: &str, context: &Context) -> Verdict<()> {
        let applies = |statement: &Statement| statement.covers(action, resource, context).then_some(());
        self.verdict(applies)
    }

    /// What a resource's policy says about this caller.
    pub fn for_resource(&self, caller: &Names, action: &str, resource: &str, context: &Context) -> Verdict<Grant> {
        let applies = |statement: &Statement| {
            let grant = statement.grant_to(caller)?;
            statement.covers(action, resource, context).then_some(grant)
        };
        self.verdict(applies)
    }

    fn verdict<A: Ord>(&self, applies: impl Fn(&Statement) -> Option<A>) -> Verdict<A> {
        let mut best = None;
        for statement in &self.statements {
            match applies(statement) {
                Some(_) if !statement.allow => return Verdict::Deny,
                found => best = best.max(found),
            }
        }
        best.map_or(Verdict::Silent, Verdict::Allow)
    }
}

impl Statement {
    fn parse(statement: &Value) -> Result<Statement, String> {
        let fields = statement.as_object().ok_or("a statement is an object")?;
        let known = [
            "Sid",
            "Effect",
            "Principal",
            "NotPrincipal",
            "Action",
            "NotAction",
            "Resource",
            "NotResource",
            "Condition",
        ];
        if let Some(odd) = fields.keys().find(|key| !known.contains(&key.as_str())) {
            return Err(format!("unknown element {odd}"));
        }
        let allow = match fields.get("Effect").and_then(Value::as_str) {
            Some("Allow") => true,
            Some("Deny") => false,
            other => return Err(format!("Effect is {other:?}")),
        };
        Ok(Statement {
            allow,
            principals: element(fields, "Principal", principals)?,
            actions: element(fields, "Action", strings)?.ok_or("Action is missing")?,
            resources: element(fields, "Resource", strings)?,
            conditions: Condition::parse_all(fields.get("Condition"))?,
        })
    }

    /// Trust policies have no `Resource`: they speak about the role that they hang on.
    fn covers(&self, action: &str, resource: &str, context: &Context) -> bool {
        let action = action.to_ascii_lowercase();
        let acts = |pattern: &String| matches_glob(&pattern.to_ascii_lowercase(), &action);
        let reaches = |pattern: &String| matches_glob(pattern, resource);
        self.actions.hold(acts)
            && self.resources.as_ref().is_none_or(|resources| resources.hold(reaches))
            && self.conditions.iter().all(|condition| condition.holds(context))
    }

    fn grant_to(&self, caller: &Names) -> Option<Grant> {
        let principals = self.principals.as_ref()?;
        let named = principals.any_of.iter().filter_map(|principal| principal.means(caller)).max();
        match (principals.negated, named) {
            (false, named) => named,
            (true, Some(_)) => None,
            (true, None) => Some(Grant::Principal),
        }
    }
}

impl<T> Patterns<T> {
    fn hold(&self, matches: impl FnMut(&T) -> bool) -> bool {
        self.any_of.iter().any(matches) != self.negated
    }
}

impl Principal {
    fn parse(kind: &str, name: &str) -> Principal {
        let root = |arn: &str| {
            let (_, rest) = arn.split_once(":iam::")?;
            rest.strip_suffix(":root").map(str::to_owned)
        };
        match (kind, name) {
            ("AWS", "*") => Principal::Everyone,
            ("AWS", digits) if is_account(digits) => Principal::Account(digits.into()),
            ("AWS", arn) => root(arn).map_or_else(|| Principal::Arn(arn.into()), Principal::Account),
            _ => Principal::Elsewhere,
        }
    }

    fn means(&self, caller: &Names) -> Option<Grant> {
        match self {
            Principal::Everyone => Some(Grant::Principal),
            Principal::Account(account) => (*account == caller.account).then_some(Grant::Account),
            Principal::Arn(arn) if Some(arn) == caller.session.as_ref() => Some(Grant::Session),
            Principal::Arn(arn) => (*arn == caller.principal).then_some(Grant::Principal),
            Principal::Elsewhere => None,
        }
    }
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Reads `name` or its `Not…` form.
fn element<T>(
    fields: &Map<String, Value>,
    name: &str,
    read: impl Fn(&Value) -> Result<Vec<T>, String>,
) -> Result<Option<Patterns<T>>, String> {
    let not = format!("Not{name}");
    let (value, negated) = match (fields.get(name), fields.get(&not)) {
        (Some(_), Some(_)) => return Err(format!("both {name} and {not}")),
        (Some(value), None) => (value, false),
        (None, Some(value)) => (value, true),
        (None, None) => return Ok(None),
    };
    let any_of = read(value)?;
    Ok(Some(Patterns { negated, any_of }))
}

fn principals(value: &Value) -> Result<Vec<Principal>, String> {
    let Value::Object(kinds) = value else {
        return match value.as_str() {
            Some("*") => Ok(vec![Principal::Everyone]),
            _ => Err(format!("Principal is {value}")),
        };
    };
    let mut all = Vec::new();
    for (kind, names) in kinds {
        all.extend(strings(names)?.iter().map(|name| Principal::parse(kind, name)));
    }
    Ok(all)
}

/// A string or a list of strings; policy variables are not modelled and so refused.
pub(crate) fn strings(value: &Value) -> Result<Vec<String>, String> {
    let one = |value: &Value| match value {
        Value::String(text) if text.contains("${") => Err(format!("policy variable in {text}")),
        Value::String(text) => Ok(text.clone()),
        Value::Bool(_) | Value::Number(_) => Ok(value.to_string()),
        _ => Err(format!("expected a string, found {value}")),
    };
    match value {
        Value::Array(many) => many.iter().map(one).collect(),
        single => one(single).map(|one| vec![one]),
    }
}

/// `*` matches any run and `?` any one character; nothing else is special.
pub(crate) fn matches_glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                retry = Some((p + 1, t));
                p += 1;
            }
            Some(&wanted) if wanted == '?' || wanted == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match retry {
                Some((after_star, swallowed)) => {
                    retry = Some((after_star, swallowed + 1));
                    p = after_star;
                    t = swallowed + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&left| left == '*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn says(policy: &Value, action: &str, resource: &str, context: &Context) -> Verdict<()> {
        let policy = Policy::parse(policy).expect("a valid policy");
        policy.for_identity(action, resource, context)
    }

    #[test]
    fn globs_match_like_policies_do() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("a*c", "abbbc", true),
            ("a*c", "abbbd", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*/AWSLogs/*", "x/AWSLogs/y", true),
            ("**b", "aab", true),
            ("[a]", "a", false),
        ] {
            assert_eq!(matches_glob(pattern, text), expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn a_denial_outweighs_an_allowance() {
        let policy = json!({"Statement": [
            {"Effect": "Allow", "Action": "s3:*", "Resource": "*"},
            {"Effect": "Deny", "NotAction": "s3:Get*", "Resource": "*"},
        ]});
        let context = Context::default();
        assert_eq!(says(&policy, "s3:GetObject", "arn:aws:s3:::b/k", &context), Verdict::Allow(()));
        assert_eq!(says(&policy, "s3:PutObject", "arn:aws:s3:::b/k", &context), Verdict::Deny);
    }

    #[test]
    fn actions_ignore_case_and_resources_do_not() {
        let policy =
            json!({"Statement": {"Effect": "Allow", "Action": "S3:getobject", "Resource": "arn:aws:s3:::b/K"}});
        let context = Context::default();
        assert_eq!(says(&policy, "s3:GetObject", "arn:aws:s3:::b/K", &context), Verdict::Allow(()));
        assert_eq!(says(&policy, "s3:GetObject", "arn:aws:s3:::b/k", &context), Verdict::Silent);
    }

    #[test]
    fn what_is_not_modelled_is_refused_loudly() {
        for condition in [
            json!({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}),
            json!({"StringLike": {"s3:prefix": "${aws:username}/*"}}),
        ] {
            let policy =
                json!({"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": condition}});
            assert!(Policy::parse(&policy).is_err());
        }
    }
}
