//! Whether the service heeds `If-Match` when it deletes, and what time it has: asked before a round deletes anything.

use super::evidence::Known;
use super::{Pruner, trouble};
use crate::clock::Timestamp;
use crate::destination::Destination;
use crate::error::Error;
use crate::layout::Stream;
use crate::ledger::PruneRow;
use crate::object::ETag;
use crate::source::{Remove, RemoveRequest, Removed};

impl<S: Remove, D: Destination> Pruner<S, D> {
    /// Asks once a round for the deletion of what is not there, by a tag that nothing has.
    ///
    /// A service that takes no notice of the tag lets that pass, and nothing is deleted there. One that refuses it may
    /// not show us what is missing: then an object that may go is asked for by that tag. No service can get there that
    /// takes no notice of it: what it refuses without looking it refuses for every key. `false` when none of those that
    /// may go is there: then there is nothing to ask for.
    pub(super) async fn honest(&self, stream: &Stream, may_go: &[&Known], row: &PruneRow) -> Result<bool, Error> {
        if self.was_honest(row.began) {
            return self.in_time(stream).map(|()| true);
        }
        let nothing = format!("{}trailsync-check-{:016x}.json.gz", stream.prefix, fastrand::u64(..));
        let answered = match self.wrong(&nothing).await {
            Err(error) if error.code() == "AccessDenied" => match self.first_there(stream, may_go).await? {
                Some(real) => self.wrong(&real).await?,
                None => return Ok(false),
            },
            answered => answered?,
        };
        let Some(served_at) = answered else {
            let mend = "only a service that says its time is deleted from, as S3 does";
            return Err(trouble(&stream.prefix, "NoDate", "the service does not say what time it is", mend));
        };
        self.mirror.service_clock().observe(served_at);
        self.in_time(stream)?;
        self.now_honest(row.began);
        Ok(true)
    }

    async fn first_there(&self, stream: &Stream, may_go: &[&Known]) -> Result<Option<String>, Error> {
        for known in may_go {
            let key = known.key(stream);
            if self.is_there(&key).await? {
                return Ok(Some(key));
            }
        }
        Ok(None)
    }

    /// Asks for a deletion by a tag that nothing has; the service's time, when it refuses for that.
    async fn wrong(&self, key: &str) -> Result<Option<Timestamp>, Error> {
        let if_match = ETag::new(&format!("{:032x}", fastrand::u128(..)));
        let removal = self.mirror.source().remove(&RemoveRequest { key: key.to_owned(), if_match }).await?;
        match removal.removed {
            Removed::Absent | Removed::Changed => Ok(removal.served_at),
            Removed::Deleted(_) => {
                let why = "the service takes no notice of `If-Match` when it deletes: any version could be lost";
                Err(trouble(key, "IgnoresIfMatch", why, "set no `after_mirror` for this source"))
            }
        }
    }

    fn in_time(&self, stream: &Stream) -> Result<(), Error> {
        let Some(ahead) = self.mirror.service_clock().skew() else { return Ok(()) };
        let why = format!("the service's clock is {ahead} s ahead of ours: how old anything is is not known");
        Err(trouble(&stream.prefix, "ClockSkew", why, "set this host's clock"))
    }
}
