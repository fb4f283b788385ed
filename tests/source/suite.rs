//! The promises, one function each.

use futures_util::TryStreamExt as _;
use trailsync::clock::{Timestamp, seconds_between};
use trailsync::error::{Class, Error};
use trailsync::object::ETag;
use trailsync::source::{Body, FetchRequest, Fetched, ListPage, ListRequest, Source as _};

use crate::twins::{Thing, Twin};

pub fn under(prefix: &str) -> ListRequest {
    ListRequest { prefix: prefix.to_owned(), ..ListRequest::default() }
}

pub fn whole(key: &str) -> FetchRequest {
    FetchRequest { key: key.to_owned(), if_match: None }
}

pub fn bytes(text: &str) -> Thing {
    Thing { bytes: text.as_bytes().to_vec(), ..Thing::default() }
}

pub async fn read(body: Body) -> Result<Vec<u8>, Error> {
    body.try_fold(Vec::new(), async |mut all, chunk| {
        all.extend_from_slice(&chunk);
        Ok(all)
    })
    .await
}

fn keys(page: &ListPage) -> Vec<&str> {
    page.objects.iter().map(|object| object.key.as_str()).collect()
}

async fn list<T: Twin>(twin: &T, request: &ListRequest) -> ListPage {
    twin.source().list(request).await.unwrap()
}

async fn fetch<T: Twin>(twin: &T, key: &str) -> Fetched {
    twin.source().fetch(&whole(key)).await.unwrap()
}

async fn refused<T: Twin>(twin: &T, request: &FetchRequest) -> (Class, String) {
    let error = twin.source().fetch(request).await.map(drop).unwrap_err();
    (error.class(), error.code().to_owned())
}

pub async fn keys_come_in_the_order_of_their_bytes<T: Twin>(twin: &T) {
    let ordered =
        ["p/ ", "p/-", "p/0", "p/A", "p/Z", "p/_", "p/a", "p/a/b", "p/a0", "p/é", "p/\u{ffff}", "p/\u{1f600}"];
    for key in ordered.iter().rev() {
        twin.put(key, bytes("x"));
    }
    assert_eq!(keys(&list(twin, &under("p/")).await), ordered);
}

pub async fn start_after_is_exclusive_and_need_not_exist<T: Twin>(twin: &T) {
    for key in ["p/a", "p/b", "p/c", "q/a"] {
        twin.put(key, bytes("x"));
    }
    for (start, expected) in [
        ("p/b", &["p/c"][..]),
        ("p/aa", &["p/b", "p/c"]),
        ("a", &["p/a", "p/b", "p/c"]),
        ("p/", &["p/a", "p/b", "p/c"]),
        ("p/c", &[]),
        ("q", &[]),
    ] {
        let request = ListRequest { start_after: Some(start.to_owned()), ..under("p/") };
        assert_eq!(keys(&list(twin, &request).await), expected, "after {start}");
    }
}

pub async fn many_pages_give_every_key_once<T: Twin>(twin: &T) {
    let all: Vec<String> = (0..2_345).map(|n| format!("p/{n:05}")).collect();
    for key in &all {
        twin.put(key, Thing::default());
    }
    let (mut request, mut listed, mut sizes) = (under("p/"), Vec::new(), Vec::new());
    loop {
        let page = list(twin, &request).await;
        sizes.push(page.objects.len());
        listed.extend(page.objects.into_iter().map(|object| object.key));
        match page.next {
            Some(next) => request.token = Some(next),
            None => break,
        }
    }
    assert_eq!(sizes, [1000, 1000, 345]);
    assert_eq!(listed, all);
}

pub async fn a_token_wins_over_start_after<T: Twin>(twin: &T) {
    for n in 0..1_500 {
        twin.put(&format!("p/{n:05}"), Thing::default());
    }
    let first = ListRequest { start_after: Some("p/00099".into()), ..under("p/") };
    let page = list(twin, &first).await;
    assert_eq!((page.objects[0].key.as_str(), page.objects.len()), ("p/00100", 1000));
    let page = list(twin, &ListRequest { token: page.next, ..first }).await;
    assert_eq!((page.objects[0].key.as_str(), page.objects.len(), page.next), ("p/01100", 400, None));
}

pub async fn a_delimiter_folds_keys_and_pages_through_prefixes<T: Twin>(twin: &T) {
    for n in 0..1_200 {
        for file in ["1", "2/3"] {
            twin.put(&format!("p/{n:04}/{file}"), Thing::default());
        }
    }
    twin.put("p/0000", bytes("x"));
    twin.put("p/", bytes("x"));
    let request = ListRequest { delimiter: true, ..under("p/") };
    let first = list(twin, &request).await;
    assert_eq!(keys(&first), ["p/", "p/0000"]);
    assert_eq!((first.prefixes.len(), first.prefixes[0].as_str()), (998, "p/0000/"));
    let second = list(twin, &ListRequest { token: first.next, ..request }).await;
    assert_eq!((second.objects.len(), second.prefixes.len(), second.next), (0, 202, None));
    assert_eq!((second.prefixes[0].as_str(), second.prefixes[201].as_str()), ("p/0998/", "p/1199/"));
}

