//! One day of one stream, hour by hour: what is here, what is proved, and what is wrong.

use super::calendar::{ALTERED, MISSING, State, Stretch};
use crate::clock::{Timestamp, shift};
use crate::error::Error;
use crate::layout::{Day, Kind, Stream, is_organization};
use crate::ledger::{Fault, Ledger, StreamId};
use crate::manifest::Manifests;
use crate::prove::cover::Cover;
use crate::records::Records;
use crate::status;

/// Records of a day that are counted at most.
const MOST: u64 = 1_000_000;
const HOUR_SECONDS: i64 = 3600;

/// What is here of an hour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Here {
    /// Objects.
    pub objects: u64,
    /// Their bytes, as stored.
    pub bytes: u64,
}

/// What is here of a day.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counted {
    /// By hour.
    pub hours: [Here; 24],
    /// There is more than was counted.
    pub is_cut: bool,
}

/// One hour as the page shows it.
pub struct Hour {
    /// 0 to 23
    pub hour: usize,
    /// How it is.
    pub state: State,
    /// What is here.
    pub here: Here,
    /// What is wrong, in words.
    pub wrong: String,
}

/// The stream of these rows, as keys name it; `None` for a kind that is no longer known.
pub fn stream(source: &str, shown: &status::Stream) -> Option<Stream> {
    let kind = Kind::named(&shown.kind)?;
    let below = shown.prefix.strip_suffix(&format!("/{}/{}/", kind.folder, shown.region))?;
    let (above, account) = below.rsplit_once('/')?;
    let (root, organization) = match above.rsplit_once('/') {
        Some((root, last)) if is_organization(last) => (format!("{root}/"), Some(last)),
        _ => (format!("{above}/"), None),
    };
    let stream = Stream::new(source, &root, organization, account, kind, &shown.region);
    (stream.prefix == shown.prefix).then_some(stream)
}

/// Counts the records of a day, from the ledger and its manifests, a thousand at a time.
///
/// # Errors
/// As for [`Records::peek`].
pub async fn count(
    ledger: &Ledger,
    manifests: &Manifests,
    stream: &Stream,
    id: StreamId,
    day: Day,
) -> Result<Counted, Error> {
    let folder = day.folder();
    let mut records = Records::from(ledger, manifests, stream, id, &folder);
    let (mut counted, mut all) = (Counted::default(), 0);
    while let Some(record) = records.next().await? {
        if !record.suffix.starts_with(&folder) {
            break;
        }
        if all == MOST {
            counted.is_cut = true;
            break;
        }
        all += 1;
        let here = &mut counted.hours[hour_of(stream, &record.suffix, day)];
        here.objects += 1;
        here.bytes += record.size;
    }
    Ok(counted)
}

/// The hour that a name tells; the first for names that tell none.
fn hour_of(stream: &Stream, suffix: &str, day: Day) -> usize {
    let seconds = day.start().zip(stream.dated(suffix)).map(|(start, at)| at.as_second() - start.as_second());
    let hour = seconds.and_then(|seconds| usize::try_from(seconds / HOUR_SECONDS).ok());
    hour.filter(|hour| *hour < 24).unwrap_or(0)
}

/// Judges each hour of a day that has begun by `now`.
pub fn hours(
    stream: &Stream,
    progress: &status::Progress,
    cover: &Cover,
    day: Day,
    counted: &Counted,
    faults: &[Fault],
    now: Timestamp,
) -> Vec<Hour> {
    let Some(start) = day.start() else { return Vec::new() };
    let begin = |hour: usize| shift(start, i64::try_from(hour).unwrap_or(0) * HOUR_SECONDS);
    let hour = |hour: usize| {
        let from = begin(hour);
        let of_hour = || faults.iter().filter(move |fault| hour_of(stream, &fault.suffix, day) == hour);
        let is = |kinds: &[&str]| of_hour().any(|fault| kinds.contains(&fault.kind.as_str()));
        let here = counted.hours[hour];
        let stretch = Stretch {
            from,
            to: shift(from, HOUR_SECONDS),
            objects: here.objects,
            is_altered: is(&ALTERED),
            is_missing: is(&MISSING),
            is_before: false,
        };
        let state = stretch.state(progress, cover);
        let mut kinds: Vec<String> = of_hour().map(|fault| fault.kind.replace('_', " ")).collect();
        kinds.sort_unstable();
        kinds.dedup();
        Hour { hour, state, here, wrong: kinds.join(", ") }
    };
    // What a name says of the future is shown in its hour all the same.
    (0..24).filter(|hour| begin(*hour) <= now || counted.hours[*hour].objects > 0).map(hour).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::CheckpointRow;
    use crate::status::{Rows, Status};

    const DAY: Day = Day(20_260_310);

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn shown(prefix: &str) -> status::Stream {
        let row = CheckpointRow {
            source: "acme".into(),
            account: "222222222222".into(),
            kind: "CloudTrail".into(),
            region: "eu-west-1".into(),
            prefix: prefix.into(),
            listed_through: Some(at("2026-03-10T11:30:00Z")),
            ..CheckpointRow::default()
        };
        let rows = Rows { checkpoints: vec![row], ..Rows::default() };
        Status::of(rows, at("2026-03-10T12:00:00Z")).accounts.remove(0).streams.remove(0)
    }

    #[test]
    fn a_stream_is_known_by_its_prefix_wherever_it_stands() {
        for root in ["AWSLogs/", "a/AWSLogs/", "AWSLogs/o-abcdefghij/"] {
            let prefix = format!("{root}222222222222/CloudTrail/eu-west-1/");
            let found = stream("acme", &shown(&prefix)).unwrap();
            assert_eq!((found.prefix.as_str(), found.organization.is_some()), (prefix.as_str(), root.contains("o-")));
        }
        assert!(stream("acme", &shown("AWSLogs/222222222222/CloudTrail/eu-central-1/")).is_none());
    }

    #[test]
    fn each_hour_has_its_own_state_and_its_own_faults() {
        let shown = shown("AWSLogs/222222222222/CloudTrail/eu-west-1/");
        let stream = stream("acme", &shown).unwrap();
        let cover = Cover { proven: vec![(at("2026-03-10T00:00:00Z"), at("2026-03-10T09:10:00Z"))], gaps: Vec::new() };
        let mut counted = Counted::default();
        counted.hours[5] = Here { objects: 3, bytes: 300 };
        counted.hours[9] = Here { objects: 1, bytes: 100 };
        let fault = Fault {
            kind: "bad_signature".into(),
            suffix: "2026/03/10/222222222222_CloudTrail_eu-west-1_20260310T0659Z_x.json.gz".into(),
            detail: String::new(),
            since: None,
        };
        let hours = hours(&stream, &shown.progress, &cover, DAY, &counted, &[fault], at("2026-03-10T12:00:00Z"));
        let states: Vec<State> = hours.iter().map(|hour| hour.state).collect();
        use State::{Altered, Busy, Mirrored, Proven, ProvenQuiet, Quiet};
        assert_eq!(states[4..], [ProvenQuiet, Proven, Altered, ProvenQuiet, Quiet, Mirrored, Quiet, Busy, Busy]);
        assert_eq!((hours[6].wrong.as_str(), hours[5].here.objects), ("bad signature", 3));
    }
}
