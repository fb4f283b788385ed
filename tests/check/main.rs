//! `trailsync check` and `trailsync policy` against a stand-in for AWS: each way that a hop can fail is named.

mod hops;
mod policies;
mod quiet;
mod stage;
