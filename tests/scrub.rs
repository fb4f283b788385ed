//! Scrub: what rots or is lost after it was mirrored is found, fetched again where that helps, and said where not.

#[path = "support/account.rs"]
mod account;
#[path = "support/archive.rs"]
mod archive;
#[path = "scrub/bench.rs"]
mod bench;
#[path = "support/program.rs"]
mod program;
#[path = "scrub/repair.rs"]
mod repair;
#[path = "scrub/walk.rs"]
mod walk;
