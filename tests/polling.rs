//! What polling costs and how late it is, over a day: the decisions themselves, on a clock of numbers.
//!
//! 100 accounts in 17 regions. A tenth of the streams brings something every five minutes, three tenths every hour, the
//! rest nothing at all until, once, something comes. Siblings come late. Counted are LIST requests of all tiers, and
//! how long an object waits at the source before a listing shows it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use trailsync::clock::{Timestamp, shift};
use trailsync::config::{Input, Poll, load};
use trailsync::rhythm::Rhythm;
use trailsync::window::{Memory, Scope, due, poll_window, tier_reached};

const STREAMS: u64 = 100 * 17;
const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// What one listing takes.
const LIST_SECONDS: i64 = 1;

/// The defaults of the configuration.
fn rules() -> Poll {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("trailsync.toml");
    let text = format!(
        r#"
[state]
dir = "{dir}/state"
[source.prod]
bucket = "example-trail-logs"
region = "eu-central-1"
destination = {{ path = "{dir}/copy" }}
[source.prod.role]
arn = "arn:aws:iam::111111111111:role/CloudTrailRead"
session_name = "trailsync"
"#,
        dir = dir.path().display(),
    );
    std::fs::write(&file, text).expect("written");
    let input = Input { file: Some(file), environment: BTreeMap::new(), overrides: vec![], now: Timestamp::now() };
    let config = load(&input).unwrap_or_else(|refused| panic!("{refused}")).config;
    config.sources["prod"].poll.clone()
}

/// An object: when its name says it was made, and when the bucket had it.
#[derive(Debug, Clone, Copy)]
struct Object {
    named: i64,
    delivered: i64,
    found: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Temper {
    Busy,
    Hourly,
    Silent,
}

struct Stream {
    temper: Temper,
    /// In the order of delivery.
    objects: Vec<Object>,
    next: usize,
    missed: Vec<usize>,
    memory: Memory,
    rhythm: Rhythm,
}

/// What a day came to.
#[derive(Debug, Default)]
struct Day {
    polls: u64,
    tiers: u64,
    busy: Vec<i64>,
    hourly: Vec<i64>,
    silent: Vec<i64>,
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).expect("a time")
}

impl Stream {
    fn of(number: u64, days: i64) -> Self {
        let mut random = fastrand::Rng::with_seed(number);
        let temper = match number % 10 {
            0 => Temper::Busy,
            1..=3 => Temper::Hourly,
            _ => Temper::Silent,
        };
        let mut objects = Vec::new();
        let (mut time, gap) = match temper {
            Temper::Busy => (random.i64(0..5 * MINUTE), 5 * MINUTE),
            Temper::Hourly => (random.i64(0..HOUR), HOUR),
            // Once a day, at any time.
            Temper::Silent => (random.i64(0..DAY), DAY),
        };
        while time < days * DAY {
            // A delivery is some minutes after what it holds, and not exactly when it would be.
            let delivered = time + random.i64(-MINUTE / 2..=MINUTE / 2);
            objects.push(Object { named: delivered - random.i64(MINUTE..8 * MINUTE), delivered, found: false });
            // A sibling of the same minute, now and then some minutes late, rarely an hour.
            if temper != Temper::Silent && random.u64(0..10) == 0 {
                let late = if random.u64(0..20) == 0 { HOUR } else { random.i64(MINUTE..10 * MINUTE) };
                objects.push(Object { named: delivered - 5 * MINUTE, delivered: delivered + late, found: false });
            }
            time += gap;
        }
        objects.sort_unstable_by_key(|object| object.delivered);
        let mut memory = Memory::default();
        memory.complete(Scope::Full, at(0), at(0));
        memory.complete(Scope::Tail, at(0), at(0));
        Self { temper, objects, next: 0, missed: Vec::new(), memory, rhythm: Rhythm::default() }
    }

    /// One turn as the mirror takes it: the poll, what it shows, and the tiers that are due.
    fn turn(&mut self, rules: &Poll, now: i64, day: &mut Day, counted: bool) -> Duration {
        let time = at(now);
        let window = poll_window(&self.memory, rules, time, None);
        assert!(window.complete, "no stream is left for longer than a day");
        day.polls += u64::from(counted);
        self.find(rules, window.from, now, day, counted);
        if let Some(tier) = tier_reached(&self.memory, rules, window.from, time) {
            self.memory.complete(tier, time, time);
        }
        self.memory.complete(Scope::Poll, time, time);
        while let Some(tier) = due(&self.memory, rules, None, time) {
            day.tiers += u64::from(counted);
            self.find(rules, tier.from.unwrap_or(Timestamp::MIN), now, day, counted);
            self.memory.complete(tier.scope, time, time);
        }
        self.rhythm.next_poll(rules, time)
    }

