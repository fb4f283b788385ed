//! The page, its JSON, metrics, events and health, as browsers, Prometheus, systemd and attackers meet them.

#[path = "support/account.rs"]
mod account;
#[path = "server/alerts.rs"]
mod alerts;
#[path = "support/archive.rs"]
mod archive;
#[path = "server/daemon.rs"]
mod daemon;
#[path = "support/judge.rs"]
mod judge;
#[path = "server/limits.rs"]
mod limits;
#[path = "server/metrics.rs"]
mod metrics;
#[path = "server/page.rs"]
mod page;
#[path = "server/process.rs"]
mod process;
#[path = "support/program.rs"]
mod program;
#[path = "server/proof.rs"]
mod proof;
