//! Nothing is missed and nothing is counted twice: random histories of a bucket, of its service and of us.
//!
//! Each history is a list of events that follows from its seed: deliveries, replacements, removals, listings that
//! fail, clocks that jump, restarts, kills at any request or await. After every turn the mirror is held against a
//! reference of what was delivered when, and after a calm end against all of it.
//!
//! They are played over twins of bucket and copy in memory, and a few over a server on loopback, SQLite and files.
//! `MODEL_HISTORIES` sets how many histories are run over the twins (default 10,000), `MODEL_FIRST` the seed that they
//! begin with, and `MODEL_SEED` runs a single one and prints it. `MODEL_REAL_HISTORIES` (default 300),
//! `MODEL_REAL_FIRST` and `MODEL_REAL_SEED` say the same of the others, and `MODEL_REAL_DIR` on which disk.

#[path = "support/account.rs"]
mod account;

mod model {
    pub mod bench;
    pub mod bucket;
    pub mod check;
    mod cost;
    mod disk;
    mod end;
    pub mod history;
    mod late;
    pub mod loopback;
    pub mod outside;
    mod recorded;
    pub mod run;
    mod sealed;
    mod tally;
    mod trouble;
    pub mod wire;
    pub mod world;
}

use model::loopback::Loopback;
use model::run::{self, Twins};

#[test]
fn no_history_misses_an_object_or_counts_one_twice() {
    run::histories::<Twins>("MODEL", 10_000, 4);
}

#[test]
fn no_history_over_a_server_and_a_disk_does_either() {
    run::histories::<Loopback>("MODEL_REAL", 300, 4);
}