pub async fn start_after_also_leaves_out_folded_prefixes_up_to_it<T: Twin>(twin: &T) {
    for key in ["p/a/1", "p/b/1", "p/b/9", "p/c/1"] {
        twin.put(key, bytes("x"));
    }
    for (start, expected) in [("p/a/", &["p/b/", "p/c/"][..]), ("p/b", &["p/b/", "p/c/"]), ("p/b0", &["p/c/"])] {
        let request = ListRequest { delimiter: true, start_after: Some(start.to_owned()), ..under("p/") };
        assert_eq!(list(twin, &request).await.prefixes, expected, "after {start}");
    }
}

pub async fn nothing_under_a_prefix_is_an_empty_last_page<T: Twin>(twin: &T) {
    twin.put("p/a", bytes("x"));
    for delimiter in [false, true] {
        let page = list(twin, &ListRequest { delimiter, ..under("q/") }).await;
        assert_eq!((page.objects.len(), page.prefixes.len(), page.next), (0, 0, None));
    }
}

pub async fn a_token_that_was_never_given_ends_the_stream<T: Twin>(twin: &T) {
    let request = ListRequest { token: Some("never given".into()), ..under("p/") };
    let error = twin.source().list(&request).await.unwrap_err();
    assert_eq!((error.class(), error.code()), (Class::Stream, "InvalidArgument"));
}

pub async fn answers_carry_the_services_time<T: Twin>(twin: &T) {
    let served_at = list(twin, &under("p/")).await.served_at.expect("a time");
    assert!(seconds_between(twin.now(), served_at).abs() <= 2, "{served_at}");
}

pub async fn a_listing_shows_size_tag_time_and_archive_class<T: Twin>(twin: &T) {
    let modified: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
    twin.put("p/a", Thing { modified: Some(modified), ..bytes("hello") });
    twin.put(
        "p/b",
        Thing { archived: Some("DEEP_ARCHIVE"), tag: Some("d41d8cd98f00b204e9800998ecf8427e-3"), ..bytes("") },
    );
    let page = list(twin, &under("p/")).await;
    let [a, b] = page.objects.as_slice() else { panic!("{page:?}") };
    assert_eq!((a.size, a.etag.as_str()), (5, "5d41402abc4b2a76b9719d911017c592"));
    assert_eq!((a.modified, a.archived.as_deref()), (modified, None));
    assert_eq!((b.size, b.etag.as_str()), (0, "d41d8cd98f00b204e9800998ecf8427e-3"));
    assert_eq!(b.archived.as_deref(), Some("DEEP_ARCHIVE"));
}

pub async fn bytes_arrive_verbatim_whatever_their_encoding_says<T: Twin>(twin: &T) {
    let gzip =
        b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xcbH\xcd\xc9\xc9\x07\x00\x86\xa6\x106\x05\x00\x00\x00".to_vec();
    twin.put("p/a.json.gz", Thing { bytes: gzip.clone(), content_encoding: Some("gzip"), ..Thing::default() });
    let fetched = fetch(twin, "p/a.json.gz").await;
    assert_eq!((fetched.size, fetched.content_encoding.as_deref()), (gzip.len() as u64, Some("gzip")));
    assert_eq!(read(fetched.body).await.unwrap(), gzip);
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    twin.put("p/large", Thing { bytes: large.clone(), ..Thing::default() });
    assert!(read(fetch(twin, "p/large").await.body).await.unwrap() == large);
}

pub async fn metadata_and_headers_arrive<T: Twin>(twin: &T) {
    let modified: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
    let metadata = vec![("signature", "0123abcd"), ("signature-algorithm", "SHA256withRSA")];
    let content_type = Some("application/json");
    twin.put("p/digest", Thing { metadata, content_type, modified: Some(modified), ..bytes("{}") });
    let fetched = fetch(twin, "p/digest").await;
    assert_eq!(fetched.metadata["signature"], "0123abcd");
    assert_eq!(fetched.metadata["signature-algorithm"], "SHA256withRSA");
    assert_eq!((fetched.metadata.len(), fetched.content_type.as_deref()), (2, content_type));
    assert_eq!((fetched.modified, fetched.content_encoding), (modified, None));
}

pub async fn a_tag_says_whether_it_is_an_md5<T: Twin>(twin: &T) {
    twin.put("p/single", bytes("hello"));
    twin.put("p/multipart", Thing { tag: Some("5d41402abc4b2a76b9719d911017c592-2"), ..bytes("hello") });
    let single = fetch(twin, "p/single").await;
    assert_eq!((single.etag.as_str(), single.etag_is_md5), ("5d41402abc4b2a76b9719d911017c592", true));
    let multipart = fetch(twin, "p/multipart").await;
    assert_eq!((multipart.etag.as_str(), multipart.etag_is_md5), ("5d41402abc4b2a76b9719d911017c592-2", false));
}

