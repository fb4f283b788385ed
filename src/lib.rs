//! trailsync

pub mod clock;
pub mod error;
pub mod failpoint;
pub mod key;
pub mod object;

pub mod content;
pub mod layout;
pub mod path;
pub mod policy;
pub mod renewal;
pub mod retry;
pub mod window;

pub mod config;
pub mod destination;
pub mod role;
pub mod source;
