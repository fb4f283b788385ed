//! Sharing a bucket through roles, as the guide describes it, with everything enforced.

mod support;

use std::time::Duration;

use fakeaws::{AccessKey, BucketSpec, FakeAws, ObjectSpec, RoleSpec, World, policies};
use serde_json::json;
use support::{B, C, Call, OWNER, serve, session, signer_of, world};

const KEY_B: &str = "AWSLogs/222222222222/CloudTrail/us-east-1/2024/03/05/b.json.gz";
const KEY_C: &str = "AWSLogs/333333333333/CloudTrail/us-east-1/2024/03/05/c.json.gz";
const LIST_B: &str = "/logs?list-type=2&prefix=AWSLogs/222222222222/";

/// Scenario 1: B may read its own.
async fn scenario_one() -> (FakeAws, AccessKey, String) {
    let world = world();
    world.add_bucket(BucketSpec::new("logs", OWNER, "us-east-1"));
    world.put_object("logs", KEY_B, ObjectSpec::log("b"));
    world.put_object("logs", KEY_C, ObjectSpec::log("c"));
    let role = reader(&world, B, policies::trust_account_root(B));
    let key = world.add_user(B, "mirror", policies::assume_role(&role));
    (serve(&world).await, key, role)
}

fn reader(world: &World, account: &str, trust: serde_json::Value) -> String {
    let spec = RoleSpec { trust, policy: policies::read_own_logs("logs", "", account), ..RoleSpec::default() };
    world.add_role(OWNER, &format!("Reader-{account}"), spec)
}

#[tokio::test]
async fn a_consumer_reads_its_own_logs_and_nobody_elses() {
    let (aws, key, role) = scenario_one().await;
    let b = session(&aws, &key, &role, &[]);
    let get = |path: &str| Call::new(&aws, b.clone(), "GET", path).send();
    let own = get(&format!("/logs/{KEY_B}"));
    assert_eq!((own.status, own.text().as_str()), (200, "b"));
    assert_eq!(own.header("content-encoding"), Some("gzip"));
    assert_eq!(own.header("date"), Some("Tue, 05 Mar 2024 06:07:08 GMT"));
    assert_eq!(get(LIST_B).elements("Key"), [KEY_B]);
    for denied in [&format!("/logs/{KEY_C}"), "/logs?list-type=2", "/logs?list-type=2&prefix=AWSLogs/"] {
        let answer = get(denied);
        assert_eq!((answer.status, answer.code().as_str()), (403, "AccessDenied"), "{denied}");
        assert_eq!(answer.element("RequestId").as_deref(), answer.header("x-amz-request-id"));
    }
    let put = Call::new(&aws, b.clone(), "PUT", &format!("/logs/{KEY_B}")).body("x").send();
    assert_eq!(put.status, 403);
}

#[tokio::test]
async fn a_missing_key_is_404_only_to_those_who_may_list_the_bucket() {
    let (aws, key, role) = scenario_one().await;
    let missing = format!("/logs/{KEY_B}.missing");
    let tight = session(&aws, &key, &role, &[]);
    assert_eq!(Call::new(&aws, tight, "GET", &missing).send().status, 403);
    aws.world().set_role_policy(&role, policies::read_all("logs"));
    let wide = session(&aws, &key, &role, &[]);
    let answer = Call::new(&aws, wide, "GET", &missing).send();
    assert_eq!((answer.status, answer.code().as_str()), (404, "NoSuchKey"));
}

