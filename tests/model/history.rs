//! Histories: what happens to a bucket, to its service and to us, one event after the other, from a seed.

use fastrand::Rng;
use trailsync::clock::{Timestamp, shift};
use trailsync::error::Class;
use trailsync::layout::Kind;
use trailsync::source::memory::Fault;

pub const MINUTE: i64 = 60;
pub const HOUR: i64 = 60 * MINUTE;
pub const DAY: i64 = 24 * HOUR;
pub const YEAR: i64 = 365 * DAY;

/// What stays as it is through a history.
#[derive(Debug, Clone)]
pub struct Setup {
    pub start: Timestamp,
    pub kind: &'static Kind,
    pub page_size: usize,
    pub in_flight: usize,
    pub since: Option<Timestamp>,
    pub retention: Option<i64>,
    pub ledger_days: u32,
}

/// A history and what it is played on.
#[derive(Debug, Clone)]
pub struct History {
    pub setup: Setup,
    pub events: Vec<Event>,
}

/// How a key is named, at the time of its delivery.
#[derive(Debug, Clone)]
pub enum Name {
    /// As the service names it, dated so many seconds before its delivery.
    Dated(i64),
    /// Another name in the folder of the day so many seconds before.
    InDay(i64, &'static str),
    /// A key that is in no day folder, or in one that is none.
    Odd(&'static str),
}

/// What happens to the bucket. Numbers choose among what is there, whatever their size.
#[derive(Debug, Clone)]
pub enum Change {
    Deliver {
        name: Name,
        content: Content,
    },
    /// Several at once, of one minute.
    Siblings {
        count: usize,
        age: i64,
    },
    /// Other bytes under the same key.
    Rewrite(usize),
    /// Other bytes under the key that was written last.
    RewriteLatest,
    /// The same bytes under another tag.
    Retag(usize),
    Remove(usize),
    /// What was removed comes back as it was.
    PutBack(usize),
    /// The lifecycle of the bucket removes what is old enough.
    Expire,
    /// One object cannot be read.
    Refuse(usize, &'static str),
    Archive(usize),
    /// No object can be read, nor any that is delivered from now on.
    RefuseAll(&'static str),
    /// Everything can be read again.
    PermitAll,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    Whole,
    /// Its tag is no MD5.
    Encrypted,
    /// No whole gzip member at the source.
    Broken,
    Empty,
}

/// How a turn is cut short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    Not,
    /// The process dies before or after the n-th request.
    Killed(u64),
    /// The process dies when the turn has been polled so often.
    Dropped(u32),
    /// It is told to stop at the n-th request.
    Stopped(u64),
}

#[derive(Debug, Clone)]
pub enum Event {
    /// Time passes, on every clock.
    Advance(i64),
    Bucket(Change),
    /// In the middle of the next turn, at its n-th request.
    Meanwhile(u64, Change),
    /// From now on our clock is so far ahead.
    OurClock(i64),
    /// From now on the service's clock is so far ahead.
    ServiceClock(i64),
    FailList(u64, Fault),
    FailFetch(u64, Fault),
    FailStage(usize),
    FailPublish(usize),
    Full(bool),
    PageSize(usize),
    /// `brief` allows deep listings one page.
    Turn {
        poll: bool,
        brief: bool,
        cut: Cut,
    },
    Restart,
    PowerCut,
    /// Somebody asks for everything to be listed again.
    Everything,
    /// Somebody asks for the quarantine to be tried again.
    Retry,
}

impl Event {
    /// Whether an object may fail on its account.
    pub fn may_fail_objects(&self) -> bool {
        match self {
            Self::Bucket(change) | Self::Meanwhile(_, change) => {
                matches!(change, Change::Refuse(..) | Change::RefuseAll(_) | Change::Archive(_))
            }
            Self::FailFetch(..) | Self::FailStage(_) | Self::FailPublish(_) | Self::Full(_) => true,
            _ => false,
        }
    }
}

const ODD: [&str; 20] = [
    "",
    "!",
    "/",
    "//2024/01/01/x",
    "0",
    "0001/01/01/x",
    "1999/12/31/old.json.gz",
    "2024",
    "2024/",
    "2024/02",
    "2024/02/30/x.json.gz",
    "2024/02/29",
    "2024/13/01/x",
    "2024/1/5/x",
    "202x/01/01/y",
    "9999/12/31/z.gz",
    "notes.txt",
    "zz/../zz",
    "\u{10ffff}",
    "é/\u{7f}",
];
const IN_DAY: [&str; 6] = ["", "0odd.txt", "222222222222_", "zzz.json.gz", "a/b", "\u{10ffff}"];

impl History {
    /// The history of a seed.
    pub fn of(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let setup = setup(&mut rng);
        let mut events = Vec::new();
        for _ in 0..rng.usize(0..6) {
            backlog(&mut rng, &mut events);
        }
        for _ in 0..rng.usize(6..26) {
            step(&mut rng, &setup, &mut events);
        }
        Self { setup, events }
    }
}

fn setup(rng: &mut Rng) -> Setup {
    let kind = if rng.u8(0..4) == 0 { "CloudTrail-Digest" } else { "CloudTrail" };
    let start = Timestamp::from_second(1_709_110_000 + rng.i64(0..3 * DAY)).expect("a time in leap day's week");
    Setup {
        start,
        kind: Kind::named(kind).expect("a known kind"),
        page_size: if rng.u8(0..8) == 0 { 1000 } else { rng.usize(2..11) },
        in_flight: rng.usize(1..5),
        since: (rng.u8(0..6) == 0).then(|| shift(start, -rng.i64(0..90 * DAY))),
        retention: (rng.u8(0..5) == 0).then(|| rng.i64(10..100) * DAY),
        ledger_days: rng.u32(1..4),
    }
}

fn backlog(rng: &mut Rng, events: &mut Vec<Event>) {
    let age = rng.i64(0..120 * DAY);
    events.push(Event::Bucket(match rng.u8(0..3) {
        0 => Change::Deliver { name: name(rng), content: content(rng) },
        _ => Change::Siblings { count: rng.usize(1..8), age },
    }));
}

fn step(rng: &mut Rng, setup: &Setup, events: &mut Vec<Event>) {
    match rng.u8(0..100) {
        0..34 => {
            round(rng, events);
            if setup.retention.is_some() && rng.u8(0..4) == 0 {
                events.push(Event::Bucket(Change::Expire));
            }
        }
        34..62 => events.push(Event::Bucket(change(rng, setup))),
        62..70 => events.push(Event::Meanwhile(rng.u64(1..12), change(rng, setup))),
        70..76 => events.push(Event::Advance(pause(rng))),
        76..84 => events.push(fault(rng)),
        84..92 => cut_short(rng, events),
        92..94 => clocks(rng, events),
        94 => match rng.u8(0..6) {
            0..3 => clocks(rng, events),
            3 => trickle(rng, events),
            _ => gone_for_a_while(rng, events),
        },
        95 => outage_of_the_key(rng, events),
        96 => events.push(Event::Restart),
        97 => events.push(Event::PowerCut),
        98 => events.push(Event::Everything),
        _ => events.push(Event::Retry),
    }
}

/// What the scheduler does: it waits, then it lets the stream have its turn.
fn round(rng: &mut Rng, events: &mut Vec<Event>) {
    let wait = if rng.u8(0..3) == 0 { pause(rng) } else { rng.i64(1..20 * MINUTE) };
    events.push(Event::Advance(wait));
    events.push(Event::Turn { poll: rng.u8(0..12) > 0, brief: rng.u8(0..3) == 0, cut: Cut::Not });
    if rng.u8(0..4) == 0 {
        events.push(Event::Turn { poll: false, brief: rng.bool(), cut: Cut::Not });
    }
}

fn pause(rng: &mut Rng) -> i64 {
    let about = [MINUTE, 15 * MINUTE, 2 * HOUR, 7 * HOUR, DAY, 3 * DAY, 40 * DAY, 100 * DAY];
    let upper = if rng.u8(0..5) == 0 { about.len() } else { 6 };
    about[rng.usize(0..upper)] + rng.i64(0..90)
}

fn change(rng: &mut Rng, setup: &Setup) -> Change {
    match rng.u8(0..100) {
        0..20 => Change::Siblings { count: rng.usize(1..7), age: rng.i64(0..20 * MINUTE) },
        20..55 => Change::Deliver { name: name(rng), content: content(rng) },
        55..67 => Change::Rewrite(rng.usize(..)),
        67..73 => Change::Retag(rng.usize(..)),
        73..83 => Change::Remove(rng.usize(..)),
        83..88 => Change::PutBack(rng.usize(..)),
        88..91 if setup.retention.is_some() => Change::Expire,
        88..95 => Change::Refuse(rng.usize(..), ["AccessDenied", "KMS.DisabledException", "Weird"][rng.usize(0..3)]),
        95..97 => Change::Archive(rng.usize(..)),
        _ => Change::PermitAll,
    }
}

fn name(rng: &mut Rng) -> Name {
    match rng.u8(0..100) {
        0..20 => Name::Dated(rng.i64(0..20 * MINUTE)),
        20..35 => Name::Dated(rng.i64(20 * MINUTE..2 * HOUR)),
        35..50 => Name::Dated(rng.i64(2 * HOUR..26 * HOUR)),
        50..65 => Name::Dated(rng.i64(26 * HOUR..35 * DAY)),
        65..70 => Name::Dated(rng.i64(35 * DAY..400 * DAY)),
        70..72 => Name::Dated(-rng.i64(0..25 * HOUR)),
        72..75 => {
            // Hardly inside of what some listing covers.
            let edge = [20 * MINUTE, 2 * HOUR, 26 * HOUR, 35 * DAY, -24 * HOUR][rng.usize(0..5)];
            Name::Dated(edge - rng.i64(1..HOUR))
        }
        75..78 => Name::Dated(-rng.i64(25 * HOUR..5 * DAY)),
        78..80 => Name::Dated(-rng.i64(5 * DAY..12 * YEAR)),
        80..88 => Name::InDay(rng.i64(-2 * DAY..40 * DAY), IN_DAY[rng.usize(0..IN_DAY.len())]),
        _ => Name::Odd(ODD[rng.usize(0..ODD.len())]),
    }
}

fn content(rng: &mut Rng) -> Content {
    match rng.u8(0..20) {
        0..14 => Content::Whole,
        14..18 => Content::Encrypted,
        18 => Content::Broken,
        _ => Content::Empty,
    }
}

fn fault(rng: &mut Rng) -> Event {
    let class = [Class::Transient, Class::Transient, Class::Stream, Class::Credentials][rng.usize(0..4)];
    match rng.u8(0..10) {
        0..2 => Event::FailList(rng.u64(1..8), Fault::Error(class, "Broken".into())),
        2 => Event::FailList(rng.u64(1..8), Fault::EmptyPage),
        3 => Event::FailFetch(rng.u64(1..10), Fault::Error(class, "Broken".into())),
        4..6 => Event::FailFetch(
            rng.u64(1..5),
            [Fault::BrokenBody(3), Fault::ShortBody(2), Fault::FlippedBit(20)][rng.usize(0..3)].clone(),
        ),
        6 => Event::FailStage(rng.usize(1..9)),
        7 => Event::FailPublish(rng.usize(0..4)),
        8 => Event::Full(rng.bool()),
        _ => Event::PageSize(rng.usize(1..12)),
    }
}

fn cut_short(rng: &mut Rng, events: &mut Vec<Event>) {
    events.push(Event::Advance(rng.i64(1..HOUR)));
    let cut = match rng.u8(0..5) {
        0..2 => Cut::Killed(rng.u64(1..30)),
        2..4 => Cut::Dropped(rng.u32(1..60)),
        _ => Cut::Stopped(rng.u64(1..20)),
    };
    if rng.u8(0..3) == 0 {
        events
            .push(Event::Bucket(Change::Deliver { name: Name::Dated(rng.i64(0..20 * MINUTE)), content: content(rng) }));
    }
    events.push(Event::Turn { poll: rng.u8(0..4) > 0, brief: rng.bool(), cut });
    if rng.u8(0..3) == 0 {
        // What stands there without a row is in its way.
        events.push(Event::Bucket(Change::RewriteLatest));
    }
}

/// One clock is wrong for a while; the other is right, or nobody could tell.
fn clocks(rng: &mut Rng, events: &mut Vec<Event>) {
    let ours = rng.u8(0..4) > 0;
    // A service that is wrong by less than five minutes is taken at its word.
    let far = [2 * MINUTE, 10 * MINUTE, HOUR, 5 * HOUR, 3 * DAY, 10 * YEAR][rng.usize(usize::from(!ours)..6)];
    let ahead = if rng.bool() { far } else { -far };
    let set = if ours { Event::OurClock } else { Event::ServiceClock };
    events.push(set(ahead));
    for _ in 0..rng.usize(0..4) {
        round(rng, events);
    }
    if !ours || rng.bool() {
        events.push(set(0));
    }
}

/// Objects of one old day come one a day, so that it is sealed again and again.
fn trickle(rng: &mut Rng, events: &mut Vec<Event>) {
    let age = rng.i64(5..9) * DAY;
    for days in 0..rng.i64(9..14) {
        events.push(Event::Bucket(Change::Siblings { count: rng.usize(1..3), age: age + days * (DAY + HOUR) }));
        events.push(Event::Advance(DAY + HOUR));
        events.push(Event::Turn { poll: true, brief: false, cut: Cut::Not });
    }
}

fn gone_for_a_while(rng: &mut Rng, events: &mut Vec<Event>) {
    let nth = rng.usize(..);
    for change in [Change::Remove(nth), Change::PutBack(nth)] {
        events.push(Event::Bucket(change));
        events.push(Event::Advance(DAY + HOUR));
        events.push(Event::Turn { poll: true, brief: false, cut: Cut::Not });
    }
}

/// The key of the whole bucket is withheld for a day.
fn outage_of_the_key(rng: &mut Rng, events: &mut Vec<Event>) {
    events.push(Event::Bucket(Change::RefuseAll("KMS.DisabledException")));
    for _ in 0..rng.usize(1..5) {
        events.push(Event::Bucket(Change::Siblings { count: rng.usize(1..25), age: rng.i64(0..20 * MINUTE) }));
        round(rng, events);
    }
    events.push(Event::Advance(DAY));
    events.push(Event::Bucket(Change::PermitAll));
}
