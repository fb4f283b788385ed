//! `bench serve`: S3, STS and `ListPublicKeys` on loopback, so lean that it is not what is measured.
//!
//! One thread and no framework. Keys are computed, bodies are shared, signatures are not checked, policies do not
//! exist: `tests/fakeaws` is the stand-in that is strict, and costs about ten times as much. A process of its own, so
//! that what it takes of the processors is known and shown.

use std::cell::RefCell;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

mod bodies;
mod calendar;
mod control;
mod day;
mod http;
mod keys;
mod list;
mod objects;
mod own;
mod sts;

pub use bodies::{Kind, make};
pub use control::{Counters, Delivery, precise};
pub use day::{Day, Lags, Pace};
pub use keys::{Keys, Shape};

use day::Deliveries;
use objects::Bucket;

/// What is served.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Spec {
    /// The bucket's name. Every other name is a bucket that begins empty and takes what is put into it.
    pub bucket: String,
    /// Its keys.
    pub shape: Shape,
    /// Its bodies.
    pub bodies: Kind,
    /// How long each GET takes to begin its answer.
    pub get_ms: u64,
    /// How long each LIST takes.
    pub list_ms: u64,
    /// It goes on living while it is served.
    pub day: Option<Day>,
}

/// All that the server knows.
struct World {
    spec: Spec,
    source: Bucket,
    own: own::Buckets,
    counters: Counters,
    /// GETs in flight.
    gets: u64,
    deliveries: Option<Deliveries>,
}

impl World {
    /// A GET begins.
    fn began(&mut self) -> Instant {
        self.gets += 1;
        self.counters.most_gets = self.counters.most_gets.max(self.gets);
        Instant::now()
    }

    fn deliver_what_is_due(&mut self) {
        if let Some(deliveries) = &mut self.deliveries {
            deliveries.advance(&mut self.source);
        }
    }

    /// It is answered.
    fn ended(&mut self, began: Instant) {
        self.gets -= 1;
        self.counters.get_seconds += began.elapsed().as_secs_f64();
    }
}

/// Serves until standard input ends; says its port on standard output.
pub fn run(spec: &Path) -> Result<()> {
    let spec: Spec = serde_json::from_slice(&std::fs::read(spec)?).context("what is to be served")?;
    if let Some(day) = spec.day {
        control::run_at(day.began, day.rate);
    }
    let source = Bucket::new(Keys::new(spec.shape.clone()), make(spec.bodies)?);
    let deliveries = spec.day.map(|day| Deliveries::new(day, &source.keys));
    let world =
        World { deliveries, source, spec, own: own::Buckets::default(), counters: Counters::default(), gets: 0 };
    // Whoever started this is gone when its end of the pipe is.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, listen(Rc::new(RefCell::new(world))))
}

async fn listen(world: Rc<RefCell<World>>) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    if world.borrow().deliveries.is_some() {
        tokio::task::spawn_local(live(world.clone()));
    }
    println!("{}", listener.local_addr()?.port());
    std::io::stdout().flush()?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let world = world.clone();
        // A client that closes its connection early is no error of ours.
        tokio::task::spawn_local(async move { drop(http::serve(stream, &world).await) });
    }
}

/// Delivers what is due, all the time.
async fn live(world: Rc<RefCell<World>>) {
    loop {
        world.borrow_mut().deliver_what_is_due();
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Takes as long as the service would.
async fn latency(milliseconds: u64) {
    if milliseconds > 0 {
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    }
}
