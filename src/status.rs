//! What the state means, in the words that page, terminal and JSON share.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use serde::Serialize;

use crate::clock::{Timestamp, seconds_between};
use crate::layout::is_account;
use crate::ledger::{
    AlarmCount, AlarmRow, ChainRow, CheckpointRow, HealthRow, KeyRequestRow, PruneRow, QuarantineRow, ScrubRow,
    SessionRow, StreamId,
};

mod health;
mod proof;

use health::{Common, Remembered};
pub use health::{FAILS_AFTER, Health, Hop, MENDED_AFTER, Works};
use proof::Proofs;
pub use proof::{Proof, Proving};

/// How a stream or an account is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// Every object that was delivered is here.
    Current,
    /// Its older objects are still being fetched.
    CatchingUp,
    /// It was never listed completely.
    New,
    /// No evidence that is young enough.
    Unknown,
    /// An object has been waiting for too long.
    Late,
    /// Passes fail.
    Failing,
}

impl Condition {
    /// Every one, best first.
    pub const ALL: [Self; 6] = [Self::Current, Self::CatchingUp, Self::New, Self::Unknown, Self::Late, Self::Failing];

    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::CatchingUp => "catching up",
            Self::New => "new",
            Self::Unknown => "unknown",
            Self::Late => "late",
            Self::Failing => "failing",
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Kind of alarm: a folder that is not mirrored.
pub const UNKNOWN_FOLDER: &str = "unknown_folder";
/// Kind of alarm: a prefix whose accounts, kinds or regions could not be listed.
pub const UNDISCOVERED: &str = "undiscovered";
/// Kind of alarm: a configured account of which there is nothing.
pub const NOTHING_THERE: &str = "nothing_there";
/// Kinds that an account's condition, or the list of folders, tells already.
const OF_DISCOVERY: [&str; 3] = [UNKNOWN_FOLDER, UNDISCOVERED, NOTHING_THERE];

/// Beyond this an object that is not here makes its stream late.
const LATE_SECONDS: i64 = 3600;
/// us-east-1, S3 Standard: dollars a thousand requests.
pub const LIST_DOLLARS: f64 = 0.005 / 1000.0;
/// The same for reads of objects.
pub const GET_DOLLARS: f64 = 0.0004 / 1000.0;

/// Everything that `status` says. `version` changes when a field changes its meaning or goes.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// 1
    pub version: u32,
    /// When this was read.
    pub at: Timestamp,
    /// The worst of its accounts.
    pub condition: Condition,
    /// One sentence.
    pub summary: String,
    /// A source and account each, worst first.
    pub accounts: Vec<Account>,
    /// Role sessions.
    pub sessions: Vec<SessionRow>,
    /// Objects that could not be mirrored, oldest first.
    pub quarantine: Vec<QuarantineRow>,
    /// What somebody must look at.
    pub alarms: Vec<AlarmRow>,
    /// How many there are of each kind, shown or not.
    pub alarm_counts: Vec<AlarmCount>,
    /// Folders that are not mirrored.
    pub unknown_folders: Vec<AlarmRow>,
    /// Regions whose public keys cannot be asked for, and why.
    pub key_requests: Vec<KeyRequestRow>,
    /// How far each source's copy was read again, and what was found.
    pub scrubs: Vec<ScrubRow>,
    /// What was deleted at each source, where that is configured.
    pub deletions: Vec<PruneRow>,
    /// Conditions that are to be remembered anew.
    #[serde(skip)]
    pub health_changes: Vec<HealthRow>,
}

/// An account of a source.
#[derive(Debug, Clone, Serialize)]
pub struct Account {
    /// Name of the source.
    pub source: String,
    /// `o-…`
    pub organization: Option<String>,
    /// 12 digits.
    pub account: String,
    /// All its streams together.
    #[serde(flatten)]
    pub progress: Progress,
    /// Which hop works, since when, and why not.
    pub health: Vec<Health>,
    /// By kind and region.
    pub streams: Vec<Stream>,
}

/// A stream of an account.
#[derive(Debug, Clone, Serialize)]
pub struct Stream {
    /// Number of the stream in the state.
    #[serde(skip)]
    pub id: StreamId,
    /// Key prefix of all its objects.
    #[serde(skip)]
    pub prefix: String,
    /// Kind.
    pub kind: String,
    /// Region.
    pub region: String,
    /// How far it is.
    #[serde(flatten)]
    pub progress: Progress,
}

