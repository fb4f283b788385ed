//! The server: accepts connections and takes each request through its stations.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::exchange::Exchange;
use crate::reply::Closing;
use crate::world::World;

/// A running server. Dropping it stops it and closes its connections.
///
/// It runs on a thread and a runtime of its own: a test may pause its time, block, or use a single
/// thread, and the services still answer.
pub struct FakeAws {
    address: SocketAddr,
    world: World,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl FakeAws {
    /// Serves `world` on a free port of the loopback interface.
    ///
    /// # Errors
    /// If no socket or thread can be had.
    pub async fn start(world: World) -> io::Result<FakeAws> {
        FakeAws::start_at(world, (Ipv4Addr::LOCALHOST, 0).into()).await
    }

    /// Serves `world` at `address`; port 0 picks a free one.
    ///
    /// # Errors
    /// If the address cannot be bound or no thread can be had.
    pub async fn start_at(world: World, address: SocketAddr) -> io::Result<FakeAws> {
        let (stop, stopped) = oneshot::channel();
        let (bound, listening) = oneshot::channel();
        let served = world.clone();
        let thread = thread::Builder::new()
            .name("fakeaws".to_owned())
            .spawn(move || run(served, address, bound, stopped))?;
        let gone = |_| io::Error::other("the server thread ended");
        let address = listening.await.map_err(gone)??;
        Ok(FakeAws {
            address,
            world,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// `http://127.0.0.1:PORT`, for all three services.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn world(&self) -> &World {
        &self.world
    }

    /// Stops and waits until the port is free.
    pub async fn stop(mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the server thread was reported by its own hook.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

fn run(
    world: World,
    address: SocketAddr,
    bound: oneshot::Sender<io::Result<SocketAddr>>,
    stopped: oneshot::Receiver<()>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(why) => return drop(bound.send(Err(why))),
    };
    runtime.block_on(async move {
        match listen(address) {
            Err(why) => drop(bound.send(Err(why))),
            Ok((listener, address)) => {
                if bound.send(Ok(address)).is_ok() {
                    serve(world, listener, stopped).await;
                }
            }
        }
    });
}

/// The queue is long enough for hundreds of clients that start together.
fn listen(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let listener = socket.listen(4_096)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// How often live trails deliver.
const LIVE_BEAT: Duration = Duration::from_millis(200);

async fn serve(world: World, listener: TcpListener, mut stopped: oneshot::Receiver<()>) {
    let exchange = Arc::new(Exchange::new(world.clone()));
    let mut connections = JoinSet::new();
    let mut beat = tokio::time::interval(LIVE_BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = &mut stopped => return,
            Some(_) = connections.join_next() => {}
            _ = beat.tick() => world.beat(),
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(converse(Arc::clone(&exchange), stream));
                }
            }
        }
    }
}

/// One connection, until either side ends it.
async fn converse(exchange: Arc<Exchange>, stream: TcpStream) {
    let closing = Closing::default();
    // Nagle's delay would be measured as ours; a socket without the option still works.
    let _ = stream.set_nodelay(true);
    let socket = Socket {
        stream,
        closing: closing.clone(),
    };
    let answer = service_fn(|request| {
        let (exchange, closing) = (Arc::clone(&exchange), closing.clone());
        async move { exchange.answer(request, &closing).await }
    });
    // Errors are the client's going away, or a fault's doing.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(socket), answer)
        .await;
}

/// A connection that can be closed by a reset instead of politely.
struct Socket {
    stream: TcpStream,
    closing: Closing,
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.closing.is_reset() {
            // Without this the close is merely polite; the body is short all the same.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buffer)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.closing.is_reset() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
