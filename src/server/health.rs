//! Whether the process lives and can be asked; what AWS does never changes the answer.

use axum::extract::State;
use axum::http::StatusCode;
use tokio::time::Instant;

use super::Context;

/// Alive: every scheduler turned within the last minute.
pub async fn healthz(State(context): State<Context>) -> (StatusCode, String) {
    let now = Instant::now();
    let age = context.pulse.age(now).map_or_else(|| "not begun".into(), |age| format!("{} s ago", age.as_secs()));
    match context.pulse.is_alive(now) {
        true => (StatusCode::OK, format!("ok: the schedulers turn ({age})\n")),
        false => (StatusCode::SERVICE_UNAVAILABLE, format!("stuck: a scheduler last turned {age}\n")),
    }
}

/// Ready: the state is open and answers. Credentials are a condition on the page, not a reason to hide it.
pub async fn readyz(State(context): State<Context>) -> (StatusCode, String) {
    if !context.pulse.began() {
        return (StatusCode::SERVICE_UNAVAILABLE, "starting\n".into());
    }
    match context.snapshots.latest().await {
        Ok(_) => (StatusCode::OK, "ready\n".into()),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
    }
}
