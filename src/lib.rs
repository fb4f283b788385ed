//! trailsync
