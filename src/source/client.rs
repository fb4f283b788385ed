//! What every client of a service has in common: HTTP, time limits, and how its failures are read.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Builder, Connector};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_smithy_types::timeout::TimeoutConfig;
use aws_types::request_id::RequestId;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::clock::Timestamp;
use crate::config::Endpoints;
use crate::error::{Class, Error, Report};

pub mod answer;
pub mod measure;

/// S3 closes idle connections after about 20 s; ours are given up before that.
const IDLE_CONNECTIONS: Duration = Duration::from_secs(15);

/// Hosts that are never reached through a proxy: this machine, and the services that hand credentials to
/// instances, tasks and pods.
const NO_PROXY: &str = "localhost,127.0.0.0/8,::1,169.254.169.254,169.254.170.2,169.254.170.23,fd00:ec2::/32";

/// HTTP clients, one for each way to reach the services: connections are shared by all that go the same way.
#[derive(Debug, Default)]
pub struct HttpClients(Mutex<HashMap<Way, SharedHttpClient>>);

/// What makes one HTTP client differ from another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Way {
    ca_bundle: Option<PathBuf>,
    proxy: Option<String>,
}

impl HttpClients {
    /// The client for these options. The environment's proxy variables do not count.
    ///
    /// # Errors
    /// `Stream` when the CA bundle cannot be read or is none, or when the proxy is no URL.
    pub fn get(&self, endpoints: &Endpoints) -> Result<SharedHttpClient, Error> {
        let way = Way { ca_bundle: endpoints.ca_bundle.clone(), proxy: endpoints.proxy.clone() };
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&way) {
            return Ok(client.clone());
        }
        let client = http_client(trust(way.ca_bundle.as_deref())?, proxy(way.proxy.as_deref())?);
        clients.insert(way, client.clone());
        Ok(client)
    }
}

fn http_client(trust: TlsContext, proxy: ProxyConfig) -> SharedHttpClient {
    Builder::new().build_with_connector_fn(move |settings, components| {
        let mut connector = Connector::builder()
            .proxy_config(proxy.clone())
            .pool_idle_timeout(IDLE_CONNECTIONS)
            .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
            .tls_context(trust.clone());
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(|components| components.sleep_impl()));
        connector.build()
    })
}

fn proxy(url: Option<&str>) -> Result<ProxyConfig, Error> {
    let Some(url) = url else { return Ok(ProxyConfig::disabled()) };
    let config = ProxyConfig::all(url).ok().filter(|_| has_sound_port(url));
    // The URL may hold a password: neither it nor the parser's words about it are shown.
    config.map(|config| config.no_proxy(NO_PROXY)).ok_or_else(|| {
        let report = Report::new("connect", "proxy", "the proxy is not a URL").mend("write it as `http://host:port`");
        Error::of(Class::Stream, report)
    })
}

/// Whether the port, where there is one, is a number. The HTTP client would go without the proxy if not.
fn has_sound_port(url: &str) -> bool {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest.trim_end_matches('/'));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    match host.rsplit_once(':') {
        Some((name, port)) if !host.ends_with(']') => !name.is_empty() && port.parse::<u16>().is_ok(),
        _ => !host.is_empty(),
    }
}

fn trust(bundle: Option<&Path>) -> Result<TlsContext, Error> {
    let system = || TlsContext::builder().with_trust_store(TrustStore::default());
    let Some(path) = bundle else { return system().build().map_err(|error| bad_bundle(Path::new("system"), &error)) };
    let pem = std::fs::read(path).map_err(|error| bad_bundle(path, &error))?;
    check_pem(&pem).map_err(|reason| bad_bundle(path, &reason))?;
    let store = TrustStore::empty().with_pem_certificate(pem);
    let context = TlsContext::builder().with_trust_store(store).build().map_err(|error| bad_bundle(path, &error))?;
    // The TLS provider panics on a certificate that it cannot read; better now and once than at each connection.
    panic::catch_unwind(AssertUnwindSafe(|| http_connector(&context)))
        .map_err(|_| bad_bundle(path, &"a certificate in it cannot be used as an authority"))?;
    Ok(context)
}

fn http_connector(context: &TlsContext) -> Connector {
    let builder = Connector::builder().tls_provider(Provider::Rustls(CryptoMode::AwsLc));
    builder.tls_context(context.clone()).build()
}

