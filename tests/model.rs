//! Nothing is missed and nothing is counted twice: random histories of a bucket, of its service and of us.
//!
//! Each history is a list of events that follows from its seed: deliveries, replacements, removals, listings that
//! fail, clocks that jump, restarts, kills at any request or await. After every turn the mirror is held against a
//! reference of what was delivered when, and after a calm end against all of it.
//!
//! `MODEL_HISTORIES` sets how many histories are run (default 10,000), `MODEL_FIRST` the seed that
//! they begin with, and `MODEL_SEED` runs a single one and prints it.

mod model {
    pub mod bench;
    pub mod bucket;
    pub mod check;
    mod cost;
    pub mod history;
    mod late;
    pub mod outside;
    pub mod run;
    mod trouble;
    pub mod wire;
    pub mod world;
}

use model::run;

#[test]
fn no_history_misses_an_object_or_counts_one_twice() {
    run::histories_over_twins(10_000);
}

#[test]
fn an_object_that_expires_between_listing_and_fetching_is_expected_to_go() {
    run::again(8902);
}
