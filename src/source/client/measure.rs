//! Counts, times and prices requests, by source and operation: what Prometheus is told of them.

use std::fmt;
use std::future::Future;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use tokio::time::Instant;

/// Seconds from a request to the head of its answer; answered ones only.
pub const REQUEST_SECONDS: &str = "trailsync_request_seconds";
/// Requests of this process, failed ones included.
pub const REQUESTS_TOTAL: &str = "trailsync_service_requests_total";
/// Requests of this process that were refused, or not answered.
pub const FAILURES_TOTAL: &str = "trailsync_service_request_failures_total";
/// What they cost in us-east-1.
pub const DOLLARS: &str = "trailsync_service_request_dollars";
/// Objects that were listed, are not here, and are being fetched.
pub const PENDING: &str = "trailsync_objects_pending";

/// S3 Standard in us-east-1: dollars a thousand PUT, COPY, POST or LIST requests.
const WRITE_DOLLARS: f64 = 0.005 / 1000.0;
/// The same for GET and all others; DELETE is free.
const READ_DOLLARS: f64 = 0.0004 / 1000.0;

/// Requests of one operation of one source.
#[derive(Clone)]
pub struct Measured {
    seconds: Histogram,
    requests: Counter,
    failures: Counter,
    dollars: Gauge,
    price: f64,
}

/// Objects that are being fetched, until this is dropped.
pub struct Pending {
    gauge: Gauge,
    pending: f64,
}

impl Measured {
    /// What is known of this operation of this source; `<source>/destination` for a bucket of our own.
    pub fn of(source: &str, operation: &'static str) -> Self {
        let labels = [("source", source.to_owned()), ("operation", operation.to_owned())];
        Self {
            seconds: histogram!(REQUEST_SECONDS, &labels),
            requests: counter!(REQUESTS_TOTAL, &labels),
            failures: counter!(FAILURES_TOTAL, &labels),
            dollars: gauge!(DOLLARS, &labels),
            price: price(operation),
        }
    }

    /// Makes the request.
    ///
    /// # Errors
    /// Its own.
    pub async fn time<T, E>(&self, request: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        self.requests.increment(1);
        self.dollars.increment(self.price);
        let sent = Instant::now();
        let answer = request.await;
        match answer {
            Ok(_) => self.seconds.record(sent.elapsed()),
            Err(_) => self.failures.increment(1),
        }
        answer
    }
}

impl fmt::Debug for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Measured")
    }
}

impl Pending {
    /// So many objects of a source are being fetched.
    #[expect(clippy::cast_precision_loss, reason = "a page of objects")]
    pub fn of(source: &str, objects: usize) -> Self {
        let gauge = gauge!(PENDING, "source" => source.to_owned());
        let pending = objects as f64;
        gauge.increment(pending);
        Self { gauge, pending }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.gauge.decrement(self.pending);
    }
}

fn price(operation: &str) -> f64 {
    match operation {
        "AssumeRole" | "GetCallerIdentity" | "ListPublicKeys" | "DeleteObject" | "AbortMultipartUpload" => 0.0,
        "GetObject" | "HeadObject" | "GetObjectLockConfiguration" => READ_DOLLARS,
        _ => WRITE_DOLLARS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use metrics_exporter_prometheus::PrometheusBuilder;

    #[test]
    fn requests_are_counted_timed_and_priced_and_failures_are_no_latency() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        metrics::with_local_recorder(&recorder, || {
            let put = Measured::of("acme/destination", "PutObject");
            runtime.block_on(async {
                assert_eq!(put.time(async { Ok::<_, ()>(7) }).await, Ok(7));
                assert_eq!(put.time(async { Err::<(), _>("no") }).await, Err("no"));
            });
            let pending = Pending::of("acme", 3);
            assert!(recorder.handle().render().contains("trailsync_objects_pending{source=\"acme\"} 3"));
            drop(pending);
        });
        let text = recorder.handle().render();
        let labels = "{source=\"acme/destination\",operation=\"PutObject\"}";
        for line in [
            format!("{REQUESTS_TOTAL}{labels} 2"),
            format!("{FAILURES_TOTAL}{labels} 1"),
            format!("{REQUEST_SECONDS}_count{labels} 1"),
            format!("{PENDING}{{source=\"acme\"}} 0"),
        ] {
            assert!(text.contains(&line), "{line} in\n{text}");
        }
        assert!(text.contains(&format!("{DOLLARS}{labels} 0.00001")), "{text}");
    }
}
