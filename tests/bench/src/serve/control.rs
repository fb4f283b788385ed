//! What the benchmark asks the server itself: how often it was asked for what, and what that took; and what it tells it
//! to do.

use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::resource::{UsageWho, getrusage};
use serde::{Deserialize, Serialize};

use super::World;
use super::http::{Answer, Request};
use super::objects::Entry;

/// No bucket has this name.
pub const PATH: &str = "_bench";

/// Requests by kind since the last reset, and the processor time of the whole process since its start.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Counters {
    /// Listings, of both versions.
    pub lists: u64,
    /// `GetObject`.
    pub gets: u64,
    /// `HeadObject`.
    pub heads: u64,
    /// `PutObject`.
    pub puts: u64,
    /// `CopyObject`.
    pub copies: u64,
    /// STS, and public keys.
    pub sts: u64,
    /// Anything else.
    pub others: u64,
    /// Those of the listings that fold keys into folders: discovery.
    pub folders: u64,
    /// GETs in flight at once, at most.
    pub most_gets: u64,
    /// From request to answer, all GETs together.
    pub get_seconds: f64,
    /// When a stream was listed first, seconds since 1970; 0: none was.
    pub first_listing: f64,
    /// Bytes of bodies.
    pub sent_bytes: u64,
    /// Processor time.
    pub cpu_seconds: f64,
    /// The most memory that was resident at once.
    pub peak_kib: i64,
}

/// New objects.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Delivery {
    /// So many in all, spread over all streams.
    pub objects: u64,
    /// Over the last so many minutes.
    pub minutes: i64,
}

/// When the clock began to run faster, and how many times as fast it runs.
static CLOCK: OnceLock<(f64, f64)> = OnceLock::new();

/// Lets the clock run faster from then on.
pub fn run_at(began: f64, rate: f64) {
    let _ = CLOCK.set((began, rate));
}

/// The time, seconds since 1970.
pub fn now() -> i64 {
    precise() as i64
}

/// The same with its fraction.
pub fn precise() -> f64 {
    let real = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    CLOCK.get().map_or(real, |(began, rate)| began + (real - began) * rate)
}

/// Answers the benchmark.
pub fn answer(world: &mut World, request: &Request) -> Answer {
    match request.key.as_slice() {
        b"counters" => {
            let mut counters = world.counters;
            if let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) {
                let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
                counters.cpu_seconds = seconds(usage.user_time()) + seconds(usage.system_time());
                counters.peak_kib = usage.max_rss();
            }
            Answer::new("200 OK", serde_json::to_vec(&counters).unwrap_or_default())
        }
        b"lags" => match &mut world.deliveries {
            Some(deliveries) => Answer::new("200 OK", serde_json::to_vec(deliveries.lags()).unwrap_or_default()),
            None => Answer::error("404 Not Found", "Unknown"),
        },
        b"reset" => {
            world.counters = Counters::default();
            Answer::new("200 OK", "")
        }
        b"deliver" => match serde_json::from_slice(&request.body) {
            Ok(delivery) => {
                deliver(world, delivery);
                Answer::new("200 OK", "")
            }
            Err(_) => Answer::error("400 Bad Request", "Malformed"),
        },
        _ => Answer::error("404 Not Found", "Unknown"),
    }
}

fn deliver(world: &mut World, Delivery { objects, minutes }: Delivery) {
    let bucket = &mut world.source;
    let (now, streams) = (now(), bucket.keys.streams().len() as u64);
    let before = bucket.later.len() as u64;
    for number in before..before + objects {
        let stream = &bucket.keys.streams()[(number % streams) as usize];
        let mut key = Vec::new();
        let back = (number / streams).cast_signed() % minutes.max(1);
        // Places that no computed log of the same minute has.
        bucket.keys.name(stream, now - 60 * back, 200_000 + number, u64::MAX - number, &mut key);
        bucket.later.insert(key, Entry { body: number as usize, modified: now });
    }
}

/// The buckets of whoever asks.
pub fn buckets(world: &World) -> Answer {
    Answer::xml(format!(
        "<ListAllMyBucketsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Buckets><Bucket><Name>{}</Name>\
         <CreationDate>2024-01-01T00:00:00.000Z</CreationDate></Bucket></Buckets></ListAllMyBucketsResult>",
        world.spec.bucket
    ))
}
