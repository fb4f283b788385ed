//! `GetObject` made of the SDK's own parts, without the machinery that joins them.
//!
//! Nearly every request that the daemon makes is this one, and the SDK's orchestrator, which runs some thirty
//! interceptors over bags of settings for each, costs several times what signing, sending and reading it do. So its
//! parts are called one after the other here: its endpoint rules, its serializer, its signer, its HTTP client with the
//! same connections and time limits, its checksums and its parsers. What an answer means is left to the caller; one
//! suite of tests is run over this way and over the SDK's.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sdk_s3::config::endpoint::{DefaultResolver, Params, ResolveEndpoint as _};
use aws_sdk_s3::operation::get_object::builders::GetObjectInputBuilder;
use aws_sdk_s3::operation::get_object::{GetObject, GetObjectError, GetObjectOutput};
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings, UriPathNormalizationMode,
    sign,
};
use aws_sigv4::sign::v4::SigningParams;
use aws_smithy_async::rt::sleep::default_async_sleep;
use aws_smithy_checksums::ChecksumAlgorithm;
use aws_smithy_checksums::body::validate::ChecksumBody;
use aws_smithy_checksums::http::{
    CRC_32_C_HEADER_NAME, CRC_32_HEADER_NAME, CRC_64_NVME_HEADER_NAME, SHA_1_HEADER_NAME, SHA_256_HEADER_NAME,
};
use aws_smithy_runtime::client::auth::no_auth::NoAuthRuntimePluginV2;
use aws_smithy_runtime::client::identity::IdentityCache;
use aws_smithy_runtime::client::retries::strategy::NeverRetryStrategy;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::connection::CaptureSmithyConnection;
use aws_smithy_runtime_api::client::http::{
    HttpClient as _, HttpConnector as _, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::interceptors::context::{Error as SdkOwnError, Input};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse, OrchestratorError};
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponentsBuilder;
use aws_smithy_runtime_api::client::runtime_plugin::RuntimePlugin as _;
use aws_smithy_runtime_api::client::ser_de::{
    DeserializeResponse as _, SerializeRequest as _, SharedRequestSerializer, SharedResponseDeserializer,
};
use aws_smithy_runtime_api::http::{Headers, NonUtf8HeaderHandling};
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use aws_smithy_types::config_bag::{ConfigBag, FrozenLayer};
use aws_smithy_types::endpoint::Endpoint;
use aws_smithy_types::error::metadata::ProvideErrorMetadata as _;
use aws_smithy_types::{Document, base64};
use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::{FIRST_BYTE, WHOLE_ANSWER};
use crate::clock::{Clock as _, SystemClock, Timestamp};
use crate::config::{self, Endpoints};
use crate::source::client::answer::{Bounded, date};
use crate::source::client::{CONNECT, Failure, chain};

/// What the service is told of who asks.
const USER_AGENT: &str = concat!("trailsync/", env!("CARGO_PKG_VERSION"), " lang/rust");

/// A request that took longer says nothing about the service's clock.
const TRUSTED_ROUND_TRIP_MILLIS: i64 = 15 * 60 * 1000;

/// The checksums that the SDK checks, by the header of each: the first that is there counts.
const CHECKSUMS: [(&str, ChecksumAlgorithm); 5] = [
    (CRC_64_NVME_HEADER_NAME, ChecksumAlgorithm::Crc64Nvme),
    (CRC_32_C_HEADER_NAME, ChecksumAlgorithm::Crc32c),
    (CRC_32_HEADER_NAME, ChecksumAlgorithm::Crc32),
    (SHA_1_HEADER_NAME, ChecksumAlgorithm::Sha1),
    (SHA_256_HEADER_NAME, ChecksumAlgorithm::Sha256),
];

/// Makes the requests for the objects of one bucket.
pub(super) struct Getter {
    connector: SharedHttpConnector,
    /// The SDK's serializer and parser of the operation.
    parts: FrozenLayer,
    /// How answers are to be read.
    reading: ConfigBag,
    rules: Arc<DefaultResolver>,
    bucket: String,
    endpoints: Endpoints,
    /// The place that was asked last.
    place: Mutex<Option<Arc<Place>>>,
    /// How far the service's clock is ahead of ours, in milliseconds: requests are signed by the service's.
    ahead_millis: AtomicI64,
}

/// Where the bucket is asked for in one region, and what requests to it are signed for.
struct Place {
    region: String,
    endpoint: Endpoint,
    signed_for: SignedFor,
}

struct SignedFor {
    region: String,
    service: String,
}

/// One request: for what, by whom, where.
pub(super) struct Get<'a> {
    pub(super) input: GetObjectInputBuilder,
    pub(super) credentials: &'a Credentials,
    pub(super) region: &'a str,
}

