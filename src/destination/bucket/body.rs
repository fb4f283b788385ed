//! The body of an upload: bytes in memory, or a piece of a file that is read as it is sent.

use std::fs::File;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use aws_lc_rs::digest;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{Stream as _, StreamExt as _};
use http_body::{Body, Frame, SizeHint};
use md5::{Digest as _, Md5};
use tokio::task::spawn_blocking;

use super::spool::read_at;

/// Bytes of a file that are in memory at once.
const STEP: u64 = 256 * 1024;

/// A piece of a file.
#[derive(Clone)]
pub struct Piece {
    pub file: Arc<File>,
    pub from: u64,
    pub length: u64,
}

impl Piece {
    /// The piece as a body; each call reads it from its start.
    pub fn body(&self) -> ByteStream {
        let steps = Mutex::new(self.steps());
        ByteStream::new(SdkBody::from_body_1_x(PieceBody { steps, left: self.length }))
    }

    /// SHA-256 and MD5 of the piece.
    pub async fn hash(&self) -> io::Result<([u8; 32], [u8; 16])> {
        let (mut sha256, mut md5) = (digest::Context::new(&digest::SHA256), Md5::new());
        let mut steps = self.steps();
        while let Some(bytes) = steps.next().await {
            let bytes = bytes?;
            sha256.update(&bytes);
            md5.update(&bytes);
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(sha256.finish().as_ref());
        Ok((hash, md5.finalize().into()))
    }

    fn steps(&self) -> BoxStream<'static, io::Result<Bytes>> {
        let end = self.from + self.length;
        stream::try_unfold((self.file.clone(), self.from), move |(file, at)| async move {
            let length = usize::try_from(STEP.min(end - at)).unwrap_or_default();
            if length == 0 {
                return Ok(None);
            }
            let reader = file.clone();
            let bytes = spawn_blocking(move || read_at(&reader, at, length)).await.map_err(io::Error::other)??;
            Ok(Some((bytes, (file, at + length as u64))))
        })
        .boxed()
    }
}

/// A body is shared between threads, a stream is not: the lock is never contended.
struct PieceBody {
    steps: Mutex<BoxStream<'static, io::Result<Bytes>>>,
    left: u64,
}

impl Body for PieceBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.get_mut();
        let steps = this.steps.get_mut().unwrap_or_else(PoisonError::into_inner);
        let next = std::task::ready!(Pin::new(steps).poll_next(cx));
        if let Some(Ok(bytes)) = &next {
            this.left -= bytes.len() as u64;
        }
        Poll::Ready(next.map(|bytes| bytes.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
