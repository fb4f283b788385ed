//! Puts manifests back that are damaged here, from those that are kept beside the copy.

use std::sync::Arc;

use tracing::warn;

use super::seal::kept_name;
use super::{Mirror, Progress, internal};
use crate::destination::Destination;
use crate::error::Error;
use crate::layout::{Day, Stream};
use crate::ledger::SealedDay;
use crate::manifest::{Claim, Header, file_name, sha256, unreadable};
use crate::source::Source;

/// Sealed days that are held at a time.
const DAYS: u32 = 1000;

impl<S: Source, D: Destination> Mirror<S, D> {
    /// Restores each manifest of a stream that is missing or damaged here; how many. One whose copy is not what was
    /// recorded either is left as it is.
    pub(super) async fn restore_manifests(&self, progress: &Progress) -> Result<usize, Error> {
        let (mut from, mut restored) = (Day::ODD, 0);
        loop {
            let days = self.ledger.sealed_days(&progress.stream, progress.id, from, DAYS).await?;
            for day in &days {
                restored += self.restore_day(&progress.stream, day).await?;
            }
            match days.last() {
                Some(last) => from = Day(last.day.0 + 1),
                None => return Ok(restored),
            }
        }
    }

    /// The database knows the hash of the newest generation, and each one that of the one before.
    async fn restore_day(&self, stream: &Arc<Stream>, sealed: &SealedDay) -> Result<usize, Error> {
        let generations = sealed.generations;
        let (mut hash, mut restored) = (generations.hash, 0);
        for generation in (generations.first..=generations.last).rev() {
            let mut header = self.intact(stream, sealed.day, generation, hash).await?;
            if header.is_none() && self.restore(stream, sealed.day, generation, hash).await? {
                restored += 1;
                header = self.intact(stream, sealed.day, generation, hash).await?;
            }
            let Some(previous) = header.and_then(|header| header.previous) else { break };
            if hex::decode_to_slice(previous, &mut hash).is_err() {
                break;
            }
        }
        Ok(restored)
    }

    async fn intact(
        &self,
        stream: &Arc<Stream>,
        day: Day,
        generation: u32,
        hash: [u8; 32],
    ) -> Result<Option<Header>, Error> {
        let (manifests, here) = (self.manifests.clone(), stream.clone());
        let read = tokio::task::spawn_blocking(move || manifests.intact(&here, day, generation, &hash));
        read.await.map_err(|error| internal(stream, error))
    }

    async fn restore(&self, stream: &Arc<Stream>, day: Day, generation: u32, hash: [u8; 32]) -> Result<bool, Error> {
        let name = file_name(stream, day, generation);
        let kept = self.destination.recall(&kept_name(&name)).await?;
        let Some(kept) = kept.filter(|kept| sha256(kept) == hash) else { return Ok(false) };
        let (manifests, claim) = (self.manifests.clone(), Claim::default());
        let (claimed, placed) = (claim.claimed(), name.clone());
        let place = tokio::task::spawn_blocking(move || manifests.place(&placed, &kept, &claimed));
        place.await.map_err(|error| internal(stream, error))?.map_err(|error| unreadable(stream, &error))?;
        drop(claim);
        warn!(%stream, %day, generation, "Manifest {name} was missing or damaged; it is restored from beside the copy");
        Ok(true)
    }
}
