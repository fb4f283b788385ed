use super::*;
use crate::policy::tests::source;

const KEY: &str = "arn:aws:kms:eu-west-1:111111111111:key/k-1";

fn caller(text: &str) -> Principal {
    Principal::parse(text).unwrap()
}

fn policy(source: &Source, who: &str, attachment: Attachment) -> Value {
    let needed = installation(source, &caller(who));
    let document = needed.documents.into_iter().find(|document| document.attachment == attachment);
    document.unwrap_or_else(|| panic!("no {attachment:?}")).policy
}

fn own_logs() -> Source {
    Source { accounts: vec!["222222222222".into()], prefix: "audit".into(), ..source() }
}

fn third_party() -> Source {
    let mut source = source();
    source.role.as_mut().unwrap().external_id = Some("Z-1".into());
    source
}

/// Every action of every document, with its source's attachment.
fn actions(needed: &Installation) -> Vec<String> {
    let statements = needed.documents.iter().flat_map(|document| document.policy["Statement"].as_array().unwrap());
    let each = |value: &Value| match value {
        Value::Array(many) => many.iter().map(|one| one.as_str().unwrap().to_owned()).collect(),
        one => vec![one.as_str().unwrap().to_owned()],
    };
    statements.flat_map(|statement| each(&statement["Action"])).collect()
}

#[test]
fn an_account_reads_its_own_prefix_and_nothing_above() {
    assert_eq!(
        policy(&own_logs(), "222222222222", Attachment::RoleAccess)["Statement"],
        json!([
            {
                "Sid": "TrailsyncList", "Effect": "Allow", "Action": "s3:ListBucket",
                "Resource": "arn:aws:s3:::trail-logs",
                "Condition": { "StringLike": { "s3:prefix": "audit/AWSLogs/222222222222/*" } },
            },
            {
                "Sid": "TrailsyncGet", "Effect": "Allow", "Action": "s3:GetObject",
                "Resource": "arn:aws:s3:::trail-logs/audit/AWSLogs/222222222222/*",
            },
            {
                "Sid": "TrailsyncLocate", "Effect": "Allow", "Action": "s3:GetBucketLocation",
                "Resource": "arn:aws:s3:::trail-logs",
            },
        ])
    );
    assert_eq!(
        policy(&own_logs(), "222222222222", Attachment::RoleTrust)["Statement"],
        json!([{
            "Sid": "TrailsyncTrust", "Effect": "Allow", "Principal": { "AWS": "arn:aws:iam::222222222222:root" },
            "Action": "sts:AssumeRole",
        }])
    );
    assert_eq!(
        policy(&own_logs(), "222222222222", Attachment::Caller)["Statement"],
        json!([
            {
                "Sid": "TrailsyncAssume", "Effect": "Allow", "Action": "sts:AssumeRole",
                "Resource": "arn:aws:iam::111111111111:role/logs/CloudTrailRead",
            },
        ])
    );
}

#[test]
fn a_third_party_is_trusted_under_its_external_id_alone() {
    let trust = policy(&third_party(), "999999999999", Attachment::RoleTrust);
    assert_eq!(trust["Statement"][0]["Condition"], json!({ "StringEquals": { "sts:ExternalId": "Z-1" } }));
    assert_eq!(configured_caller(&third_party()), None, "nobody says who that is");
    let accounts = vec!["222222222222".to_owned()];
    assert_eq!(configured_caller(&Source { accounts, ..third_party() }), None, "nor whose logs these are");
}

#[test]
fn folders_of_an_organization_stand_before_the_account() {
    let source = Source { organization: Some("o-abcdefghij".into()), ..own_logs() };
    let access = policy(&source, "222222222222", Attachment::RoleAccess);
    let below = "audit/AWSLogs/o-abcdefghij/222222222222/*";
    assert_eq!(access["Statement"][0]["Condition"]["StringLike"]["s3:prefix"], below);
    assert_eq!(access["Statement"][1]["Resource"], format!("arn:aws:s3:::trail-logs/{below}"));
}

#[test]
fn digests_need_the_public_keys() {
    let kinds = vec!["CloudTrail".into(), "CloudTrail-Digest".into()];
    let calling = policy(&Source { kinds, ..own_logs() }, "222222222222", Attachment::Caller);
    let statement = &calling["Statement"][1];
    assert_eq!((&statement["Action"], &statement["Resource"]), (&json!("cloudtrail:ListPublicKeys"), &json!("*")));
}

