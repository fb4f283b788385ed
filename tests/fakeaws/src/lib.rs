//! fakeaws
