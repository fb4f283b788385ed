//! Continuous proof: what digests say of the copy, as they arrive.

#[path = "support/account.rs"]
mod account;
#[path = "proof/bench.rs"]
mod bench;
#[path = "proof/cost.rs"]
mod cost;
#[path = "proof/findings.rs"]
mod findings;
#[path = "proof/progress.rs"]
mod progress;
