//! The control interface: `/_fakeaws/…`, JSON in and out, for scripts that steer a running server.
//!
//! | request | does |
//! | --- | --- |
//! | `GET scenario` | keys, roles and buckets of the scenario |
//! | `GET counters`, `POST reset-counters`, `GET recent` | what was asked |
//! | `GET faults`, `POST faults` (a rule), `DELETE faults[?id=]` | failures |
//! | `POST put`, `POST put-many`, `POST delete` | objects |
//! | `GET objects?bucket=&prefix=[&hashes=true]` | what a bucket holds |
//! | `GET deliveries` | what trails delivered, and what of it was late |
//! | `GET clock`, `POST clock` `{"set"}`, `{"advance_seconds"}` | time |
//! | `POST deliver-until` `{"until"}` | lets trails deliver |
//! | `POST live` `{"seconds"}` | starts live delivery; 0 seconds: for ever; `DELETE live` stops it |
//! | `POST revoke-sessions`, `POST remove-role` `{"role"}` | the end of sharing |

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use jiff::{SignedDuration, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::digests::sha256_hex;
use crate::faults::{FaultId, Rule};
use crate::object::{Body, ObjectSpec, md5_hex};
use crate::reply::{Reply, reply};
use crate::trail::Delivery;
use crate::world::World;

pub(crate) const PATH: &str = "/_fakeaws/";

pub(crate) fn answer(world: &World, parts: &Parts, body: &Bytes) -> Reply {
    let name = parts.uri.path().strip_prefix(PATH).unwrap_or_default();
    let query: BTreeMap<String, String> =
        form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes())
            .into_owned()
            .collect();
    let (status, value) = match handle(world, parts.method.as_str(), name, &query, body) {
        Ok(value) => (StatusCode::OK, value),
        Err(why) => (StatusCode::BAD_REQUEST, json!({"error": why})),
    };
    let mut answer = reply(status, value.to_string());
    let json = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(CONTENT_TYPE, json);
    answer
}

type Query = BTreeMap<String, String>;

fn handle(
    world: &World,
    method: &str,
    name: &str,
    query: &Query,
    body: &Bytes,
) -> Result<Value, String> {
    match (method, name) {
        ("GET", "scenario") => Ok(world.inner().scenario.read().clone()),
        ("GET", "counters") => shown(&world.counters()),
        ("POST", "reset-counters") => done(|| world.reset_counters()),
        ("GET", "recent") => shown(&world.recent()),
        (_, "faults") => faults(world, method, query, body),
        ("POST", "put") => put(world, read(body)?),
        ("POST", "put-many") => put_many(world, &read(body)?),
        ("POST", "delete") => delete(world, &read(body)?),
        ("GET", "objects") => objects(world, query),
        ("GET", "deliveries") => deliveries(world),
        (_, "clock") => clock(world, method, body),
        ("POST", "deliver-until") => {
            let due: Due = read(body)?;
            shown(&world.deliver_until(due.until))
        }
        (_, "live") => live(world, method, body),
        ("POST", "revoke-sessions") => {
            let RoleName { role } = read(body)?;
            done(|| world.revoke_sessions(&role))
        }
        ("POST", "remove-role") => {
            let RoleName { role } = read(body)?;
            done(|| world.remove_role(&role))
        }
        _ => Err(format!(
            "no {method} {name}; see the documentation of the control module"
        )),
    }
}

fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|why| why.to_string())
}

fn shown(value: &impl Serialize) -> Result<Value, String> {
    serde_json::to_value(value).map_err(|why| why.to_string())
}

fn done(act: impl FnOnce()) -> Result<Value, String> {
    act();
    Ok(json!({"ok": true}))
}

#[derive(Deserialize)]
struct RoleName {
    role: String,
}

#[derive(Deserialize)]
struct Due {
    until: Timestamp,
}

fn faults(world: &World, method: &str, query: &Query, body: &Bytes) -> Result<Value, String> {
    let faults = world.faults();
    match method {
        "POST" => {
            let rule: Rule = read(body)?;
            Ok(json!({"id": faults.arm(rule)}))
        }
        "DELETE" => match query.get("id") {
            None => done(|| faults.clear()),
            Some(id) => {
                let id: FaultId = serde_json::from_str(id).map_err(|why| why.to_string())?;
                done(|| faults.remove(id))
            }
        },
        _ => {
            let rules = faults.rules();
            let rules = rules
                .into_iter()
                .map(|(id, rule)| json!({"id": id, "struck": faults.struck(id), "rule": rule}));
            Ok(rules.collect())
        }
    }
}

