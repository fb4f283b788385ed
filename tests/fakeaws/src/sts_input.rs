//! The parameters of `AssumeRole`, and the limits that the service's model sets for them.

use crate::failure::Failure;
use crate::iam::Context;
use crate::sts::Form;

/// A request within its limits.
#[derive(Debug)]
pub(crate) struct AssumeRole {
    pub role_arn: String,
    pub session_name: String,
    pub external_id: Option<String>,
    pub duration_seconds: Option<u32>,
    pub policy: Option<String>,
    pub source_identity: Option<String>,
    pub tags: Vec<(String, String)>,
    pub has_mfa: bool,
}

/// The plaintext that a packed policy may hold.
const PACKED_LIMIT: usize = 2_048;

impl AssumeRole {
    /// # Errors
    /// `ValidationError`, in the words of the real service.
    pub fn read(form: &Form) -> Result<AssumeRole, Failure> {
        let name = "[\\w+=,.@-]*";
        let words = |extra: &'static str| move |c: char| c.is_ascii_alphanumeric() || c == '_' || extra.contains(c);
        let input = AssumeRole {
            role_arn: required(form, "RoleArn")?,
            session_name: required(form, "RoleSessionName")?,
            external_id: form.get("ExternalId").map(str::to_owned),
            duration_seconds: duration(form)?,
            policy: form.get("Policy").map(str::to_owned),
            source_identity: form.get("SourceIdentity").map(str::to_owned),
            tags: tags(form),
            has_mfa: form.get("SerialNumber").is_some() || form.get("TokenCode").is_some(),
        };
        length("roleArn", &input.role_arn, 20, 2_048)?;
        arn(&input.role_arn)?;
        length("roleSessionName", &input.session_name, 2, 64)?;
        pattern("roleSessionName", &input.session_name, name, words("+=,.@-"))?;
        if let Some(id) = &input.external_id {
            length("externalId", id, 2, 1_224)?;
            pattern("externalId", id, "[\\w+=,.@:\\/-]*", words("+=,.@:/-"))?;
        }
        if let Some(identity) = &input.source_identity {
            length("sourceIdentity", identity, 2, 64)?;
            pattern("sourceIdentity", identity, name, words("+=,.@-"))?;
        }
        if let Some(policy) = &input.policy {
            length("policy", policy, 1, PACKED_LIMIT)?;
        }
        no_managed_policies(form)?;
        Ok(input)
    }

    /// What the trust policy must allow.
    pub fn actions(&self) -> impl Iterator<Item = &'static str> {
        let tag = (!self.tags.is_empty()).then_some("sts:TagSession");
        let identity = self.source_identity.as_ref().map(|_| "sts:SetSourceIdentity");
        [Some("sts:AssumeRole"), tag, identity].into_iter().flatten()
    }

    pub fn add_context(&self, context: &mut Context) {
        context.set("sts:RoleSessionName", &self.session_name);
        if let Some(id) = &self.external_id {
            context.set("sts:ExternalId", id);
        }
        if let Some(identity) = &self.source_identity {
            context.set("sts:SourceIdentity", identity);
        }
        for (key, value) in &self.tags {
            context.set(&format!("aws:RequestTag/{key}"), value);
        }
    }

    /// How much of the allotted space policy and tags take, as the answer reports it. The real
    /// packing is secret; this one counts characters.
    pub fn packed_percent(&self) -> u64 {
        let tags: usize = self.tags.iter().map(|(key, value)| key.len() + value.len()).sum();
        let size = self.policy.as_ref().map_or(0, String::len) + tags;
        (size * 100).div_ceil(PACKED_LIMIT) as u64
    }
}

fn required(form: &Form, name: &str) -> Result<String, Failure> {
    let field = lower_first(name);
    let missing = || {
        Failure::validation(format!(
            "1 validation error detected: Value null at '{field}' failed to satisfy constraint: Member must not be null"
        ))
    };
    form.get(name).map(str::to_owned).ok_or_else(missing)
}

fn duration(form: &Form) -> Result<Option<u32>, Failure> {
    let Some(text) = form.get("DurationSeconds") else {
        return Ok(None);
    };
    let Ok(seconds) = text.parse::<i64>() else {
        return Err(Failure::bad_request("MalformedInput", "DurationSeconds is not an integer"));
    };
    let out_of = |bound: &str| violated("durationSeconds", text, &format!("have value {bound}"));
    match seconds {
        ..900 => Err(out_of("greater than or equal to 900")),
        43_201.. => Err(out_of("less than or equal to 43200")),
        seconds => Ok(u32::try_from(seconds).ok()),
    }
}

fn length(field: &str, value: &str, least: usize, most: usize) -> Result<(), Failure> {
    let count = value.chars().count();
    if count < least {
        let bound = format!("have length greater than or equal to {least}");
        return Err(violated(field, value, &bound));
    }
    if count > most {
        return Err(violated(field, value, &format!("have length less than or equal to {most}")));
    }
    Ok(())
}

fn pattern(field: &str, value: &str, pattern: &str, allowed: impl Fn(char) -> bool) -> Result<(), Failure> {
    if value.chars().all(allowed) {
        return Ok(());
    }
    Err(violated(field, value, &format!("satisfy regular expression pattern: {pattern}")))
}

fn arn(value: &str) -> Result<(), Failure> {
    let parts: Vec<&str> = value.splitn(6, ':').collect();
    if parts.len() == 6 && parts[0] == "arn" && parts[2] == "iam" {
        return Ok(());
    }
    Err(Failure::validation(format!("{value} is invalid")))
}

fn violated(field: &str, value: &str, constraint: &str) -> Failure {
    Failure::validation(format!(
        "1 validation error detected: Value '{value}' at '{field}' failed to satisfy constraint: Member must {constraint}"
    ))
}

fn tags(form: &Form) -> Vec<(String, String)> {
    let tag = |number: usize| {
        let key = form.get(&format!("Tags.member.{number}.Key"))?;
        let value = form.get(&format!("Tags.member.{number}.Value"))?;
        Some((key.to_owned(), value.to_owned()))
    };
    (1..).map_while(tag).collect()
}

/// There are no managed policies here, so none can be attached.
fn no_managed_policies(form: &Form) -> Result<(), Failure> {
    match form.get("PolicyArns.member.1.arn") {
        None => Ok(()),
        Some(arn) => {
            let message = format!("The policy {arn} does not exist or is not attachable.");
            Err(Failure::bad_request("MalformedPolicyDocument", message))
        }
    }
}

fn lower_first(name: &str) -> String {
    let mut characters = name.chars();
    let first = characters.next().map(|first| first.to_ascii_lowercase());
    first.into_iter().chain(characters).collect()
}
