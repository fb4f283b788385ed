//! What `trailsync policy` prints is enough, and nothing in it is too much.

use std::io::Write;

use fakeaws::{BucketSpec, RoleSpec};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use trailsync::cli::Exit;
use trailsync::cli::sync::{self, sync};
use trailsync::config::Source;
use trailsync::policy::install::{Attachment, Document, Principal, installation};

use crate::stage::{A, B, BUCKET, DIGEST, KEY, LOG, REGION, Stage, USER, digest, log};

/// A way of sharing: what the operator configures.
struct Sharing {
    name: &'static str,
    configure: fn(&mut Stage),
}

const SHARINGS: [Sharing; 10] = [
    Sharing { name: "its own logs", configure: |_| {} },
    Sharing {
        name: "all logs, for a third party",
        configure: |stage| {
            stage.put("accounts", "[]");
            stage.set("role.external_id", "Z-1");
        },
    },
    Sharing {
        name: "an organization's logs under a prefix",
        configure: |stage| {
            stage.set("prefix", "audit");
            stage.set("organization", "o-abcdefghij");
            for key in [LOG, DIGEST] {
                let object = if key == LOG { log() } else { digest() };
                stage.world.put_object(BUCKET, &key.replace("AWSLogs/", "audit/AWSLogs/o-abcdefghij/"), object);
            }
        },
    },
    Sharing {
        name: "logs that are encrypted, with tags and a source identity",
        configure: |stage| {
            encrypt(stage, KEY);
            stage.put("role.tags", "{ Team = \"audit\" }");
            stage.set("role.source_identity", "log-archive");
        },
    },
    Sharing {
        name: "logs that are encrypted with another account's key",
        configure: |stage| encrypt(stage, "arn:aws:kms:eu-west-1:444444444444:key/1234abcd"),
    },
    Sharing { name: "its own logs, which it deletes when they are mirrored", configure: |stage| stage.deletes = true },
    Sharing {
        name: "logs that are deleted without a role",
        configure: |stage| {
            stage.deletes = true;
            stage.drop_all("role.");
            stage.set("bucket_owner", A);
        },
    },
    Sharing {
        name: "without a role",
        configure: |stage| {
            stage.drop_all("role.");
            stage.set("bucket_owner", A);
            encrypt(stage, KEY);
        },
    },
    Sharing {
        name: "copies in a bucket of one's own, through a role",
        configure: |stage| {
            archive(stage, B);
            stage.set("destination.role.arn", &format!("arn:aws:iam::{B}:role/Archive"));
            stage.set("destination.role.session_name", "archive");
            stage.put("destination.role.session_policy", "false");
        },
    },
    Sharing {
        name: "copies in a bucket of another account of ours",
        configure: |stage| archive(stage, "333333333333"),
    },
];

pub const ARCHIVE: &str = "our-archive";

/// Copies go to a bucket of our own, and all that is printed is installed, but one action.
pub fn archive_without(stage: &mut Stage, action: &str) {
    archive_with(stage, &[], action);
}