#[tokio::test]
async fn the_external_id_must_be_there_and_be_right() {
    let world = world();
    let role = reader(&world, C, policies::trust_with_external_id(C, "id-of-c"));
    let key = world.add_user(C, "mirror", policies::assume_role(&role));
    let aws = serve(&world).await;
    let expected =
        format!("User: arn:aws:iam::{C}:user/mirror is not authorized to perform: sts:AssumeRole on resource: {role}");
    for wrong in [&[][..], &[("ExternalId", "id-of-b")]] {
        let answer = Call::assume(&aws, &key, &role, wrong).send();
        assert_eq!((answer.status, answer.code().as_str()), (403, "AccessDenied"));
        assert_eq!(answer.element("Message").as_deref(), Some(expected.as_str()));
    }
    let answer = Call::assume(&aws, &key, &role, &[("ExternalId", "id-of-c")]).send();
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test]
async fn both_sides_must_agree_and_the_refusal_never_says_which_did_not() {
    let (aws, _, role) = scenario_one().await;
    let world = aws.world();
    let without_permission = world.add_user(B, "nobody", policies::nothing());
    let untrusted = world.add_user(C, "stranger", policies::assume_role(&role));
    let trusting = world.add_user(B, "other", policies::assume_role("*"));
    for (key, role) in [
        (&without_permission, role.as_str()),
        (&untrusted, &role),
        (&trusting, "arn:aws:iam::111111111111:role/Missing"),
    ] {
        let answer = Call::assume(&aws, key, role, &[]).send();
        assert_eq!((answer.status, answer.code().as_str()), (403, "AccessDenied"));
        assert!(answer.text().contains("is not authorized to perform: sts:AssumeRole on resource: "));
    }
    assert_eq!(Call::assume(&aws, &trusting, &role, &[]).send().status, 200);
}

#[tokio::test]
async fn root_may_not_assume_roles() {
    let (aws, _, role) = scenario_one().await;
    let root = aws.world().add_root_key(B);
    let answer = Call::assume(&aws, &root, &role, &[]).send();
    assert_eq!(answer.status, 403);
    assert_eq!(answer.element("Message").as_deref(), Some("Roles may not be assumed by root accounts."));
    let me = Call::sts(&aws, &root, &[("Action", "GetCallerIdentity")]).send();
    assert_eq!(me.element("Arn").as_deref(), Some("arn:aws:iam::222222222222:root"));
    assert_eq!(me.element("UserId").as_deref(), Some(B));
}

#[tokio::test]
async fn a_session_ends_by_the_worlds_clock_and_each_service_says_so_in_its_way() {
    let (aws, key, role) = scenario_one().await;
    let b = session(&aws, &key, &role, &[("DurationSeconds", "900")]);
    let clock = aws.world().clock();
    clock.advance(Duration::from_secs(899));
    assert_eq!(Call::new(&aws, b.clone(), "GET", LIST_B).send().status, 200);
    clock.advance(Duration::from_secs(1));
    let answer = Call::new(&aws, b.clone(), "GET", LIST_B).send();
    assert_eq!((answer.status, answer.code().as_str()), (400, "ExpiredToken"));
    let answer = Call::sts(&aws, b, &[("Action", "GetCallerIdentity")]).send();
    assert_eq!((answer.status, answer.code().as_str()), (403, "ExpiredTokenException"));
}

#[tokio::test]
async fn credentials_that_are_not_ours_are_told_apart() {
    let (aws, key, role) = scenario_one().await;
    let b = session(&aws, &key, &role, &[]);
    let list = |signer| Call::new(&aws, signer, "GET", LIST_B).send();
    let mut garbage = b.clone();
    garbage.token = Some("garbage".into());
    assert_eq!(list(garbage.clone()).code(), "InvalidToken");
    assert_eq!(list(garbage).status, 400);
    let mut tokenless = b.clone();
    tokenless.token = None;
    assert_eq!(list(tokenless).code(), "InvalidAccessKeyId");
    let mut forged = b.clone();
    forged.key.secret.push('x');
    let answer = list(forged.clone());
    assert_eq!((answer.status, answer.code().as_str()), (403, "SignatureDoesNotMatch"));
    let who = [("Action", "GetCallerIdentity")];
    assert_eq!(Call::sts(&aws, forged, &who).send().code(), "SignatureDoesNotMatch");
    aws.world().disable_key(&key.id);
    let answer = Call::sts(&aws, &key, &who).send();
    assert_eq!((answer.status, answer.code().as_str()), (403, "InvalidClientTokenId"));
    let mut unsigned = Call::new(&aws, &key, "GET", LIST_B);
    unsigned.signer = None;
    assert_eq!(unsigned.send().code(), "AccessDenied");
}

