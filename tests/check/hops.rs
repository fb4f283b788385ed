//! A table of what can be wrong, and the text that people see, in `expected.txt`.
//!
//! `TRAILSYNC_REWRITE=1` writes the file anew; look at the difference before you keep it.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use fakeaws::{BucketSpec, Fault, ObjectSpec, Op, RoleSpec, policies};
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use trailsync::cli::Exit;
use trailsync::config::Role;
use trailsync::role::{AssumeRequest, AwsSts, Sts as _};

use crate::policies::{archive_with, archive_without};
use crate::stage::{B, BUCKET, DIGEST, KEY, LOG, REGION, Stage, USER, deserted, digest, gzip, log, log_of_a_read};

type Making = Pin<Box<dyn Future<Output = Stage>>>;

/// What is wrong, what is said to be, and how the command ends.
struct Case {
    name: &'static str,
    /// `FAILED` or `WARNING` and the hop's title; empty where all is well.
    verdict: &'static str,
    exit: Exit,
    make: fn(Stage) -> Making,
}

macro_rules! case {
    ($name:literal, $verdict:literal, $exit:ident, |$stage:ident| $body:block) => {
        Case {
            name: $name,
            verdict: $verdict,
            exit: Exit::$exit,
            make: |mut stage: Stage| {
                Box::pin(async move {
                    let $stage = &mut stage;
                    let _ = &$stage;
                    $body
                    stage
                })
            },
        }
    };
}

fn cases() -> Vec<Case> {
    [base(), assuming(), bucket(), listing(), reading(), ours(), archived(), deleting()].into_iter().flatten().collect()
}

/// A role that may delete B's own logs, by their tags.
fn deleter() -> serde_json::Value {
    let objects = format!("arn:aws:s3:::{BUCKET}/AWSLogs/{B}/*");
    let condition = json!({ "Null": { "s3:if-match": "false" } });
    policies::with(
        &policies::read_own_logs(BUCKET, "", B),
        json!({ "Effect": "Allow", "Action": "s3:DeleteObject", "Resource": objects, "Condition": condition }),
    )
}

fn deleting() -> Vec<Case> {
    vec![
        case!("logs are to be deleted, and may be", "", Done, |stage| {
            stage.deletes = true;
            stage.allow(deleter());
        }),
        case!("logs are to be deleted, and nothing may be", "FAILED delete", Incomplete, |stage| {
            stage.deletes = true;
        }),
        case!("logs are to be deleted by a role that sees what is missing", "", Done, |stage| {
            stage.deletes = true;
            let policy = json!({ "Version": "2012-10-17", "Statement": [
                { "Effect": "Allow", "Action": ["s3:ListBucket", "s3:GetBucketLocation"], "Resource": format!("arn:aws:s3:::{BUCKET}") },
                { "Effect": "Allow", "Action": ["s3:GetObject", "s3:DeleteObject"], "Resource": format!("arn:aws:s3:::{BUCKET}/*") },
            ]});
            stage.allow(policy);
            stage.put("accounts", "[]");
            stage.put("role.session_policy", "false");
            stage.set("role.external_id", "Z-1");
            stage.trust(policies::trust_with_external_id(B, "Z-1"));
        }),
        case!("logs are to be deleted where no notice is taken of tags", "FAILED delete", Incomplete, |stage| {
            stage.deletes = true;
            stage.allow(deleter());
            stage.world.faults().inject(Fault::IgnoresConditions).on(Op::DeleteObject).always();
        }),
        case!("logs are to be deleted, and the service is out of order", "FAILED delete", Unreachable, |stage| {
            stage.deletes = true;
            stage.world.faults().inject(Fault::ServiceUnavailable).on(Op::DeleteObject).always();
        }),
    ]
}