/// How far a stream is, or an account with all its streams.
#[derive(Debug, Clone, Serialize)]
pub struct Progress {
    /// In one word.
    pub condition: Condition,
    /// Every object that was delivered before has an outcome.
    pub listed_through: Option<Timestamp>,
    /// The latest time in the name of a stored object.
    pub newest_object: Option<Timestamp>,
    /// When an object was stored last.
    pub last_stored_at: Option<Timestamp>,
    /// The object that was stored last.
    pub last_key: Option<String>,
    /// Age of the oldest object that is not here, else of the last complete listing.
    pub lag_seconds: Option<i64>,
    /// Objects stored.
    pub objects: u64,
    /// Bytes stored.
    pub bytes: u64,
    /// Objects in their first tries.
    pub failing: u64,
    /// Objects in quarantine.
    pub quarantined: u64,
    /// When it is polled next.
    pub next_poll: Option<Timestamp>,
    /// LIST requests by tier.
    pub list_requests: BTreeMap<String, u64>,
    /// GET requests.
    pub get_requests: u64,
    /// What the requests cost in us-east-1.
    pub request_dollars: f64,
    /// The deep listing that is under way.
    pub sweep: Option<String>,
    /// How far it is proved.
    #[serde(flatten)]
    pub proof: Proof,
    /// Why passes fail, and since when.
    pub error: Option<String>,
    /// Since when.
    pub failing_since: Option<Timestamp>,
}

/// The rows that a status is made of.
#[derive(Debug, Clone, Default)]
#[expect(missing_docs, reason = "named by their types")]
pub struct Rows {
    /// The configured sources; rows of others are left out.
    pub sources: Vec<String>,
    pub checkpoints: Vec<CheckpointRow>,
    pub sessions: Vec<SessionRow>,
    pub quarantine: Vec<QuarantineRow>,
    pub alarms: Vec<AlarmRow>,
    pub alarm_counts: Vec<AlarmCount>,
    pub chains: Vec<ChainRow>,
    pub key_requests: Vec<KeyRequestRow>,
    pub scrubs: Vec<ScrubRow>,
    /// What was deleted at the sources.
    pub prunes: Vec<PruneRow>,
    /// What is remembered of each hop.
    pub health: Vec<HealthRow>,
}

impl Status {
    /// Says what the rows mean at `now`.
    pub fn of(rows: Rows, now: Timestamp) -> Self {
        let mut rows = rows.configured();
        let mut accounts = accounts(&rows, now);
        let mut remembered = Remembered::of(std::mem::take(&mut rows.health));
        let (undiscovered, alarms): (Vec<_>, Vec<_>) =
            rows.alarms.into_iter().partition(|alarm| matches!(alarm.kind.as_str(), UNDISCOVERED | NOTHING_THERE));
        undiscovered.iter().for_each(|alarm| unseen(&mut accounts, alarm));
        for source in &rows.sources {
            if !accounts.iter().any(|account| account.source == *source) {
                accounts.push(Account::unseen(source, "", Condition::New));
            }
        }
        accounts.sort_by(|a, b| {
            b.progress
                .condition
                .cmp(&a.progress.condition)
                .then_with(|| (&a.source, &a.organization, &a.account).cmp(&(&b.source, &b.organization, &b.account)))
        });
        let (unknown_folders, alarms): (Vec<_>, Vec<_>) =
            alarms.into_iter().partition(|alarm| alarm.kind == UNKNOWN_FOLDER);
        let common = Common::of(&rows.sessions, &alarms);
        let judged = accounts.iter_mut().flat_map(|account| remembered.judge(account, &common, now));
        let health_changes = judged.collect();
        let condition = accounts.iter().map(|account| account.progress.condition).max().unwrap_or(Condition::New);
        let summary = summary(&accounts, total(&rows.alarm_counts), now);
        Self {
            version: 1,
            at: now,
            condition,
            summary,
            accounts,
            sessions: rows.sessions,
            quarantine: rows.quarantine,
            alarms,
            alarm_counts: rows.alarm_counts,
            unknown_folders,
            scrubs: rows.scrubs,
            deletions: rows.prunes,
            health_changes,
            key_requests: rows.key_requests.into_iter().filter(|keys| keys.error.is_some()).collect(),
        }
    }
}

impl Status {
    /// Alarms that somebody must look at, shown or not.
    pub fn alarm_total(&self) -> u64 {
        total(&self.alarm_counts)
    }
}

