//! The same documents as a template of `CloudFormation`: one for Account A, one for the consumer.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::install::{Attachment, Document, Installation, Side};
use crate::config::{Role, Source};

/// A source with what it needs.
pub type Needed<'a> = (&'a Source, Installation);

/// The template of one side for all these sources.
///
/// Statements for a key's or a bucket's policy are in its metadata, to be added by hand: a template could only
/// replace the whole policy, which CloudTrail itself lives on.
///
/// # Errors
/// A sentence: the sources belong to different accounts, or nothing of theirs can be in a template.
pub fn template(side: Side, needed: &[Needed<'_>]) -> Result<Value, String> {
    let account = one_account(side, needed)?;
    let (resources, outputs) = match side {
        Side::Owner => roles(needed, &READING)?,
        Side::Consumer => {
            let (mut resources, mut outputs) = policies(needed);
            let (roles, of_roles) = roles(needed, &WRITING)?;
            resources.extend(roles);
            outputs.extend(of_roles);
            (resources, outputs)
        }
    };
    if resources.is_empty() {
        return Err("a template cannot add to the policy of a bucket, only replace what CloudTrail needs in it: \
                    add the statements of `--format json` by hand"
            .to_owned());
    }
    let what = match side {
        Side::Owner => "Roles through which CloudTrail logs are mirrored by trailsync",
        Side::Consumer => "What the user or role that trailsync runs as is allowed",
    };
    let mut template = json!({
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": format!("{what} (for account {account})"),
        "Resources": resources,
        "Outputs": outputs,
    });
    let by_hand = by_hand(side, needed);
    if !by_hand.is_empty() {
        template["Metadata"] = json!({ "AddByHand": by_hand });
    }
    Ok(template)
}

/// A template is installed into one account.
fn one_account(side: Side, needed: &[Needed<'_>]) -> Result<String, String> {
    let documents = documents(needed).filter(|(_, document)| document.side() == side);
    let hangs_on_identity = |document: &Document| {
        use Attachment::{ArchiveAccess, ArchiveTrust, Caller, RoleAccess, RoleTrust};
        matches!(document.attachment, RoleTrust | RoleAccess | Caller | ArchiveTrust | ArchiveAccess)
    };
    let accounts: BTreeMap<String, String> = documents
        .filter(|(_, document)| hangs_on_identity(document))
        .filter_map(|(source, document)| Some((document.account.clone()?, source.name.clone())))
        .collect();
    match accounts.len() {
        0 => Ok("A".to_owned()),
        1 => Ok(accounts.into_keys().next().unwrap_or_default()),
        _ => {
            let each: Vec<String> =
                accounts.iter().map(|(account, source)| format!("`{source}` to {account}")).collect();
            Err(format!("one template is for one account, and {}: name the sources of one", each.join(", ")))
        }
    }
}

fn documents<'a>(needed: &'a [Needed<'a>]) -> impl Iterator<Item = (&'a Source, &'a Document)> {
    needed.iter().flat_map(|(source, installation)| installation.documents.iter().map(|document| (*source, document)))
}

fn of(installation: &Installation, attachment: Attachment) -> Option<&Document> {
    installation.documents.iter().find(|document| document.attachment == attachment)
}

/// Resources and outputs.
type Parts = (Map<String, Value>, Map<String, Value>);

/// Roles of one use.
struct Use {
    role: fn(&Source) -> Option<&Role>,
    trust: Attachment,
    access: Attachment,
    /// Its logical ids begin so.
    id: &'static str,
}

/// Those that logs are read through.
const READING: Use = Use {
    role: |source| source.role.as_ref(),
    trust: Attachment::RoleTrust,
    access: Attachment::RoleAccess,
    id: "Role",
};

/// Those that copies are written through.
const WRITING: Use = Use {
    role: |source| source.destination.bucket()?.role.as_ref(),
    trust: Attachment::ArchiveTrust,
    access: Attachment::ArchiveAccess,
    id: "ArchiveRole",
};

/// Each role once, with a policy for every source that goes through it.
fn roles(needed: &[Needed<'_>], of_use: &Use) -> Result<Parts, String> {
    let (mut resources, mut outputs) = (Map::new(), Map::new());
    let mut known: BTreeMap<&str, String> = BTreeMap::new();
    for (source, installation) in needed {
        let Some(role) = (of_use.role)(source) else { continue };
        let (Some(trust), Some(access)) = (of(installation, of_use.trust), of(installation, of_use.access)) else {
            continue;
        };
        let id = known.entry(&role.arn).or_insert_with(|| logical_id(of_use.id, &source.name)).clone();
        let resource = resources.entry(id.clone()).or_insert_with(|| role_resource(role, &trust.policy));
        if resource["Properties"]["AssumeRolePolicyDocument"] != trust.policy {
            return Err(format!("two sources go through {} and would trust different callers", role.arn));
        }
        let policy = json!({ "PolicyName": format!("trailsync-{}", source.name), "PolicyDocument": access.policy });
        lengthen(resource, role);
        if let Some(policies) = resource["Properties"]["Policies"].as_array_mut() {
            policies.push(policy);
        }
        outputs.insert(format!("{id}Arn"), json!({ "Value": { "Fn::GetAtt": [id, "Arn"] } }));
    }
    Ok((resources, outputs))
}

fn role_resource(role: &Role, trust: &Value) -> Value {
    let name = role.arn.split_once(":role/").map_or(role.arn.as_str(), |(_, name)| name);
    let (path, name) = name.rsplit_once('/').map_or((None, name), |(path, name)| (Some(format!("/{path}/")), name));
    let mut properties = json!({
        "RoleName": name,
        "AssumeRolePolicyDocument": trust,
        "Policies": [],
    });
    if let Some(path) = path {
        properties["Path"] = json!(path);
    }
    json!({ "Type": "AWS::IAM::Role", "Properties": properties })
}

/// An hour is what every role allows; longer sessions must be allowed, the longest that a source asks for.
fn lengthen(resource: &mut Value, role: &Role) {
    let (asked, longest) = (role.duration.as_secs(), &mut resource["Properties"]["MaxSessionDuration"]);
    if asked > longest.as_u64().unwrap_or(3_600) {
        *longest = json!(asked);
    } else if longest.is_null() {
        resource["Properties"].as_object_mut().map(|properties| properties.remove("MaxSessionDuration"));
    }
}

/// One managed policy for each source, attached where the caller is a named user or role.
fn policies(needed: &[Needed<'_>]) -> Parts {
    let (mut resources, mut outputs) = (Map::new(), Map::new());
    for (source, installation) in needed {
        let Some(document) = of(installation, Attachment::Caller) else { continue };
        let id = logical_id("Policy", &source.name);
        let mut properties = json!({
            "Description": format!("trailsync mirrors the source {}", source.name),
            "PolicyDocument": document.policy,
        });
        if let Some((kind, name)) = attached_to(&document.target) {
            properties[kind] = json!([name]);
        }
        resources.insert(id.clone(), json!({ "Type": "AWS::IAM::ManagedPolicy", "Properties": properties }));
        outputs.insert(format!("{id}Arn"), json!({ "Value": { "Ref": id } }));
    }
    (resources, outputs)
}

/// Users and roles are attached by name, without their path.
fn attached_to(arn: &str) -> Option<(&'static str, &str)> {
    let resource = arn.splitn(6, ':').nth(5)?;
    let (kind, path) = resource.split_once('/')?;
    let name = path.rsplit('/').next()?;
    match kind {
        "user" => Some(("Users", name)),
        "role" => Some(("Roles", name)),
        _ => None,
    }
}

fn by_hand(side: Side, needed: &[Needed<'_>]) -> Vec<Value> {
    let by_hand = |document: &Document| {
        use Attachment::{ArchiveBucket, ArchiveKey, BucketPolicy, KeyPolicy};
        matches!(document.attachment, KeyPolicy | BucketPolicy | ArchiveBucket | ArchiveKey) && document.side() == side
    };
    let entries = documents(needed).filter(|(_, document)| by_hand(document)).map(|(_, document)| {
        json!({
            "Instruction": document.attachment.instruction(),
            "Target": document.target,
            "Statements": document.policy["Statement"],
        })
    });
    entries.collect()
}

/// Logical ids are letters and digits: `Role` and `prod-eu` make `RoleProdEu`.
fn logical_id(kind: &str, source: &str) -> String {
    let words = source.split('-').map(|word| {
        let mut letters = word.chars();
        let first = letters.next().map(|first| first.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
    });
    // A word that is empty is a dash doubled, which must not make two names one.
    let words: Vec<String> = words.map(|word| if word.is_empty() { "X".to_owned() } else { word }).collect();
    format!("{kind}{}", words.concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::install::{Principal, installation};
    use crate::policy::tests::source;

    fn named(name: &str, role: &str) -> Source {
        let mut source = Source { name: name.into(), accounts: vec!["222222222222".into()], ..source() };
        source.role.as_mut().unwrap().arn = role.into();
        source
    }

    fn made(side: Side, sources: &[Source], caller: &str) -> Result<Value, String> {
        let caller = Principal::parse(caller).unwrap();
        let needed: Vec<Needed<'_>> = sources.iter().map(|source| (source, installation(source, &caller))).collect();
        template(side, &needed)
    }

    #[test]
    fn a_role_has_its_path_its_lifetime_and_a_policy_for_each_source() {
        let arn = "arn:aws:iam::111111111111:role/logs/audit/R";
        let mut second = Source { prefix: "x".into(), ..named("second", arn) };
        second.role.as_mut().unwrap().duration = std::time::Duration::from_secs(3_600);
        let mut first = named("prod-eu", arn);
        first.role.as_mut().unwrap().duration = std::time::Duration::from_secs(7_200);
        let template = made(Side::Owner, &[first, second], "222222222222").unwrap();
        assert_eq!(template["Resources"].as_object().unwrap().len(), 1);
        let role = &template["Resources"]["RoleProdEu"]["Properties"];
        assert_eq!((&role["RoleName"], &role["Path"]), (&json!("R"), &json!("/logs/audit/")));
        assert_eq!(role["MaxSessionDuration"], 7_200);
        assert_eq!(role["Policies"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn the_consumer_s_policy_is_attached_to_whoever_is_named() {
        let sources = [named("prod", "arn:aws:iam::111111111111:role/R")];
        let policy = |caller| made(Side::Consumer, &sources, caller).unwrap()["Resources"]["PolicyProd"].clone();
        assert_eq!(policy("arn:aws:iam::222222222222:role/ops/mirror")["Properties"]["Roles"], json!(["mirror"]));
        assert_eq!(policy("arn:aws:iam::222222222222:user/mirror")["Properties"]["Users"], json!(["mirror"]));
        assert_eq!(policy("222222222222")["Properties"].as_object().unwrap().len(), 2, "nobody is named");
    }

    #[test]
    fn what_a_template_would_replace_is_added_by_hand() {
        let key = "arn:aws:kms:eu-west-1:111111111111:key/k".to_owned();
        let source = Source { kms_keys: vec![key], ..named("prod", "arn:aws:iam::111111111111:role/R") };
        let template = made(Side::Owner, &[source], "222222222222").unwrap();
        assert_eq!(template["Metadata"]["AddByHand"][0]["Statements"][0]["Action"], "kms:Decrypt");
        let direct = Source { role: None, ..named("prod", "arn:aws:iam::111111111111:role/R") };
        assert!(made(Side::Owner, &[direct], "222222222222").unwrap_err().contains("by hand"));
    }

    #[test]
    fn one_template_is_for_one_account() {
        let sources = [named("a", "arn:aws:iam::111111111111:role/R"), named("b", "arn:aws:iam::444444444444:role/R")];
        let why = made(Side::Owner, &sources, "222222222222").unwrap_err();
        assert!(why.contains("`a` to 111111111111") && why.contains("`b` to 444444444444"), "{why}");
    }
}