#[tokio::test]
async fn signatures_must_be_of_the_worlds_time() {
    let (aws, key, role) = scenario_one().await;
    let b = session(&aws, &key, &role, &[]);
    let now = aws.world().clock().now();
    for (off, expected) in [(-14, 200), (14, 200), (-16, 403), (16, 403)] {
        let at = now + jiff::SignedDuration::from_mins(off);
        let answer = Call::new(&aws, b.clone(), "GET", LIST_B).signed_at(at).send();
        assert_eq!(answer.status, expected, "{off} min");
        assert!(expected == 200 || answer.code() == "RequestTimeTooSkewed");
        let answer = Call::assume(&aws, &key, &role, &[]).signed_at(at).send();
        assert_eq!(answer.status, expected, "{off} min");
    }
}

#[tokio::test]
async fn chained_sessions_last_an_hour_at_most() {
    let (aws, key, first) = scenario_one().await;
    let world = aws.world();
    let second = world.add_role(
        C,
        "Second",
        RoleSpec { trust: policies::trust_user(&first), max_session_seconds: 43_200, ..RoleSpec::default() },
    );
    world.set_role_policy(&first, policies::assume_role(&second));
    let b = session(&aws, &key, &first, &[]);
    let answer = Call::assume(&aws, b.clone(), &second, &[("DurationSeconds", "3601")]).send();
    assert_eq!((answer.status, answer.code().as_str()), (400, "ValidationError"));
    assert_eq!(
        answer.element("Message").as_deref(),
        Some("The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.")
    );
    let chained = session(&aws, b, &second, &[]);
    let me = Call::sts(&aws, chained, &[("Action", "GetCallerIdentity")]).send();
    assert_eq!(me.element("Arn").as_deref(), Some("arn:aws:sts::333333333333:assumed-role/Second/session"));
}

#[tokio::test]
async fn the_limits_of_assume_role_are_enforced() {
    let (aws, key, role) = scenario_one().await;
    let long = "x".repeat(65);
    let policy = format!("{{\"Statement\":[]{}}}", " ".repeat(2_048));
    for bad in [
        ("DurationSeconds", "899"),
        ("DurationSeconds", "43201"),
        ("DurationSeconds", "3601"),
        ("RoleSessionName", "x"),
        ("RoleSessionName", long.as_str()),
        ("RoleSessionName", "white space"),
        ("RoleSessionName", "ümlaut"),
        ("ExternalId", "x"),
        ("ExternalId", "white space"),
        ("Policy", &policy),
    ] {
        let answer = Call::assume(&aws, &key, &role, &[bad]).send();
        assert_eq!((answer.status, answer.code().as_str()), (400, "ValidationError"), "{bad:?}");
    }
    let tags: Vec<(String, String)> = (1..=50)
        .flat_map(|n| {
            [(format!("Tags.member.{n}.Key"), format!("{n:0>20}")), (format!("Tags.member.{n}.Value"), "v".repeat(30))]
        })
        .collect();
    let tags: Vec<(&str, &str)> = tags.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    aws.world()
        .set_role_trust(&role, json!({"Statement": {"Effect": "Allow", "Principal": {"AWS": B}, "Action": "sts:*"}}));
    aws.world().set_user_policy("arn:aws:iam::222222222222:user/mirror", policies::everything());
    assert_eq!(Call::assume(&aws, &key, &role, &tags).send().code(), "PackedPolicyTooLarge");
    assert_eq!(Call::assume(&aws, &key, &role, &[("Policy", "{")]).send().code(), "MalformedPolicyDocument");
}