fn total(counts: &[AlarmCount]) -> u64 {
    let needs_somebody = |count: &&AlarmCount| !OF_DISCOVERY.contains(&count.kind.as_str());
    counts.iter().filter(needs_somebody).map(|kind| kind.count).sum()
}

impl Rows {
    /// Without the sources that are no longer configured.
    fn configured(mut self) -> Self {
        let sources = &self.sources;
        let is_configured = |source: &str| sources.iter().any(|name| name == source);
        if !sources.is_empty() {
            self.checkpoints.retain(|row| is_configured(&row.source));
            // A destination's session is shown as `<source>/destination`; no source's name has a slash.
            self.sessions.retain(|row| is_configured(row.source.split('/').next().unwrap_or_default()));
            self.quarantine.retain(|row| is_configured(&row.source));
            self.alarms.retain(|row| is_configured(&row.source));
            self.alarm_counts.retain(|row| is_configured(&row.source));
            self.scrubs.retain(|row| is_configured(&row.source));
            self.prunes.retain(|row| is_configured(&row.source));
        }
        self
    }
}

/// Every account with its streams, in the order of the rows.
fn accounts(rows: &Rows, now: Timestamp) -> Vec<Account> {
    let proofs = Proofs::of(rows);
    let mut accounts = Vec::<Account>::new();
    let mut places = HashMap::<_, usize>::new();
    for row in &rows.checkpoints {
        let stream = stream_of(row, proofs.of_stream(row), now);
        match places.get(&(&row.source, &row.organization, &row.account)) {
            Some(place) => accounts[*place].add(stream),
            None => {
                places.insert((&row.source, &row.organization, &row.account), accounts.len());
                accounts.push(Account::of(row, stream));
            }
        }
    }
    accounts
}

/// What could not be looked at is failing, and what was looked for in vain is new: neither is in step.
fn unseen(accounts: &mut Vec<Account>, alarm: &AlarmRow) {
    let (id, failing) = (account_in(&alarm.subject), alarm.kind == UNDISCOVERED);
    let condition = if failing { Condition::Failing } else { Condition::New };
    let known = accounts.iter().position(|known| known.source == alarm.source && known.account == id);
    let at = known.unwrap_or_else(|| {
        accounts.push(Account::unseen(&alarm.source, id, condition));
        accounts.len() - 1
    });
    let progress = &mut accounts[at].progress;
    progress.condition = progress.condition.max(condition);
    progress.error = progress.error.take().or_else(|| failing.then(|| alarm.detail.clone()));
    progress.failing_since = [progress.failing_since, alarm.first_at.filter(|_| failing)].into_iter().flatten().min();
}

/// The account of a prefix or of its own id; empty for a source as a whole.
fn account_in(subject: &str) -> &str {
    subject.split('/').rfind(|part| is_account(part)).unwrap_or("")
}

/// One sentence that says whether everything is in step.
fn summary(accounts: &[Account], alarms: u64, now: Timestamp) -> String {
    let current = accounts.iter().filter(|account| account.progress.condition == Condition::Current).count();
    let newest = accounts.iter().filter_map(|account| account.progress.newest_object).max();
    let newest =
        newest.map_or_else(String::new, |at| format!("; newest object {at}, {} behind", Age(seconds_between(at, now))));
    let alarms = match alarms {
        0 => String::new(),
        1 => "; 1 alarm".into(),
        n => format!("; {n} alarms"),
    };
    match accounts.len() {
        0 => "Nothing was listed yet.".into(),
        all if all == current => format!("All {all} accounts current{newest}{alarms}."),
        all => format!("{} of {all} accounts not current{newest}{alarms}.", all - current),
    }
}

impl Account {
    /// An account, or a source where `account` is empty, of which nothing was ever listed.
    fn unseen(source: &str, account: &str, condition: Condition) -> Self {
        let progress = Progress {
            condition,
            listed_through: None,
            newest_object: None,
            last_stored_at: None,
            last_key: None,
            lag_seconds: None,
            objects: 0,
            bytes: 0,
            failing: 0,
            quarantined: 0,
            next_poll: None,
            list_requests: BTreeMap::new(),
            get_requests: 0,
            request_dollars: 0.0,
            sweep: None,
            error: None,
            failing_since: None,
            proof: Proof::default(),
        };
        let (source, account) = (source.to_owned(), account.to_owned());
        Self { source, organization: None, account, progress, health: Vec::new(), streams: Vec::new() }
    }

