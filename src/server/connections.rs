//! Connections with limits: so many at once, so long for a request's head, so much in it.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

/// Connections at once; what comes beyond waits in the system's queue.
const CONNECTIONS: usize = 256;
/// A request's head must be whole within this time, also on a connection that is kept.
const HEAD: Duration = Duration::from_secs(5);
/// Bytes of a head, and headers in it.
const HEAD_BYTES: usize = 16 * 1024;
const HEADERS: usize = 64;
/// Who takes nothing of an answer for so long is hung up on.
const STALLED: Duration = Duration::from_secs(20);
/// Open connections may end their answer when the process stops.
const GRACE: Duration = Duration::from_millis(300);

/// Answers what arrives until `stop`.
pub async fn serve(listener: Arc<TcpListener>, app: Router, stop: CancellationToken) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let open = TaskTracker::new();
    while let Some(Ok(permit)) = stop.run_until_cancelled(room.clone().acquire_owned()).await {
        let Some(accepted) = stop.run_until_cancelled(listener.accept()).await else { break };
        match accepted {
            Ok((stream, _)) => {
                hang_up_on_the_stalled(&stream);
                _ = open.spawn(answer(stream, app.clone(), permit, stop.clone()));
            }
            Err(error) => {
                // Out of descriptors, or the peer has gone: neither mends at once.
                debug!(%error, "A connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    open.close();
    let _ = tokio::time::timeout(GRACE, open.wait()).await;
}

/// The system ends a connection whose peer acknowledges nothing, or leaves its window closed (`tcp(7)`,
/// `TCP_USER_TIMEOUT`): no answer waits for ever, and no place is kept by one that does.
fn hang_up_on_the_stalled(stream: &TcpStream) {
    let timeout = u32::try_from(STALLED.as_millis()).unwrap_or(u32::MAX);
    if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(stream, timeout) {
        debug!(%error, "A connection has no limit on how long it may stall");
    }
}

async fn answer(stream: TcpStream, app: Router, _permit: OwnedSemaphorePermit, stop: CancellationToken) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEADERS)
        .keep_alive(true)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app));
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "A connection ended early");
    }
}