fn base() -> Vec<Case> {
    vec![
        case!("everything is as it should be", "", Done, |stage| {}),
        case!("the file of the access key is empty", "FAILED base credentials", Incomplete, |stage| {
            stage.write("id", "");
        }),
        case!("the access key was deactivated", "FAILED base credentials", Incomplete, |stage| {
            stage.world.disable_key(&stage.user.id);
        }),
        case!("the secret key belongs to another access key", "FAILED base credentials", Incomplete, |stage| {
            stage.write("key", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY");
        }),
        case!("the base credentials have expired", "FAILED base credentials", Incomplete, |stage| {
            stage.world.faults().inject(Fault::ExpiredToken).on(Op::GetCallerIdentity).always();
        }),
        case!("the caller is the root user", "FAILED base credentials", Incomplete, |stage| {
            let root = stage.world.add_root_key(B);
            stage.write("id", &root.id);
            stage.write("key", &root.secret);
        }),
        case!("the caller is a session and asks for two hours", "WARNING base credentials", Done, |stage| {
            chained(stage).await;
            let path = stage.path("token").display().to_string();
            stage.set("credentials.session_token_file", &path);
            stage.set("role.duration", "2h");
        }),
        case!("nothing answers where STS should be", "FAILED base credentials", Unreachable, |stage| {
            stage.set("endpoints.sts", &deserted());
        }),
        case!("somebody else's certificate is shown", "FAILED base credentials", Incomplete, |stage| {
            let endpoint = untrusted().await;
            stage.set("endpoints.sts", &endpoint);
            stage.set("endpoints.ca_bundle", &certificate("authority.pem"));
        }),
        case!("STS asks for less", "FAILED base credentials", Unreachable, |stage| {
            stage.world.faults().inject(Fault::StsThrottling).on(Op::GetCallerIdentity).always();
        }),
        case!("our clock is 20 minutes behind", "FAILED clock", Incomplete, |stage| {
            stage.world.clock().advance(Duration::from_secs(20 * 60));
        }),
        case!("our clock is 20 minutes ahead", "FAILED clock", Incomplete, |stage| {
            let now = stage.world.clock().now();
            stage.world.clock().set(now - jiff::SignedDuration::from_mins(20));
        }),
        case!("our clock is 10 minutes behind", "WARNING clock", Done, |stage| {
            stage.world.clock().advance(Duration::from_secs(10 * 60));
        }),
    ]
}

fn assuming() -> Vec<Case> {
    vec![
        case!("the external ID is wrong", "FAILED assume role", Incomplete, |stage| {
            stage.trust(policies::trust_with_external_id(B, "Z-1"));
            stage.set("role.external_id", "Z-2");
        }),
        case!("the external ID is not configured", "FAILED assume role", Incomplete, |stage| {
            stage.trust(policies::trust_with_external_id(B, "Z-1"));
        }),
        case!("the external ID is right", "", Done, |stage| {
            stage.trust(policies::trust_with_external_id(B, "Z-1"));
            stage.set("role.external_id", "Z-1");
        }),
        case!("the external ID is not asked for", "WARNING external ID", Done, |stage| {
            stage.set("role.external_id", "Z-1");
        }),
        case!("the role is gone", "FAILED assume role", Incomplete, |stage| {
            stage.world.remove_role(&stage.role);
        }),
        case!("the role is written in another case", "FAILED assume role", Incomplete, |stage| {
            let arn = stage.role.replace("ReadB", "readb");
            stage.set("role.arn", &arn);
        }),
        case!("the trust policy names another account", "FAILED assume role", Incomplete, |stage| {
            stage.trust(policies::trust_account_root("999999999999"));
        }),
        case!("the trust policy names another user", "FAILED assume role", Incomplete, |stage| {
            stage.trust(policies::trust_user("arn:aws:iam::222222222222:user/other"));
        }),
        case!("the caller is not allowed to assume", "FAILED assume role", Incomplete, |stage| {
            assert!(stage.world.set_user_policy(USER, policies::nothing()));
        }),
        case!("the caller is denied to assume", "FAILED assume role", Incomplete, |stage| {
            let deny = json!({"Effect": "Deny", "Action": "sts:*", "Resource": "*"});
            let policy = policies::with(&policies::assume_role(&stage.role), deny);
            assert!(stage.world.set_user_policy(USER, policy));
        }),
        case!("session tags are not allowed", "FAILED assume role", Incomplete, |stage| {
            stage.put("role.tags", "{ Team = \"audit\" }");
        }),
        case!("a source identity is not allowed", "FAILED assume role", Incomplete, |stage| {
            stage.set("role.source_identity", "log-archive");
        }),
        case!("the session is longer than the role allows", "FAILED assume role", Incomplete, |stage| {
            stage.set("role.duration", "2h");
        }),
        case!("STS is not active in the region", "FAILED assume role", Incomplete, |stage| {
            stage.world.faults().inject(Fault::RegionDisabled).on(Op::AssumeRole).always();
        }),
        case!("STS is down after it said who we are", "FAILED assume role", Unreachable, |stage| {
            stage.world.faults().inject(Fault::StsUnavailable).on(Op::AssumeRole).always();
        }),
    ]
}

fn bucket() -> Vec<Case> {
    vec![
        case!("there is no such bucket", "FAILED bucket", Incomplete, |stage| {
            stage.set("bucket", "trail-logs-old");
        }),
        case!("the bucket is in another region", "FAILED bucket", Incomplete, |stage| {
            stage.set("region", "eu-central-1");
        }),
        case!("the bucket is in another region, as the first region knows", "FAILED bucket", Incomplete, |stage| {
            stage.set("region", "us-east-1");
        }),
        case!("the bucket is somebody else's", "FAILED bucket", Incomplete, |stage| {
            stage.set("bucket_owner", "444444444444");
        }),
        case!("the role may not ask where the bucket is", "FAILED bucket", Incomplete, |stage| {
            stage.allow(without("s3:GetBucketLocation"));
        }),
        case!("nothing answers where S3 should be", "FAILED bucket", Unreachable, |stage| {
            stage.set("endpoints.s3", &deserted());
        }),
        case!("somebody else's certificate is shown where S3 should be", "FAILED bucket", Incomplete, |stage| {
            let endpoint = untrusted().await;
            stage.set("endpoints.s3", &endpoint);
            stage.set("endpoints.ca_bundle", &certificate("authority.pem"));
        }),
        case!("S3 asks for less", "FAILED bucket", Unreachable, |stage| {
            stage.world.faults().inject(Fault::SlowDown).on(Op::GetBucketLocation).always();
        }),
        case!("the session is refused before its end", "FAILED bucket", Incomplete, |stage| {
            stage.world.faults().inject(Fault::ExpiredToken).on(Op::GetBucketLocation).always();
        }),
    ]
}

fn listing() -> Vec<Case> {
    vec![
        case!("the role may not list", "FAILED list", Incomplete, |stage| {
            stage.allow(without("s3:ListBucket"));
        }),
        case!("the role may list under another prefix", "FAILED list", Incomplete, |stage| {
            stage.allow(policies::read_own_logs(BUCKET, "audit", B));
        }),
        case!("the prefix is wrong, and the role may list everything", "FAILED list", Incomplete, |stage| {
            stage.allow(policies::read_all(BUCKET));
            stage.set("prefix", "audit");
            stage.put("accounts", "[]");
        }),
        case!("the logs are under a prefix that is not configured", "FAILED list", Incomplete, |stage| {
            stage.allow(policies::read_all(BUCKET));
            stage.put("accounts", "[]");
            for key in [LOG, DIGEST] {
                stage.world.delete_object(BUCKET, key);
                stage.world.put_object(BUCKET, &format!("audit/{key}"), log());
            }
        }),
        case!("the logs are an organization's, which is not configured", "FAILED list", Incomplete, |stage| {
            stage.allow(policies::read_all(BUCKET));
            for key in [LOG, DIGEST] {
                stage.world.delete_object(BUCKET, key);
                stage.world.put_object(BUCKET, &key.replace("AWSLogs/", "AWSLogs/o-abcdefghij/"), log());
            }
        }),
        case!("the trail has not written anything", "FAILED list", Incomplete, |stage| {
            for key in [LOG, DIGEST] {
                stage.world.delete_object(BUCKET, key);
            }
        }),
        case!("accounts are discovered through a role for one", "FAILED list", Incomplete, |stage| {
            stage.put("accounts", "[]");
        }),
        case!("the role lists everybody's keys, as AWS's example does", "WARNING others' logs", Done, |stage| {
            stage.allow(policies::read_own_logs_as_documented(BUCKET, "", B));
            let other = LOG.replace(B, "333333333333");
            stage.world.put_object(BUCKET, &other, log());
        }),
    ]
}

fn reading() -> Vec<Case> {
    vec![
        case!("the role may not read objects", "FAILED get", Incomplete, |stage| {
            stage.allow(without("s3:GetObject"));
        }),
        case!("the newest log is archived", "FAILED get", Incomplete, |stage| {
            stage.world.put_object(BUCKET, LOG, log().storage_class("GLACIER"));
        }),
        case!("the body breaks off", "FAILED get", Unreachable, |stage| {
            stage.world.faults().inject(Fault::ShortBody { by: 5 }).on(Op::GetObject).always();
        }),
        case!("there are no digests", "WARNING get", Done, |stage| {
            stage.world.delete_object(BUCKET, DIGEST);
        }),
        case!("the key does not serve the role", "FAILED KMS", Incomplete, |stage| {
            stage.world.put_object(BUCKET, LOG, log().kms(KEY));
            stage.world.put_object(BUCKET, DIGEST, digest().kms(KEY));
            stage.set_keys(&[KEY]);
        }),
        case!(
            "the key does not serve the role, and nobody says that it is the key",
            "FAILED KMS",
            Incomplete,
            |stage| {
                stage
                    .world
                    .faults()
                    .inject(Fault::KmsDenied)
                    .on(Op::GetObject)
                    .on(Op::HeadObject)
                    .key_contains("/CloudTrail/")
                    .always();
            }
        ),
        case!("nothing can be read, and nobody says why", "FAILED get", Incomplete, |stage| {
            stage.world.faults().inject(Fault::KmsDenied).on(Op::GetObject).on(Op::HeadObject).always();
        }),
        case!("the key serves the role", "", Done, |stage| {
            stage.world.put_object(BUCKET, LOG, log().kms(KEY));
            stage.world.set_key_policy(
                KEY,
                json!({"Statement": {
                "Effect": "Allow", "Principal": {"AWS": stage.role}, "Action": "kms:Decrypt", "Resource": "*"}}),
            );
        }),
        case!("the newest log is no gzip file", "WARNING content", Done, |stage| {
            stage.world.put_object(BUCKET, LOG, ObjectSpec::log("not compressed"));
        }),
        case!("the newest log is no JSON", "WARNING content", Done, |stage| {
            stage.world.put_object(BUCKET, LOG, ObjectSpec::log(gzip("{\"Records\":[")));
        }),
        case!("the newest digest is something else", "WARNING content", Done, |stage| {
            stage.world.put_object(BUCKET, DIGEST, ObjectSpec::log(gzip("{\"digestS3Object\":\"k\"}")));
        }),
        case!("the trail logs our own reads", "WARNING feedback loop", Done, |stage| {
            let ours = "arn:aws:sts::111111111111:assumed-role/ReadB/trailsync";
            stage.world.put_object(BUCKET, LOG, ObjectSpec::log(log_of_a_read(BUCKET, ours)));
        }),
    ]
}

fn ours() -> Vec<Case> {
    vec![
        case!("the caller may not ask for public keys", "FAILED public keys", Incomplete, |stage| {
            assert!(stage.world.set_user_policy(USER, policies::assume_role(&stage.role)));
        }),
        case!("nothing answers where CloudTrail should be", "FAILED public keys", Unreachable, |stage| {
            stage.set("endpoints.cloudtrail", &deserted());
        }),
        case!("the region has no public keys", "WARNING public keys", Done, |stage| {
            stage.world.remove_public_keys(REGION);
        }),
        case!("the destination is in memory", "FAILED destination", State, |stage| {
            stage.set("destination.path", "/dev/shm/trailsync-check-test");
            stage.put("destination.allow_volatile", "false");
        }),
        case!("the destination is a file", "FAILED destination", State, |stage| {
            let path = stage.path("id").display().to_string();
            stage.set("destination.path", &path);
        }),
        case!("the destination has less room than is reserved", "FAILED destination", State, |stage| {
            stage.put("destination.reserve_mib", "1000000000");
        }),
        case!("the destination's group is unknown", "FAILED destination", State, |stage| {
            stage.set("destination.group", "no-such-group");
        }),
        case!("the destination is not there yet", "", Done, |stage| {
            let path = stage.path("new/tree").display().to_string();
            stage.set("destination.path", &path);
        }),
        case!("there is no role, and the bucket's policy is missing", "FAILED bucket", Incomplete, |stage| {
            stage.drop_all("role.");
            stage.set("bucket_owner", "111111111111");
            let bucket = BucketSpec::new(BUCKET, "111111111111", REGION);
            stage.world.add_bucket(bucket);
            assert!(stage.world.set_user_policy(USER, policies::read_all(BUCKET)));
        }),
    ]
}

/// Copies go to a bucket of our own.
fn archived() -> Vec<Case> {
    vec![
        case!("copies go to a bucket of our own", "", Done, |stage| {
            archive_without(stage, "");
        }),
        case!("the bucket for copies is not there", "FAILED destination", State, |stage| {
            archive_without(stage, "");
            stage.set("destination.bucket", "our-archive-old");
        }),
        case!("the bucket for copies is somebody else's", "FAILED destination", State, |stage| {
            archive_without(stage, "");
            stage.set("destination.bucket_owner", "444444444444");
        }),
        case!("the bucket for copies is in another region", "FAILED destination", State, |stage| {
            archive_without(stage, "");
            stage.set("destination.region", "eu-central-1");
        }),
        case!("nothing may be written to the bucket for copies", "FAILED destination", State, |stage| {
            archive_without(stage, "s3:PutObject");
        }),
        case!("what is in the bucket for copies may not be read", "FAILED destination", State, |stage| {
            archive_without(stage, "s3:GetObject");
        }),
        case!("uploads to the bucket for copies may not be given up", "FAILED destination", State, |stage| {
            archive_without(stage, "s3:AbortMultipartUpload");
        }),
        case!("copies are to be locked, and the bucket has no Object Lock", "FAILED destination", State, |stage| {
            let lock = "{ mode = \"COMPLIANCE\", days = 365 }";
            archive_with(stage, &[("destination.object_lock", lock)], "");
        }),
        case!("the bucket for copies takes no notice of conditions", "FAILED destination", State, |stage| {
            archive_without(stage, "");
            stage.world.faults().inject(Fault::IgnoresConditions).on(Op::PutObject).always();
        }),
        case!("nothing answers where the bucket for copies should be", "FAILED destination", State, |stage| {
            archive_without(stage, "");
            stage.set("destination.endpoints.s3", &deserted());
        }),
    ]
}

impl Stage {
    fn set_keys(&mut self, keys: &[&str]) {
        self.put("kms_keys", &format!("{keys:?}"));
    }
}

/// The role's access without one action.
fn without(action: &str) -> serde_json::Value {
    let mut policy = policies::read_own_logs(BUCKET, "", B);
    let statements = policy["Statement"].as_array_mut().expect("statements");
    statements.retain(|statement| !statement["Action"].to_string().contains(action));
    policy
}

/// The base credentials become those of a session of B's own role.
async fn chained(stage: &Stage) {
    let spec = RoleSpec {
        trust: policies::trust_user(USER),
        policy: policies::assume_role_and_list_public_keys(&stage.role),
        ..RoleSpec::default()
    };
    let base = stage.world.add_role(B, "Base", spec);
    let source = stage.config().sources.remove("prod").expect("a source");
    let role = Role { arn: base, session_name: "instance".into(), ..source.role.clone().expect("a role") };
    let http = stage.process().http.get(&source.endpoints).expect("a client");
    let base = aws_credential_types::Credentials::new(&stage.user.id, &stage.user.secret, None, None, "test");
    let request = AssumeRequest { role: &role, base: &base, duration: Duration::from_secs(3600), policy: None };
    let session = AwsSts::new(&source, http).assume(request).await.expect("a session").credentials;
    stage.write("id", session.access_key_id());
    stage.write("key", session.secret_access_key());
    stage.write("token", session.session_token().expect("a token"));
}

fn certificate(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/source/tls").join(name).display().to_string()
}

/// A server with a certificate of an authority that nobody here trusts.
async fn untrusted() -> String {
    let chain =
        CertificateDer::pem_file_iter(certificate("other.pem")).unwrap().collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(certificate("server.key")).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            if let Ok(mut socket) = acceptor.accept(socket).await {
                let _ = socket.read(&mut [0; 8192]).await;
            }
        }
    });
    format!("https://127.0.0.1:{port}")
}