#[test]
fn a_key_serves_what_cloudtrail_encrypted() {
    let source = Source { kms_keys: vec![KEY.into()], ..own_logs() };
    assert_eq!(
        policy(&source, "222222222222", Attachment::KeyPolicy)["Statement"][0],
        json!({
            "Sid": "TrailsyncDecrypt", "Effect": "Allow", "Action": "kms:Decrypt", "Resource": KEY,
            "Principal": { "AWS": "arn:aws:iam::111111111111:role/logs/CloudTrailRead" },
            "Condition": { "Null": { "kms:EncryptionContext:aws:cloudtrail:arn": "false" } },
        })
    );
    let own = policy(&source, "222222222222", Attachment::RoleAccess);
    assert_eq!(own["Statement"].as_array().unwrap().len(), 3, "a key of the role's own account needs no more");
    let other = KEY.replace("111111111111", "444444444444");
    let source = Source { kms_keys: vec![KEY.into(), other.clone()], ..own_logs() };
    let access = policy(&source, "222222222222", Attachment::RoleAccess);
    assert_eq!(access["Statement"][3]["Resource"], other, "a key of another account does");
}

#[test]
fn without_a_role_bucket_and_caller_say_the_same() {
    let owner = Some("111111111111".to_owned());
    let source = Source { role: None, bucket_owner: owner, ..own_logs() };
    let who = "arn:aws:iam::222222222222:user/mirror";
    let bucket = policy(&source, who, Attachment::BucketPolicy);
    let calling = policy(&source, who, Attachment::Caller);
    for (statement, own) in bucket["Statement"].as_array().unwrap().iter().zip(calling["Statement"].as_array().unwrap())
    {
        assert_eq!(statement["Principal"], json!({ "AWS": who }));
        assert_eq!((&statement["Action"], &statement["Resource"]), (&own["Action"], &own["Resource"]));
    }
    let inside = installation(&source, &caller("111111111111"));
    assert!(inside.documents.iter().all(|document| document.attachment == Attachment::Caller));
}

#[test]
fn a_bucket_beside_the_role_s_account_is_opened_to_the_role() {
    let source = Source { bucket_owner: Some("444444444444".into()), ..own_logs() };
    let bucket = policy(&source, "222222222222", Attachment::BucketPolicy);
    let role = "arn:aws:iam::111111111111:role/logs/CloudTrailRead";
    assert_eq!(bucket["Statement"][0]["Principal"], json!({ "AWS": role }));
}

#[test]
fn tags_and_source_identity_are_allowed_on_both_sides() {
    let mut source = own_logs();
    let role = source.role.as_mut().unwrap();
    role.tags.insert("Team".into(), "audit".into());
    role.source_identity = Some("log-archive".into());
    let actions = json!(["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"]);
    for attachment in [Attachment::RoleTrust, Attachment::Caller] {
        assert_eq!(policy(&source, "222222222222", attachment)["Statement"][0]["Action"], actions);
    }
}

#[test]
fn no_action_has_a_wildcard_in_any_scenario() {
    let keys = vec![KEY.to_owned(), KEY.replace("111111111111", "444444444444")];
    let kinds = vec!["CloudTrail-Digest".to_owned()];
    for base in [own_logs(), third_party(), Source { role: None, ..own_logs() }] {
        let source = Source { kms_keys: keys.clone(), kinds: kinds.clone(), ..base };
        let actions = actions(&installation(&source, &caller("222222222222")));
        assert!(actions.len() >= 6 && actions.iter().all(|action| !action.contains(['*', '?'])), "{actions:?}");
    }
}

#[test]
fn every_arn_is_of_the_partition_of_the_region() {
    for (region, partition) in
        [("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov"), ("eusc-de-east-1", "aws-eusc")]
    {
        let mut source = Source { region: region.into(), ..own_logs() };
        source.role.as_mut().unwrap().arn = format!("arn:{partition}:iam::111111111111:role/R");
        source.kms_keys = vec![format!("arn:{partition}:kms:{region}:111111111111:key/k")];
        let needed = installation(&source, &caller("222222222222"));
        let text = needed.documents.iter().map(|document| document.policy.to_string()).collect::<String>();
        let arns = text.matches("arn:").count();
        assert!(arns >= 7 && text.matches(&format!("arn:{partition}:")).count() == arns, "{text}");
    }
}

#[test]
fn the_caller_is_an_account_or_an_identity_of_iam() {
    for good in ["222222222222", "arn:aws:iam::222222222222:root", "arn:aws-cn:iam::222222222222:role/a/b"] {
        assert_eq!(caller(good).account, "222222222222");
    }
    for bad in ["2222", "mirror", "arn:aws:iam::222222222222:user/", "arn:aws:iam::222222222222:role/*"] {
        assert!(Principal::parse(bad).unwrap_err().contains("expected an account id"), "{bad}");
    }
    let session = Principal::parse("arn:aws:sts::222222222222:assumed-role/R/s").unwrap_err();
    assert!(session.contains("name the role itself"), "{session}");
}

#[test]
fn what_is_tighter_than_the_guide_and_what_is_too_long_is_said() {
    let notes = installation(&own_logs(), &caller("222222222222")).notes;
    assert!(notes[0].contains("list every account's keys"), "{notes:?}");
    let accounts = (0..120).map(|n| format!("{n:012}")).collect();
    let notes = installation(&Source { accounts, ..own_logs() }, &caller("222222222222")).notes;
    assert!(notes.iter().any(|note| note.contains("10240 that AWS takes")), "{notes:?}");
}
