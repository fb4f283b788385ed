//! `CloudTrail`'s `ListPublicKeys`: the keys that verify digests, region by region.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

use crate::caller::{Ask, Caller};
use crate::failure::Failure;
use crate::op::Op;
use crate::public_keys::PublicKey;
use crate::reply::{Reply, reply};
use crate::world::World;

const LIST_PUBLIC_KEYS: &str = "CloudTrail_20131101.ListPublicKeys";
/// What botocore puts before it; the SDK for Rust does not.
const PACKAGE: &str = "com.amazonaws.cloudtrail.v20131101.";

/// Times are seconds since the epoch, with or without a fraction.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Input {
    start_time: Option<f64>,
    end_time: Option<f64>,
    next_token: Option<String>,
}

pub(crate) fn op(headers: &HeaderMap) -> Op {
    let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
    match target.strip_prefix(PACKAGE).unwrap_or(target) {
        LIST_PUBLIC_KEYS => Op::ListPublicKeys,
        _ => Op::Other,
    }
}

/// Answers one request whose signature is good; `region` is the one that it was signed for.
pub(crate) fn answer(world: &World, caller: &Caller, op: Op, region: &str, body: &Bytes) -> Result<Reply, Failure> {
    if op != Op::ListPublicKeys {
        return Err(Failure::bad_request("UnknownOperationException", ""));
    }
    let ask = Ask {
        action: "cloudtrail:ListPublicKeys",
        resource: "*",
        owner: caller.account(),
        resource_policy: None,
        context: caller.context(world.clock().now()),
    };
    if !caller.may(&ask) {
        let message = format!(
            "User: {} is not authorized to perform: {} because no identity-based policy allows the {} action",
            caller.arn, ask.action, ask.action
        );
        return Err(Failure::bad_request("AccessDeniedException", message));
    }
    list_public_keys(world, region, body)
}

fn list_public_keys(world: &World, region: &str, body: &Bytes) -> Result<Reply, Failure> {
    let serialization = |_| Failure::bad_request("SerializationException", "");
    let input: Input = match body.is_empty() {
        true => Input::default(),
        false => serde_json::from_slice(body).map_err(serialization)?,
    };
    if input.next_token.is_some() {
        return Err(Failure::bad_request("InvalidTokenException", "Reserved for future use."));
    }
    let now = world.clock().now();
    let from = input.start_time.map_or(now, from_epoch);
    let to = input.end_time.map_or(now, from_epoch);
    if from > to {
        let message = "The start time must be before the end time.";
        return Err(Failure::bad_request("InvalidTimeRangeException", message));
    }
    let keys = world.public_keys(region, from, to);
    let list: Vec<_> = keys.iter().map(shown).collect();
    let mut answer = reply(StatusCode::OK, json!({"PublicKeyList": list}).to_string());
    let json = HeaderValue::from_static("application/x-amz-json-1.1");
    answer.headers_mut().insert(CONTENT_TYPE, json);
    Ok(answer)
}

fn shown(key: &PublicKey) -> serde_json::Value {
    json!({
        "Value": BASE64.encode(&key.der),
        "ValidityStartTime": key.valid_from.as_second(),
        "ValidityEndTime": key.valid_until.as_second(),
        "Fingerprint": key.fingerprint,
    })
}

fn from_epoch(seconds: f64) -> Timestamp {
    Timestamp::from_second(seconds as i64).unwrap_or(if seconds < 0.0 { Timestamp::MIN } else { Timestamp::MAX })
}
