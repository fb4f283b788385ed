//! The configuration: defaults, file, environment, flags; every mistake at once.

pub mod options;
pub use options::*;
