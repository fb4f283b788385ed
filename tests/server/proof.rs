//! What the page and the metrics say of the proof, with digests that are really signed.

use fakeaws::{Cadence, Kind, ObjectSpec, Trail, policies};
use jiff::{SignedDuration, Timestamp};

use crate::account::{B, BUCKET, REGION, Shared};
use crate::daemon::{Daemon, OFTEN, empty_log};
use crate::program::Program;

/// An account with three days of logs and digests, of which one log of yesterday's noon was altered before it was
/// mirrored: the day before is whole, and no digest of it names the altered one.
struct Host {
    program: Program,
    altered: String,
    _shared: Shared,
}

impl Host {
    async fn new() -> Self {
        let shared = Shared::own_logs().await;
        let now = Timestamp::now();
        let trail = Trail {
            bucket: BUCKET.into(),
            accounts: vec![B.into()],
            regions: vec![REGION.into()],
            trail_name: "all".into(),
            home_region: REGION.into(),
            kinds: vec![Kind::Management],
            digests: true,
            since: now - SignedDuration::from_hours(84),
            cadences: vec![Cadence::default()],
            ..Trail::default()
        };
        trail.deliver_until(&shared.world, now);
        let policy = policies::assume_role_and_list_public_keys(&shared.role);
        assert!(shared.world.set_user_policy(&format!("arn:aws:iam::{B}:user/mirror"), policy));
        let logs = shared.world.keys(BUCKET, &format!("AWSLogs/{B}/CloudTrail/{REGION}/"));
        let noon = format!("_{}T12", day(now - SignedDuration::from_hours(24)).replace('-', ""));
        let altered = logs.into_iter().find(|key| key.contains(&noon)).expect("a log of yesterday");
        shared.world.put_object(BUCKET, &altered, ObjectSpec::log(empty_log()));
        Self { program: Program::new(&shared, "", OFTEN), altered, _shared: shared }
    }
}

fn day(at: Timestamp) -> String {
    at.to_string()[..10].to_owned()
}

#[tokio::test]
async fn an_altered_log_turns_its_day_red_and_is_counted() {
    let host = Host::new().await;
    let daemon = Daemon::start(&host.program, &[]).await;
    let yesterday = host.altered.split('/').skip(4).take(3).collect::<Vec<_>>().join("-");
    let title = format!("title=\"{yesterday}: altered, ");
    let is_red =
        |page: &str| page.split("<td class=\"").any(|cell| cell.starts_with("al\"><a href=") && cell.contains(&title));
    let page = daemon
        .until(&format!("/account/acme/{B}"), |page| is_red(&page.body) && page.body.contains("<td class=\"pr\">"))
        .await
        .body;
    assert!(page.contains(&format!("altered on {yesterday}")), "{page}");
    assert!(page.contains("class=\"pr\""), "the days before are proven:\n{page}");
    let overview = daemon.until("/", |page| page.body.contains("acme: altered")).await.body;
    for told in ["trailsync verify", "TrailsyncAltered", "1 alarm."] {
        assert!(overview.contains(told), "{told} in\n{overview}");
    }
    let labels = format!("source=\"acme\",organization=\"\",account=\"{B}\"");
    let metrics = daemon.get("/metrics").await.body;
    assert!(metrics.contains("trailsync_alarms{source=\"acme\",kind=\"altered\"} 1"), "{metrics}");
    let through = format!("trailsync_proven_through_timestamp_seconds{{{labels}}} ");
    let line = metrics.lines().find_map(|line| line.strip_prefix(&through)).unwrap_or_else(|| panic!("{metrics}"));
    let through = Timestamp::from_second(line.parse::<f64>().expect("a time") as i64).expect("a time");
    assert!(day(through) <= yesterday, "nothing is proven beyond the alteration: {through}");
    assert!(metrics.contains(&format!("trailsync_proof_held_since_timestamp_seconds{{{labels}}} ")), "{metrics}");
}
