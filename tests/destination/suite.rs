//! What every destination promises.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use trailsync::content::{self, Asked};
use trailsync::destination::{Destination as _, Item, Published};
use trailsync::error::{Class, Error, Report};
use trailsync::object::Metadata;

use crate::bench::{Bench, body, first, item, publish, version};
use crate::hostile;

pub async fn every_key_of_the_corpus_is_stored_once_and_can_be_told_from_where_it_is(bench: &impl Bench) {
    let at = bench.open().await;
    let keys = hostile::hostile_keys();
    for keys in keys.chunks(100) {
        let mut batch = Vec::new();
        for key in keys {
            batch.push(item(&at, key, key.clone()).await);
        }
        for (key, published) in keys.iter().zip(at.publish(batch).await.unwrap()) {
            match published {
                Published::New => assert!(bench.takes(key), "{key}"),
                Published::Refused(why) => assert!(!bench.takes(key), "{key}: {why}"),
                other => panic!("{key}: {other:?}"),
            }
        }
    }
    let taken: BTreeSet<_> = keys.iter().filter(|key| bench.takes(key)).map(|key| (key.clone(), None)).collect();
    assert!(taken.len() > keys.len() / 2);
    let copies = bench.copies(&at);
    assert_eq!(copies.keys().cloned().collect::<BTreeSet<_>>(), taken);
    copies.iter().for_each(|((key, _), bytes)| assert_eq!(bytes, key.as_bytes()));
    for key in keys.iter().filter(|key| bench.takes(key)).step_by(7) {
        assert_eq!(publish(&at, key, key.clone()).await.unwrap(), Published::Same, "{key}");
    }
}

pub async fn what_is_there_is_never_replaced(bench: &impl Bench) {
    let at = bench.open().await;
    assert_eq!(publish(&at, "a/b.gz", "one").await.unwrap(), Published::New);
    assert_eq!(publish(&at, "a/b.gz", "one").await.unwrap(), Published::Same);
    assert_eq!(publish(&at, "a/b.gz", "two").await.unwrap(), Published::Other);
    assert_eq!(publish(&at, "a/b.gz", "longer").await.unwrap(), Published::Other);

    let later = || async { Item { place: version("a/b.gz"), ..item(&at, "", "two").await } };
    assert_eq!(at.publish(vec![later().await, later().await]).await.unwrap(), [Published::New, Published::Same]);
    let copies = bench.copies(&at);
    let (one, two) = (("a/b.gz".to_owned(), None), ("a/b.gz".to_owned(), version("").version));
    assert_eq!(copies.into_iter().collect::<Vec<_>>(), [(one, b"one".to_vec()), (two, b"two".to_vec())]);
    assert_eq!(bench.staged(), 0);
}

pub async fn a_version_that_is_no_version_stops_the_batch(bench: &impl Bench) {
    let at = bench.open().await;
    let mut odd = item(&at, "a.gz", "x").await;
    odd.place.version = Some("../../outside/x".to_owned());
    assert_eq!(at.publish(vec![odd]).await.unwrap_err().class(), Class::Fatal);
    assert_eq!((bench.copies(&at).len(), bench.staged()), (0, 0));
}

pub async fn metadata_belongs_to_its_object(bench: &impl Bench) {
    let at = bench.open().await;
    let metadata = |value: &str| Some(Metadata::from([("signature".to_owned(), value.to_owned())]));
    for (value, bytes, expected) in [
        (metadata("x"), "1", Published::New),
        (metadata("x"), "1", Published::Same),
        (None, "1", Published::Same),
        (metadata("y"), "1", Published::Other),
        (metadata("x"), "2", Published::Other),
    ] {
        let item = Item { metadata: value, ..item(&at, "d.json.gz", bytes).await };
        assert_eq!(at.publish(vec![item]).await.unwrap(), [expected]);
    }
    assert_eq!(bench.metadata(&at, &first("d.json.gz")), metadata("x"));
    assert_eq!(bench.metadata(&at, &first("e.json.gz")), None);
    assert_eq!(bench.copies(&at).len(), 1);

    let both = Metadata::from([("signature".to_owned(), "z".to_owned()), ("empty".to_owned(), String::new())]);
    let later =
        || async { Item { place: version("d.json.gz"), metadata: Some(both.clone()), ..item(&at, "", "2").await } };
    assert_eq!(at.publish(vec![later().await]).await.unwrap(), [Published::New]);
    assert_eq!(at.publish(vec![later().await]).await.unwrap(), [Published::Same]);
    assert_eq!(bench.metadata(&at, &version("d.json.gz")), Some(both));
}

