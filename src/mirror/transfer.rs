//! Fetches one object: reads it to its end, checks it, tries again where that may help.

use tracing::debug;

use super::Mirror;
use super::outcome::{Fetch, Got, Want};
use crate::content::Asked;
use crate::destination::{Destination, Staged};
use crate::error::{Class, Error, Report};
use crate::object::{Content, Gzip, Listed};
use crate::retry::PassDelays;
use crate::source::{FetchRequest, Fetched, Source};

/// Tries of one request within a pass.
pub(super) const TRIES: u32 = 4;

/// What the headers promise, without the body.
struct Head {
    listed: Listed,
    metadata: crate::object::Metadata,
    checksummed: bool,
    etag_is_md5: bool,
}

impl<S: Source, D: Destination> Mirror<S, D> {
    /// Fetches what is wanted, and says with how many requests.
    pub(super) async fn transfer(&self, want: Want) -> (Want, Fetch<D::Handle>, u64) {
        let mut gets = 0;
        let fetch = self.fetch_patiently(&want, &mut gets).await;
        (want, fetch, gets)
    }

    async fn fetch_patiently(&self, want: &Want, gets: &mut u64) -> Fetch<D::Handle> {
        if let Some(class) = &want.listed.archived {
            return Fetch::Failed(archived(&want.listed.key, class));
        }
        let mut delays = PassDelays::default();
        let mut seen: Option<Content> = None;
        // A retried object is taken as it is there now; a listed one only as it was listed.
        let mut exact = want.failure.is_none();
        loop {
            let fetched = {
                // Who waits for the source's bound holds nothing of what other sources wait for, and who waits to try
                // again holds nothing.
                let _leave = self.permits.source.pass().await;
                let _share = self.permits.process.take().await;
                *gets += 1;
                self.fetch_once(want, exact).await
            };
            let error = match fetched {
                Ok((head, staged)) => match verdict(&head, &staged.content, seen.as_ref()) {
                    Verdict::Whole(broken) => {
                        let (listed, metadata) = (head.listed, head.metadata);
                        return Fetch::Got(Box::new(Got { staged, listed, metadata, broken }));
                    }
                    Verdict::Doubtful(why) => {
                        seen = Some(staged.content);
                        Error::of(
                            Class::Transient,
                            Report::new("GetObject", &want.listed.key, why).code("BodyMismatch"),
                        )
                    }
                },
                Err(error) if error.code() == "NoSuchKey" => return Fetch::Vanished,
                Err(error) if error.code() == "PreconditionFailed" && exact => {
                    // Replaced since it was listed: what is there now is mirrored instead.
                    exact = false;
                    continue;
                }
                Err(error) => error,
            };
            if error.class() != Class::Transient || delays.failures() + 1 >= TRIES {
                return Fetch::Failed(error);
            }
            debug!(%error, "Fetching again");
            tokio::time::sleep(delays.after(&error, (self.rules.random)()).mul_f64(self.rules.pace)).await;
        }
    }

    async fn fetch_once(&self, want: &Want, exact: bool) -> Result<(Head, Staged<D::Handle>), Error> {
        self.meter.got();
        let key = want.listed.key.clone();
        let request = FetchRequest { if_match: exact.then(|| want.listed.etag.clone()), key };
        let Fetched { size, etag, modified, metadata, checksummed, etag_is_md5, body, .. } =
            self.permits.source.timed(Box::pin(self.source.fetch(&request))).await?;
        let listed = Listed { key: request.key, size, etag, modified, archived: None };
        if exact && (listed.size != want.listed.size || listed.etag != want.listed.etag) {
            let why = format!(
                "listed with {} bytes and tag {}, sent with {size} and {}",
                want.listed.size,
                want.listed.etag.as_str(),
                listed.etag.as_str()
            );
            return Err(Error::of(Class::Transient, Report::new("GetObject", listed.key, why).code("HeadMismatch")));
        }
        // Where the service's own checksum vouches for the bytes, the tag has nothing to add.
        let etag_is_md5 = etag_is_md5 && !checksummed;
        let asked = Asked { inflate: listed.key.ends_with(".gz"), md5: etag_is_md5 };
        let staged = self.destination.stage(body, size, asked).await?;
        Ok((Head { listed, metadata, checksummed, etag_is_md5 }, staged))
    }
}

enum Verdict {
    /// These are the bytes that the source holds. Where its gzip is broken all the same, why.
    Whole(Option<&'static str>),
    /// They may have been altered on the way.
    Doubtful(&'static str),
}

/// Judges bytes by what vouches for them: the service's checksum, the tag where it is an MD5, gzip's own checksum, or
/// the same bytes twice.
fn verdict(head: &Head, content: &Content, seen: Option<&Content>) -> Verdict {
    if content.size != head.listed.size {
        return Verdict::Doubtful("the body has another length than its headers promise");
    }
    let md5 = head.listed.etag.as_md5().filter(|_| head.etag_is_md5);
    if md5.is_some() && md5 != content.md5 {
        return Verdict::Doubtful("the MD5 of the body is not the object's tag");
    }
    match content.gzip {
        Gzip::Broken(why) if head.checksummed || md5.is_some() || seen == Some(content) => Verdict::Whole(Some(why)),
        Gzip::Broken(why) => Verdict::Doubtful(why),
        Gzip::Whole { .. } | Gzip::NotExpected => Verdict::Whole(None),
    }
}

fn archived(key: &str, class: &str) -> Error {
    let report = Report::new("GetObject", key, format_args!("the object is in storage class {class}"))
        .code("InvalidObjectState");
    Error::of(Class::Object, report.mend("restore it in Account A (`s3:RestoreObject`); it is retried daily"))
}
