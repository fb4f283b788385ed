//! What to list, and from when on.