pub async fn another_version_than_the_listed_one_is_refused<T: Twin>(twin: &T) {
    twin.put("p/a", bytes("first"));
    let listed = list(twin, &under("p/")).await.objects[0].etag.clone();
    let request = FetchRequest { if_match: Some(listed), ..whole("p/a") };
    let fetched = twin.source().fetch(&request).await.unwrap();
    assert_eq!(read(fetched.body).await.unwrap(), b"first");
    twin.put("p/a", bytes("second"));
    assert_eq!(refused(twin, &request).await, (Class::Object, "PreconditionFailed".into()));
    assert_eq!(fetch(twin, "p/a").await.size, 6);
    let quoted = FetchRequest { if_match: Some(ETag::new("\"a9f0e61a137d86aa9db53465e0801612\"")), ..whole("p/a") };
    twin.source().fetch(&quoted).await.map(drop).unwrap();
}

pub async fn a_missing_object_is_its_own_error<T: Twin>(twin: &T) {
    assert_eq!(refused(twin, &whole("p/missing")).await, (Class::Object, "NoSuchKey".into()));
}

pub async fn an_archived_object_is_its_own_error<T: Twin>(twin: &T) {
    twin.put("p/cold", Thing { archived: Some("GLACIER"), ..bytes("x") });
    assert_eq!(refused(twin, &whole("p/cold")).await, (Class::Object, "InvalidObjectState".into()));
}

pub async fn no_key_is_too_odd_to_list_and_fetch<T: Twin>(twin: &T) {
    let mut odd: Vec<String> = [
        "p/a//b",
        "p/./a",
        "p/../a",
        "p/../../etc/passwd",
        "p//",
        "p/a/",
        "p/a",
        "p/a/b",
        "p/.",
        "p/..",
        "p/ ",
        "p/  x ",
        "p/a+b",
        "p/a%2Bb",
        "p/%41",
        "p/100%",
        "p/a?b=c&d",
        "p/a#b",
        "p/a;b:c@d",
        "p/\\x",
        "p/\u{1}\u{7f}",
        "p/\u{1b}[31m",
        "p/\n\r\t",
        "p/'\"<>&]]>",
        "p/é/ß/日本/\u{1f600}",
        "p/e\u{301}",
        "p/\u{202e}gz.nosj",
        "p/\u{fffd}\u{ffff}",
        "p/AUX",
        "p/*",
    ]
    .map(str::to_owned)
    .to_vec();
    odd.push(format!("p/{}", "k".repeat(1_022)));
    odd.push(format!("p/{}", "€".repeat(340)));
    odd.sort();
    for key in &odd {
        twin.put(key, bytes(key));
    }
    assert_eq!(keys(&list(twin, &under("p/")).await), odd);
    for key in &odd {
        let fetched = twin.source().fetch(&whole(key)).await.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(String::from_utf8(read(fetched.body).await.unwrap()).as_ref(), Ok(key));
        let exact = list(twin, &under(key)).await;
        assert_eq!(exact.objects.first().map(|object| &object.key), Some(key));
        let after = list(twin, &ListRequest { start_after: Some(key.clone()), ..under("p/") }).await;
        let position = odd.iter().position(|other| other == key).unwrap();
        assert_eq!(keys(&after), odd[position + 1..]);
    }
}

pub async fn an_empty_object_has_an_empty_body<T: Twin>(twin: &T) {
    twin.put("p/empty", bytes(""));
    let fetched = fetch(twin, "p/empty").await;
    assert_eq!(fetched.size, 0);
    assert!(read(fetched.body).await.unwrap().is_empty());
}

pub async fn a_denied_prefix_ends_the_stream_and_a_denied_object_only_itself<T: Twin>(twin: &T) {
    for key in ["p/open/a", "p/shut/a"] {
        twin.put(key, bytes("x"));
    }
    twin.deny("p/shut/");
    let error = twin.source().list(&under("p/shut/")).await.unwrap_err();
    assert_eq!((error.class(), error.code()), (Class::Stream, "AccessDenied"));
    assert_eq!(refused(twin, &whole("p/shut/a")).await, (Class::Object, "AccessDenied".into()));
    assert_eq!(list(twin, &under("p/open/")).await.objects.len(), 1);
    fetch(twin, "p/open/a").await;
}

pub async fn requests_are_counted_failed_ones_too<T: Twin>(twin: &T) {
    twin.put("p/a", bytes("x"));
    list(twin, &under("p/")).await;
    list(twin, &under("q/")).await;
    fetch(twin, "p/a").await;
    refused(twin, &whole("p/b")).await;
    refused(twin, &whole("p/c")).await;
    let requests = twin.requests();
    assert_eq!((requests.lists, requests.fetches), (2, 3));
}