#[tokio::test]
async fn a_session_policy_narrows_and_never_widens() {
    let (aws, key, role) = scenario_one().await;
    let list_only = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": ["s3:ListBucket", "s3:PutObject"], "Resource": "*"},
    ]});
    let narrowed = session(&aws, &key, &role, &[("Policy", &list_only.to_string())]);
    let send = |method, path: &str| Call::new(&aws, narrowed.clone(), method, path).send().status;
    assert_eq!(send("GET", LIST_B), 200);
    assert_eq!(send("GET", &format!("/logs/{KEY_B}")), 403);
    assert_eq!(send("PUT", &format!("/logs/{KEY_B}")), 403);
}

#[tokio::test]
async fn revoked_sessions_are_denied_and_new_ones_work() {
    let (aws, key, role) = scenario_one().await;
    let old = session(&aws, &key, &role, &[]);
    aws.world().clock().advance(Duration::from_secs(5));
    aws.world().revoke_sessions(&role);
    assert_eq!(Call::new(&aws, old, "GET", LIST_B).send().code(), "AccessDenied");
    let new = session(&aws, &key, &role, &[]);
    assert_eq!(Call::new(&aws, new.clone(), "GET", LIST_B).send().status, 200);
    aws.world().remove_role(&role);
    assert_eq!(Call::new(&aws, new, "GET", LIST_B).send().status, 403);
    assert_eq!(Call::assume(&aws, &key, &role, &[]).send().status, 403);
}

#[tokio::test]
async fn a_role_made_again_gives_old_sessions_nothing() {
    let (aws, key, role) = scenario_one().await;
    let old = session(&aws, &key, &role, &[]);
    assert_eq!(reader(aws.world(), B, policies::trust_account_root(B)), role);
    assert_eq!(Call::new(&aws, old, "GET", LIST_B).send().status, 403);
}

#[tokio::test]
async fn a_role_can_fix_how_long_its_sessions_live() {
    let world = world();
    let spec = RoleSpec {
        trust: policies::trust_account_root(B),
        session_lifetime: Some(Duration::from_secs(20)),
        ..RoleSpec::default()
    };
    let role = world.add_role(OWNER, "team/Short", spec);
    let key = world.add_user(B, "mirror", policies::assume_role(&role));
    let aws = serve(&world).await;
    let answer = Call::assume(&aws, &key, &role, &[]).send();
    assert_eq!(answer.element("Expiration").as_deref(), Some("2024-03-05T06:07:28Z"));
    assert_eq!(answer.element("Arn").as_deref(), Some("arn:aws:sts::111111111111:assumed-role/Short/session"));
    assert!(signer_of(&answer).key.id.starts_with("ASIA"));
}

#[tokio::test]
async fn a_bucket_policy_alone_shares_with_another_account() {
    let (aws, _, _) = scenario_one().await;
    let world = aws.world();
    let direct = world.add_user(C, "direct", policies::read_all("logs"));
    let get = || Call::new(&aws, &direct, "GET", &format!("/logs/{KEY_C}")).send().status;
    assert_eq!(get(), 403);
    let arn = "arn:aws:iam::333333333333:user/direct";
    world.set_bucket_policy("logs", Some(policies::bucket_read_for("logs", arn)));
    assert_eq!(get(), 200);
    // The grant needs the caller's own permission, too.
    world.set_user_policy(arn, policies::nothing());
    assert_eq!(get(), 403);
}

#[tokio::test]
async fn identity_needs_no_permission() {
    let (aws, _, _) = scenario_one().await;
    let deny = json!({"Statement": {"Effect": "Deny", "Action": "*", "Resource": "*"}});
    let key = aws.world().add_user(B, "path/denied", deny);
    let me = Call::sts(&aws, &key, &[("Action", "GetCallerIdentity")]).send();
    assert_eq!(me.status, 200);
    assert_eq!(me.element("Arn").as_deref(), Some("arn:aws:iam::222222222222:user/path/denied"));
    assert!(me.element("UserId").is_some_and(|id| id.starts_with("AIDA")));
}