impl Getter {
    /// A getter that shares the connections of the SDK's client; `None` when the SDK's parts do not fit together.
    pub(super) fn new(source: &config::Source, http: &SharedHttpClient) -> Option<Self> {
        let parts = GetObject::new().config()?;
        parts.load::<SharedRequestSerializer>()?;
        parts.load::<SharedResponseDeserializer>()?;
        let mut reading = ConfigBag::base();
        // Metadata that is not UTF-8 must not make an object unreadable.
        reading.interceptor_state().store_put(NonUtf8HeaderHandling::Skip);
        Some(Self {
            connector: connector(http)?,
            parts,
            reading,
            rules: Arc::new(DefaultResolver::new()),
            bucket: source.bucket.clone(),
            endpoints: source.endpoints.clone(),
            place: Mutex::new(None),
            ahead_millis: AtomicI64::new(0),
        })
    }

    /// Makes one request, and reads the head of its answer; `None` where the bucket is of a kind that only the SDK
    /// signs for.
    pub(super) async fn get(&self, get: Get<'_>) -> Option<Result<GetObjectOutput, Failure>> {
        let place = match self.place(get.region).await {
            Ok(place) => place?,
            Err(unresolved) => return Some(Err(not_sent(chain(&*unresolved)))),
        };
        let request = match self.request(get, &place) {
            Ok(request) => request,
            Err(invalid) => return Some(Err(not_sent(chain(&*invalid)))),
        };
        let sent = timeout(WHOLE_ANSWER, self.send(request)).await;
        Some(sent.unwrap_or_else(|_| Err(failure("Timeout", format!("no answer within {WHOLE_ANSWER:?}")))))
    }

    /// Notes the service's clock, as an answer told it.
    pub(super) fn told(&self, served_at: Timestamp, sent: Timestamp, received: Timestamp) {
        let (served_at, sent, received) =
            (served_at.as_millisecond(), sent.as_millisecond(), received.as_millisecond());
        let took = received.saturating_sub(sent).max(0);
        if took <= TRUSTED_ROUND_TRIP_MILLIS {
            self.ahead_millis.store(served_at.saturating_sub(sent.saturating_add(took / 2)), Ordering::Relaxed);
        }
    }

    /// The place of a region by the SDK's rules.
    async fn place(&self, region: &str) -> Result<Option<Arc<Place>>, BoxError> {
        let known = self.place.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if known.as_ref().is_some_and(|place| place.region == region) {
            return Ok(known);
        }
        let params = Params::builder()
            .bucket(&self.bucket)
            .region(region)
            .set_endpoint(self.endpoints.s3.clone())
            .force_path_style(self.endpoints.path_style)
            .use_fips(self.endpoints.fips)
            .use_dual_stack(self.endpoints.dual_stack)
            .build()?;
        // On a stack of its own: unoptimized, the rules take most of what a worker thread has.
        let rules = self.rules.clone();
        let resolve = move || Handle::current().block_on(async { rules.resolve_endpoint(&params).await });
        let endpoint = tokio::task::spawn_blocking(resolve).await??;
        let Some(signed_for) = signed_for(&endpoint) else { return Ok(None) };
        let place = Arc::new(Place { region: region.to_owned(), endpoint, signed_for });
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = Some(place.clone());
        Ok(Some(place))
    }

    fn request(&self, get: Get<'_>, place: &Place) -> Result<HttpRequest, BoxError> {
        let serializer = self.parts.load::<SharedRequestSerializer>().ok_or("no serializer")?;
        let mut request = serializer.serialize_input(Input::erase(get.input.build()?), &mut ConfigBag::base())?;
        request.uri_mut().set_endpoint(place.endpoint.url())?;
        request.headers_mut().insert("user-agent", USER_AGENT);
        let ahead = self.ahead_millis.load(Ordering::Relaxed);
        let time = SystemClock.now().as_millisecond().saturating_add(ahead);
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(time)?);
        sign_by(&mut request, get.credentials, &place.signed_for, time)?;
        Ok(request)
    }

    async fn send(&self, mut request: HttpRequest) -> Result<GetObjectOutput, Failure> {
        let connection = CaptureSmithyConnection::new();
        request.add_extension(connection.clone());
        let sent = SystemClock.now();
        let answer = self.connector.call(request).await;
        let response = answer.map_err(|error| Failure::of::<GetObjectError>(&SdkError::dispatch_failure(error)))?;
        // What a cache kept says nothing about the time now.
        if let Some(served_at) = date(&response).filter(|_| response.headers().get("age").is_none()) {
            self.told(served_at, sent, SystemClock.now());
        }
        let read = self.read(response).await;
        if read.as_ref().is_err_and(Failure::is_the_servers_own) {
            // Another server may be better: the next request goes over another connection.
            if let Some(connection) = connection.get() {
                connection.poison();
            }
        }
        read
    }

    async fn read(&self, mut response: HttpResponse) -> Result<GetObjectOutput, Failure> {
        let Some(parser) = self.parts.load::<SharedResponseDeserializer>() else {
            return Err(not_sent("no parser".to_owned()));
        };
        if response.status().is_success() {
            check_body(&mut response);
        } else {
            collect(&mut response).await?;
        }
        let parsed = match parser.deserialize_streaming_with_config(&mut response, &self.reading) {
            Some(parsed) => parsed,
            None => parser.deserialize_nonstreaming_with_config(&response, &self.reading),
        };
        let output = parsed.map_err(|error| told(&error, &response))?;
        output.downcast().map_err(|_| failure("MalformedAnswer", "the SDK read something else".to_owned()))
    }
}

