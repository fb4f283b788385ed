//! Packages, units, manifests and rules, each held against its own judge, and run where it can be run.

#[path = "support/account.rs"]
mod account;
#[path = "support/archive.rs"]
mod archive;
#[path = "deploy/container.rs"]
mod container;
#[allow(dead_code, clippy::allow_attributes, reason = "shared with the tests of the page, which use all of it")]
#[path = "server/daemon.rs"]
mod daemon;
#[path = "deploy/dashboard.rs"]
mod dashboard;
#[path = "deploy/ecs.rs"]
mod ecs;
#[path = "deploy/fires.rs"]
mod fires;
#[path = "deploy/health.rs"]
mod health;
#[path = "support/judge.rs"]
mod judge;
#[path = "deploy/kubernetes.rs"]
mod kubernetes;
#[path = "deploy/machine.rs"]
mod machine;
#[path = "deploy/mirror.rs"]
mod mirror;
#[path = "deploy/package.rs"]
mod package;
#[path = "support/program.rs"]
mod program;
#[path = "deploy/templates.rs"]
mod templates;
#[path = "deploy/unit.rs"]
mod unit;