/// One case's text as it is kept, with what changes from run to run taken out.
async fn said(case: &Case, wrong: &mut Vec<String>) -> String {
    let stage = (case.make)(Stage::new().await).await;
    let (text, exit) = stage.text().await;
    let text = stage.steady(&text);
    let verdicts: Vec<String> = text.lines().filter_map(verdict).collect();
    let expected: Vec<&str> = (!case.verdict.is_empty()).then_some(case.verdict).into_iter().collect();
    if verdicts != expected || exit != case.exit {
        wrong.push(format!("{}: expected {expected:?} and {:?}, found {exit:?} and\n{text}", case.name, case.exit));
    }
    // Ports that nobody listens on are never the same.
    let ports = text.split("127.0.0.1:").enumerate().map(|(at, part)| match at {
        0 => part.to_owned(),
        _ => format!("127.0.0.1:PORT{}", part.trim_start_matches(|c: char| c.is_ascii_digit())),
    });
    ports.collect()
}

/// `FAILED` or `WARNING`, and the hop.
fn verdict(line: &str) -> Option<String> {
    let (state, rest) = line.trim_start().split_once(' ')?;
    let hop = rest.trim_start().split("  ").next()?;
    matches!(state, "FAILED" | "WARNING").then(|| format!("{state} {hop}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_hop_that_can_fail_is_named_in_the_words_that_are_kept() {
    let cases = cases();
    assert!(cases.len() >= 30, "{}", cases.len());
    let (mut found, mut wrong) = (String::new(), Vec::new());
    for case in &cases {
        found += &format!("=== {} ===\n{}\n", case.name, said(case, &mut wrong).await);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    is_as_kept("expected.txt", &found);
}

/// Sees that texts are those that are kept under this name.
pub fn is_as_kept(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/check").join(name);
    if std::env::var_os("TRAILSYNC_REWRITE").is_some() {
        std::fs::write(&path, found).expect("written");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    let (found, kept) = (sections(found), sections(&kept));
    assert_eq!(found.keys().collect::<Vec<_>>(), kept.keys().collect::<Vec<_>>(), "cases and kept texts");
    for (name, text) in &found {
        assert_eq!(text, &kept[name], "{name}: if this is right, run once with TRAILSYNC_REWRITE=1");
    }
}

fn sections(text: &str) -> BTreeMap<&str, &str> {
    text.split("=== ").skip(1).filter_map(|section| section.split_once(" ===\n")).collect()
}
