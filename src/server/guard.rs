//! Who may ask, and what every answer says to browsers.

use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use secrecy::{ExposeSecret as _, SecretString};

use crate::error::{Class, Error, Report};

/// Nothing from another host, nothing inline.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; \
                      base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
/// The least that a token may have.
const LEAST: usize = 16;

/// What every request must bear.
pub struct Token(SecretString);

impl Token {
    /// Reads the token from its file, without the line end after it.
    ///
    /// # Errors
    /// `Stream` when it cannot be read or is too short to be one.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let refused = |why: String| {
            let report = Report::new("read", path.display().to_string(), why);
            Error::of(
                Class::Stream,
                report.mend("put a token of 16 characters or more there, such as `openssl rand -hex 32` makes"),
            )
        };
        let text = std::fs::read_to_string(path).map_err(|error| refused(error.to_string()))?;
        let token = text.trim_end();
        if token.len() < LEAST || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(refused("the token is too short, or has other characters than a header can carry".into()));
        }
        Ok(Self(token.into()))
    }

    fn admits(&self, headers: &HeaderMap) -> bool {
        let borne = headers.get(header::AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
        borne.is_some_and(|borne| verify_slices_are_equal(borne, self.0.expose_secret().as_bytes()).is_ok())
    }
}

/// Lets a request pass that bears the token, where one is configured.
pub async fn authorize(State(token): State<Option<Arc<Token>>>, request: Request, next: Next) -> Response {
    match token {
        Some(token) if !token.admits(request.headers()) => {
            let ask = [(header::WWW_AUTHENTICATE, "Bearer realm=\"trailsync\"")];
            (StatusCode::UNAUTHORIZED, ask, "401: send `Authorization: Bearer` and the token of `http.token_file`\n")
                .into_response()
        }
        _ => next.run(request).await,
    }
}

/// Adds what browsers must heed, and allows nothing but reading.
pub async fn headers(request: Request, next: Next) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return secured(only_get().await);
    }
    secured(next.run(request).await)
}

fn secured(mut response: Response) -> Response {
    let fixed = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    let headers = response.headers_mut();
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// What is not there.
pub async fn not_found() -> Response {
    (StatusCode::NOT_FOUND, "404: see / /api/status /api/events /metrics /healthz /readyz\n").into_response()
}

/// Nothing can be changed through this server.
pub async fn only_get() -> Response {
    (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET, HEAD")], "405: this server is for reading\n")
        .into_response()
}
