//! Secrets stay out of the log, however much of it is asked for.

use std::io::Write;
use std::sync::{Arc, Mutex};

use fakeaws::{Fault, ObjectSpec, Op};
use tracing_subscriber::fmt::MakeWriter;
use trailsync::source::Source as _;

use crate::account::{BUCKET, Shared};
use crate::suite::{read, under, whole};
use crate::twins::road;

/// A log in memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn nothing_that_is_logged_at_trace_holds_a_key_or_token() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(log.clone());
    let _logging = tracing::subscriber::set_default(subscriber.finish());
    let shared = Shared::own_logs().await;
    let key = "AWSLogs/222222222222/x.json.gz";
    shared.world.put_object(BUCKET, key, ObjectSpec::bytes("x"));
    let (keeper, bucket) = shared.kept_bucket(&shared.source("", "accounts = [\"222222222222\"]"));
    let bucket = road(bucket);
    bucket.list(&under("AWSLogs/222222222222/")).await.unwrap();
    read(bucket.fetch(&whole(key)).await.unwrap().body).await.unwrap();
    shared.world.faults().inject(Fault::ExpiredToken).on(Op::GetObject).always();
    let first = keeper.current().unwrap();
    bucket.fetch(&whole(key)).await.map(drop).unwrap_err();
    let second = keeper.current().unwrap();
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(text.len() > 10_000, "the log is there");
    let secrets = [
        ("the user's secret key", shared.user.secret.as_str()),
        ("a session's secret key", first.secret_access_key()),
        ("a session's token", first.session_token().unwrap()),
        ("the next session's secret key", second.secret_access_key()),
        ("the next session's token", second.session_token().unwrap()),
    ];
    for (what, secret) in secrets {
        if let Some(at) = text.find(secret) {
            let line = text[..at].rfind('\n').map_or(0, |start| start + 1);
            let shown: String = text[line..at].chars().take(300).collect();
            panic!("{what} is in the log: {shown}…");
        }
    }
}

crate::again_by_the_sdk_alone![nothing_that_is_logged_at_trace_holds_a_key_or_token,];
