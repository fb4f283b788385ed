//! Deletion at the source: only what is stored, old enough, proven and whole here, and never twice or unnoticed.

#[path = "support/account.rs"]
mod account;
#[path = "support/archive.rs"]
mod archive;
#[path = "proof/bench.rs"]
mod bench;
#[path = "deletion/crash.rs"]
mod crash;
#[path = "deletion/history.rs"]
mod history;
#[path = "deletion/operator.rs"]
mod operator;
#[path = "deletion/order.rs"]
mod order;
#[path = "deletion/owner.rs"]
mod owner;
#[path = "support/program.rs"]
mod program;
#[path = "deletion/run.rs"]
mod run;
#[path = "deletion/trouble.rs"]
mod trouble;
