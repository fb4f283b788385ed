//! The keeper of a role session.
