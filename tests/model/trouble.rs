//! Failed is never done: histories that have a name.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use trailsync::clock::{ManualClock, Timestamp};
use trailsync::content::Asked;
use trailsync::destination::memory::Memory;
use trailsync::destination::{Destination, Item, Place};
use trailsync::error::{Class, Error, Report};
use trailsync::gate::Gate;
use trailsync::ledger::Ledger;
use trailsync::manifest::Manifests;
use trailsync::mirror::{Mirror, Permits, Task};
use trailsync::object::{ETag, Listed};
use trailsync::record::version_of;
use trailsync::share::Share;
use trailsync::source::memory::Fault;
use trailsync::source::{FetchRequest, Fetched, ListPage, ListRequest, Source};

use super::bench::{Bench, name, setup};
use super::history::{Change, Cut, DAY, HOUR, MINUTE, Setup};

const KMS: &str = "KMS.DisabledException";

#[tokio::test]
async fn twenty_denials_in_a_row_quarantine_nothing_and_move_nothing() {
    let mut bench = Bench::at_rest(setup("2024-03-10T12:00:00Z")).await;
    bench.outside.apply(&Change::RefuseAll(KMS));
    bench.outside.apply(&Change::Siblings { count: 40, age: MINUTE });
    for _ in 0..50 {
        bench.advance(30 * MINUTE);
        let error = bench.turn().await.unwrap_err();
        assert_eq!((error.class(), error.code()), (Class::Stream, KMS));
    }
    bench.check_quarantine_is_empty().await.unwrap();
    assert_eq!(bench.listed_through().as_deref(), Some("2024-03-10T12:00:00Z"));
    bench.outside.apply(&Change::PermitAll);
    bench.rest().await;
    assert_eq!(bench.counted().await, 40);
    bench.calm_down().await.unwrap();
}

#[tokio::test]
async fn one_object_withheld_for_good_is_quarantined_and_holds_nothing_up() {
    let mut bench = Bench::at_rest(setup("2024-03-10T12:00:00Z")).await;
    bench.outside.apply(&Change::Siblings { count: 1, age: MINUTE });
    bench.outside.apply(&Change::Refuse(0, KMS));
    for _ in 0..40 {
        bench.advance(DAY);
        bench.turn().await.expect("the stream is well");
    }
    let rows = bench.ledger.quarantine(10).await.unwrap();
    assert!(rows.len() == 1 && rows[0].quarantined && rows[0].attempts > 30, "{rows:?}");
    let late = name("2024-04-01T12:00:00Z", "late");
    bench.outside.deliver_as(&late);
    bench.advance(DAY);
    bench.turn().await.expect("the stream is well");
    assert!(bench.is_mirrored(&late), "deep listings go on");
}

#[tokio::test]
async fn a_version_that_fails_after_another_has_an_age_of_its_own() {
    let retention = Some(30 * DAY);
    let mut bench = Bench::at_rest(Setup { retention, ..setup("2024-03-10T12:00:00Z") }).await;
    let suffix = name("2024-03-10T12:00:00Z", "a");
    bench.outside.apply(&Change::RefuseAll(KMS));
    bench.outside.deliver_as(&suffix);
    bench.rest().await;
    bench.advance(29 * DAY);
    bench.outside.deliver_as(&suffix);
    bench.rest().await;
    let oldest = bench.ledger.checkpoints().await.unwrap()[0].oldest_missing;
    assert_eq!(oldest, Some(bench.bucket.objects()[&bench.outside.key(&suffix)].modified));
    bench.outside.tamper(&suffix);
    bench.advance(DAY);
    bench.rest().await;
    assert_eq!(bench.alarms_of(&suffix).await, ["vanished"], "it was a day old, not thirty");
}

#[tokio::test]
async fn an_object_that_was_gone_is_alarmed_even_when_the_pass_fails_after_it() {
    let mut bench = Bench::at_rest(setup("2024-03-10T12:00:00Z")).await;
    let (gone, other) = (name("2024-03-10T12:00:00Z", "a"), name("2024-03-10T12:00:00Z", "b"));
    [&gone, &other].into_iter().for_each(|name| bench.outside.deliver_as(name));
    bench.rules.in_flight = 1;
    bench.restart().await.unwrap();
    let (outside, key) = (bench.outside.clone(), gone.clone());
    bench.wire.meanwhile(2, move || outside.tamper(&key));
    bench.bucket.fail_fetch(2, Fault::Error(Class::Stream, "Broken".into()));
    bench.advance(MINUTE);
    bench.turn().await.unwrap_err();
    assert_eq!(bench.alarms_of(&gone).await, ["vanished"]);
    bench.rest().await;
    assert!(bench.is_mirrored(&other));
}

#[tokio::test]
async fn killed_between_store_and_commit_stores_nothing_twice() {
    let mut bench = Bench::at_rest(setup("2024-03-10T12:00:00Z")).await;
    bench.outside.apply(&Change::Siblings { count: 3, age: MINUTE });
    bench.advance(MINUTE);
    // Two steps of the listing, two of each object, and the second of publishing.
    assert!(bench.world.turn(true, false, Cut::Killed(10)).await.unwrap().is_none());
    assert_eq!((bench.vault.files().len(), bench.counted().await), (3, 0));
    bench.rest().await;
    assert_eq!((bench.vault.files().len(), bench.counted().await), (3, 3));
    bench.calm_down().await.unwrap();
}