pub async fn a_thousand_objects_are_published_at_once_and_each_gets_its_own_answer(bench: &impl Bench) {
    let at = bench.open().await;
    let key = |n: usize| format!("AWSLogs/{:012}/CloudTrail/r/2026/{:02}/{n}.json.gz", n % 3, n % 7);
    let mut batch = Vec::new();
    for n in 0..1_000 {
        let same_as_before = if n % 10 == 9 { n - 1 } else { n };
        batch.push(item(&at, &key(same_as_before), format!("{n}")).await);
    }
    assert!(bench.copies(&at).is_empty(), "nothing staged is visible");
    let published = at.publish(batch).await.unwrap();
    assert_eq!(published.len(), 1_000);
    for (n, published) in published.into_iter().enumerate() {
        assert_eq!(published, if n % 10 == 9 { Published::Other } else { Published::New }, "{n}");
    }
    assert_eq!(bench.copies(&at).len(), 900);
    assert_eq!(bench.staged(), 0);
    assert!(at.publish(Vec::new()).await.unwrap().is_empty());
}

pub async fn large_bodies_are_hashed_as_they_come(bench: &impl Bench) {
    let at = bench.open().await;
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let staged = at.stage(body(bytes.clone()), bytes.len() as u64, Asked::all(true)).await.unwrap();
    assert_eq!(staged.content, content::of(&bytes, true));
    let item = Item { place: first("big.gz"), staged, metadata: None };
    assert_eq!(at.publish(vec![item]).await.unwrap(), [Published::New]);
    assert_eq!(publish(&at, "empty.gz", "").await.unwrap(), Published::New);
    assert_eq!(publish(&at, "empty.gz", "").await.unwrap(), Published::Same);
    assert_eq!(publish(&at, "big.gz", bytes.clone()).await.unwrap(), Published::Same);
    let copies: Vec<_> = bench.copies(&at).into_values().collect();
    assert!(copies == [bytes, Vec::new()]);
}

pub async fn small_files_of_our_own_are_replaced_and_are_no_copies(bench: &impl Bench) {
    let at = bench.open().await;
    at.keep("manifests/2026/a.zst", vec![1]).await.unwrap();
    at.keep("manifests/2026/a.zst", vec![2]).await.unwrap();
    assert_eq!(bench.kept(&at, "manifests/2026/a.zst"), Some(vec![2]));
    assert_eq!(bench.kept(&at, "manifests/2026/b.zst"), None);
    assert!(bench.copies(&at).is_empty());
    for name in ["", "/x", "x/", "a//b", "../x", "a/../b", ".x", "a/.x", "a b", "é", "lock", "stage/x", "a\0b", "a\nb"]
    {
        assert_eq!(at.keep(name, vec![]).await.unwrap_err().class(), Class::Stream, "{name:?}");
    }
}

