//! trailsync

pub mod clock;
pub mod error;
pub mod failpoint;
pub mod key;
pub mod object;
pub mod record;

pub mod content;
pub mod layout;
pub mod path;
pub mod policy;
pub mod renewal;
pub mod retry;
pub mod status;
pub mod trouble;
pub mod window;

pub mod config;
pub mod destination;
pub mod ledger;
pub mod manifest;
pub mod records;
pub mod role;
pub mod source;

pub mod discover;
pub mod mirror;
pub mod scheduler;
pub mod service_clock;

pub mod assemble;
pub mod cli;
