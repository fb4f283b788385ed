//! When a role session is renewed: pure decisions over times.
