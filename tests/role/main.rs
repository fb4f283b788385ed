//! A role's session as its users meet it: in virtual time with a twin of STS, and with the SDK against a server.

#[path = "../support/account.rs"]
mod account;
#[path = "../support/keeper.rs"]
mod support;

mod keeper;
mod sts;