/// The same, with further options of the destination.
pub fn archive_with(stage: &mut Stage, options: &[(&'static str, &str)], action: &str) {
    archive(stage, B);
    options.iter().for_each(|(option, toml)| stage.put(option, toml));
    let source = stage.config().sources.remove("prod").expect("a source");
    let mut documents = installation(&source, &Principal::parse(USER).expect("a caller")).documents;
    for document in documents.iter_mut().filter(|document| document.attachment == Attachment::Caller) {
        let statements = document.policy["Statement"].as_array().expect("statements").len();
        (0..statements).rev().for_each(|number| remove(&mut document.policy, number, action));
    }
    install(stage, &documents);
}

/// Copies go to a bucket of this account.
fn archive(stage: &mut Stage, owner: &str) {
    stage.world.add_bucket(BucketSpec::new(ARCHIVE, owner, REGION));
    stage.world.add_role(B, "Archive", RoleSpec::default());
    stage.drop_all("destination.");
    let endpoint = stage.aws.endpoint();
    for (option, value) in [
        ("destination.bucket", ARCHIVE),
        ("destination.prefix", "trails"),
        ("destination.region", REGION),
        ("destination.bucket_owner", owner),
        ("destination.endpoints.s3", &endpoint),
        ("destination.endpoints.sts", &endpoint),
    ] {
        stage.set(option, value);
    }
    stage.put("destination.endpoints.path_style", "true");
    let (id, key) = (stage.path("id").display().to_string(), stage.path("key").display().to_string());
    stage.set("destination.credentials.access_key_id_file", &id);
    stage.set("destination.credentials.secret_access_key_file", &key);
}

fn encrypt(stage: &mut Stage, key: &str) {
    stage.put("kms_keys", &format!("[{key:?}]"));
    stage.world.put_object(BUCKET, LOG, log().kms(key));
    stage.world.put_object(BUCKET, DIGEST, digest().kms(key));
}

async fn shared(sharing: &Sharing) -> (Stage, Source, Vec<Document>) {
    let mut stage = Stage::new().await;
    (sharing.configure)(&mut stage);
    let source = stage.config().sources.remove("prod").expect("a source");
    let caller = Principal::parse(USER).expect("a caller");
    let documents = installation(&source, &caller).documents;
    (stage, source, documents)
}

/// Each document where it belongs; what has none allows nothing.
fn install(stage: &Stage, documents: &[Document]) {
    let of = |attachment| documents.iter().find(move |document| document.attachment == attachment);
    let nothing = json!({ "Version": "2012-10-17", "Statement": [] });
    let policy = |attachment| of(attachment).map_or(&nothing, |document| &document.policy).clone();
    stage.trust(policy(Attachment::RoleTrust));
    stage.allow(policy(Attachment::RoleAccess));
    assert!(stage.world.set_user_policy(USER, policy(Attachment::Caller)));
    stage.world.set_bucket_policy(BUCKET, of(Attachment::BucketPolicy).map(|document| document.policy.clone()));
    let archive = format!("arn:aws:iam::{B}:role/Archive");
    if stage.world.set_role_trust(&archive, policy(Attachment::ArchiveTrust)) {
        assert!(stage.world.set_role_policy(&archive, policy(Attachment::ArchiveAccess)));
        stage.world.set_bucket_policy(ARCHIVE, of(Attachment::ArchiveBucket).map(|document| document.policy.clone()));
    }
    for key in documents.iter().filter(|document| document.attachment == Attachment::KeyPolicy) {
        stage.world.set_key_policy(&key.target, key.policy.clone());
    }
}

/// The same documents without one action of one of them, for each that there is.
fn each_action_less(documents: &[Document]) -> Vec<(String, String, Attachment, Vec<Document>)> {
    let mut all = Vec::new();
    for (at, document) in documents.iter().enumerate() {
        let statements = document.policy["Statement"].as_array().expect("statements");
        let grants = |statement: &Value| statement["Effect"] == "Allow";
        for (number, statement) in statements.iter().enumerate().filter(|(_, statement)| grants(statement)) {
            for action in actions(statement) {
                let mut fewer = documents.to_vec();
                remove(&mut fewer[at].policy, number, &action);
                let sid = statement["Sid"].as_str().expect("a name").to_owned();
                all.push((action, sid, document.attachment, fewer));
            }
        }
    }
    all
}

fn actions(statement: &Value) -> Vec<String> {
    match &statement["Action"] {
        Value::Array(many) => many.iter().map(|action| action.as_str().expect("text").to_owned()).collect(),
        one => vec![one.as_str().expect("text").to_owned()],
    }
}

fn remove(policy: &mut Value, statement: usize, action: &str) {
    let statements = policy["Statement"].as_array_mut().expect("statements");
    let mut left = actions(&statements[statement]);
    left.retain(|one| one != action);
    if left.is_empty() {
        statements.remove(statement);
    } else {
        statements[statement]["Action"] = json!(left);
    }
}

fn expected_hop(action: &str, sid: &str) -> &'static str {
    if sid.starts_with("TrailsyncArchive") {
        return "destination";
    }
    match action {
        "sts:AssumeRole" | "sts:TagSession" | "sts:SetSourceIdentity" => "assume-role",
        "s3:GetBucketLocation" => "bucket",
        "s3:ListBucket" => "list",
        "s3:GetObject" => "get",
        "s3:DeleteObject" => "delete",
        "kms:Decrypt" => "kms",
        "cloudtrail:ListPublicKeys" => "public-keys",
        other => panic!("nobody needs {other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_exactly_what_is_printed_every_hop_passes_and_a_mirror_is_made() {
    for sharing in &SHARINGS {
        let (stage, _, documents) = shared(sharing).await;
        install(&stage, &documents);
        let (text, exit) = stage.text().await;
        assert_eq!(exit, Exit::Done, "{}:\n{text}", sharing.name);
        assert!(!text.contains("WARNING"), "{}:\n{text}", sharing.name);
        let options = sync::Options { sources: vec![], full: false, quiet: true };
        let mut out = Vec::new();
        let stop = CancellationToken::new();
        let exit = sync(&stage.config(), &options, &stage.process(), stop, &mut out).await.expect("mirrored");
        let said = String::from_utf8_lossy(&out).into_owned();
        assert_eq!(exit, Exit::Done, "{}: {said}", sharing.name);
        assert!(said.starts_with("2 objects"), "{}: {said}", sharing.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_one_action_the_hop_that_needs_it_fails_and_names_it() {
    let mut tried = 0;
    for sharing in &SHARINGS {
        let (stage, _, documents) = shared(sharing).await;
        for (action, sid, attachment, fewer) in each_action_less(&documents) {
            install(&stage, &fewer);
            let found = stage.json().await;
            let found = &found["sources"][0];
            let story = format!("{}: {action} of {}", sharing.name, attachment.word());
            assert_eq!(found["failed_at"], expected_hop(&action, &sid), "{story}: {found:#}");
            let hops = found["hops"].as_array().expect("hops");
            let failed = hops.iter().find(|hop| hop["state"] == "failed").expect("one that failed");
            assert_eq!(failed["permission"]["action"], action, "{story}: {failed:#}");
            // What is named is in what is printed, and it is what was taken away.
            let named = |line: &Value| {
                let document = documents.iter().find(|document| line["attachment"] == document.attachment.word())?;
                let statements = document.policy["Statement"].as_array()?;
                statements
                    .iter()
                    .find(|statement| statement["Sid"] == line["sid"])
                    .map(|s| (document.attachment, s.clone()))
            };
            let lines: Vec<_> = failed["policy"].as_array().expect("lines").iter().filter_map(named).collect();
            let mends = lines.iter().any(|(of, statement)| *of == attachment && actions(statement).contains(&action));
            assert!(mends, "{story}: {failed:#}");
            tried += 1;
        }
    }
    assert!(tried >= 50, "{tried}");
}

#[test]
fn what_deletes_is_printed_only_where_it_is_configured_and_only_by_tag() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    for sharing in &SHARINGS {
        let (stage, source, documents) = runtime.block_on(shared(sharing));
        let session = trailsync::policy::session_policy(&source).json;
        let printed: Vec<Value> = documents.iter().map(|document| document.policy.clone()).collect();
        for document in printed.iter().chain([&serde_json::from_str(&session).expect("JSON")]) {
            let statements = document["Statement"].as_array().expect("statements");
            for statement in statements.iter().filter(|one| actions(one).contains(&"s3:DeleteObject".to_owned())) {
                assert!(stage.deletes, "{}: {statement}", sharing.name);
                assert_eq!(statement["Condition"], json!({ "Null": { "s3:if-match": "false" } }), "{}", sharing.name);
            }
        }
        let everything = format!("{session}{}", json!(printed));
        assert_eq!(everything.contains("s3:Delete"), stage.deletes, "{}", sharing.name);
        assert_eq!(session.contains("s3:DeleteObject"), stage.deletes, "{}", sharing.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn buckets_are_listed_when_the_role_may_and_named_as_not_needed_when_not() {
    let stage = Stage::new().await;
    stage.world.add_bucket(BucketSpec::new("other-logs", A, REGION));
    let options = || trailsync::cli::check::Options { sources: vec![], json: false, list_buckets: true };
    let (text, exit) = stage.check(options()).await;
    assert_eq!(exit, Exit::Incomplete, "{text}");
    assert!(text.contains("s3:ListAllMyBuckets on *") && text.contains("does not need"), "{text}");
    stage.allow(fakeaws::policies::with(
        &fakeaws::policies::read_own_logs(BUCKET, "", "222222222222"),
        json!({"Effect": "Allow", "Action": "s3:ListAllMyBuckets", "Resource": "*"}),
    ));
    let (text, exit) = stage.check(options()).await;
    assert_eq!(exit, Exit::Done, "{text}");
    assert!(text.contains("prod: 2 buckets") && text.contains("other-logs") && text.contains(REGION), "{text}");
}

#[test]
fn a_new_external_id_has_128_random_bits_that_sts_takes() {
    let mut out = Vec::new();
    let bits = |bits: &mut [u8; 16]| {
        bits.copy_from_slice(&[0xab; 16]);
        Ok(())
    };
    trailsync::cli::policy::new_external_id(bits, &mut out as &mut dyn Write).expect("printed");
    let text = String::from_utf8(out).expect("text");
    assert_eq!(text, "ab".repeat(16) + "\n");
    assert!(trailsync::config::shape::external_id(text.trim()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_of_the_archive_lets_nobody_write_over_a_copy_not_even_an_administrator() {
    let sharing = SHARINGS.iter().find(|sharing| sharing.name.starts_with("copies in")).expect("one");
    let (stage, _, documents) = shared(sharing).await;
    install(&stage, &documents);
    let everything =
        json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]});
    let admin = stage.world.add_user(B, "admin", everything);
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(aws_sdk_s3::config::BehaviorVersion::latest())
        .region(aws_sdk_s3::config::Region::new(REGION))
        .credentials_provider(aws_sdk_s3::config::Credentials::new(&admin.id, &admin.secret, None, None, "test"))
        .endpoint_url(stage.aws.endpoint())
        .force_path_style(true)
        .build();
    let client = aws_sdk_s3::Client::from_conf(config);
    let put = |key: &'static str, condition: Option<&'static str>| {
        let client = client.clone();
        async move {
            let put = client.put_object().bucket(ARCHIVE).key(key).set_if_none_match(condition.map(str::to_owned));
            let sent = put.body(b"x".to_vec().into()).send().await;
            sent.map(drop).map_err(|error| error.into_service_error().meta().code().unwrap_or_default().to_owned())
        }
    };
    for key in ["trails/AWSLogs/a.json.gz", "trails/.trailsync/versions/0123456789abcdef/AWSLogs/a.json.gz"] {
        assert_eq!(put(key, Some("*")).await, Ok(()), "{key}");
        assert_eq!(put(key, None).await, Err("AccessDenied".to_owned()), "{key}");
        assert_eq!(put(key, Some("*")).await, Err("PreconditionFailed".to_owned()), "{key}");
    }
    assert_eq!(put("trails/.trailsync/keys/eu-west-1.json", None).await, Ok(()), "our own small files are replaced");
}