    /// What a listing from there on shows now, that none has shown before.
    fn find(&mut self, rules: &Poll, from: Timestamp, now: i64, day: &mut Day, counted: bool) {
        while self.objects.get(self.next).is_some_and(|object| object.delivered <= now) {
            self.missed.push(self.next);
            self.next += 1;
        }
        let mut shown = Vec::new();
        self.missed.retain(|index| {
            let object = &mut self.objects[*index];
            // A minute's name is listed with its minute.
            object.found = shift(at(object.named), MINUTE) >= from;
            if object.found {
                shown.push(object.delivered);
            }
            !object.found
        });
        self.rhythm.delivered(rules, shown.iter().map(|second| at(*second)), at(now));
        let lags = match self.temper {
            Temper::Busy => &mut day.busy,
            Temper::Hourly => &mut day.hourly,
            Temper::Silent => &mut day.silent,
        };
        if counted {
            lags.extend(shown.iter().map(|delivered| now + LIST_SECONDS - delivered));
        }
    }
}

/// The second of two days: on the first, streams become known.
fn simulate(rules: &Poll, count: u64, steady: bool) -> Day {
    let mut streams: Vec<_> = (0..count).map(|number| Stream::of(number, 2)).collect();
    let mut queue: BinaryHeap<_> = (0..streams.len()).map(|index| Reverse((0, index))).collect();
    let mut day = Day::default();
    while let Some(Reverse((now, index))) = queue.pop() {
        if now >= 2 * DAY {
            break;
        }
        let wait = streams[index].turn(rules, now, &mut day, now >= DAY);
        let wait = if steady { rules.every } else { wait };
        queue.push(Reverse((now + LIST_SECONDS + i64::try_from(wait.as_secs()).expect("short"), index)));
    }
    for stream in &streams {
        let unseen = stream.objects.iter().filter(|object| object.delivered < 2 * DAY - 15 * MINUTE && !object.found);
        assert_eq!(unseen.count(), 0, "every object is found within minutes, late ones too");
    }
    day
}

fn quantile(lags: &mut [i64], share: f64) -> i64 {
    lags.sort_unstable();
    lags[((lags.len() - 1) as f64 * share).round() as usize]
}

#[test]
fn a_day_costs_a_fifth_of_polling_every_stream_each_minute_and_is_as_prompt_where_something_happens() {
    // Of those that are polled each minute a tenth is enough: each costs the same.
    let (mut ours, mut steady) = (simulate(&rules(), STREAMS, false), simulate(&rules(), STREAMS / 10, true));
    (steady.polls, steady.tiers) = (steady.polls * 10, steady.tiers * 10);
    for (name, day) in [("ours", &mut ours), ("each minute", &mut steady)] {
        let lags = |lags: &mut [i64]| [0.5, 0.99, 1.0].map(|share| quantile(lags, share));
        println!(
            "{name}: {} polls, {} deeper listings; lag p50/p99/max: busy {:?} s, hourly {:?} s, silent {:?} s",
            day.polls,
            day.tiers,
            lags(&mut day.busy),
            lags(&mut day.hourly),
            lags(&mut day.silent),
        );
    }
    let requests = |day: &Day| day.polls + day.tiers;
    assert!(requests(&ours) * 5 <= requests(&steady), "{} of {}", requests(&ours), requests(&steady));
    assert!(ours.polls > 100 * STREAMS / 2 && steady.polls > 1000 * STREAMS, "a day was simulated");

    let (p50, p99) = (quantile(&mut ours.busy, 0.5), quantile(&mut ours.busy, 0.99));
    assert!(p50 <= 40 && p99 <= 90, "busy streams lag {p50} s, {p99} s");
    let theirs = quantile(&mut steady.busy, 0.99);
    assert!(p99 <= theirs + 5, "busy streams lag {p99} s, and {theirs} s when each is polled every minute");
    assert!(ours.busy.len() as u64 > STREAMS / 10 * 280, "{} objects of busy streams", ours.busy.len());

    let latest = quantile(&mut ours.silent, 1.0);
    assert!(latest <= 15 * MINUTE, "the first object of a silent stream waits {latest} s");
    assert!(ours.silent.len() as u64 > STREAMS / 2, "{} objects of silent streams", ours.silent.len());
}

#[test]
fn deeper_listings_of_an_ordinary_stream_are_few_for_its_polls_reach_two_hours_back() {
    let (rules, mut day) = (rules(), Day::default());
    let mut stream = Stream::of(0, 2);
    let mut now = 0;
    while now < 2 * DAY {
        let wait = stream.turn(&rules, now, &mut day, now >= DAY);
        now += i64::try_from(wait.as_secs()).expect("short");
    }
    // 26 hours deep every six hours, and what is dated ahead once a day.
    assert!((4..=6).contains(&day.tiers), "{} deeper listings a day", day.tiers);
}
