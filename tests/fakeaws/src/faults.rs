//! Failures on demand: which kind, on which requests, how often.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::op::{Op, Target};
use crate::sync::Shared;

/// A way to fail. Serialized as `{"kind": "ShortBody", "by": 10}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
pub enum Fault {
    /// The connection is reset after this many body bytes.
    ResetMidBody {
        after: usize,
    },
    /// `Content-Length` is right, the connection closes this many bytes early.
    ShortBody {
        by: usize,
    },
    /// A clean answer that lacks its last bytes, `Content-Length` included.
    WrongLength {
        by: usize,
    },
    /// One bit of this byte (counted around) is flipped; headers are untouched.
    FlippedBit {
        at: usize,
    },
    /// Headers and this many body bytes, then silence on an open connection.
    Stall {
        after: usize,
    },
    /// Waits before it goes on; other faults still apply.
    Delay {
        millis: u64,
    },
    InternalError,
    SlowDown,
    ServiceUnavailable,
    RequestTimeout,
    AccessDenied,
    /// As S3 reports a missing `kms:Decrypt`: a plain `AccessDenied`.
    KmsDenied,
    /// As S3 reports a KMS key that its owner has disabled.
    KmsDisabled,
    /// Any other error, by its status and code.
    Refusal {
        status: u16,
        code: String,
    },
    InvalidObjectState,
    NoSuchKey,
    PreconditionFailed,
    ExpiredToken,
    InvalidToken,
    /// 307 to another endpoint.
    Redirect307 {
        to: String,
    },
    /// The connection closes before any answer.
    CloseBeforeHeaders,
    /// The `Date` header alone is off.
    ClockSkew {
        seconds: i64,
    },
    /// `IsTruncated` with the token that the request came with, for ever.
    ListTokenLoop,
    /// An empty page that claims to have a successor.
    ListEmptyTruncated,
    /// `IsTruncated` without any token.
    ListNoToken,
    /// As S3 says that another write or removal of the key is under way: 409.
    ConditionalConflict,
    /// A service that takes no notice of `If-None-Match`, or of the `If-Match` of a deletion.
    IgnoresConditions,
    /// 200, and in its body an error: `CopyObject` and `CompleteMultipartUpload`. Nothing is done.
    ErrorInside200,
    /// What is asked for is done, and the connection closes before any answer.
    LostAnswer,
    /// 200 with XML that ends in the middle.
    ListMalformedXml,
    /// 200 with this many bytes of attributes in one element.
    ListGiantXml {
        bytes: usize,
    },
    /// The page leaves its last key out.
    ListDropsKey,
    StsUnavailable,
    StsThrottling,
    RegionDisabled,
    /// `AssumeRole` answers with credentials that live this long.
    ShortLivedSession {
        seconds: u64,
    },
    /// `AssumeRole` answers with credentials that are over.
    AlreadyExpiredSession,
}

/// How often a fault strikes among the requests that it matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    Always,
    /// The first n.
    Times(u64),
    /// Each n-th.
    Every(u64),
    /// The n-th alone; 1 is the next.
    Nth(u64),
}

/// A fault with its address.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Rule {
    pub fault: Fault,
    /// Empty means all.
    #[serde(default)]
    pub ops: Vec<Op>,
    #[serde(default)]
    pub key_contains: Option<String>,
    /// This key alone.
    #[serde(default)]
    pub key: Option<String>,
    /// The account of the caller.
    #[serde(default)]
    pub account: Option<String>,
    #[serde(default)]
    pub bucket: Option<String>,
    /// The role that is assumed.
    #[serde(default)]
    pub role_arn: Option<String>,
    #[serde(default = "always")]
    pub schedule: Schedule,
}

fn always() -> Schedule {
    Schedule::Always
}

/// Names an injected fault, to remove it or to ask how often it struck.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FaultId(u64);

/// The faults of one world. They take effect with the next request.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Shared<Active>>);