/// The connections of the SDK's client for requests with these time limits.
fn connector(http: &SharedHttpClient) -> Option<SharedHttpConnector> {
    let plain = NoAuthRuntimePluginV2::new();
    let nothing = RuntimeComponentsBuilder::new("GetObject");
    // The SDK asks for all of these; its HTTP client needs to know how to sleep.
    let components = plain.runtime_components(&nothing).into_owned();
    let components = components
        .with_endpoint_resolver(Some(DefaultResolver::new().into_shared_resolver()))
        .with_identity_cache(Some(IdentityCache::no_cache()))
        .with_retry_strategy(Some(NeverRetryStrategy::new()))
        .with_sleep_impl(default_async_sleep())
        .build();
    let settings = HttpConnectorSettings::builder().connect_timeout(CONNECT).read_timeout(FIRST_BYTE).build();
    Some(http.http_connector(&settings, &components.ok()?))
}

/// What requests to an endpoint are signed for; `None` where that is not done as for ordinary buckets.
fn signed_for(endpoint: &Endpoint) -> Option<SignedFor> {
    let [scheme] = endpoint.auth_schemes() else { return None };
    if scheme.name() != "sigv4" || endpoint.headers().next().is_some() {
        return None;
    }
    let text = |name| match scheme.get(name) {
        Some(Document::String(text)) => Some(text.clone()),
        _ => None,
    };
    Some(SignedFor { region: text("signingRegion")?, service: text("signingName")? })
}

/// Signs as the SDK signs for S3: the path once encoded and never normalized, the hash of the body in a header.
fn sign_by(
    request: &mut HttpRequest,
    credentials: &Credentials,
    signed_for: &SignedFor,
    time: SystemTime,
) -> Result<(), BoxError> {
    let mut settings = SigningSettings::default();
    settings.percent_encoding_mode = PercentEncodingMode::Single;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    let identity = credentials.clone().into();
    let params = SigningParams::builder()
        .identity(&identity)
        .region(&signed_for.region)
        .name(&signed_for.service)
        .time(time)
        .settings(settings)
        .build()?
        .into();
    let unsigned =
        SignableRequest::new(request.method(), request.uri(), request.headers().iter(), SignableBody::Bytes(&[]))?;
    let (instructions, _) = sign(unsigned, &params)?.into_parts();
    let (headers, _) = instructions.into_parts();
    for header in headers {
        request.headers_mut().try_insert(header.name(), header.value().to_owned())?;
    }
    Ok(())
}

/// Has the body checked against the checksum of the whole object, where the service sent one.
fn check_body(response: &mut HttpResponse) {
    if let Some((algorithm, expected)) = checksum(response.headers()) {
        let body = std::mem::replace(response.body_mut(), SdkBody::taken());
        let checked = ChecksumBody::new(body, algorithm.into_impl(), expected);
        *response.body_mut() = SdkBody::from_body_1_x(checked);
    }
}

/// The checksum that the SDK would check: the first that is there, unless it is one of parts (`…-3`) or no base64.
fn checksum(headers: &Headers) -> Option<(ChecksumAlgorithm, Bytes)> {
    let (value, algorithm) =
        CHECKSUMS.into_iter().find_map(|(name, algorithm)| Some((headers.get(name)?, algorithm)))?;
    // A checksum of parts is no base64, for its dash.
    Some((algorithm, base64::decode(value).ok()?.into()))
}

/// Reads the body of a failure, which may not be long.
async fn collect(response: &mut HttpResponse) -> Result<(), Failure> {
    Bounded::Always.bound(response);
    let body = std::mem::replace(response.body_mut(), SdkBody::taken());
    match ByteStream::new(body).collect().await {
        Ok(collected) => {
            *response.body_mut() = SdkBody::from(collected.into_bytes());
            Ok(())
        }
        Err(broken) => Err(Failure::answered(response, None, chain(&broken))),
    }
}

/// A request that was not made.
fn not_sent(why: String) -> Failure {
    failure("NotSent", why)
}

fn failure(code: &str, message: String) -> Failure {
    Failure { code: code.to_owned(), message, ..Failure::default() }
}

/// What the SDK read of a failure.
fn told(error: &OrchestratorError<SdkOwnError>, response: &HttpResponse) -> Failure {
    let said = error.as_operation_error().and_then(|error| error.downcast_ref::<GetObjectError>());
    let code = said.and_then(|said| said.code());
    let message = said.and_then(|said| said.message()).map_or_else(|| chain(error), str::to_owned);
    Failure::answered(response, code, message)
}
