//! The faults that the bucket in memory has on demand.

use trailsync::clock::Timestamp;
use trailsync::error::Class;
use trailsync::source::memory::{Fault, MemorySource};
use trailsync::source::{ListRequest, Source as _};

use crate::suite::{read, under, whole};

fn bucket() -> MemorySource {
    let bucket = MemorySource::new(Timestamp::UNIX_EPOCH);
    for key in ["p/a", "p/b", "p/c"] {
        bucket.put(key, key.as_bytes().to_vec());
    }
    bucket
}

#[tokio::test]
async fn the_nth_request_from_now_on_fails_and_no_other() {
    let bucket = bucket();
    bucket.list(&under("p/")).await.unwrap();
    bucket.fail_list(2, Fault::Error(Class::Transient, "SlowDown".into()));
    bucket.list(&under("p/")).await.unwrap();
    let error = bucket.list(&under("p/")).await.unwrap_err();
    assert_eq!((error.class(), error.code()), (Class::Transient, "SlowDown"));
    bucket.list(&under("p/")).await.unwrap();
    bucket.fail_fetch(1, Fault::Error(Class::Credentials, "ExpiredToken".into()));
    assert_eq!(bucket.fetch(&whole("p/a")).await.map(drop).unwrap_err().class(), Class::Credentials);
    bucket.fetch(&whole("p/a")).await.map(drop).unwrap();
    assert_eq!((bucket.requests().lists, bucket.requests().fetches), (4, 2));
}

#[tokio::test]
async fn an_empty_page_in_the_middle_loses_nothing() {
    let bucket = bucket();
    bucket.set_page_size(2);
    bucket.fail_list(2, Fault::EmptyPage);
    let (mut request, mut pages) = (under("p/"), Vec::new());
    loop {
        let page = bucket.list(&request).await.unwrap();
        pages.push(page.objects.len());
        assert!(page.next.is_none() || page.next != request.token);
        match page.next {
            Some(next) => request.token = Some(next),
            None => break,
        }
    }
    assert_eq!(pages, [2, 0, 1]);
    assert_eq!(bucket.list_log().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn bodies_break_end_early_stall_and_lie() {
    let bucket = bucket();
    for fault in [Fault::BrokenBody(1), Fault::ShortBody(1), Fault::FlippedBit(1), Fault::StalledBody(1)] {
        bucket.fail_fetch(1, fault.clone());
        let fetched = bucket.fetch(&whole("p/a")).await.unwrap();
        assert_eq!(fetched.size, 3);
        let read = tokio::time::timeout(std::time::Duration::from_secs(60), read(fetched.body)).await;
        match fault {
            Fault::BrokenBody(_) => assert_eq!(read.unwrap().unwrap_err().class(), Class::Transient),
            Fault::ShortBody(_) => assert_eq!(read.unwrap().unwrap(), b"p"),
            Fault::FlippedBit(_) => assert_eq!(read.unwrap().unwrap(), b"p.a"),
            _ => assert!(read.is_err()),
        }
    }
}

#[tokio::test]
async fn a_damaged_body_of_an_object_with_a_checksum_ends_in_an_error() {
    let bucket = bucket();
    bucket.change("p/a", |object| object.checksummed = true);
    for fault in [Fault::ShortBody(1), Fault::FlippedBit(1)] {
        bucket.fail_fetch(1, fault);
        let fetched = bucket.fetch(&whole("p/a")).await.unwrap();
        assert!(fetched.checksummed);
        let error = read(fetched.body).await.unwrap_err();
        assert_eq!((error.class(), error.code()), (Class::Transient, "ChecksumMismatch"));
    }
    assert_eq!(read(bucket.fetch(&whole("p/a")).await.unwrap().body).await.unwrap(), b"p/a");
}

#[tokio::test]
async fn listings_above_what_a_role_may_list_are_denied() {
    let bucket = bucket();
    bucket.allow_listing_only(["p/".to_owned()]);
    bucket.list(&under("p/a")).await.unwrap();
    for prefix in ["", "q/"] {
        assert_eq!(bucket.list(&under(prefix)).await.unwrap_err().class(), Class::Stream);
    }
    let log: Vec<ListRequest> = bucket.list_log();
    assert_eq!(log[0], under("p/a"));
}

#[tokio::test]
async fn an_object_fails_by_itself_until_it_is_mended() {
    let bucket = bucket();
    assert!(bucket.change("p/b", |object| object.error = Some((Class::Object, "KMS.DisabledException".into()))));
    assert_eq!(bucket.fetch(&whole("p/b")).await.map(drop).unwrap_err().code(), "KMS.DisabledException");
    bucket.fetch(&whole("p/a")).await.map(drop).unwrap();
    bucket.change("p/b", |object| object.error = None);
    bucket.fetch(&whole("p/b")).await.map(drop).unwrap();
    assert_eq!(bucket.remove("p/b").unwrap().bytes, "p/b");
    assert!(!bucket.change("p/b", |_| ()));
}