fn bad_bundle(path: &Path, reason: &dyn std::fmt::Display) -> Error {
    let report = Report::new("read CA bundle", path.display().to_string(), reason)
        .mend("`ca_bundle` must be a PEM file of certificate authorities");
    Error::of(Class::Stream, report)
}

/// Whether this is PEM with at least one certificate, each of which is base64 of something like DER.
fn check_pem(pem: &[u8]) -> Result<(), &'static str> {
    let text = std::str::from_utf8(pem).map_err(|_| "it is not text")?;
    let mut certificates = text.split("-----BEGIN CERTIFICATE-----").skip(1).peekable();
    certificates.peek().ok_or("there is no certificate in it")?;
    for certificate in certificates {
        let (body, _) = certificate.split_once("-----END CERTIFICATE-----").ok_or("a certificate has no end")?;
        let base64: String = body.split_whitespace().collect();
        let der = BASE64.decode(base64).map_err(|_| "a certificate is not base64")?;
        der.starts_with(&[0x30]).then_some(()).ok_or("a certificate is not DER")?;
    }
    Ok(())
}

/// A connection that is not there by then is given up.
pub const CONNECT: Duration = Duration::from_secs(5);

/// Time limits of a request: [`CONNECT`] for the connection, `first_byte` for the answer to begin, and `whole` for all
/// of it.
///
/// The body of an object is not part of the whole: it may take as long as it keeps coming.
pub fn timeouts(first_byte: Duration, whole: Duration) -> TimeoutConfig {
    TimeoutConfig::builder().connect_timeout(CONNECT).read_timeout(first_byte).operation_attempt_timeout(whole).build()
}

/// The mend of a connection that could not be made, or was not answered.
pub fn unreachable(service: &str, endpoint: Option<&str>, region: &str) -> String {
    let what =
        endpoint.map_or_else(|| format!("{service} in {region}"), |endpoint| format!("{service} at `{endpoint}`"));
    format!("{what} does not answer: check name resolution, routes, firewall, proxy and `endpoints`")
}

/// What an SDK's error says, without the SDK's types.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Failure {
    /// HTTP status, when there was an answer.
    pub status: Option<u16>,
    /// The service's code; without one, `HTTP <status>`, or one of ours: `Timeout`, `ConnectionFailed`,
    /// `UntrustedCertificate`, `MalformedAnswer`, `NotSent`.
    pub code: String,
    /// What the service or the connection said.
    pub message: String,
    /// The service's request id.
    pub request_id: Option<String>,
    /// The region that the service says the bucket is in.
    pub region: Option<Box<str>>,
    /// The service's own time when it answered (the `Date` header).
    pub served_at: Option<Timestamp>,
}

impl Failure {
    /// Reads an SDK's error.
    pub fn of<E>(error: &SdkError<E, HttpResponse>) -> Self
    where
        E: StdError + ProvideErrorMetadata + 'static,
    {
        let response = error.raw_response();
        let service = error.as_service_error();
        let message = service.and_then(|service| service.message()).map_or_else(|| chain(error), str::to_owned);
        let code = match (service.and_then(|service| service.code()), error) {
            (Some(code), _) => code,
            (None, SdkError::TimeoutError(_)) => "Timeout",
            (None, SdkError::DispatchFailure(failure)) if failure.is_timeout() => "Timeout",
            (None, SdkError::DispatchFailure(_)) if is_untrusted(error) => "UntrustedCertificate",
            (None, SdkError::DispatchFailure(failure)) if failure.is_user() => "NotSent",
            (None, SdkError::DispatchFailure(_)) => "ConnectionFailed",
            (None, SdkError::ConstructionFailure(_)) => "NotSent",
            (None, _) => match response {
                Some(response) => return Self::answered(response, None, message),
                None => "MalformedAnswer",
            },
        };
        match response {
            Some(response) => Self::answered(response, Some(code), message),
            None => Self { code: code.to_owned(), message, ..Self::default() },
        }
    }