    fn of(row: &CheckpointRow, stream: Stream) -> Self {
        Self {
            source: row.source.clone(),
            organization: row.organization.clone(),
            account: row.account.clone(),
            progress: stream.progress.clone(),
            health: Vec::new(),
            streams: vec![stream],
        }
    }

    fn add(&mut self, stream: Stream) {
        let (all, one) = (&mut self.progress, &stream.progress);
        all.condition = all.condition.max(one.condition);
        // An account is listed through where all its streams are.
        all.listed_through = all.listed_through.zip(one.listed_through).map(|(a, b)| a.min(b));
        if one.last_stored_at > all.last_stored_at {
            all.last_key.clone_from(&one.last_key);
        }
        all.newest_object = all.newest_object.max(one.newest_object);
        all.last_stored_at = all.last_stored_at.max(one.last_stored_at);
        all.lag_seconds = all.lag_seconds.zip(one.lag_seconds).map(|(a, b)| a.max(b));
        all.objects += one.objects;
        all.bytes += one.bytes;
        all.failing += one.failing;
        all.quarantined += one.quarantined;
        all.next_poll = [all.next_poll, one.next_poll].into_iter().flatten().min();
        for (tier, requests) in &one.list_requests {
            *all.list_requests.entry(tier.clone()).or_default() += requests;
        }
        all.get_requests += one.get_requests;
        all.request_dollars += one.request_dollars;
        all.sweep = all.sweep.take().or_else(|| one.sweep.clone());
        all.proof.add(&one.proof);
        all.error = all.error.take().or_else(|| one.error.clone());
        all.failing_since = [all.failing_since, one.failing_since].into_iter().flatten().min();
        self.streams.push(stream);
    }
}

fn stream_of(row: &CheckpointRow, proof: Proof, now: Timestamp) -> Stream {
    let lists: u64 = row.lists.values().sum();
    let oldest = row.oldest_missing.or(row.listed_through);
    let progress = Progress {
        condition: condition(row, now),
        listed_through: row.listed_through,
        newest_object: row.newest_object,
        last_stored_at: row.last_stored_at,
        last_key: row.last_key.clone(),
        lag_seconds: oldest.map(|oldest| seconds_between(oldest, now).max(0)),
        objects: row.objects,
        bytes: row.bytes,
        failing: row.failing,
        quarantined: row.quarantined,
        next_poll: row.next_poll,
        list_requests: row.lists.clone(),
        get_requests: row.gets,
        #[expect(clippy::cast_precision_loss, reason = "a price to the cent")]
        request_dollars: lists as f64 * LIST_DOLLARS + row.gets as f64 * GET_DOLLARS,
        sweep: row.sweep.clone(),
        proof,
        error: row.error.clone(),
        failing_since: row.failing_since,
    };
    Stream { id: row.id, prefix: row.prefix.clone(), kind: row.kind.clone(), region: row.region.clone(), progress }
}

/// Green is earned: only by a recent complete listing, with nothing waiting for long.
///
/// One quarantined object does not put a stream out of step; it is shown beside.
fn condition(row: &CheckpointRow, now: Timestamp) -> Condition {
    let overdue = |at: Timestamp| seconds_between(at, now);
    if row.error.is_some() {
        return Condition::Failing;
    }
    let Some(listed_through) = row.listed_through else {
        return if row.sweep.is_some() { Condition::CatchingUp } else { Condition::New };
    };
    // Twice the longest beat: what should have been polled by now and was not.
    let interval = row.next_poll.map_or(LATE_SECONDS, |next| seconds_between(listed_through, next).max(60));
    if row.next_poll.is_some_and(|next| overdue(next) > interval.max(60)) {
        return Condition::Unknown;
    }
    if row.failing > 0 && row.oldest_missing.is_some_and(|oldest| overdue(oldest) > LATE_SECONDS) {
        return Condition::Late;
    }
    match row.sweep.as_deref() {
        Some("backfill") => Condition::CatchingUp,
        _ => Condition::Current,
    }
}

/// A number of seconds in the two units that matter.
pub struct Age(pub i64);

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.max(0);
        let text = match seconds {
            0..=119 => format!("{seconds} s"),
            120..=7199 => format!("{} min", seconds / 60),
            7200..=172_799 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
            _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
        };
        f.pad(&text)
    }
}