pub async fn a_body_of_another_length_or_with_an_error_leaves_nothing(bench: &impl Bench) {
    let at = bench.open().await;
    for (sent, promised) in [(3, 4), (3, 2), (600_000, 600_001), (600_000, 599_999), (600_000, 0), (0, 1)] {
        let error = at.stage(body(vec![7; sent]), promised, Asked::all(false)).await.err().unwrap();
        assert_eq!(error.class(), Class::Transient, "{error}");
    }
    for good in [0, 100, 600_000] {
        let broken = stream::once(async { Err(Error::of(Class::Credentials, Report::new("GetObject", "k", "reset"))) });
        let error =
            at.stage(Box::pin(body(vec![7; good]).chain(broken)), 1_000_000, Asked::all(true)).await.err().unwrap();
        assert_eq!(error.class(), Class::Credentials, "errors of the body pass through");
    }
    assert_eq!((bench.copies(&at).len(), bench.staged()), (0, 0));
}

pub async fn what_is_staged_is_not_visible_and_what_is_dropped_is_gone(bench: &impl Bench) {
    let at = bench.open().await;
    drop(item(&at, "a.gz", "x").await);
    drop(item(&at, "b.gz", vec![7; 600_000]).await);
    assert_eq!((bench.copies(&at).len(), bench.staged()), (0, 0));

    let endless = Box::pin(body(vec![7; 600_000]).chain(stream::pending()));
    let stage = at.stage(endless, 1_000_000, Asked::all(false));
    assert!(tokio::time::timeout(Duration::from_millis(200), stage).await.is_err());
    assert_eq!(bench.staged(), 0, "a stage that was cancelled");
}

pub async fn a_second_process_finds_what_the_first_published(bench: &impl Bench) {
    let at = bench.open().await;
    assert_eq!(publish(&at, "a/b.gz", "x").await.unwrap(), Published::New);
    let large = vec![7; 1_000_000];
    assert_eq!(publish(&at, "a/c.gz", large.clone()).await.unwrap(), Published::New);
    drop(at);
    let at = bench.open().await;
    assert_eq!(publish(&at, "a/b.gz", "x").await.unwrap(), Published::Same);
    assert_eq!(publish(&at, "a/b.gz", "y").await.unwrap(), Published::Other);
    assert_eq!(publish(&at, "a/c.gz", large).await.unwrap(), Published::Same);
    assert_eq!(bench.copies(&at).len(), 2);
}

pub async fn what_is_there_can_be_read_again_with_its_metadata(bench: &impl Bench) {
    let at = bench.open().await;
    let gzip = |text: &[u8]| {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(text).unwrap();
        gzip.finish().unwrap()
    };
    let signature = Metadata::from([("signature".to_owned(), "00ff".to_owned())]);
    let (small, later) = (gzip(b"a digest"), gzip(b"another"));
    let one = Item { metadata: Some(signature.clone()), ..item(&at, "d.json.gz", small.clone()).await };
    let other = Item { place: version("d.json.gz"), ..item(&at, "", later.clone()).await };
    at.publish(vec![one, other]).await.unwrap();

    let read = at.reread(&first("d.json.gz"), 1_000).await.unwrap().unwrap();
    assert_eq!((read.inflated.unwrap(), read.metadata), (b"a digest".to_vec(), signature));
    let read = at.reread(&version("d.json.gz"), 1_000).await.unwrap().unwrap();
    assert_eq!((read.inflated.unwrap(), read.metadata), (b"another".to_vec(), Metadata::new()));
    assert!(at.reread(&first("d.json.gz"), 4).await.unwrap().unwrap().inflated.is_err(), "it is larger than that");
    assert_eq!(at.rehash(&first("d.json.gz")).await.unwrap(), Some(content::of(&small, true)));
    for missing in [first("e.json.gz"), version("e.json.gz")] {
        assert!(at.reread(&missing, 1_000).await.unwrap().is_none());
        assert!(at.rehash(&missing).await.unwrap().is_none());
    }
    at.keep("keys/a.json", vec![1, 2]).await.unwrap();
    assert_eq!(at.recall("keys/a.json").await.unwrap(), Some(vec![1, 2]));
    assert_eq!(at.recall("keys/b.json").await.unwrap(), None);
}
