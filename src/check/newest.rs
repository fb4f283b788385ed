//! The newest object of some streams, in few listings.

use crate::clock::{Timestamp, shift};
use crate::layout::{Day, Stream};
use crate::object::Listed;
use crate::source::ListRequest;
use crate::source::client::Failure;
use crate::source::s3::probe::Probe;
use crate::window::AHEAD_SECONDS;

/// Streams that are asked for something recent; more say no more about permissions.
const RECENT: usize = 20;
/// Streams that are searched back to their beginning.
const SEARCHED: usize = 4;
/// Pages of one stretch of time that are read to find its end.
const PAGES: usize = 30;
const HOUR: i64 = 3_600;

/// An object that was found, and its stream.
pub(super) struct Newest<'a> {
    pub stream: &'a Stream,
    pub object: Listed,
}

/// The newest object of the first of these streams that has a recent one, else of the first few that have any.
///
/// What is dated ahead does not count: somebody planted it.
///
/// # Errors
/// What the service said.
pub(super) async fn newest<'a>(
    probe: &Probe,
    streams: &[&'a Stream],
    now: Timestamp,
) -> Result<Option<Newest<'a>>, Failure> {
    for hours in [2, 26] {
        for stream in streams.iter().take(RECENT) {
            let from = shift(now, -hours * HOUR);
            let range = Range { prefix: stream.prefix.clone(), after: Some(stream.bound(from)) };
            if let Some(object) = last(probe, stream, range, now).await? {
                return Ok(Some(Newest { stream, object }));
            }
        }
    }
    let mut found: Option<Newest<'a>> = None;
    for stream in streams.iter().take(SEARCHED) {
        let object = last_of_all(probe, stream, now).await?;
        let newer = |object: &Listed| found.as_ref().is_none_or(|found| found.object.modified < object.modified);
        if let Some(object) = object.filter(newer) {
            found = Some(Newest { stream, object });
        }
    }
    Ok(found)
}

/// Keys with this prefix, after this suffix of the stream.
struct Range {
    prefix: String,
    after: Option<String>,
}

/// The last object of a range that is dated and not ahead.
async fn last(probe: &Probe, stream: &Stream, range: Range, now: Timestamp) -> Result<Option<Listed>, Failure> {
    let start_after = range.after.map(|after| format!("{}{after}", stream.prefix));
    let mut request = ListRequest { prefix: range.prefix, start_after, ..ListRequest::default() };
    let (end, mut last) = (shift(now, AHEAD_SECONDS), None);
    for _ in 0..PAGES {
        let page = probe.page(&request, None).await?;
        let dated = |object: &Listed| stream.suffix(&object.key).and_then(|suffix| stream.dated(suffix));
        let here = page.objects.into_iter().rfind(|object| dated(object).is_some_and(|dated| dated <= end));
        last = here.or(last);
        request.token = page.next;
        if request.token.is_none() {
            break;
        }
    }
    Ok(last)
}

/// Year by year, month by month, day by day, from the latest on.
async fn last_of_all(probe: &Probe, stream: &Stream, now: Timestamp) -> Result<Option<Listed>, Failure> {
    let end = Day::at(shift(now, AHEAD_SECONDS)).folder();
    let mut under = stream.prefix.clone();
    for digits in [4, 2, 2] {
        let request = ListRequest { prefix: under.clone(), delimiter: true, ..ListRequest::default() };
        let page = probe.page(&request, None).await?;
        let is_past = |folder: &&String| {
            let name = folder.strip_prefix(&under).and_then(|name| name.strip_suffix('/'));
            let is_number = name.is_some_and(|name| name.len() == digits && name.bytes().all(|b| b.is_ascii_digit()));
            is_number && stream.suffix(folder).is_some_and(|suffix| suffix <= end.as_str())
        };
        let Some(folder) = page.prefixes.iter().rfind(is_past) else { return Ok(None) };
        under.clone_from(folder);
    }
    last(probe, stream, Range { prefix: under, after: None }, now).await
}
