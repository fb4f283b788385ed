//! What is taken from an answer before the SDK reads it: the service's clock, and not too many bytes.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::{
    AfterDeserializationInterceptorContextRef, BeforeDeserializationInterceptorContextMut,
    BeforeSerializationInterceptorContextRef,
};
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::http::NonUtf8HeaderHandling;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::ConfigBag;
use aws_smithy_types::date_time::{DateTime, Format};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::timestamp;
use crate::clock::Timestamp;

/// A page of 1,000 keys of 1,024 bytes, each byte encoded as three, is under 4 MiB of XML.
const MOST_BYTES: u64 = 8 * 1024 * 1024;

/// Where an operation's answer leaves the service's time. Clones are the same place.
#[derive(Debug, Clone, Default)]
pub struct ServedAt(Arc<Mutex<Option<Timestamp>>>);

impl ServedAt {
    /// The `Date` header of the answer, once there is one.
    pub fn get(&self) -> Option<Timestamp> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notes the service's time in [`ServedAt`]; goes with one operation.
#[dyn_dispatch_hint]
impl Intercept for ServedAt {
    fn name(&self) -> &'static str {
        "ServedAt"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let time = date(context.response());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = time;
        Ok(())
    }
}

/// The `Date` header of an answer.
pub(in crate::source) fn date(response: &HttpResponse) -> Option<Timestamp> {
    let date = DateTime::from_str(response.headers().get("date")?, Format::HttpDate).ok()?;
    timestamp(&date)
}

/// Bounds what the SDK collects of an answer; goes with one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bounded {
    /// Every answer is collected before it is read.
    Always,
    /// Only failures are: what succeeds is streamed, however long it is.
    Failures,
}

#[dyn_dispatch_hint]
impl Intercept for Bounded {
    fn name(&self) -> &'static str {
        "Bounded"
    }

    fn read_before_execution(
        &self,
        _: &BeforeSerializationInterceptorContextRef<'_>,
        cfg: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        // Metadata that is not UTF-8 must not make an object unreadable.
        cfg.interceptor_state().store_put(NonUtf8HeaderHandling::Skip);
        Ok(())
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.bound(context.response_mut());
        Ok(())
    }
}

impl Bounded {
    /// Bounds the body of an answer.
    pub(in crate::source) fn bound(self, response: &mut HttpResponse) {
        let streamed = self == Self::Failures && response.status().is_success();
        let left = if streamed { u64::MAX } else { MOST_BYTES };
        let inner = std::mem::replace(response.body_mut(), SdkBody::taken());
        *response.body_mut() = SdkBody::from_body_1_x(BoundedBody { inner, left });
    }
}

/// Refuses answers that were read as a success and do not end in this; goes with one operation.
///
/// The SDK reads XML that ends in the middle as if it ended there, so that keys would be lost in silence.
#[derive(Debug)]
pub struct EndsIn(pub &'static str);

#[dyn_dispatch_hint]
impl Intercept for EndsIn {
    fn name(&self) -> &'static str {
        "EndsIn"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let body = context.response().body().bytes().unwrap_or_default().trim_ascii_end();
        let cut = context.output_or_error().is_ok() && !body.ends_with(self.0.as_bytes());
        if cut { Err("the answer ends in the middle".into()) } else { Ok(()) }
    }
}

/// A body that ends in an error when it is too long, and has no trailers.
struct BoundedBody {
    inner: SdkBody,
    left: u64,
}

impl Body for BoundedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let Some(frame) = ready!(Pin::new(&mut self.inner).poll_frame(cx)).transpose()? else {
            return Poll::Ready(None);
        };
        let Ok(data) = frame.into_data() else { return Poll::Ready(None) };
        let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
        match self.left.checked_sub(length) {
            Some(left) => self.left = left,
            None => return Poll::Ready(Some(Err(format!("the answer is longer than {MOST_BYTES} bytes").into()))),
        }
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        Body::size_hint(&self.inner)
    }
}