    /// A failure that the service answered with: its code, where it gave one, and what is to be said of it.
    pub fn answered(response: &HttpResponse, code: Option<&str>, message: String) -> Self {
        let status = response.status().as_u16();
        let unnamed = || if status >= 300 { format!("HTTP {status}") } else { "MalformedAnswer".to_owned() };
        Self {
            status: Some(status),
            code: code.map_or_else(unnamed, str::to_owned),
            message,
            request_id: response.headers().request_id().map(str::to_owned),
            region: bucket_region(response).map(String::into_boxed_str),
            served_at: answer::date(response),
        }
    }

    /// Whether it is the trouble of the server that was asked, and another may do better.
    pub fn is_the_servers_own(&self) -> bool {
        matches!(self.status, Some(500 | 502 | 503 | 504)) || self.code == "RequestTimeout"
    }

    /// The report of this failure for an operation on a subject.
    pub fn report(self, operation: &'static str, subject: impl Into<String>) -> Report {
        let mut report = Report::new(operation, subject, self.message).code(self.code);
        report.request_id = self.request_id;
        report
    }
}

/// Whether the other end's certificate was not accepted.
///
/// The TLS library's error type is behind several crates; its words are stable enough to know it by.
fn is_untrusted(error: &(dyn StdError + 'static)) -> bool {
    chain(error).contains("invalid peer certificate")
}

/// The messages of an error and its causes, each said once.
pub fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        if !parts.iter().any(|part| part.contains(&text)) {
            parts.push(text);
        }
        next = error.source();
    }
    parts.join(": ")
}

/// The region named in a redirect: a header, or an element of the error's body.
fn bucket_region(response: &HttpResponse) -> Option<String> {
    let header = response.headers().get("x-amz-bucket-region").map(str::to_owned);
    header.or_else(|| {
        let body = std::str::from_utf8(response.body().bytes()?).ok()?;
        let (_, rest) = body.split_once("<Region>")?;
        rest.split_once("</Region>").map(|(region, _)| region.to_owned())
    })
}

/// An SDK's time as ours; `None` when it is out of all bounds.
pub fn timestamp(time: &aws_smithy_types::DateTime) -> Option<Timestamp> {
    Timestamp::new(time.secs(), time.subsec_nanos().try_into().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(ca_bundle: Option<&Path>, proxy: Option<&str>) -> Endpoints {
        Endpoints { ca_bundle: ca_bundle.map(Path::to_owned), proxy: proxy.map(str::to_owned), ..Endpoints::default() }
    }

    #[test]
    fn what_goes_the_same_way_shares_one_client() {
        let clients = HttpClients::default();
        clients.get(&endpoints(None, None)).unwrap();
        clients.get(&Endpoints { fips: true, ..endpoints(None, None) }).unwrap();
        clients.get(&endpoints(None, Some("http://proxy:3128"))).unwrap();
        assert_eq!(clients.0.lock().unwrap().len(), 2);
    }

    #[test]
    fn a_bad_ca_bundle_is_refused_before_any_request() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        let error = |text: &str| {
            std::fs::write(&path, text).unwrap();
            HttpClients::default().get(&endpoints(Some(&path), None)).unwrap_err().to_string()
        };
        assert!(error("").contains("there is no certificate in it"));
        assert!(error("-----BEGIN CERTIFICATE-----\nAAAA").contains("has no end"));
        let wrapped = |body: &str| format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
        assert!(error(&wrapped("?!")).contains("not base64"));
        assert!(error(&wrapped("AAAA")).contains("not DER"));
        assert!(error(&wrapped("MAAwAA==")).contains("cannot be used as an authority"));
        let missing = HttpClients::default().get(&endpoints(Some(&directory.path().join("no")), None)).unwrap_err();
        assert_eq!(missing.class(), Class::Stream);
    }

    #[test]
    fn a_bad_proxy_is_refused_without_showing_its_password() {
        for url in ["ftp://u:canary@h", "u:canary@h", "http://u:canary@h:port", "http://u:canary@:1"] {
            let error = HttpClients::default().get(&endpoints(None, Some(url))).unwrap_err().to_string();
            assert!(!error.contains("canary"), "{error}");
        }
        for url in ["http://proxy", "http://u:p@proxy:3128/", "http://[::1]:3128", "http://[::1]"] {
            HttpClients::default().get(&endpoints(None, Some(url))).unwrap();
        }
    }
}
