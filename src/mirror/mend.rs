//! Puts a damaged copy right, when the source still has the bytes that were recorded.

use tracing::{info, warn};

use super::outcome::{Got, Want, failure_of, occupied};
use super::{Mirror, Progress};
use crate::damage::{self, Damage};
use crate::destination::{Destination, Item, Place, Published, sidecar};
use crate::error::Error;
use crate::key::Shown;
use crate::ledger::{Alarm, Commit};
use crate::manifest::sha256;
use crate::object::Metadata;
use crate::path::Part;
use crate::record::Record;
use crate::source::Source;

impl<S: Source, D: Destination> Mirror<S, D> {
    /// Looks at a copy whose recorded bytes were fetched once more, and publishes them where it is damaged.
    ///
    /// They are staged and found right before anything is moved: from then on a crash leaves an empty place at worst,
    /// and the object is still due to be fetched.
    pub(super) async fn mend(
        &self,
        progress: &Progress,
        want: Want,
        got: Got<D::Handle>,
        commit: &mut Commit,
    ) -> Result<(), Error> {
        let (Some(known), key) = (&want.known, want.listed.key.clone()) else { return Ok(()) };
        let place = Place { key: key.clone(), version: known.version() };
        let metadata = match progress.stream.kind.keeps_metadata {
            true => Some(self.metadata_of(&want, &place, got.metadata).await?),
            false => None,
        };
        let (is_damaged, kept) = self.clear_place(&place, known, metadata.as_ref()).await?;
        crate::failpoint::reached("set_aside");
        if is_damaged {
            let item = Item { place, staged: got.staged, metadata };
            match self.destination.publish(vec![item]).await?.pop() {
                Some(Published::New | Published::Same) => {}
                Some(Published::Refused(why)) => {
                    commit.failed.push(self.refused(progress, &want, *why));
                    return Ok(());
                }
                Some(Published::Other) | None => {
                    commit.failed.push(failure_of(&want, &occupied(&want), self.service.now()));
                    return Ok(());
                }
            }
            crate::failpoint::reached("mended");
        }
        let what = told(is_damaged, &kept);
        info!(source = %progress.stream.source, object.key = %Shown(&key), "`{}`: {what}", Shown(&key));
        if known.gone || !known.matches(&got.listed) {
            let now = Record {
                etag: got.listed.etag,
                modified: got.listed.modified,
                gone: false,
                deleted: false,
                ..known.clone()
            };
            commit.updated.push(now);
        }
        commit.mended.push((damage::subject(&key, known.version().as_deref()), what));
        commit.resolved.extend(want.failure.map(|failure| failure.key));
        Ok(())
    }

    /// What is to stand beside the copy: what was kept, unless it is that which is damaged.
    async fn metadata_of(&self, want: &Want, place: &Place, fetched: Metadata) -> Result<Metadata, Error> {
        let damage = want.failure.as_ref().and_then(|failure| Damage::of_code(&failure.code));
        if damage.is_some_and(Damage::is_of_metadata) {
            return Ok(fetched);
        }
        let kept = unless_unreadable(self.destination.sidecar(place).await)?;
        Ok(kept.and_then(|bytes| sidecar::whole(&bytes, &place.key)).unwrap_or(fetched))
    }

    /// Moves aside what is not as it should be; says whether anything was, and where it is kept now.
    async fn clear_place(
        &self,
        place: &Place,
        known: &Record,
        metadata: Option<&Metadata>,
    ) -> Result<(bool, Vec<String>), Error> {
        let (mut is_damaged, mut kept) = (false, Vec::new());
        let here = unless_unreadable(self.destination.sum(place).await)?;
        if here.is_none_or(|sum| sum.sha256 != known.sha256) {
            is_damaged = true;
            kept.extend(self.destination.set_aside(place, Part::Object).await?);
        }
        let Some(metadata) = metadata else { return Ok((is_damaged, kept)) };
        let here = unless_unreadable(self.destination.sidecar(place).await)?;
        if here.is_none_or(|bytes| sha256(&bytes) != sha256(&sidecar::render(&place.key, metadata))) {
            is_damaged = true;
            kept.extend(self.destination.set_aside(place, Part::Metadata).await?);
        }
        Ok((is_damaged, kept))
    }
}

/// What the storage cannot read any more is as good as not there.
pub(crate) fn unless_unreadable<T>(read: Result<Option<T>, Error>) -> Result<Option<T>, Error> {
    match read {
        Err(error) if error.code() == "EIO" => Ok(None),
        read => read,
    }
}

fn told(is_damaged: bool, kept: &[String]) -> String {
    match (is_damaged, kept) {
        (false, _) => "looked at again, it was whole".to_owned(),
        (true, []) => "it was fetched again with the recorded SHA-256, and is here".to_owned(),
        (true, kept) => {
            let kept = kept.join("`, `");
            format!(
                "it was fetched again with the recorded SHA-256, and is here; what was damaged is kept as `{}`",
                Shown(&kept)
            )
        }
    }
}

/// The damage that brought an object back, and the alarm that stays since the source cannot help.
pub(super) fn unmendable(want: &Want, why: &str) -> Option<Alarm> {
    let damage = Damage::of_code(&want.failure.as_ref()?.code)?;
    let key = &want.listed.key;
    let recorded = want.known.as_ref().map(|known| hex::encode(known.sha256)).unwrap_or_default();
    let what = match damage {
        Damage::Rotten => "is damaged here",
        Damage::Lost => "is no longer here",
        Damage::RottenMetadata => "has damaged metadata here",
        Damage::LostMetadata => "has no metadata here any more",
    };
    let detail = format!(
        "`{}` {what}, and {why}; restore it from a backup of the copy (the recorded SHA-256 is {recorded}), then run \
         `trailsync scrub`",
        Shown(key)
    );
    warn!(alarm = damage.alarm(), object.key = %Shown(key), "{detail}");
    let version = want.known.as_ref().and_then(Record::version);
    Some(Alarm { kind: damage.alarm(), subject: damage::subject(key, version.as_deref()), detail })
}
