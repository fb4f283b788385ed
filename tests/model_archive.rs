//! The model's histories with copies in a bucket of one's own, behind a server on loopback.
//!
//! `MODEL_ARCHIVE_HISTORIES` sets how many are run (default 120), `MODEL_ARCHIVE_FIRST` the seed that they begin with,
//! and `MODEL_ARCHIVE_SEED` runs a single one and prints it.

#[path = "support/account.rs"]
mod account;

#[allow(dead_code, clippy::allow_attributes, reason = "shared with the test of the twins, which uses all of it")]
mod model {
    pub mod archived;
    pub mod bucket;
    pub mod check;
    mod end;
    pub mod history;
    pub mod outside;
    mod recorded;
    pub mod run;
    mod sealed;
    pub mod tally;
    pub mod wire;
    pub mod world;
}

use account::Shared;
use model::archived::Archived;
use model::history::History;
use model::run::{self, Ground};
use model::tally::Tally;
use model::world::Checked;
use trailsync::config::Source;
use trailsync::ledger::Ledger;
use trailsync::source::memory::MemorySource;

/// A bucket in memory, copies in one behind a server.
struct InBucket(Source);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

impl Ground for InBucket {
    fn prepare() -> Self {
        Self(runtime().block_on(async { Shared::own_logs().await.source_without_role() }))
    }

    fn play(&self, history: &History) -> Checked<Tally> {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        runtime().block_on(async {
            let ledger = Ledger::in_memory().await.map_err(|e| e.to_string())?;
            let vault = Archived::new(dir.path(), self.0.clone()).await;
            run::play(history, MemorySource::new(history.setup.start), vault, ledger, dir.path()).await
        })
    }
}

#[test]
fn no_history_with_copies_in_a_bucket_misses_an_object_or_counts_one_twice() {
    run::histories::<InBucket>("MODEL_ARCHIVE", 120, 2);
}
