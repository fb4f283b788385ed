//! The bytes of an object as they arrive, given up when they stop coming or come too slowly.

use std::time::Duration;

use aws_smithy_types::byte_stream::ByteStream;
use futures_util::{StreamExt as _, stream};
use tokio::time::{Instant, timeout};

use crate::error::{Class, Error, Report};
use crate::source::Body;
use crate::source::client::chain;

/// A body that stalls this long is given up; so is one that was waited for this long beyond what
/// [`LEAST_PER_SECOND`] allows.
const GRACE: Duration = Duration::from_secs(15);

/// Bytes that must come for each second of waiting: a log of 50 MB, the largest that is written, may
/// not take longer than three and a half hours, one of a few kilobytes hardly longer than the grace.
const LEAST_PER_SECOND: u64 = 4096;

/// A body and how long it was waited for. The time that its reader takes is not counted.
struct Watched {
    key: String,
    bytes: ByteStream,
    waited: Duration,
    received: u64,
}

/// The body as a stream that ends in a `Transient` error when it breaks, stalls, crawls, or is not what its
/// checksum says.
pub(super) fn watched(key: String, bytes: ByteStream) -> Body {
    let watched = Watched { key, bytes, waited: Duration::ZERO, received: 0 };
    stream::unfold(Some(watched), |state| async {
        let mut watched = state?;
        match watched.next().await {
            Ok(Some(chunk)) => Some((Ok(chunk), Some(watched))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

impl Watched {
    async fn next(&mut self) -> Result<Option<bytes::Bytes>, Error> {
        let begin = Instant::now();
        let next = timeout(GRACE, self.bytes.next()).await;
        self.waited += begin.elapsed();
        match next {
            Err(_) => Err(self.broken("Stalled", "nothing more came")),
            Ok(None) => Ok(None),
            Ok(Some(Err(error))) => {
                let message = chain(&error);
                let code = if message.contains("checksum mismatch") { "ChecksumMismatch" } else { "BodyBroken" };
                Err(self.broken(code, &message))
            }
            Ok(Some(Ok(chunk))) => {
                self.received += u64::try_from(chunk.len()).unwrap_or(u64::MAX);
                let deserved = GRACE + Duration::from_secs(self.received / LEAST_PER_SECOND);
                if self.waited > deserved {
                    Err(self.broken("TooSlow", "the bytes came too slowly"))
                } else {
                    Ok(Some(chunk))
                }
            }
        }
    }

    fn broken(&self, code: &str, what: &str) -> Error {
        let message = format!("after {} bytes: {what}", self.received);
        Error::of(Class::Transient, Report::new("GetObject", &self.key, message).code(code))
    }
}
