//! Named points at which a test build can be killed, to show what a crash there leaves behind.
//!
//! With the cargo feature `failpoints`, `TRAILSYNC_FAILPOINT=name:n` kills the process with SIGKILL when it
//! arrives at the point `name` for the n-th time. Without the feature nothing of this exists.

/// The process has come to the point `name`, and perhaps no further.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn reached(_name: &'static str) {}

/// The process has come to the point `name`, and perhaps no further.
#[cfg(feature = "failpoints")]
pub fn reached(name: &'static str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static ORDERED: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static ARRIVALS: AtomicU64 = AtomicU64::new(0);

    let ordered = ORDERED.get_or_init(|| {
        let text = std::env::var("TRAILSYNC_FAILPOINT").ok()?;
        let (name, arrival) = text.split_once(':')?;
        Some((name.to_owned(), arrival.parse().ok()?))
    });
    if let Some((point, arrival)) = ordered
        && point == name
        && ARRIVALS.fetch_add(1, Ordering::SeqCst) + 1 == *arrival
    {
        die();
    }
}

/// As a power cut would have it: no destructor runs and nothing is flushed.
#[cfg(feature = "failpoints")]
fn die() -> ! {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    std::process::abort()
}
