//! The session policy: what the configured work needs, and nothing else.
