//! Signature Version 4: what a request claims, and whether its signature bears it out.
//!
//! S3 signatures are checked by `s3s`; the check here is for the services beside it.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use http::Method;
use http::header::{AUTHORIZATION, DATE, HeaderMap};
use http::request::Parts;
use jiff::Timestamp;

use crate::clock::{compact, parse_compact};
use crate::op::percent_decode;

/// Who a request says has signed it, when and for where.
#[derive(Debug, Clone)]
pub(crate) struct Claims {
    pub key_id: String,
    pub token: Option<String>,
    /// The credential scope's.
    pub region: String,
    /// The credential scope's.
    pub service: String,
    pub at: Timestamp,
    /// Signed in the query, valid for as long as that says.
    pub presigned: bool,
    scope_date: String,
    signed_headers: Vec<String>,
    signature: String,
}

/// Why no claims can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreadable {
    Unsigned,
    Malformed,
}

impl Claims {
    pub fn read(parts: &Parts) -> Result<Claims, Unreadable> {
        match text(&parts.headers, AUTHORIZATION.as_str()) {
            Some(authorization) => Claims::from_header(authorization, &parts.headers).ok_or(Unreadable::Malformed),
            None => Claims::from_query(parts.uri.query().unwrap_or_default()),
        }
    }

    fn from_header(authorization: &str, headers: &HeaderMap) -> Option<Claims> {
        let fields = authorization.strip_prefix("AWS4-HMAC-SHA256 ")?;
        let field = |name: &str| {
            let named = |field: &str| field.trim().strip_prefix(name)?.strip_prefix('=').map(str::to_owned);
            fields.split(',').find_map(named)
        };
        let at = match text(headers, "x-amz-date") {
            Some(at) => parse_compact(at)?,
            None => http_time(text(headers, DATE.as_str())?)?,
        };
        let token = text(headers, "x-amz-security-token").map(str::to_owned);
        let signed = field("SignedHeaders")?;
        Claims::assemble(&field("Credential")?, token, at, &signed, field("Signature")?)
    }

    fn from_query(query: &str) -> Result<Claims, Unreadable> {
        let get = |name: &str| {
            let mut pairs = form_urlencoded::parse(query.as_bytes());
            pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
        };
        let credential = get("X-Amz-Credential").ok_or(Unreadable::Unsigned)?;
        let claims = || {
            let at = parse_compact(&get("X-Amz-Date")?)?;
            let signed = get("X-Amz-SignedHeaders")?;
            let signature = get("X-Amz-Signature")?;
            Claims::assemble(&credential, get("X-Amz-Security-Token"), at, &signed, signature)
        };
        let claims = claims().ok_or(Unreadable::Malformed)?;
        Ok(Claims { presigned: true, ..claims })
    }

    fn assemble(
        credential: &str,
        token: Option<String>,
        at: Timestamp,
        signed_headers: &str,
        signature: String,
    ) -> Option<Claims> {
        let mut scope = credential.rsplitn(5, '/');
        let (terminator, service) = (scope.next()?, scope.next()?);
        let (region, date, key_id) = (scope.next()?, scope.next()?, scope.next()?);
        (terminator == "aws4_request").then(|| Claims {
            key_id: key_id.to_owned(),
            token,
            region: region.to_owned(),
            service: service.to_owned(),
            at,
            presigned: false,
            scope_date: date.to_owned(),
            signed_headers: signed_headers.split(';').map(str::to_owned).collect(),
            signature,
        })
    }

    /// Whether `secret` makes this signature over this request. `host` and the date must be signed.
    pub fn are_signed_with(&self, secret: &str, parts: &Parts, body: &[u8]) -> bool {
        if !self.signed_headers.iter().any(|name| name == "host") {
            return false;
        }
        let request = self.canonical_request(&parts.method, parts, body);
        let at = compact(self.at);
        let scope = format!("{}/{}/{}/aws4_request", self.scope_date, self.region, self.service);
        let hashed = hex::encode(digest(&SHA256, request.as_bytes()));
        let to_sign = format!("AWS4-HMAC-SHA256\n{at}\n{scope}\n{hashed}");
        let key = ["aws4_request", &self.service, &self.region, &self.scope_date]
            .iter()
            .rev()
            .fold(format!("AWS4{secret}").into_bytes(), |key, part| sign(&key, part.as_bytes()));
        at.starts_with(&self.scope_date) && hex::encode(sign(&key, to_sign.as_bytes())) == self.signature
    }

    fn canonical_request(&self, method: &Method, parts: &Parts, body: &[u8]) -> String {
        let mut headers = String::new();
        for name in &self.signed_headers {
            let values: Vec<String> = parts.headers.get_all(name).iter().map(trimmed).collect();
            headers.push_str(&format!("{name}:{}\n", values.join(",")));
        }
        let payload = hex::encode(digest(&SHA256, body));
        let path = encode(&percent_decode(parts.uri.path()), true);
        let query = canonical_query(parts.uri.query().unwrap_or_default());
        let signed = self.signed_headers.join(";");
        format!("{method}\n{path}\n{query}\n{headers}\n{signed}\n{payload}")
    }
}

fn sign(key: &[u8], message: &[u8]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, message).as_ref().to_vec()
}

fn trimmed(value: &http::HeaderValue) -> String {
    let text = String::from_utf8_lossy(value.as_bytes());
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn canonical_query(query: &str) -> String {
    let mut pairs: Vec<String> = form_urlencoded::parse(query.as_bytes())
        .map(|(key, value)| format!("{}={}", encode(&key, false), encode(&value, false)))
        .collect();
    pairs.sort_unstable();
    pairs.join("&")
}

fn encode(text: &str, keep_slashes: bool) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                encoded.push(char::from(byte));
            }
            b'/' if keep_slashes => encoded.push('/'),
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn http_time(text: &str) -> Option<Timestamp> {
    let zoned = jiff::fmt::rfc2822::parse(text).ok()?;
    Some(zoned.timestamp())
}
