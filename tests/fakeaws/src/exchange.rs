//! One request's way to its answer: who asks for what, which faults strike, which service answers.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue, SERVER};
use http::request::Parts;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use jiff::{SignedDuration, Timestamp};
use s3s::service::S3Service;

use crate::caller::Caller;
use crate::clock::{compact, http_date, iso_seconds};
use crate::cloudtrail;
use crate::control;
use crate::counters::RequestRecord;
use crate::failure::{Failure, Ids};
use crate::faults::Fault;
use crate::identity::random;
use crate::op::{self, Op, Service, Target};
use crate::reply::{Closing, Counted, Hangup, Reply, ReplyBody, damage, full};
use crate::s3::{self, Known, RawBody};
use crate::sigv4::{Claims, Unreadable};
use crate::sts::{self, Form};
use crate::world::World;

/// The services behind one port.
pub(crate) struct Exchange {
    world: World,
    s3: S3Service,
}

/// Signatures may be this old or this far ahead.
const MAX_SKEW: SignedDuration = SignedDuration::from_mins(15);

/// Requests beside S3 are small.
const MAX_FORM_BYTES: usize = 1 << 20;

/// A request of which all is known that faults and logs want to know.
struct Asked {
    service: Service,
    op: Op,
    target: Target,
    parts: Parts,
    body: Payload,
    claims: Result<Claims, Unreadable>,
    caller: Result<Caller, Failure>,
    ids: Ids,
}

enum Payload {
    /// S3 reads its own.
    Stream(Incoming),
    Whole(Bytes),
}

impl Exchange {
    pub fn new(world: World) -> Exchange {
        let s3 = s3::service(&world);
        Exchange { world, s3 }
    }

    /// Answers, or fails in order to have the connection closed.
    pub async fn answer(
        &self,
        request: Request<Incoming>,
        closing: &Closing,
    ) -> Result<http::Response<Counted>, Hangup> {
        if request.uri().path().starts_with(control::PATH) {
            return Ok(self.control(request).await);
        }
        let now = self.world.clock().now();
        let asked = self.read(request, now).await?;
        let caller = asked.caller.as_ref().ok();
        let (account, arn) = (caller.map(Caller::account), caller.map(|caller| caller.arn.clone()));
        let meter = &self.world.inner().meter;
        let flight = meter.begin(asked.op, asked.target.role_arn.as_deref());
        let faults = self.world.faults().strike(asked.op, &asked.target, account);
        let mut record = RequestRecord::new(now, asked.op, asked.target.clone(), arn);
        let answered = self.answer_struck(asked, faults, closing).await;
        record.status = answered.as_ref().map_or(0, |answer| answer.status().as_u16());
        flight.answered(record.status);
        meter.remember(record);
        let flight = Some(flight);
        answered.map(|answer| answer.map(|body| Counted { body, flight }))
    }

    /// Answers as the faults let it: late, damaged, misdated or not at all.
    async fn answer_struck(&self, asked: Asked, faults: Vec<Fault>, closing: &Closing) -> Result<Reply, Hangup> {
        for delay in faults.iter().filter_map(Fault::delay) {
            tokio::time::sleep(delay).await;
        }
        if faults.contains(&Fault::CloseBeforeHeaders) {
            return Err(Hangup("a fault closes this connection".into()));
        }
        let (service, ids) = (asked.service, asked.ids.clone());
        let is_head = asked.parts.method == Method::HEAD;
        let mut answer = self.dispatch(asked, faults.clone().into()).await;
        if faults.contains(&Fault::LostAnswer) {
            return Err(Hangup("a fault loses this answer".into()));
        }
        if is_head && !answer.status().is_success() {
            *answer.body_mut() = full(Bytes::new());
        }
        let mut answer = damage(answer, &faults, closing).await;
        stamp(answer.headers_mut(), service, &ids, self.world.clock().now(), &faults);
        Ok(answer)
    }

    /// The control interface is no service: it is neither signed nor counted nor struck by faults.
    async fn control(&self, request: Request<Incoming>) -> http::Response<Counted> {
        let (parts, incoming) = request.into_parts();
        let body = incoming.collect().await.map(|body| body.to_bytes());
        let answer = control::answer(&self.world, &parts, &body.unwrap_or_default());
        answer.map(|body| Counted { body, flight: None })
    }

