//! A small AWS on one loopback port: S3, STS and `CloudTrail`'s `ListPublicKeys`.
//!
//! Tests, demo and benchmarks of trailsync talk to it as they would talk to the real services. It
//! is made to be strict where mock servers are lenient: signatures, sessions that expire by the
//! [world's clock](FakeClock), trust and access policies, external ids, regions, checksums,
//! conditions. And it [fails on demand](Fault).
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use fakeaws::{BucketSpec, FakeAws, FakeClock, ObjectSpec, RoleSpec, World, policies};
//!
//! let world = World::new(FakeClock::system());
//! world.add_bucket(BucketSpec::new("logs", "111111111111", "us-east-1"));
//! world.put_object("logs", "AWSLogs/222222222222/a.json.gz", ObjectSpec::log("..."));
//! let role = world.add_role("111111111111", "Reader", RoleSpec {
//!     trust: policies::trust_account_root("222222222222"),
//!     policy: policies::read_own_logs("logs", "", "222222222222"),
//!     ..RoleSpec::default()
//! });
//! let key = world.add_user("222222222222", "mirror", policies::assume_role(&role));
//! let aws = FakeAws::start(world).await?;
//! println!("AWS_ENDPOINT_URL={} AWS_ACCESS_KEY_ID={}", aws.endpoint(), key.id);
//! # Ok(())
//! # }
//! ```
//!
//! A request's way: `exchange` reads who asks for what, picks the faults that strike it, and hands
//! it to `s3` (through `s3s`), `sts` or `cloudtrail`; those ask the `caller`'s policies whether it
//! may be; the answer is dated, damaged if a fault says so, counted and sent.

mod caller;
mod clock;
mod cloudtrail;
mod conditions;
mod control;
mod counters;
mod delivery;
pub mod digests;
mod exchange;
mod failure;
mod faults;
mod generated;
mod iam;
mod identity;
pub mod log_body;
mod object;
mod op;
pub mod policies;
mod public_keys;
mod reply;
mod s3;
pub mod scenario;
mod server;
mod sigv4;
mod store;
mod sts;
mod sts_input;
mod sync;
mod trail;
mod world;
mod xml;

pub use clock::FakeClock;
pub use counters::{Counters, OpCounters, RequestRecord};
pub use faults::{Fault, FaultId, Faults, Injection, Rule, Schedule};
pub use identity::{AccessKey, RoleSpec};
pub use object::{Body, ChecksumKind, Lock, ObjectSpec, Sse, StoredObject};
pub use op::Op;
pub use public_keys::PublicKey;
pub use server::FakeAws;
pub use trail::{Bodies, Cadence, Delivery, Kind, Trail};
pub use world::{BucketSpec, World};