#[tokio::test]
async fn a_place_that_is_taken_is_a_conflict_and_one_that_is_taken_twice_a_failure() {
    let mut bench = Bench::at_rest(setup("2024-03-10T12:00:00Z")).await;
    let (once, twice) = (name("2024-03-10T12:00:00Z", "once"), name("2024-03-10T12:00:00Z", "twice"));
    for suffix in [&once, &twice] {
        bench.outside.deliver_as(suffix);
        occupy(&bench.vault, &bench.outside.key(suffix), None).await;
    }
    let bytes = bench.bucket.objects()[&bench.outside.key(&twice)].bytes.clone();
    let version = version_of(&trailsync::content::of(&bytes, false).sha256);
    occupy(&bench.vault, &bench.outside.key(&twice), Some(version)).await;
    bench.advance(MINUTE);
    bench.turn().await.unwrap();
    assert_eq!(bench.alarms_of(&once).await, ["conflict"]);
    assert!(bench.records().await.unwrap()[&once].later);
    let rows = bench.ledger.quarantine(10).await.unwrap();
    assert_eq!(
        rows.iter().map(|row| (row.key.as_str(), row.code.as_str())).collect::<Vec<_>>(),
        [(bench.outside.key(&twice).as_str(), "Conflict")]
    );
    assert_eq!(bench.counted().await, 1);
}

async fn occupy(vault: &Memory, key: &str, version: Option<String>) {
    let body = Box::pin(futures_util::stream::iter([Ok(Bytes::from_static(b"theirs"))]));
    let staged = vault.stage(body, 6, Asked::all(false)).await.unwrap();
    let place = Place { key: key.to_owned(), version };
    vault.publish(vec![Item { place, staged, metadata: None }]).await.unwrap();
}

#[tokio::test]
async fn a_full_disk_lets_the_stream_rest_and_loses_nothing() {
    let mut bench = Bench::at_rest(setup("2024-03-10T12:00:00Z")).await;
    bench.outside.apply(&Change::Siblings { count: 30, age: MINUTE });
    bench.vault.set_full(true);
    bench.advance(HOUR);
    let error = bench.turn().await.unwrap_err();
    assert_eq!((error.class(), error.code()), (Class::Stream, "ENOSPC"));
    bench.vault.set_full(false);
    bench.rest().await;
    assert_eq!(bench.counted().await, 30);
}

/// A service that answers listings as it is told, and has no objects to give.
struct Liar(Mutex<VecDeque<ListPage>>);

impl Source for Liar {
    async fn list(&self, _: &ListRequest) -> Result<ListPage, Error> {
        let mut pages = self.0.lock().expect("no panic holds it");
        // The last page is given for ever.
        Ok(if pages.len() > 1 { pages.pop_front() } else { pages.front().cloned() }.expect("a page"))
    }

    async fn fetch(&self, request: &FetchRequest) -> Result<Fetched, Error> {
        Err(Error::of(Class::Object, Report::new("GetObject", &request.key, "no").code("Weird")))
    }
}

/// The keys of a page and its token.
type Told<'a> = (&'a [&'a str], Option<&'a str>);

/// How a turn ends when listings are answered with these keys and tokens.
async fn told(pages: &[Told<'_>]) -> Error {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::new(setup("2024-03-10T12:00:00Z")).await;
    let now: Timestamp = bench.outside.past().now;
    let listed = |suffix: &&str| Listed {
        key: if suffix.starts_with("other/") { (*suffix).to_owned() } else { bench.outside.key(suffix) },
        size: 1,
        etag: ETag::new("e"),
        modified: now,
        archived: None,
    };
    let page = |(keys, token): &Told<'_>| ListPage {
        objects: keys.iter().map(listed).collect(),
        next: token.map(str::to_owned),
        served_at: Some(now),
        ..ListPage::default()
    };
    let liar = Arc::new(Liar(Mutex::new(pages.iter().map(page).collect())));
    let permits = Permits { source: Arc::new(Gate::new(1)), process: Share::alone(1) };
    let ledger = Ledger::in_memory().await.unwrap();
    let (manifests, clock) = (Manifests::under(dir.path()), Arc::new(ManualClock::at(now)));
    let mirror =
        Mirror::new(liar, Arc::new(Memory::new()), ledger.clone(), manifests, clock, bench.rules.clone(), permits);
    let mut progress = mirror.resume((*bench.outside.stream).clone()).await.unwrap();
    let task = Task { poll: true, until: Instant::now(), stop: CancellationToken::new() };
    let error = mirror.turn(&mut progress, &task).await.expect_err("a lie");
    assert_eq!(progress.checkpoint.listed_through, None, "nothing is claimed");
    error
}

#[tokio::test]
async fn a_listing_that_does_not_advance_or_leaves_its_prefix_ends_the_pass() {
    let (a, b) = (&*name("2024-03-10T11:50:00Z", "a"), &*name("2024-03-10T11:51:00Z", "b"));
    let lies: [(&[Told<'_>], &str); 6] = [
        (&[(&[a], Some("t")), (&[b], Some("t"))], "same continuation token"),
        (&[(&[a], Some("t")), (&[a], Some("u"))], "out of order"),
        (&[(&[b], Some("t")), (&[a], Some("u"))], "out of order"),
        (&[(&[b, a], None)], "out of order"),
        (&[(&["2024/03/09/before the window"], None)], "out of order"),
        (&[(&["other/x"], None)], "outside of the prefix"),
    ];
    for (pages, why) in lies {
        let error = told(pages).await;
        assert!(error.class() == Class::Stream && error.to_string().contains(why), "{pages:?} gave {error}");
    }
    let tokens: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    let pages: Vec<Told<'_>> = tokens.iter().map(|token| (&[][..], Some(token.as_str()))).collect();
    let error = told(&pages).await;
    assert!(error.to_string().contains("without a key"), "{error}");
}