#[derive(Debug, Default)]
struct Active {
    next: u64,
    rules: Vec<Armed>,
    struck: Vec<u64>,
}

#[derive(Debug)]
struct Armed {
    id: FaultId,
    rule: Rule,
    seen: u64,
}

/// A fault being addressed; it is armed by [`times`](Injection::times), [`nth`](Injection::nth),
/// [`every`](Injection::every) or [`always`](Injection::always).
#[must_use = "a fault is armed by `times`, `nth`, `every` or `always`"]
pub struct Injection<'a> {
    faults: &'a Faults,
    rule: Rule,
}

impl Faults {
    pub fn inject(&self, fault: Fault) -> Injection<'_> {
        let rule = Rule {
            fault,
            ops: Vec::new(),
            key_contains: None,
            key: None,
            account: None,
            bucket: None,
            role_arn: None,
            schedule: Schedule::Always,
        };
        Injection { faults: self, rule }
    }

    /// Arms a rule that was built or read elsewhere.
    pub fn arm(&self, rule: Rule) -> FaultId {
        let mut active = self.0.write();
        let id = FaultId(active.next);
        active.next += 1;
        active.struck.push(0);
        active.rules.push(Armed { id, rule, seen: 0 });
        id
    }

    pub fn remove(&self, id: FaultId) {
        self.0.write().rules.retain(|armed| armed.id != id);
    }

    pub fn clear(&self) {
        self.0.write().rules.clear();
    }

    /// How many requests this fault has struck, also after it was removed.
    pub fn struck(&self, id: FaultId) -> u64 {
        let active = self.0.read();
        let at = usize::try_from(id.0).unwrap_or(usize::MAX);
        active.struck.get(at).copied().unwrap_or_default()
    }

    /// The rules that are armed now.
    pub fn rules(&self) -> Vec<(FaultId, Rule)> {
        let active = self.0.read();
        active.rules.iter().map(|armed| (armed.id, armed.rule.clone())).collect()
    }

    /// The faults that strike this request; counts it as seen.
    pub(crate) fn strike(&self, op: Op, target: &Target, account: Option<&str>) -> Vec<Fault> {
        if self.0.read().rules.is_empty() {
            return Vec::new();
        }
        let mut active = self.0.write();
        let active = &mut *active;
        let mut striking = Vec::new();
        for armed in &mut active.rules {
            if armed.rule.matches(op, target, account) && armed.is_due() {
                if let Some(count) = active.struck.get_mut(armed.id.0 as usize) {
                    *count += 1;
                }
                striking.push(armed.rule.fault.clone());
            }
        }
        striking
    }
}

impl Injection<'_> {
    /// Only on this operation; said twice, on either.
    pub fn on(mut self, op: Op) -> Self {
        self.rule.ops.push(op);
        self
    }

    /// Only where the key, or the prefix of a listing, contains this.
    pub fn key_contains(mut self, part: &str) -> Self {
        self.rule.key_contains = Some(part.to_owned());
        self
    }

    /// Only on this key; other keys may contain it.
    pub fn key(mut self, key: &str) -> Self {
        self.rule.key = Some(key.to_owned());
        self
    }

    /// Only for callers of this account; for a session that is the role's.
    pub fn account(mut self, account: &str) -> Self {
        self.rule.account = Some(account.to_owned());
        self
    }

    pub fn bucket(mut self, bucket: &str) -> Self {
        self.rule.bucket = Some(bucket.to_owned());
        self
    }

    /// Only where this role is being assumed.
    pub fn role(mut self, arn: &str) -> Self {
        self.rule.role_arn = Some(arn.to_owned());
        self
    }

    /// Strikes the next `n` matching requests.
    pub fn times(self, n: u64) -> FaultId {
        self.arm(Schedule::Times(n))
    }

    /// Strikes the `n`-th matching request from now on, and no other.
    pub fn nth(self, n: u64) -> FaultId {
        self.arm(Schedule::Nth(n))
    }

    /// Strikes each `n`-th matching request.
    pub fn every(self, n: u64) -> FaultId {
        self.arm(Schedule::Every(n.max(1)))
    }

    /// Strikes until it is removed.
    pub fn always(self) -> FaultId {
        self.arm(Schedule::Always)
    }

    fn arm(mut self, schedule: Schedule) -> FaultId {
        self.rule.schedule = schedule;
        self.faults.arm(self.rule)
    }
}

