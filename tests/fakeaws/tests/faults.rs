//! Every fault, as a client sees it.

mod support;

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use fakeaws::{AccessKey, BucketSpec, FakeAws, Fault, ObjectSpec, Op, RoleSpec, policies};
use support::{Answer, B, Call, OWNER, serve, session, world};

const BODY: &str = "0123456789";

async fn bucket() -> (FakeAws, AccessKey) {
    let world = world();
    world.add_bucket(BucketSpec::new("logs", OWNER, "us-east-1"));
    for key in ["a", "b", "c"] {
        world.put_object("logs", key, ObjectSpec::bytes(BODY));
    }
    let key = world.add_user(OWNER, "admin", policies::everything());
    (serve(&world).await, key)
}

fn get(aws: &FakeAws, key: &AccessKey) -> Answer {
    Call::new(aws, key, "GET", "/logs/a").send()
}

fn list(aws: &FakeAws, key: &AccessKey) -> Answer {
    Call::new(aws, key, "GET", "/logs?list-type=2").query("max-keys", "2").send()
}

#[tokio::test]
async fn bodies_break_in_the_ways_that_networks_break_them() {
    let (aws, key) = bucket().await;
    let next = |fault| {
        aws.world().faults().inject(fault).on(Op::GetObject).times(1);
        get(&aws, &key)
    };
    let reset = next(Fault::ResetMidBody { after: 4 });
    assert_eq!((reset.text().as_str(), reset.broken), ("0123", Some(ErrorKind::ConnectionReset)));
    let short = next(Fault::ShortBody { by: 3 });
    assert_eq!((short.text().as_str(), short.broken), ("0123456", Some(ErrorKind::UnexpectedEof)));
    assert_eq!(short.header("content-length"), Some("10"));
    let wrong = next(Fault::WrongLength { by: 3 });
    assert_eq!((wrong.text().as_str(), wrong.broken), ("0123456", None));
    assert_eq!(wrong.header("content-length"), Some("7"));
    let flipped = next(Fault::FlippedBit { at: 11 });
    assert_eq!((flipped.text().as_str(), flipped.broken), ("0023456789", None));
    let stalled = next(Fault::Stall { after: 2 });
    assert_eq!((stalled.text().as_str(), stalled.broken), ("01", Some(ErrorKind::WouldBlock)));
    let closed = next(Fault::CloseBeforeHeaders);
    assert_eq!((closed.status, closed.body.len()), (0, 0));
    assert_eq!(get(&aws, &key).text(), BODY);
}

#[tokio::test]
async fn errors_come_with_the_codes_of_the_service() {
    let (aws, key) = bucket().await;
    for (fault, status, code) in [
        (Fault::InternalError, 500, "InternalError"),
        (Fault::SlowDown, 503, "SlowDown"),
        (Fault::ServiceUnavailable, 503, "ServiceUnavailable"),
        (Fault::RequestTimeout, 400, "RequestTimeout"),
        (Fault::AccessDenied, 403, "AccessDenied"),
        (Fault::KmsDenied, 403, "AccessDenied"),
        (Fault::KmsDisabled, 400, "KMS.DisabledException"),
        (Fault::Refusal { status: 418, code: "Weird".into() }, 418, "Weird"),
        (Fault::InvalidObjectState, 403, "InvalidObjectState"),
        (Fault::NoSuchKey, 404, "NoSuchKey"),
        (Fault::PreconditionFailed, 412, "PreconditionFailed"),
        (Fault::ExpiredToken, 400, "ExpiredToken"),
        (Fault::InvalidToken, 400, "InvalidToken"),
    ] {
        aws.world().faults().inject(fault.clone()).on(Op::GetObject).times(1);
        let answer = get(&aws, &key);
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{fault:?}");
    }
    let to = "http://127.0.0.1:1/logs/a".to_owned();
    aws.world().faults().inject(Fault::Redirect307 { to: to.clone() }).times(1);
    let answer = get(&aws, &key);
    assert_eq!((answer.status, answer.header("location")), (307, Some(to.as_str())));
}

#[tokio::test]
async fn listings_lie_in_every_way_that_a_client_must_survive() {
    let (aws, key) = bucket().await;
    let faults = aws.world().faults();
    let truncated = |answer: &Answer| answer.element("IsTruncated").as_deref() == Some("true");
    let with_token = |token: &str| {
        Call::new(&aws, &key, "GET", "/logs?list-type=2")
            .query("max-keys", "2")
            .query("continuation-token", token)
            .send()
    };
    let token = list(&aws, &key).element("NextContinuationToken").expect("a token");
    faults.inject(Fault::ListTokenLoop).times(1);
    let looping = with_token(&token);
    assert_eq!(looping.element("NextContinuationToken"), Some(token.clone()));
    assert!(truncated(&looping));
    faults.inject(Fault::ListEmptyTruncated).times(1);
    let empty = with_token(&token);
    assert!(truncated(&empty) && empty.elements("Key").is_empty());
    // The empty page's successor is where the listing goes on.
    let next = empty.element("NextContinuationToken").expect("a token");
    assert_eq!(with_token(&next).elements("Key"), ["c"]);
    faults.inject(Fault::ListNoToken).times(1);
    let tokenless = list(&aws, &key);
    assert!(truncated(&tokenless) && tokenless.element("NextContinuationToken").is_none());
    faults.inject(Fault::ListDropsKey).times(1);
    assert_eq!(list(&aws, &key).elements("Key"), ["a"]);
    faults.inject(Fault::ListMalformedXml).times(1);
    assert!(!list(&aws, &key).text().contains("</ListBucketResult>"));
    faults.inject(Fault::ListGiantXml { bytes: 1 << 20 }).times(1);
    assert!(list(&aws, &key).body.len() > 1 << 20);
    assert_eq!(list(&aws, &key).elements("Key"), ["a", "b"]);
}

