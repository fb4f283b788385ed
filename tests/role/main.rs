//! A role's session as its users meet it: in virtual time with a twin of STS, and with the SDK against a server.

#[path = "../support/keeper.rs"]
mod support;

mod keeper;
