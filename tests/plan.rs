//! What `trailsync plan` says a run would do is what the run then does; and it is said without doing anything.
//!
//! `MILLION_KEYS` sets how large the large bucket is; set 1000000 to measure what is promised. Figures are printed.

#[path = "support/account.rs"]
mod account;
#[path = "support/archive.rs"]
mod archive;
#[path = "support/program.rs"]
mod program;

use std::collections::BTreeMap;
use std::time::Duration;

use account::{A, B, BUCKET, REGION, Shared};
use fakeaws::scenario::Million;
use fakeaws::{FakeClock, Op, RoleSpec, Trail, policies};
use jiff::{SignedDuration, Timestamp};
use program::{Program, files};
use serde_json::Value;
use trailsync::config::Poll;
use trailsync::discover::Wanted;
use trailsync::plan::{Question, plan};
use trailsync::source::memory::{MemorySource, Object};

const LARGE: u64 = 200_000;
const MEMORY_KIB: u64 = 64 * 1024;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

/// A day of logs and digests of B, in two regions.
async fn shared() -> Shared {
    let shared = Shared::own_logs().await;
    let now = shared.world.clock().now();
    let trail = Trail {
        bucket: BUCKET.to_owned(),
        accounts: vec![A.to_owned(), B.to_owned()],
        regions: vec![REGION.to_owned(), "us-east-1".to_owned()],
        since: now - SignedDuration::from_hours(30),
        ..Trail::default()
    };
    shared.world.add_trail(trail);
    shared.world.deliver_until(now - SignedDuration::from_hours(3));
    shared
}

async fn planned(program: &Program, more: &[&str]) -> Value {
    let done = program.run(&[&["--log", "warn", "plan", "--json"], more].concat()).await;
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let plan: Value = serde_json::from_slice(&done.stdout).expect("JSON");
    assert_eq!(plan["schema"], 1);
    plan["sources"][0].clone()
}

/// Runs `sync`; how many objects it stored, and with how many LIST and GET requests.
async fn synced(shared: &Shared, program: &Program, more: &[&str]) -> (u64, u64, u64) {
    shared.world.reset_counters();
    let done = program.run(&[&["--log", "warn", "sync", "--quiet"], more].concat()).await;
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    let stored = said.split(' ').next().and_then(|number| number.parse().ok()).expect("a number");
    let counters = shared.world.counters();
    (stored, counters.total(Op::ListObjectsV2), counters.total(Op::GetObject))
}

fn md5(bytes: &[u8]) -> [u8; 16] {
    trailsync::content::of(bytes, false).md5.unwrap()
}