/// An object as scripts and scenario files describe it.
#[derive(Debug, Deserialize)]
pub(crate) struct Put {
    pub bucket: String,
    pub key: String,
    base64: Option<String>,
    text: Option<String>,
    generated: Option<Generated>,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    content_type: Option<String>,
    content_encoding: Option<String>,
    storage_class: Option<String>,
    kms_key: Option<String>,
    modified: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct Generated {
    seed: u64,
    size: u32,
}

impl Put {
    pub fn object(self) -> Result<ObjectSpec, String> {
        let body = match (self.base64, self.text, self.generated) {
            (Some(base64), None, None) => {
                let bytes = BASE64.decode(base64).map_err(|why| why.to_string())?;
                Body::Bytes(Bytes::from(bytes))
            }
            (None, Some(text), None) => Body::Bytes(Bytes::from(text)),
            (None, None, Some(Generated { seed, size })) => Body::Generated { seed, size },
            _ => return Err("give one of base64, text and generated".to_owned()),
        };
        let mut object = match body {
            Body::Generated { seed, size } => ObjectSpec::generated(seed, size),
            Body::Bytes(bytes) => ObjectSpec::bytes(bytes),
        };
        object.metadata = self.metadata;
        object.modified = self.modified;
        object.content_type = self.content_type.or(object.content_type);
        object.content_encoding = self.content_encoding.or(object.content_encoding);
        if let Some(class) = self.storage_class {
            object.storage_class = class;
        }
        match self.kms_key {
            Some(key) => Ok(object.kms(&key)),
            None => Ok(object),
        }
    }
}

fn put(world: &World, put: Put) -> Result<Value, String> {
    existing(world, &put.bucket)?;
    let (bucket, key) = (put.bucket.clone(), put.key.clone());
    world.put_object(&bucket, &key, put.object()?);
    done(|| ())
}

/// Many objects of one pattern, in which `{n}` is the number, padded to eight digits.
#[derive(Deserialize)]
struct PutMany {
    bucket: String,
    key: String,
    count: u64,
    #[serde(default)]
    from: u64,
    #[serde(default = "small")]
    size: u32,
}

fn small() -> u32 {
    300
}

fn put_many(world: &World, many: &PutMany) -> Result<Value, String> {
    existing(world, &many.bucket)?;
    let objects = (many.from..many.from.saturating_add(many.count)).map(|number| {
        let key = many.key.replace("{n}", &format!("{number:08}"));
        (key, ObjectSpec::generated(number, many.size))
    });
    world.put_objects(&many.bucket, objects);
    done(|| ())
}

#[derive(Deserialize)]
struct Delete {
    bucket: String,
    key: String,
}

fn delete(world: &World, delete: &Delete) -> Result<Value, String> {
    existing(world, &delete.bucket)?;
    Ok(json!({"deleted": world.delete_object(&delete.bucket, &delete.key)}))
}

fn existing(world: &World, bucket: &str) -> Result<(), String> {
    let known = world.inner().buckets.read().contains_key(bucket);
    known
        .then_some(())
        .ok_or_else(|| format!("no bucket {bucket}"))
}

/// Hashes are of the bytes as stored; they cost a read of every body, so they can be left out.
fn objects(world: &World, query: &Query) -> Result<Value, String> {
    let get = |name: &str| query.get(name).map_or("", String::as_str);
    let (bucket, hashes) = (get("bucket"), get("hashes") != "false");
    existing(world, bucket)?;
    let delivered = world.deliveries();
    let delivered: BTreeMap<&str, &Delivery> = delivered
        .iter()
        .filter(|delivery| delivery.bucket == bucket)
        .map(|delivery| (delivery.key.as_str(), delivery))
        .collect();
    let keys = world.keys(bucket, get("prefix"));
    let shown = keys.iter().filter_map(|key| {
        let object = world.object(bucket, key)?;
        let delivery = delivered.get(key.as_str());
        let mut shown = json!({
            "key": key,
            "size": object.size(),
            "etag": object.etag,
            "delivered_at": object.modified,
            "late_by": delivery.map_or(0, |delivery| delivery.late_by),
        });
        if hashes {
            let body = object.body.bytes();
            shown["md5"] = json!(md5_hex(&body));
            shown["sha256"] = json!(sha256_hex(&body));
        }
        Some(shown)
    });
    Ok(shown.collect())
}

/// Counts by account and kind, and every late file.
fn deliveries(world: &World) -> Result<Value, String> {
    let all = world.deliveries();
    let mut counts: BTreeMap<String, BTreeMap<&str, u64>> = BTreeMap::new();
    for delivery in &all {
        let account = counts.entry(delivery.account.clone()).or_default();
        *account.entry(delivery.kind.folder()).or_default() += 1;
    }
    let late: Vec<&Delivery> = all.iter().filter(|delivery| delivery.late_by > 0).collect();
    let live_until = *world.inner().live.read();
    Ok(json!({
        "total": all.len(),
        "by_account": counts,
        "late": late,
        "newest": all.iter().map(|delivery| delivery.at).max(),
        "is_live": live_until.is_some(),
    }))
}

#[derive(Deserialize, Default)]
struct ClockChange {
    set: Option<Timestamp>,
    advance_seconds: Option<u64>,
}

fn clock(world: &World, method: &str, body: &Bytes) -> Result<Value, String> {
    if method == "POST" {
        let change: ClockChange = read(body)?;
        if let Some(at) = change.set {
            world.clock().set(at);
        }
        if let Some(seconds) = change.advance_seconds {
            world.clock().advance(Duration::from_secs(seconds));
        }
    }
    Ok(json!({"now": world.clock().now()}))
}

#[derive(Deserialize)]
struct Live {
    seconds: i64,
}

fn live(world: &World, method: &str, body: &Bytes) -> Result<Value, String> {
    match method {
        "POST" => {
            let Live { seconds } = read(body)?;
            let until = world
                .clock()
                .now()
                .checked_add(SignedDuration::from_secs(seconds));
            world.go_live((seconds > 0).then_some(until.unwrap_or(Timestamp::MAX)));
        }
        "DELETE" => world.stop_live(),
        _ => {}
    }
    Ok(json!({"is_live": world.inner().live.read().is_some()}))
}