#[tokio::test]
async fn a_bucket_may_give_fewer_keys_than_were_asked_for() {
    let (aws, key) = bucket().await;
    aws.world().set_page_size(1);
    let page = list(&aws, &key);
    assert_eq!((page.elements("Key"), page.element("IsTruncated").as_deref()), (vec!["a".to_owned()], Some("true")));
    aws.world().set_page_size(1_000);
    assert_eq!(list(&aws, &key).elements("Key"), ["a", "b"]);
}

#[tokio::test]
async fn sts_fails_in_its_own_words() {
    let world = world();
    let spec = RoleSpec { trust: policies::trust_account_root(B), ..RoleSpec::default() };
    let role = world.add_role(OWNER, "Reader", spec);
    let key = world.add_user(B, "mirror", policies::assume_role(&role));
    let aws = serve(&world).await;
    let next = |fault| {
        world.faults().inject(fault).on(Op::AssumeRole).role(&role).times(1);
        Call::assume(&aws, &key, &role, &[]).send()
    };
    for (fault, status, code) in [
        (Fault::StsUnavailable, 503, "ServiceUnavailable"),
        (Fault::StsThrottling, 400, "Throttling"),
        (Fault::RegionDisabled, 403, "RegionDisabledException"),
        (Fault::ExpiredToken, 403, "ExpiredTokenException"),
    ] {
        let answer = next(fault);
        assert_eq!((answer.status, answer.code().as_str()), (status, code));
        assert!(answer.text().starts_with("<ErrorResponse xmlns="));
    }
    let short = next(Fault::ShortLivedSession { seconds: 5 });
    assert_eq!(short.element("Expiration").as_deref(), Some("2024-03-05T06:07:13Z"));
    let over = next(Fault::AlreadyExpiredSession);
    assert_eq!(over.element("Expiration").as_deref(), Some("2024-03-05T06:06:08Z"));
}

#[tokio::test]
async fn the_date_header_alone_can_be_off() {
    let (aws, key) = bucket().await;
    aws.world().faults().inject(Fault::ClockSkew { seconds: -3_600 }).times(1);
    assert_eq!(get(&aws, &key).header("date"), Some("Tue, 05 Mar 2024 05:07:08 GMT"));
    assert_eq!(get(&aws, &key).header("date"), Some("Tue, 05 Mar 2024 06:07:08 GMT"));
}

#[tokio::test]
async fn delays_delay_and_other_requests_do_not_wait() {
    let (aws, key) = bucket().await;
    aws.world().faults().inject(Fault::Delay { millis: 300 }).on(Op::GetObject).always();
    let began = Instant::now();
    assert_eq!(list(&aws, &key).status, 200);
    assert!(began.elapsed() < Duration::from_millis(250));
    assert_eq!(get(&aws, &key).status, 200);
    assert!(began.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn counters_tell_what_was_asked_and_how_it_ended() {
    let (aws, key) = bucket().await;
    let world = aws.world();
    world.faults().inject(Fault::SlowDown).on(Op::GetObject).every(2);
    for _ in 0..4 {
        get(&aws, &key);
    }
    list(&aws, &key);
    let counters = world.counters();
    let gets = counters.op(Op::GetObject);
    assert_eq!((gets.total, gets.by_class[&2], gets.by_class[&5]), (4, 2, 2));
    assert_eq!((gets.in_flight, gets.max_in_flight), (0, 1));
    assert!(gets.bytes_out > 20);
    assert_eq!(counters.lists(), 1);
    let recent = world.recent();
    assert_eq!(recent.len(), 5);
    assert_eq!(recent[0].caller.as_deref(), Some("arn:aws:iam::111111111111:user/admin"));
    assert_eq!((recent[0].op, recent[0].key.as_deref(), recent[0].status), (Op::GetObject, Some("a"), 200));
    world.reset_counters();
    assert_eq!(world.counters().total(Op::GetObject), 0);
    assert!(world.recent().is_empty());
}

#[tokio::test]
async fn one_consumers_trouble_can_be_addressed_by_bucket_and_key() {
    let (aws, key) = bucket().await;
    aws.world().faults().inject(Fault::AccessDenied).bucket("logs").key_contains("b").always();
    assert_eq!(get(&aws, &key).status, 200);
    assert_eq!(Call::new(&aws, &key, "GET", "/logs/b").send().status, 403);
    aws.world().faults().clear();
    assert_eq!(Call::new(&aws, &key, "GET", "/logs/b").send().status, 200);
}

#[tokio::test]
async fn assumed_roles_are_counted_by_role() {
    let world = world();
    let spec = RoleSpec { trust: policies::trust_account_root(B), ..RoleSpec::default() };
    let role = world.add_role(OWNER, "Reader", spec);
    let key = world.add_user(B, "mirror", policies::assume_role(&role));
    let aws = serve(&world).await;
    session(&aws, &key, &role, &[]);
    session(&aws, &key, &role, &[]);
    assert_eq!(world.counters().role(&role).total, 2);
    assert_eq!(world.counters().role(&role).max_in_flight, 1);
}

#[tokio::test]
async fn a_stopped_server_is_gone() {
    let world = world();
    let aws = serve(&world).await;
    let address = aws.address();
    aws.stop().await;
    assert!(std::net::TcpStream::connect(address).is_err());
    let again = FakeAws::start_at(world, address).await.expect("the same port");
    assert_eq!(again.address(), address);
}
