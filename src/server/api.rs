//! The state as JSON: what `trailsync status --json` prints.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::Context;
use crate::error::Error;
use crate::key::harmless_json;

/// Everything that is known, by source, account and stream. The README documents the fields.
pub async fn status(State(context): State<Context>) -> Response {
    match context.snapshots.latest().await {
        Ok(status) => json(StatusCode::OK, &*status),
        Err(error) => unreadable(&error),
    }
}

/// Why the state cannot be read.
pub fn unreadable(error: &Error) -> Response {
    let why = serde_json::json!({ "version": 1, "error": error.to_string() });
    json(StatusCode::SERVICE_UNAVAILABLE, &why)
}

fn json(code: StatusCode, value: &impl serde::Serialize) -> Response {
    match serde_json::to_string(value) {
        Ok(text) => (code, [(header::CONTENT_TYPE, "application/json")], harmless_json(&text) + "\n").into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
