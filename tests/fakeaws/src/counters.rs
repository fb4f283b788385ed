//! What was asked, how often, how many at once, and with what result.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use crate::op::{Op, Target};
use crate::sync::Shared;

/// A snapshot of everything counted since the start or the last reset.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Counters {
    pub ops: BTreeMap<Op, OpCounters>,
    /// `AssumeRole` by role ARN.
    pub roles: BTreeMap<String, OpCounters>,
}

/// One operation's share.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct OpCounters {
    /// Requests that have begun.
    pub total: u64,
    /// Answers by class: 2 for 2xx and so on; 0 for connections closed without one.
    pub by_class: BTreeMap<u16, u64>,
    /// Until the last byte of the body is sent or given up.
    pub in_flight: u64,
    pub max_in_flight: u64,
    /// Body bytes.
    pub bytes_out: u64,
}

impl Counters {
    pub fn total(&self, op: Op) -> u64 {
        self.ops.get(&op).map_or(0, |counters| counters.total)
    }

    pub fn op(&self, op: Op) -> OpCounters {
        self.ops.get(&op).cloned().unwrap_or_default()
    }

    pub fn role(&self, arn: &str) -> OpCounters {
        self.roles.get(arn).cloned().unwrap_or_default()
    }

    /// The requests that S3 charges as LIST.
    pub fn lists(&self) -> u64 {
        self.total(Op::ListObjectsV2) + self.total(Op::ListObjects)
    }
}

/// One request as the log keeps it.
#[derive(Debug, Clone, Serialize)]
pub struct RequestRecord {
    pub at: Timestamp,
    pub op: Op,
    pub bucket: Option<String>,
    pub key: Option<String>,
    pub prefix: Option<String>,
    pub start_after: Option<String>,
    pub continuation: Option<String>,
    pub delimiter: Option<String>,
    pub role_arn: Option<String>,
    /// ARN of whoever signed it.
    pub caller: Option<String>,
    /// 0 where the connection was closed instead.
    pub status: u16,
}

/// How many requests the log remembers.
const REMEMBERED: usize = 20_000;

/// The counting side, shared with every request in flight.
#[derive(Debug, Clone, Default)]
pub(crate) struct Meter(Arc<Shared<State>>);

#[derive(Debug, Default)]
struct State {
    counters: Counters,
    recent: VecDeque<RequestRecord>,
}

/// A request being counted; it is in flight until this is dropped.
#[derive(Debug)]
pub(crate) struct InFlight {
    meter: Meter,
    op: Op,
    role: Option<String>,
}

impl Meter {
    pub fn begin(&self, op: Op, role: Option<&str>) -> InFlight {
        let flight = InFlight { meter: self.clone(), op, role: role.map(str::to_owned) };
        flight.update(|counters| {
            counters.total += 1;
            counters.in_flight += 1;
            counters.max_in_flight = counters.max_in_flight.max(counters.in_flight);
        });
        flight
    }

    pub fn remember(&self, record: RequestRecord) {
        let mut state = self.0.write();
        if state.recent.len() == REMEMBERED {
            state.recent.pop_front();
        }
        state.recent.push_back(record);
    }

    pub fn snapshot(&self) -> Counters {
        self.0.read().counters.clone()
    }

    pub fn recent(&self) -> Vec<RequestRecord> {
        self.0.read().recent.iter().cloned().collect()
    }

    /// Starts again at zero; what is in flight stays counted as such.
    pub fn reset(&self) {
        let mut state = self.0.write();
        state.recent.clear();
        let Counters { ops, roles } = &mut state.counters;
        for counters in ops.values_mut().chain(roles.values_mut()) {
            *counters = OpCounters {
                in_flight: counters.in_flight,
                max_in_flight: counters.in_flight,
                ..OpCounters::default()
            };
        }
    }
}

impl InFlight {
    pub fn answered(&self, status: u16) {
        self.update(|counters| *counters.by_class.entry(status / 100).or_default() += 1);
    }

    pub fn sent(&self, bytes: usize) {
        self.update(|counters| counters.bytes_out += bytes as u64);
    }

    fn update(&self, change: impl Fn(&mut OpCounters)) {
        let mut state = self.meter.0.write();
        let Counters { ops, roles } = &mut state.counters;
        change(ops.entry(self.op).or_default());
        if let Some(role) = &self.role {
            change(roles.entry(role.clone()).or_default());
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.update(|counters| counters.in_flight = counters.in_flight.saturating_sub(1));
    }
}

impl RequestRecord {
    pub(crate) fn new(at: Timestamp, op: Op, target: Target, caller: Option<String>) -> Self {
        RequestRecord {
            at,
            op,
            bucket: target.bucket,
            key: target.key,
            prefix: target.prefix,
            start_after: target.start_after,
            continuation: target.continuation,
            delimiter: target.delimiter,
            role_arn: target.role_arn,
            caller,
            status: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_number_at_once_is_kept() {
        let meter = Meter::default();
        let first = meter.begin(Op::AssumeRole, Some("r"));
        let second = meter.begin(Op::AssumeRole, Some("r"));
        first.answered(200);
        drop(first);
        let counters = meter.snapshot();
        assert_eq!(counters.role("r").in_flight, 1);
        assert_eq!(counters.op(Op::AssumeRole).max_in_flight, 2);
        drop(second);
        meter.reset();
        assert_eq!(meter.snapshot().total(Op::AssumeRole), 0);
    }
}