    async fn read(&self, request: Request<Incoming>, now: Timestamp) -> Result<Asked, Hangup> {
        let (parts, incoming) = request.into_parts();
        let service = service_of(&parts);
        let body = match service {
            Service::S3 => Payload::Stream(incoming),
            _ => match Limited::new(incoming, MAX_FORM_BYTES).collect().await {
                Ok(body) => Payload::Whole(body.to_bytes()),
                Err(why) => return Err(Hangup(why.to_string())),
            },
        };
        let (op, target) = match (service, &body) {
            (Service::Sts, Payload::Whole(body)) => Form::read(body).op(),
            (Service::CloudTrail, _) => (cloudtrail::op(&parts.headers), Target::default()),
            _ => {
                let (path, query) = (parts.uri.path(), parts.uri.query().unwrap_or_default());
                op::s3(&parts.method, path, query, &parts.headers)
            }
        };
        let claims = Claims::read(&parts);
        let caller = self.identify(service, &claims, now);
        let ids = Ids::new(service);
        Ok(Asked { service, op, target, parts, body, claims, caller, ids })
    }

    /// Whose key it is; that the signature was made with it is checked later.
    fn identify(
        &self,
        service: Service,
        claims: &Result<Claims, Unreadable>,
        now: Timestamp,
    ) -> Result<Caller, Failure> {
        let claims = claims.as_ref().map_err(|why| unreadable(service, *why))?;
        let directory = self.world.inner().directory.read();
        directory
            .identify(&claims.key_id, claims.token.as_deref(), now)
            .map_err(|why| Failure::rejected(why, service, &claims.key_id))
    }

    async fn dispatch(&self, asked: Asked, faults: Arc<[Fault]>) -> Reply {
        let (service, ids) = (asked.service, asked.ids.clone());
        let resource = asked.parts.uri.path().to_owned();
        let canned = faults.iter().find_map(|fault| Failure::from_fault(fault, service));
        let answer = match canned {
            Some(failure) => Err(failure),
            None => self.serve(asked, faults).await,
        };
        answer.unwrap_or_else(|failure| failure.reply(service, &resource, &ids))
    }

    async fn serve(&self, asked: Asked, faults: Arc<[Fault]>) -> Result<Reply, Failure> {
        let claims = asked.claims.map_err(|why| unreadable(asked.service, why))?;
        if !claims.presigned && !*self.world.inner().any_signing_time.read() {
            check_skew(asked.service, claims.at, self.world.clock().now())?;
        }
        let caller = asked.caller?;
        match asked.body {
            Payload::Stream(body) => {
                let known = Known { caller: Arc::new(caller), region: claims.region.into(), faults };
                self.serve_s3(Request::from_parts(asked.parts, body), known).await
            }
            Payload::Whole(body) => {
                let secret = self.world.inner().directory.read().secret(&claims.key_id);
                let is_signed = secret.is_some_and(|secret| claims.are_signed_with(&secret, &asked.parts, &body));
                if !is_signed {
                    return Err(Failure::bad_signature(asked.service));
                }
                match asked.service {
                    Service::CloudTrail => cloudtrail::answer(&self.world, &caller, asked.op, &claims.region, &body),
                    _ => sts::answer(&self.world, &caller, &Form::read(&body), &faults, &asked.ids),
                }
            }
        }
    }

    async fn serve_s3(&self, request: Request<Incoming>, known: Known) -> Result<Reply, Failure> {
        let mut request = request.map(s3s::Body::from);
        request.extensions_mut().insert(known);
        let broken = |_| Failure::from_fault(&Fault::InternalError, Service::S3).unwrap_or_else(Failure::access_denied);
        let answer = self.s3.call(request).await.map_err(broken)?;
        if let Some(failure) = s3::carried_failure(answer.headers()) {
            return Err(failure);
        }
        let (mut parts, body) = answer.into_parts();
        if let Some(RawBody(document)) = parts.extensions.remove::<RawBody>() {
            parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
            return Ok(Reply::from_parts(parts, full(document)));
        }
        if parts.status.is_client_error() || parts.status.is_server_error() {
            return Err(reread(parts.status, body).await);
        }
        let body: ReplyBody = body.map_err(|why| Hangup(why.to_string())).boxed_unsync();
        Ok(Reply::from_parts(parts, body))
    }
}

