//! The keeper over aws-sdk-sts against a server.

use std::time::Duration;

use fakeaws::{Fault, Op, RoleSpec, policies};
use trailsync::config::Credentials;
use trailsync::error::{Class, Error};
use trailsync::role::Keeper;

use crate::account::{B, Shared};

async fn refused(shared: &Shared, role: &str) -> Error {
    shared.keeper(&shared.source(role, "")).ready().await.expect_err("no session")
}

#[tokio::test]
async fn a_role_is_assumed_as_configured() {
    let trust = policies::trust_with_external_id(B, "id-of-b");
    let max_session_seconds = 7200;
    let spec = RoleSpec { trust, policy: policies::read_all("trail-logs"), max_session_seconds, ..RoleSpec::default() };
    let shared = Shared::with(spec).await;
    let keeper = shared.keeper(&shared.source("external_id = \"id-of-b\"\nduration = \"2h\"\n", ""));
    let credentials = keeper.ready().await.unwrap();
    assert!(credentials.access_key_id().starts_with("ASIA") && credentials.session_token().is_some());
    let state = keeper.state();
    let lasts = state.expires.unwrap().duration_since(state.obtained.unwrap()).as_secs();
    assert!((7195..=7201).contains(&lasts), "{lasts} s");
    assert_eq!(state.caller_arn.as_deref(), Some("arn:aws:iam::222222222222:user/mirror"));
    assert_eq!(shared.world.counters().total(Op::GetCallerIdentity), 1);

    let error = refused(&shared, "external_id = \"id-of-c\"\n").await;
    assert_eq!((error.class(), error.code()), (Class::Stream, "AccessDenied"));
    let text = error.to_string();
    assert!(text.contains("AssumeRole of `arn:aws:iam::111111111111:role/logs/ReadB` failed"), "{text}");
    assert!(text.contains("equals the configured `external_id`") && text.contains("(request "), "{text}");
    assert!(!text.contains("id-of-c"), "{text}");
}

#[tokio::test]
async fn a_duration_above_the_roles_own_maximum_is_explained() {
    let shared = Shared::own_logs().await;
    let error = refused(&shared, "duration = \"12h\"\n").await;
    assert_eq!((error.class(), error.code()), (Class::Stream, "ValidationError"));
    assert!(error.to_string().contains("`duration`"), "{error}");
}

#[tokio::test]
async fn the_root_user_is_refused_before_it_tries() {
    let mut shared = Shared::own_logs().await;
    shared.user = shared.world.add_root_key(B);
    let error = refused(&shared, "").await;
    assert_eq!((error.class(), error.code()), (Class::Stream, "RootCaller"));
    assert_eq!(shared.world.counters().total(Op::AssumeRole), 0);
}

#[tokio::test]
async fn wrong_base_credentials_are_told_apart() {
    let mut shared = Shared::own_logs().await;
    let secret = std::mem::replace(&mut shared.user.secret, "wrong".to_owned());
    let error = refused(&shared, "").await;
    assert_eq!(error.code(), "SignatureDoesNotMatch");
    assert!(error.to_string().contains("secret access key does not belong"), "{error}");
    shared.user.secret = secret;
    shared.world.disable_key(&shared.user.id);
    let error = refused(&shared, "").await;
    assert_eq!(error.code(), "InvalidClientTokenId");
    assert!(error.to_string().contains("GetCallerIdentity of `base credentials`"), "{error}");
}

#[tokio::test]
async fn passing_failures_are_transient_and_a_region_without_sts_is_not() {
    let shared = Shared::own_logs().await;
    for (fault, class, code) in [
        (Fault::StsUnavailable, Class::Transient, "ServiceUnavailable"),
        (Fault::StsThrottling, Class::Transient, "Throttling"),
        (Fault::CloseBeforeHeaders, Class::Transient, "ConnectionFailed"),
        (Fault::AlreadyExpiredSession, Class::Transient, "AlreadyExpired"),
        (Fault::RegionDisabled, Class::Stream, "RegionDisabledException"),
    ] {
        shared.world.faults().clear();
        shared.world.faults().inject(fault).on(Op::AssumeRole).always();
        let error = refused(&shared, "").await;
        assert_eq!((error.class(), error.code()), (class, code), "{error}");
    }
    assert!(refused(&shared, "").await.to_string().contains("activate STS in eu-west-1 for account 111111111111"));
}

