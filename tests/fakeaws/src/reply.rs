//! Answers, and the ways in which their bodies can end badly.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::header::{CONTENT_LENGTH, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Body, Frame, SizeHint};

use crate::counters::InFlight;
use crate::faults::Fault;

/// The connection is to be closed, with or without half an answer on it.
#[derive(Debug)]
pub(crate) struct Hangup(pub String);

impl fmt::Display for Hangup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Hangup {}

pub(crate) type ReplyBody = UnsyncBoxBody<Bytes, Hangup>;
pub(crate) type Reply = Response<ReplyBody>;

pub(crate) fn reply(status: StatusCode, body: impl Into<Bytes>) -> Reply {
    let mut answer = Response::new(full(body.into()));
    *answer.status_mut() = status;
    answer
}

pub(crate) fn full(body: Bytes) -> ReplyBody {
    Full::new(body)
        .map_err(|never: Infallible| match never {})
        .boxed_unsync()
}

/// Says how the connection is to be closed when its body breaks off.
#[derive(Debug, Clone, Default)]
pub(crate) struct Closing(Arc<AtomicBool>);

impl Closing {
    fn by_reset(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub fn is_reset(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Applies every fault that concerns the body. Only then is it held in memory as a whole.
pub(crate) async fn damage(mut answer: Reply, faults: &[Fault], closing: &Closing) -> Reply {
    for fault in faults.iter().filter(|fault| damages_body(fault)) {
        let (parts, body) = answer.into_parts();
        let Ok(body) = body.collect().await else {
            return Response::from_parts(parts, full(Bytes::new()));
        };
        answer = Response::from_parts(parts, full(Bytes::new()));
        damage_one(&mut answer, body.to_bytes(), fault, closing);
    }
    answer
}

fn damages_body(fault: &Fault) -> bool {
    matches!(
        fault,
        Fault::ResetMidBody { .. }
            | Fault::ShortBody { .. }
            | Fault::WrongLength { .. }
            | Fault::FlippedBit { .. }
            | Fault::Stall { .. }
    )
}

fn damage_one(answer: &mut Reply, whole: Bytes, fault: &Fault, closing: &Closing) {
    let length = whole.len();
    let cut = |keep: usize| whole.slice(..keep.min(length));
    let (body, announced) = match *fault {
        Fault::ResetMidBody { after } => (broken(cut(after), End::Reset(closing.clone())), length),
        Fault::ShortBody { by } => (broken(cut(length.saturating_sub(by)), End::Close), length),
        Fault::Stall { after } => (broken(cut(after), End::Never), length),
        Fault::WrongLength { by } => {
            let kept = cut(length.saturating_sub(by));
            let announced = kept.len();
            (full(kept), announced)
        }
        Fault::FlippedBit { at } => (full(flipped(&whole, at)), length),
        _ => (full(whole), length),
    };
    *answer.body_mut() = body;
    answer
        .headers_mut()
        .insert(CONTENT_LENGTH, HeaderValue::from(announced));
}

fn flipped(whole: &[u8], at: usize) -> Bytes {
    let mut bytes = whole.to_vec();
    if !bytes.is_empty() {
        let at = at % bytes.len();
        bytes[at] ^= 1;
    }
    Bytes::from(bytes)
}

/// How a body ends that does not end well.
enum End {
    Reset(Closing),
    Close,
    Never,
}

/// Sends `sent`, gives it time to leave, then ends.
fn broken(sent: Bytes, end: End) -> ReplyBody {
    let frames = stream::unfold(Some((Some(sent), end)), |state| async move {
        match state? {
            (Some(sent), end) => Some((Ok(Frame::data(sent)), Some((None, end)))),
            (None, End::Never) => std::future::pending().await,
            (None, end) => {
                tokio::time::sleep(Duration::from_millis(20)).await;
                if let End::Reset(closing) = end {
                    closing.by_reset();
                }
                Some((Err(Hangup("a fault ends this body".to_owned())), None))
            }
        }
    });
    StreamBody::new(frames).boxed_unsync()
}

/// A body that keeps its request in flight until it is sent, and counts what is sent.
pub(crate) struct Counted {
    pub body: ReplyBody,
    pub flight: Option<InFlight>,
}

impl Body for Counted {
    type Data = Bytes;
    type Error = Hangup;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Hangup>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
            && let Some(flight) = &self.flight
        {
            flight.sent(data.len());
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
