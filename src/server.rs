//! The daemon's own HTTP: status page, JSON, events, metrics, health. It reads; nothing can be changed through it.
//!
#![doc = include_str!("server/api.md")]

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::middleware;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::config::Http;
use crate::error::{Class, Error, Report};
use crate::manifest::Manifests;
use crate::pulse::Pulse;

mod api;
mod connections;
mod events;
mod guard;
mod health;
mod history;
mod metrics;
mod page;
mod snapshots;
mod watch;

pub use metrics::install_recorder;
pub use snapshots::{Disks, Snapshots};
pub use watch::watch;

/// What the handlers answer from.
#[derive(Clone)]
pub struct Context {
    /// The state, read at most once a second.
    pub snapshots: Snapshots,
    /// Whether the schedulers turn.
    pub pulse: Pulse,
    /// The room on each source's disk.
    pub disks: Disks,
    /// What was recorded of sealed days.
    pub manifests: Manifests,
}

/// The server of one address, which is listened at.
#[derive(Clone)]
pub struct Server {
    configured: SocketAddr,
    listener: Arc<TcpListener>,
    token: Option<Arc<guard::Token>>,
}

impl Server {
    /// The server that the configuration asks for, listening; `None` where it asks for none. One that listens there
    /// already keeps doing so.
    ///
    /// # Errors
    /// `Stream` when the address cannot be listened at, or the token cannot be read.
    pub async fn open(http: &Http, old: Option<&Self>) -> Result<Option<Self>, Error> {
        let Some(configured) = http.listen else { return Ok(None) };
        let token = http.token_file.as_deref().map(guard::Token::read).transpose()?.map(Arc::new);
        let listener = match old.filter(|old| old.configured == configured) {
            Some(old) => old.listener.clone(),
            None => Arc::new(listen(configured).await?),
        };
        Ok(Some(Self { configured, listener, token }))
    }

    /// Answers until `stop`.
    pub async fn run(self, context: Context, stop: CancellationToken) {
        let address = self.listener.local_addr().unwrap_or(self.configured);
        info!(%address, "The status page listens on http://{address}/");
        connections::serve(self.listener, router(context, self.token), stop).await;
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|error| {
        let mend = "end what listens there, or set `http.listen` to another address, or to `off`";
        Error::of(Class::Stream, Report::new("listen", format!("http.listen = {address}"), error).mend(mend))
    })
}

fn router(context: Context, token: Option<Arc<guard::Token>>) -> Router {
    let closed = Router::new()
        .route("/", get(page::overview))
        .route("/account/{source}/{account}", get(page::account))
        .route("/account/{source}/{account}/{stream}", get(page::stream))
        .route("/account/{source}/{account}/{stream}/{day}", get(page::day))
        .route("/alarms", get(page::alarms))
        .route("/quarantine", get(page::quarantine))
        .route("/assets/{name}", get(page::asset))
        .route("/api/status", get(api::status))
        .route("/api/events", get(events::events))
        .route("/metrics", get(metrics::metrics))
        .layer(middleware::from_fn_with_state(token, guard::authorize));
    Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .merge(closed)
        .fallback(guard::not_found)
        .method_not_allowed_fallback(guard::only_get)
        .layer(middleware::from_fn(guard::headers))
        .with_state(context)
}
