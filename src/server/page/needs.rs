//! What needs the reader: each with since when, why, the next command, and its entry in the runbook.

use std::collections::HashMap;

use super::stories::{Story, story};
use super::view::{since, title, when};
use crate::clock::{Timestamp, shift};
use crate::key::Shown;
use crate::ledger::{AlarmRow, KeyRequestRow, ScrubRow, SessionRow};
use crate::status::{Account, Condition, Proving, Status, Stream};

/// Troubles on one page.
const MOST: usize = 50;
/// What one cause brings about, as far as it is named.
const BROUGHT_ABOUT: usize = 3;

/// Something that somebody must look at.
#[derive(Debug, PartialEq, Eq)]
pub struct Need {
    /// The class that colours it.
    pub class: &'static str,
    /// In one line.
    pub what: String,
    /// RFC 3339, or nothing.
    pub since: String,
    /// In the words of whoever failed.
    pub why: String,
    /// A command.
    pub next: String,
    /// The alert whose entry in the runbook tells more.
    pub runbook: &'static str,
}

/// The first of all troubles, and how many there are: credentials first, for they explain others.
pub fn needs(status: &Status) -> (Vec<Need>, usize) {
    let sessions = status.sessions.iter().filter_map(session);
    let accounts = status.accounts.iter().filter_map(account);
    let idle = status.accounts.iter().filter_map(|account| out_of_step(account, status.at));
    let streams =
        status.accounts.iter().flat_map(|account| account.streams.iter().filter_map(move |one| failing(account, one)));
    let alarms = status.alarms.iter().map(alarm);
    let held = status.accounts.iter().flat_map(|account| account.streams.iter().filter_map(move |s| held(account, s)));
    let keys = status.key_requests.iter().map(keys);
    let scrubs = status.scrubs.iter().filter_map(scrub);
    let all = sessions.chain(accounts).chain(streams).chain(idle).chain(alarms).chain(held).chain(keys).chain(scrubs);
    let mut all = by_cause(all);
    let count = all.len();
    let unshown = status.alarm_total().saturating_sub(status.alarms.len() as u64);
    let more = usize::try_from(unshown).unwrap_or(0);
    all.sort_by_key(|need| need.class != "bad");
    all.truncate(MOST);
    (all, count + more)
}

/// Tells a cause once, with all that it brings about.
fn by_cause(needs: impl Iterator<Item = Need>) -> Vec<Need> {
    let (mut told, mut places) = (Vec::<Need>::new(), HashMap::<String, (usize, usize)>::new());
    for need in needs {
        match places.get_mut(&need.why) {
            Some((place, more)) => {
                *more += 1;
                match *more {
                    ..=BROUGHT_ABOUT => told[*place].what += &format!("; {}", need.what),
                    more if more == BROUGHT_ABOUT + 1 => told[*place].what += "; and more",
                    _ => {}
                }
            }
            None => {
                places.insert(need.why.clone(), (told.len(), 0));
                told.push(need);
            }
        }
    }
    told
}

fn session(session: &SessionRow) -> Option<Need> {
    let why = session.last_error.as_ref()?;
    Some(Need {
        class: "bad",
        what: format!("{}: the role session cannot be renewed", session.source),
        since: since(session.last_error_at),
        why: Shown(why).to_string(),
        next: check(&session.source),
        runbook: "TrailsyncRenewalFails",
    })
}

/// A source or account that fails as a whole.
fn account(account: &Account) -> Option<Need> {
    let of_stream = account.streams.iter().any(|stream| stream.progress.error.is_some());
    let why = account.progress.error.as_ref().filter(|_| !of_stream)?;
    Some(Need {
        class: "bad",
        what: format!("{} fails", title(account)),
        since: since(account.progress.failing_since),
        why: Shown(why).to_string(),
        next: check(&account.source),
        runbook: "TrailsyncFailing",
    })
}

/// An account that is not in step though nothing fails: every line that is not green says why.
fn out_of_step(account: &Account, now: Timestamp) -> Option<Need> {
    let progress = &account.progress;
    let through = when(progress.listed_through);
    let (began, why, runbook) = match progress.condition {
        Condition::Late => (
            progress.lag_seconds.map(|lag| shift(now, -lag)),
            format!("an object was listed and is not here; listed through {through}"),
            "TrailsyncLag",
        ),
        Condition::Unknown => (
            progress.listed_through,
            format!("it was to be listed again and was not: nothing is known since {through}"),
            "TrailsyncNoSuccess",
        ),
        Condition::New => (None, "it was never listed completely".to_owned(), "TrailsyncNeverListed"),
        Condition::Current | Condition::CatchingUp | Condition::Failing => return None,
    };
    Some(Need {
        class: "warn",
        what: format!("{} is {}", title(account), progress.condition),
        since: since(began),
        why,
        next: check(&account.source),
        runbook,
    })
}

