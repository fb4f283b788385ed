//! Whether objects could be deleted at the source, and only by their tag; without deleting any.

use super::objects::Bodies;
use super::{Step, Walk};
use crate::check::blame::{self, Service};
use crate::check::{Finding, Hop, State};
use crate::key::Shown;
use crate::layout::Stream;
use crate::object::ETag;
use crate::source::client::Failure;
use crate::source::s3::probe::Probe;
use crate::source::{RemoveRequest, Removed};

impl Walk<'_> {
    /// Asks for the deletion of what is not there, by a tag that nothing has: 404, and no delete marker is made.
    ///
    /// A role that may list under a prefix alone gets a 403 for what is missing, allowed or not. Then the newest object
    /// that was read is asked for by that tag: 412. It cannot be lost, even where no notice is taken of the tag: such
    /// a service lets the first request pass, as any deletion of what is not there, or denies both.
    pub(super) async fn deletion(&mut self, probe: &Probe, streams: &[Stream], bodies: &Bodies) -> Step<()> {
        if self.source.after_mirror.is_none() {
            return Ok(());
        }
        let Some(stream) = streams.first() else {
            self.skipped(Hop::Delete, "there is no folder to try it in");
            return Ok(());
        };
        let missing = format!("{}trailsync-check-{:016x}.json.gz", stream.prefix, fastrand::u64(..));
        let tried = "DeleteObject of a key that is not there, by an entity tag that nothing has";
        let hidden = match by_wrong_tag(probe, &missing).await {
            Ok(removed) => return self.answered(tried.to_owned(), &removed),
            Err(failure) if failure.code == "AccessDenied" => failure,
            Err(failure) => return self.not_deletable(tried.to_owned(), failure, &missing),
        };
        let Some(key) = bodies.any_key() else { return self.not_deletable(tried.to_owned(), hidden, &missing) };
        let tried = format!("DeleteObject of {}, by an entity tag that nothing has", Shown(key));
        match by_wrong_tag(probe, key).await {
            Ok(removed) => self.answered(tried, &removed),
            Err(failure) => self.not_deletable(tried, failure, key),
        }
    }

    fn answered(&mut self, tried: String, removed: &Removed) -> Step<()> {
        let found = match removed {
            Removed::Absent => "allowed: nothing is there (404), and nothing was deleted",
            Removed::Changed => "allowed: the tag is another (412), and nothing was deleted",
            Removed::Deleted(_) => {
                let found = "the service takes no notice of `If-Match`: it says that it has deleted";
                let mut finding = Finding::new(Hop::Delete, State::Failed, tried, found);
                finding.causes = vec![
                    "the service deletes whatever stands under a key: set no `after_mirror` for this source".to_owned(),
                ];
                return Err(self.stop(finding));
            }
        };
        self.passed(Hop::Delete, tried, found);
        Ok(())
    }

    fn not_deletable(&mut self, tried: String, failure: Failure, key: &str) -> Step<()> {
        let blame = match blame::is_denial(&failure) {
            true => self.scene().delete(key),
            false => self.scene().service(&failure, Service::S3),
        };
        Err(self.refused(Hop::Delete, tried, failure, blame))
    }
}

async fn by_wrong_tag(probe: &Probe, key: &str) -> Result<Removed, Failure> {
    let if_match = ETag::new(&format!("{:032x}", fastrand::u128(..)));
    Ok(probe.remove(&RemoveRequest { key: key.to_owned(), if_match }).await?.removed)
}