impl Rule {
    fn matches(&self, op: Op, target: &Target, account: Option<&str>) -> bool {
        let named = target.key.as_deref().or(target.prefix.as_deref());
        let is =
            |wanted: &Option<String>, given: Option<&str>| wanted.as_deref().is_none_or(|wanted| given == Some(wanted));
        (self.ops.is_empty() || self.ops.contains(&op))
            && is(&self.key, target.key.as_deref())
            && is(&self.account, account)
            && is(&self.bucket, target.bucket.as_deref())
            && is(&self.role_arn, target.role_arn.as_deref())
            && self.key_contains.as_deref().is_none_or(|part| named.is_some_and(|named| named.contains(part)))
    }
}

impl Armed {
    fn is_due(&mut self) -> bool {
        self.seen += 1;
        match self.rule.schedule {
            Schedule::Always => true,
            Schedule::Times(n) => self.seen <= n,
            Schedule::Every(n) => self.seen.is_multiple_of(n),
            Schedule::Nth(n) => self.seen == n,
        }
    }
}

impl Fault {
    pub(crate) fn delay(&self) -> Option<Duration> {
        match self {
            Fault::Delay { millis } => Some(Duration::from_millis(*millis)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(key: &str) -> Target {
        Target { bucket: Some("logs".into()), key: Some(key.into()), ..Target::default() }
    }

    #[test]
    fn a_fault_strikes_only_where_it_is_addressed() {
        let faults = Faults::default();
        let id = faults.inject(Fault::SlowDown).on(Op::GetObject).key_contains("x").account("1").times(2);
        assert!(faults.strike(Op::HeadObject, &get("x"), Some("1")).is_empty());
        assert!(faults.strike(Op::GetObject, &get("y"), Some("1")).is_empty());
        assert!(faults.strike(Op::GetObject, &get("x"), Some("2")).is_empty());
        for expected in [1, 1, 0] {
            assert_eq!(faults.strike(Op::GetObject, &get("x"), Some("1")).len(), expected);
        }
        assert_eq!(faults.struck(id), 2);
    }

    #[test]
    fn every_third_means_the_third_and_the_sixth() {
        let faults = Faults::default();
        faults.inject(Fault::InternalError).every(3);
        let struck: Vec<bool> = (0..6).map(|_| !faults.strike(Op::GetObject, &get("k"), None).is_empty()).collect();
        assert_eq!(struck, [false, false, true, false, false, true]);
    }

    #[test]
    fn the_third_alone_means_no_other_and_a_key_alone_no_longer_one() {
        let faults = Faults::default();
        faults.inject(Fault::InternalError).key("k").nth(3);
        assert!(faults.strike(Op::GetObject, &get("kk"), None).is_empty());
        let struck: Vec<bool> = (0..5).map(|_| !faults.strike(Op::GetObject, &get("k"), None).is_empty()).collect();
        assert_eq!(struck, [false, false, true, false, false]);
    }

    #[test]
    fn faults_are_read_by_name() {
        let text = r#"{"fault": {"kind": "ShortBody", "by": 3}, "ops": ["GetObject"], "schedule": {"times": 2}}"#;
        let rule: Rule = serde_json::from_str(text).expect("a rule");
        assert_eq!(rule.fault, Fault::ShortBody { by: 3 });
        assert_eq!(rule.schedule, Schedule::Times(2));
    }
}