fn failing(account: &Account, stream: &Stream) -> Option<Need> {
    let why = stream.progress.error.as_ref()?;
    Some(Need {
        class: "bad",
        what: format!("{} {} {} fails", title(account), stream.kind, Shown(&stream.region)),
        since: since(stream.progress.failing_since),
        why: Shown(why).to_string(),
        next: check(&account.source),
        runbook: "TrailsyncFailing",
    })
}

fn held(account: &Account, stream: &Stream) -> Option<Need> {
    let proof = &stream.progress.proof;
    let is_held = stream.kind == "CloudTrail-Digest" && proof.state == Proving::Held;
    is_held.then(|| Need {
        class: "warn",
        what: format!("{} {}: the proof is held back", title(account), Shown(&stream.region)),
        since: since(proof.held_since),
        why: Shown(proof.held_back_by.as_deref().unwrap_or_default()).to_string(),
        next: format!("trailsync verify --account {}", account.account),
        runbook: "TrailsyncProofStalled",
    })
}

fn keys(keys: &KeyRequestRow) -> Need {
    Need {
        class: "warn",
        what: format!("{}: the public keys of {} cannot be had", keys.source, Shown(&keys.region)),
        since: since(keys.failing_since),
        why: Shown(keys.error.as_deref().unwrap_or_default()).to_string(),
        next: check(&keys.source),
        runbook: "TrailsyncProofStalled",
    }
}

fn scrub(scrub: &ScrubRow) -> Option<Need> {
    (scrub.unmended > 0).then(|| Need {
        class: "warn",
        what: format!("{}: {} damaged copies are not mended", scrub.source, scrub.unmended),
        since: String::new(),
        why: "reading the copy again found them; they are fetched again as soon as the source has them".into(),
        next: "trailsync scrub".into(),
        runbook: "TrailsyncCopyDamaged",
    })
}

fn alarm(alarm: &AlarmRow) -> Need {
    let Story { class, next, runbook, .. } = *story(&alarm.kind);
    Need {
        class,
        what: format!("{}: {}", alarm.source, alarm.kind.replace('_', " ")),
        since: since(alarm.first_at),
        why: Shown(&alarm.detail).to_string(),
        next: next.into(),
        runbook,
    }
}

fn check(source: &str) -> String {
    // A destination's session is shown as `<source>/destination`.
    format!("trailsync check {}", source.split('/').next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{AlarmCount, CheckpointRow};
    use crate::status::Rows;

    fn at() -> Timestamp {
        "2026-03-10T12:00:00Z".parse().unwrap()
    }

    fn failing(region: usize) -> CheckpointRow {
        CheckpointRow {
            source: "acme".into(),
            account: "222222222222".into(),
            kind: "CloudTrail".into(),
            region: format!("r-{region}"),
            error: Some("AccessDenied".into()),
            failing_since: Some(at()),
            ..CheckpointRow::default()
        }
    }

    #[test]
    fn one_cause_is_told_once_with_what_it_brings_about() {
        let session =
            SessionRow { source: "acme".into(), last_error: Some("AccessDenied".into()), ..SessionRow::default() };
        let rows = Rows { checkpoints: (0..9).map(failing).collect(), sessions: vec![session], ..Rows::default() };
        let (told, count) = needs(&Status::of(rows, at()));
        assert_eq!((told.len(), count), (1, 1));
        let expected = "acme: the role session cannot be renewed; acme/222222222222 CloudTrail r-0 fails; \
                        acme/222222222222 CloudTrail r-1 fails; acme/222222222222 CloudTrail r-2 fails; and more";
        assert_eq!((told[0].what.as_str(), told[0].next.as_str()), (expected, "trailsync check acme"));
    }

    #[test]
    fn what_is_not_shown_is_counted_and_what_is_bad_comes_first() {
        let alarm = |n: usize, kind: &str| AlarmRow {
            source: "acme".into(),
            kind: kind.into(),
            subject: n.to_string(),
            first_at: Some(at()),
            last_at: Some(at()),
            count: 1,
            detail: format!("detail {n}"),
        };
        let mut alarms: Vec<_> = (0..99).map(|n| alarm(n, "conflict")).collect();
        alarms.push(alarm(99, "altered"));
        let count = |kind: &str, count| AlarmCount { source: "acme".into(), kind: kind.into(), count };
        let alarm_counts = vec![count("altered", 1), count("conflict", 500)];
        let (told, all) = needs(&Status::of(Rows { alarms, alarm_counts, ..Rows::default() }, at()));
        assert_eq!((told.len(), all), (MOST, 501));
        assert_eq!((told[0].what.as_str(), told[0].class), ("acme: altered", "bad"));
    }
}
