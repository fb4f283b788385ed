//! What bytes turn out to be, computed while they stream.