#[tokio::test]
async fn nothing_is_retried_by_the_sdk() {
    let shared = Shared::own_logs().await;
    shared.world.faults().inject(Fault::StsUnavailable).on(Op::AssumeRole).always();
    refused(&shared, "").await;
    assert_eq!(shared.world.counters().total(Op::AssumeRole), 1);
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_is_transient() {
    let shared = Shared::own_logs().await;
    let mut source = shared.source("", "");
    source.endpoints.sts = Some("http://127.0.0.1:9".to_owned());
    let error = shared.keeper(&source).ready().await.unwrap_err();
    assert_eq!((error.class(), error.code()), (Class::Transient, "ConnectionFailed"), "{error}");
    assert!(error.to_string().contains("STS at `http://127.0.0.1:9` does not answer: check"), "{error}");
}

#[tokio::test]
async fn a_service_that_hangs_is_given_up() {
    let shared = Shared::own_logs().await;
    shared.world.faults().inject(Fault::Delay { millis: 30_000 }).on(Op::AssumeRole).always();
    let began = std::time::Instant::now();
    let error = refused(&shared, "").await;
    assert_eq!((error.class(), error.code()), (Class::Transient, "Timeout"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[tokio::test]
async fn the_servers_clock_decides_how_long_a_session_lasts() {
    let shared = Shared::own_logs().await;
    shared.world.clock().advance(Duration::from_secs(3 * 3600));
    let keeper = shared.keeper(&shared.source("", ""));
    // The first request is signed at our time; its answer tells the SDK the server's.
    let error = keeper.ready().await.unwrap_err();
    assert_eq!(error.class(), Class::Transient, "{error}");
    assert!(error.to_string().contains("clock"), "{error}");
    tokio::time::sleep(Duration::from_secs(6)).await;
    keeper.ready().await.unwrap();
    let state = keeper.state();
    let renewed_in = state.next_renewal.unwrap().duration_since(state.obtained.unwrap()).as_secs();
    assert!((1795..=2705).contains(&renewed_in), "{renewed_in} s");
}

#[tokio::test]
async fn keys_in_files_are_read_again_for_each_session() {
    let mut shared = Shared::own_logs().await;
    let dir = tempfile::tempdir().unwrap();
    let (id, secret) = (dir.path().join("id"), dir.path().join("secret"));
    let write = |key: &fakeaws::AccessKey| {
        std::fs::write(&id, format!("{}\n", key.id)).unwrap();
        std::fs::write(&secret, format!("{}\n", key.secret)).unwrap();
    };
    let mut source = shared.source("", "");
    source.credentials =
        Credentials::Files { access_key_id: id.clone(), secret_access_key: secret.clone(), session_token: None };
    let missing = shared.keeper(&source).ready().await.unwrap_err();
    assert_eq!((missing.class(), missing.code()), (Class::Stream, "BadCredentials"));
    assert!(missing.to_string().contains("cannot be read"), "{missing}");
    write(&shared.user);
    let keeper = shared.keeper(&source);
    let first = keeper.ready().await.unwrap();
    shared.world.disable_key(&shared.user.id);
    shared.user = shared.world.add_user(B, "mirror2", policies::assume_role(&shared.role));
    write(&shared.user);
    assert!(keeper.refused(first.access_key_id(), "ExpiredToken").await.unwrap());
    assert!(keeper.state().caller_arn.unwrap().ends_with("user/mirror2"));
}

#[tokio::test]
async fn files_and_variables_without_a_key_are_named_but_never_shown() {
    let shared = Shared::own_logs().await;
    let dir = tempfile::tempdir().unwrap();
    let (id, secret) = (dir.path().join("id"), dir.path().join("secret"));
    std::fs::write(&id, "AKIA canary\nmore\n").unwrap();
    std::fs::write(&secret, "canary").unwrap();
    let mut source = shared.source("", "");
    source.credentials = Credentials::Files { access_key_id: id, secret_access_key: secret, session_token: None };
    let error = shared.keeper(&source).ready().await.unwrap_err().to_string();
    assert!(error.contains("holds more than one word") && !error.contains("canary"), "{error}");
    source.credentials = Credentials::Environment {
        access_key_id: "NOT_SET".to_owned(),
        secret_access_key: "B_SECRET".to_owned(),
        session_token: None,
    };
    let error = shared.keeper(&source).ready().await.unwrap_err().to_string();
    assert!(error.contains("`NOT_SET` is empty or missing"), "{error}");
}

#[tokio::test]
async fn the_environments_endpoint_does_not_count_and_is_refused_where_the_chain_would_obey_it() {
    let shared = Shared::own_logs().await;
    let mut process = shared.process();
    let mut environment = (*process.environment).clone();
    environment.insert("AWS_ENDPOINT_URL".to_owned(), "http://169.254.169.254".to_owned());
    process.environment = environment.into();
    let mut source = shared.source("", "");
    Keeper::connect(&source, &process, 1).unwrap().ready().await.unwrap();
    source.credentials = Credentials::Default;
    let error = Keeper::connect(&source, &process, 1).unwrap().ready().await.unwrap_err();
    assert_eq!(error.class(), Class::Stream);
    assert!(
        error.to_string().contains("`AWS_ENDPOINT_URL` is set") && error.to_string().contains("unset it"),
        "{error}"
    );
}

#[tokio::test]
async fn a_session_may_read_what_is_configured_and_nothing_else() {
    use fakeaws::ObjectSpec;
    use trailsync::source::{FetchRequest, ListRequest, Source as _};

    let shared = Shared::all_logs().await;
    let (own, other) = ("AWSLogs/222222222222/x.json.gz", "AWSLogs/333333333333/x.json.gz");
    for key in [own, other] {
        shared.world.put_object("trail-logs", key, ObjectSpec::bytes("x"));
    }
    let bucket = shared.bucket(&shared.source("", "accounts = [\"222222222222\"]"));
    let fetch = |key: &str| FetchRequest { key: key.to_owned(), if_match: None };
    let list = |prefix: &str| ListRequest { prefix: prefix.to_owned(), ..ListRequest::default() };
    bucket.fetch(&fetch(own)).await.map(drop).unwrap();
    bucket.list(&list("AWSLogs/222222222222/CloudTrail/")).await.unwrap();
    assert_eq!(bucket.fetch(&fetch(other)).await.map(drop).unwrap_err().code(), "AccessDenied");
    assert_eq!(bucket.list(&list("AWSLogs/333333333333/")).await.unwrap_err().code(), "AccessDenied");
    assert_eq!(bucket.list(&list("AWSLogs/")).await.unwrap_err().code(), "AccessDenied");

    let wide = shared.bucket(&shared.source("session_policy = false\n", "accounts = [\"222222222222\"]"));
    wide.fetch(&fetch(other)).await.map(drop).unwrap();
}