/// An error that `s3s` made itself, to be written as S3 writes errors.
async fn reread(status: StatusCode, body: s3s::Body) -> Failure {
    let document = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let document = String::from_utf8_lossy(&document);
    let element = |name: &str| {
        let (_, rest) = document.split_once(&format!("<{name}>"))?;
        rest.split_once("</").map(|(text, _)| text.to_owned())
    };
    let code = element("Code").unwrap_or_else(|| "InternalError".to_owned());
    let message = element("Message");
    if message.is_none() && code == "SignatureDoesNotMatch" {
        return Failure::bad_signature(Service::S3);
    }
    Failure::new(status, &code, message.unwrap_or_default())
}

fn service_of(parts: &Parts) -> Service {
    if parts.headers.contains_key("x-amz-target") {
        return Service::CloudTrail;
    }
    match (&parts.method, parts.uri.path()) {
        (&Method::POST, "/") => Service::Sts,
        _ => Service::S3,
    }
}

fn unreadable(service: Service, why: Unreadable) -> Failure {
    match (service, why) {
        (Service::S3, Unreadable::Unsigned) => Failure::access_denied(),
        (Service::S3, Unreadable::Malformed) => Failure::bad_request(
            "AuthorizationHeaderMalformed",
            "The authorization header that you provided is not valid.",
        ),
        (_, Unreadable::Unsigned) => {
            Failure::forbidden("MissingAuthenticationToken", "Request is missing Authentication Token")
        }
        (_, Unreadable::Malformed) => {
            Failure::bad_request("IncompleteSignature", "Authorization header is incomplete.")
        }
    }
}

/// S3 has an error of its own for this; the others call it a bad signature and say why.
fn check_skew(service: Service, signed: Timestamp, now: Timestamp) -> Result<(), Failure> {
    let age = now.duration_since(signed);
    if age.abs() <= MAX_SKEW {
        return Ok(());
    }
    if service == Service::S3 {
        let message = "The difference between the request time and the current time is too large.";
        return Err(Failure::forbidden("RequestTimeTooSkewed", message)
            .detail("RequestTime", compact(signed))
            .detail("ServerTime", iso_seconds(now))
            .detail("MaxAllowedSkewMilliseconds", "900000"));
    }
    let (signed, limit) = (compact(signed), compact(now));
    let message = if age.is_positive() {
        format!("Signature expired: {signed} is now earlier than the allowed 15 min. before {limit}")
    } else {
        format!("Signature not yet current: {signed} is still later than the allowed 15 min. after {limit}")
    };
    Err(Failure { message, ..Failure::bad_signature(service) })
}

impl Ids {
    fn new(service: Service) -> Ids {
        const HEX: &[u8] = b"0123456789ABCDEF";
        let request = match service {
            Service::S3 => random(16, HEX),
            _ => {
                let id = hex::encode(fastrand::u128(..).to_be_bytes());
                format!("{}-{}-{}-{}-{}", &id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..])
            }
        };
        Ids { request, host: random(56, HEX) }
    }
}

/// What every answer carries, whatever else it is: the world's time and the request's name.
fn stamp(headers: &mut HeaderMap, service: Service, ids: &Ids, now: Timestamp, faults: &[Fault]) {
    let skew = faults.iter().find_map(|fault| match fault {
        Fault::ClockSkew { seconds } => Some(SignedDuration::from_secs(*seconds)),
        _ => None,
    });
    let shown = skew.and_then(|skew| now.checked_add(skew).ok()).unwrap_or(now);
    let mut set = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    set(DATE, &http_date(shown));
    if service == Service::S3 {
        set(SERVER, "AmazonS3");
        set(HeaderName::from_static("x-amz-request-id"), &ids.request);
        set(HeaderName::from_static("x-amz-id-2"), &ids.host);
    } else {
        set(HeaderName::from_static("x-amzn-requestid"), &ids.request);
    }
}