fn near(told: u64, found: u64, slack: u64) -> bool {
    told.abs_diff(found) <= slack
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_run_and_a_next_one_do_what_was_planned() {
    let shared = shared().await;
    let program = Program::new(&shared, "", "");
    let first = planned(&program, &[]).await;
    assert!(!program.state().exists() && !program.tree().exists(), "nothing is made");
    let (stored, lists, gets) = synced(&shared, &program, &[]).await;
    println!("first: planned {} LIST, {} GET; made {lists}, {gets}", first["list_requests"], first["get_requests"]);
    assert_eq!(first["objects"], serde_json::json!({"value": stored, "error": 0}));
    assert_eq!(first["get_requests"], gets);
    assert!(near(first["list_requests"].as_u64().unwrap(), lists, lists / 4), "{lists}: {}", first["list_requests"]);
    let bytes: usize = program.copies().values().map(Vec::len).sum();
    assert_eq!(first["bytes"]["value"], bytes, "every byte");

    shared.world.deliver_due();
    let seen = || {
        let all = files(program.work()).into_iter();
        all.map(|(path, bytes)| (path, (bytes.len(), md5(&bytes)))).collect::<BTreeMap<_, _>>()
    };
    let before = seen();
    let next = planned(&program, &[]).await;
    let touched: Vec<_> = seen().into_iter().filter(|(path, file)| before.get(path) != Some(file)).collect();
    assert!(touched.is_empty() && seen().len() == before.len(), "nothing is touched: {touched:?}");
    let (stored, _, gets) = synced(&shared, &program, &[]).await;
    assert!(stored > 100, "{stored}");
    assert_eq!(next["objects"], serde_json::json!({"value": stored, "error": 0}), "next");
    assert_eq!(next["get_requests"], gets);
    // What came later than the next run looks back.
    let full = planned(&program, &["--full"]).await;
    let (stored, _, _) = synced(&shared, &program, &["--full"]).await;
    assert_eq!(full["objects"]["value"], stored, "everything");
    assert_eq!(planned(&program, &["--full"]).await["objects"]["value"], 0, "nothing is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_counts_by_account_kind_region_and_month() {
    let shared = shared().await;
    let program = Program::new(&shared, "", "");
    let plan = planned(&program, &[]).await;
    let mut counted: BTreeMap<(String, String, String), u64> = BTreeMap::new();
    for key in shared.world.keys(BUCKET, &format!("AWSLogs/{B}/")) {
        let parts: Vec<&str> = key.split('/').collect();
        let month = format!("{}-{}", parts[4], parts[5]);
        *counted.entry((parts[2].to_owned(), parts[3].to_owned(), month)).or_default() += 1;
    }
    let mut told = BTreeMap::new();
    for stream in plan["streams"].as_array().expect("streams") {
        assert_eq!(stream["account"], B);
        for month in stream["months"].as_array().expect("months") {
            let text = |value: &Value| value.as_str().expect("text").to_owned();
            let place = (text(&stream["kind"]), text(&stream["region"]), text(&month["month"]));
            told.insert(place, month["objects"]["value"].as_u64().expect("a number"));
        }
    }
    assert_eq!(told, counted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_made_beside_the_daemon() {
    let shared = shared().await;
    let program = Program::new(&shared, "", "");
    let mut daemon = program.command(&["--log", "warn", "run"]).spawn().expect("started");
    let patience = std::time::Instant::now() + Duration::from_secs(60);
    while !program.run(&["status", "--json"]).await.stdout.starts_with(b"{") {
        assert!(std::time::Instant::now() < patience, "the daemon makes its state");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let done = program.run(&["--log", "warn", "plan"]).await;
    let (text, complaint) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{complaint}");
    assert!(text.starts_with("acme: The next run fetches "), "{text}");
    assert!(daemon.try_wait().expect("asked").is_none(), "it runs on");
    daemon.kill().await.expect("ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_cannot_be_reached_has_no_plan_and_says_why() {
    let shared = shared().await;
    shared.world.remove_role(&shared.role);
    let program = Program::new(&shared, "", "");
    let done = program.run(&["--log", "error", "plan"]).await;
    let text = String::from_utf8_lossy(&done.stdout);
    assert_eq!(done.status.code(), Some(1), "{text}");
    assert!(text.contains("acme: nothing is known: AssumeRole of"), "{text}");
    shared.world.faults().inject(fakeaws::Fault::StsUnavailable).always();
    let done = program.run(&["--log", "error", "plan"]).await;
    assert_eq!(done.status.code(), Some(75), "that may pass");
}

/// Runs `plan` to its end; what it printed, and the most memory that it ever held, in KiB.
async fn measured(program: &Program, args: &[&str]) -> (Value, u64) {
    let mut child = program.command(args).spawn().expect("started");
    let status = format!("/proc/{}/status", child.id().expect("an id"));
    let mut out = child.stdout.take().expect("piped");
    let printed = tokio::spawn(async move {
        let mut text = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut out, &mut text).await.expect("read");
        text
    });
    let mut peak = 0;
    while child.try_wait().expect("asked").is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        peak = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(peak);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(child.wait().await.expect("ended").success());
    let plan: Value = serde_json::from_slice(&printed.await.expect("joined")).expect("JSON");
    (plan["sources"][0].clone(), peak)
}

/// A bucket of very many keys, as B's own.
async fn large(keys: u64) -> (Shared, u64) {
    let shared = Shared::with(RoleSpec {
        trust: policies::trust_account_root(B),
        policy: policies::read_own_logs(BUCKET, "", B),
        ..RoleSpec::default()
    })
    .await;
    let million = Million { keys, days: 400, region: REGION.to_owned(), ..Million::default() };
    let (world, _) = million.build(FakeClock::system());
    let bucket = fakeaws::scenario::MILLION_BUCKET;
    let objects = world.keys(bucket, "").into_iter().map(|key| {
        let modified = world.object(bucket, &key).expect("an object").modified;
        // Days are not alike: on every seventh nobody works.
        let weekend = modified.as_second().div_euclid(86_400) % 7 == 0;
        let seed = modified.as_second().unsigned_abs();
        let size = if weekend { 250 } else { 300 + u32::try_from(seed % 700).expect("small") };
        (key, fakeaws::ObjectSpec::generated(seed, size).modified(modified))
    });
    let objects: Vec<_> = objects.collect();
    let bytes = objects.iter().map(|(_, object)| object.body.size()).sum();
    shared.world.put_objects(BUCKET, objects);
    (shared, bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_bucket_is_planned_within_two_percent_and_little_memory() {
    let keys = number("MILLION_KEYS", LARGE);
    let (shared, bytes) = large(keys).await;
    let program = Program::new(&shared, "", "");
    for (title, args) in
        [("counted", &["plan", "--json"][..]), ("sampled", &["plan", "--json", "--requests", "150"][..])]
    {
        let began = std::time::Instant::now();
        let (plan, peak) = measured(&program, args).await;
        let seconds = began.elapsed().as_secs_f64();
        println!(
            "{title}: {} objects of {keys}, {} bytes of {bytes}, {} LIST, {seconds:.1} s, {:.1} MiB",
            plan["objects"],
            plan["bytes"],
            plan["asked_list_requests"],
            peak as f64 / 1024.0
        );
        for (told, truth) in [(&plan["objects"], keys), (&plan["bytes"], bytes)] {
            let (value, error) = (told["value"].as_u64().expect("a number"), told["error"].as_u64().expect("a number"));
            let off = value.abs_diff(truth);
            // Whether a sample's error holds is for many samples to say; one may be a little beyond.
            let allowed = if title == "counted" { truth / 50 } else { error + error / 2 };
            assert!(off <= allowed && error <= truth / 10, "{title}: {told} of {truth}");
        }
        assert_eq!(plan["sampled"], title == "sampled");
        assert!((1025..MEMORY_KIB).contains(&peak), "{title}: {peak} KiB resident");
    }
}

/// A bucket with busy and idle days and months.
fn uneven(random: &mut fastrand::Rng) -> (MemorySource, u64, u64) {
    let now: Timestamp = "2024-05-31T12:00:00Z".parse().expect("a time");
    let bucket = MemorySource::new(now);
    let (mut objects, mut bytes) = (0, 0);
    for region in ["eu-west-1", "us-east-1"] {
        for back in 0..150_i64 {
            let day = now - SignedDuration::from_hours(24 * back);
            let (folder, stamp) = (day.strftime("%Y/%m/%d").to_string(), day.strftime("%Y%m%d").to_string());
            let busy = if back % 7 < 2 { 10 } else { 60 + 20 * u64::from(random.u8(0..4)) };
            for n in 0..busy {
                let name = format!("{B}_CloudTrail_{region}_{stamp}T{:02}00Z_{n:016}.json.gz", n % 24);
                let size = random.usize(10..60);
                let object = Object::new(vec![0_u8; size], day);
                bucket.put_object(format!("AWSLogs/{B}/CloudTrail/{region}/{folder}/{name}"), object);
                objects += 1;
                bytes += size as u64;
            }
        }
    }
    (bucket, objects, bytes)
}

fn question(requests: u64, seed: u64) -> Question<'static> {
    let day = Duration::from_secs(86_400);
    Question {
        wanted: Wanted {
            source: "acme".into(),
            prefix: String::new(),
            organization: None,
            accounts: vec![B.into()],
            kinds: vec!["CloudTrail".into()],
            regions: Vec::new(),
        },
        poll: Poll {
            every: day,
            idle_every: day,
            min_window: day,
            max_window: day,
            tiers: Vec::new(),
            full_every: day,
            tail_every: day,
            discover_every: day,
        },
        since: None,
        now: "2024-05-31T12:00:00Z".parse().expect("a time"),
        full: false,
        requests,
        seed,
        known: None,
    }
}

#[tokio::test]
async fn the_stated_error_of_a_sample_holds_as_often_as_it_says() {
    let (bucket, objects, bytes) = uneven(&mut fastrand::Rng::with_seed(5));
    let (mut held, samples) = (0, 150);
    for seed in 0..samples {
        let answer = plan(&bucket, &question(140, seed)).await.expect("planned");
        let total = answer.total();
        assert!(answer.asked <= 160, "{} requests", answer.asked);
        assert!(total.objects.margin() > 0.0 && total.objects.margin() < objects as f64 / 5.0);
        let off = |told: f64, truth: u64| (told - truth as f64).abs();
        held += u32::from(off(total.objects.value, objects) <= total.objects.margin());
        held += u32::from(off(total.bytes.value, bytes) <= total.bytes.margin());
    }
    // At least 285 of 300 are promised. Objects and bytes are off together, so that the spread is that of 150 tries.
    println!("the stated error held in {held} of {}", 2 * samples);
    assert!(held >= 280, "{held}");
}

#[tokio::test]
async fn enough_requests_make_a_count() {
    let (bucket, objects, bytes) = uneven(&mut fastrand::Rng::with_seed(6));
    let answer = plan(&bucket, &question(10_000, 1)).await.expect("planned");
    let total = answer.total();
    assert_eq!((total.objects.value, total.objects.margin()), (objects as f64, 0.0));
    assert_eq!((total.bytes.value, total.bytes.margin()), (bytes as f64, 0.0));
    let since = Question { since: Some("2024-05-01T00:00:00Z".parse().expect("a time")), ..question(10_000, 1) };
    let may = plan(&bucket, &since).await.expect("planned").total();
    let months = answer.streams.iter().flat_map(|stream| &stream.months);
    let expected: f64 = months.filter(|(month, _)| month.to_string() == "2024-05").map(|(_, e)| e.objects.value).sum();
    assert_eq!(may.objects.value, expected, "only what is dated since");
}
