//! Manifests stand twice, in the state and beside the copy: each is restored from the other by its recorded hash.

use tracing::warn;

use super::judge::{self, Manifest};
use super::{Scrubber, Walk};
use crate::damage::Damage;
use crate::destination::Destination;
use crate::error::{Class, Error, Report};
use crate::layout::{Day, Stream};
use crate::ledger::{Alarm, SealedDay, StreamId};
use crate::manifest::{Entries, file_name, sha256};
use crate::mirror::mend::unless_unreadable;
use crate::source::Source;

/// Sealed days that are asked for at once.
const DAYS: u32 = 500;

impl<S: Source, D: Destination> Scrubber<S, D> {
    /// Compares the manifests of a stream; `false` when it is to go on later.
    pub(super) async fn manifests(&self, walk: &mut Walk<'_>, stream: &Stream, id: StreamId) -> Result<bool, Error> {
        loop {
            let from = Day(walk.row.day.saturating_add(1));
            let days = self.mirror.ledger().sealed_days(stream, id, from, DAYS).await?;
            if days.is_empty() {
                return Ok(true);
            }
            for sealed in days {
                if walk.is_over(self.rules.objects_a_turn) {
                    return Ok(false);
                }
                self.generations(walk, stream, id, &sealed).await?;
                walk.row.day = sealed.day.0;
            }
        }
    }

    /// The files of one day, newest first: each names the hash of the one before.
    async fn generations(
        &self,
        walk: &mut Walk<'_>,
        stream: &Stream,
        id: StreamId,
        sealed: &SealedDay,
    ) -> Result<(), Error> {
        let mut expected = sealed.generations.hash;
        for generation in (sealed.generations.first..=sealed.generations.last).rev() {
            let name = file_name(stream, sealed.day, generation);
            if !self.compare(walk, id, &name, &expected).await? || generation == sealed.generations.first {
                break;
            }
            let path = self.mirror.manifests().path(stream, sealed.day, generation);
            let opened = tokio::task::spawn_blocking(move || Entries::open(&path)).await;
            let entries = opened.map_err(std::io::Error::other).and_then(|opened| opened);
            let entries = entries.map_err(|error| unreadable(&name, &error))?;
            let previous = entries.header().previous.as_deref().and_then(|text| {
                let mut hash = [0; 32];
                hex::decode_to_slice(text, &mut hash).ok().map(|()| hash)
            });
            let Some(previous) = previous else { break };
            expected = previous;
        }
        Ok(())
    }

    /// Compares the two files of one manifest, and restores the one from the other; `false` when both are damaged.
    async fn compare(&self, walk: &mut Walk<'_>, id: StreamId, name: &str, expected: &[u8; 32]) -> Result<bool, Error> {
        let (own, beside) = (self.mirror.manifests().clone(), format!("manifests/{name}"));
        let named = name.to_owned();
        let ours = tokio::task::spawn_blocking(move || own.bytes(&named)).await;
        let ours = ours.map_err(std::io::Error::other).and_then(|ours| ours).map_err(|e| unreadable(name, &e))?;
        let theirs = unless_unreadable(self.mirror.destination().recall(&beside).await)?;
        let read = ours.as_ref().map_or(0, Vec::len) + theirs.as_ref().map_or(0, Vec::len);
        let hash = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|bytes| sha256(bytes));
        let judged = judge::manifest(expected, hash(&ours), hash(&theirs));
        let (damage, subject) = match judged {
            Manifest::FromCopy => (damage(&ours), format!("state: {beside}")),
            _ => (damage(&theirs), format!(".trailsync/{beside}")),
        };
        let done = match (judged, ours, theirs) {
            (Manifest::FromState, Some(bytes), _) => Some(self.restore_beside(&beside, bytes).await?),
            (Manifest::FromCopy, _, Some(bytes)) => Some(self.restore_ours(name, bytes).await?),
            _ => None,
        };
        if judged != Manifest::Whole {
            self.note_manifest(walk, id, damage, subject, expected, done);
        } else {
            walk.is_whole(id, || subject);
            walk.is_whole(id, || format!("state: {beside}"));
        }
        self.spent(walk, read as u64).await;
        Ok(judged != Manifest::Neither)
    }

    async fn restore_beside(&self, name: &str, bytes: Vec<u8>) -> Result<String, Error> {
        let copy = self.mirror.destination();
        let kept = copy.set_aside_kept(name).await?;
        copy.keep(name, bytes).await?;
        Ok(match kept {
            Some(kept) => format!("it is restored from the state; what was damaged is kept as `{kept}`"),
            None => "it is restored from the state".to_owned(),
        })
    }

    async fn restore_ours(&self, name: &str, bytes: Vec<u8>) -> Result<String, Error> {
        let (own, named, now) = (self.mirror.manifests().clone(), name.to_owned(), self.ours().as_second());
        let restored = tokio::task::spawn_blocking(move || own.restore(&named, &bytes, now)).await;
        let restored = restored.map_err(std::io::Error::other).and_then(|restored| restored);
        restored.map_err(|error| unreadable(name, &error))?;
        Ok("it is restored from the copy; what was damaged is kept beside it".to_owned())
    }

    fn note_manifest(
        &self,
        walk: &mut Walk<'_>,
        id: StreamId,
        damage: Damage,
        subject: String,
        expected: &[u8; 32],
        done: Option<String>,
    ) {
        let mend = match done {
            Some(_) => "",
            None => {
                "; so is the other one, in the state or beside the copy: restore either from a backup, or run \
                     `trailsync rebuild --set-aside`"
            }
        };
        let what = if damage == Damage::Lost { "is not there any more" } else { "is damaged" };
        let detail = format!("the manifest `{subject}` {what}: recorded SHA-256 {}{mend}", hex::encode(expected));
        warn!(alarm = damage.alarm(), source = %walk.row.source, "{detail}");
        walk.found();
        walk.commit.raised.push((id, Alarm { kind: damage.alarm(), subject: subject.clone(), detail }));
        walk.commit.mended.extend(done.map(|done| (id, subject, done)));
    }
}

fn damage(file: &Option<Vec<u8>>) -> Damage {
    if file.is_some() { Damage::Rotten } else { Damage::Lost }
}

fn unreadable(name: &str, error: &std::io::Error) -> Error {
    let report = Report::new("read the manifest", name, error);
    Error::of(Class::Stream, report.mend("check the disk of the state directory"))
}
