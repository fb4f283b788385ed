//! trailsync mirrors AWS `CloudTrail` logs from somebody else's bucket into your own hands, whole.
//!
//! # One object's journey
//!
//! 1. Account A's trail writes `AWSLogs/<account>/CloudTrail/<region>/2026/11/23/….json.gz` into its bucket.
//! 2. The [`scheduler`] gives the stream of that prefix its turn. [`window`] says from when on to list: from time,
//!    never from the last key, so that what comes late is found.
//! 3. The [`mirror`] lists a page through the [`source`], signed with what the [`role`]'s keeper holds; the keeper
//!    renews sessions in the background, ahead of need.
//! 4. The page is compared with the [`records`]: rows of the [`ledger`] and lines of [`manifest`]s, in key order.
//! 5. What is new is fetched as it was listed (`If-Match`), hashed while it streams ([`content`]), and staged by the
//!    [`destination`], out of sight.
//! 6. A group is published: data made durable, renamed to the [`path`] of its key without replacing anything,
//!    directories made durable; or, in a bucket of our own, written where nothing is yet and confirmed by S3.
//! 7. Only then are its rows and the checkpoint committed, in one transaction.
//! 8. Days later the day is sealed: its rows become a manifest, here and beside the copy.
//! 9. Every hour the trail's signed digest comes the same way; [`prove`] reads it from the copy, judges it with the
//!    [`keyring`]'s keys, and looks for every log that it names. What no listing showed is fetched at once.
//! 10. Slowly, all the time, [`scrub`] reads the copy again; what rotted or was lost is fetched once more.
//! 11. Where that is configured, and nowhere else, [`prune`] deletes at the source what is old, proven, and whole here.
//! 12. [`status`] says in one vocabulary how far every account is.
//!
//! # Promises
//!
//! Nothing listed is ever lost: an object is done only once it is durable and its row is committed; failed is never
//! done. Late is not lost. Cost follows what is new. Credentials never run out in use. The archive is append-only: what
//! the source replaces or removes raises an alarm, our copy stays. One account's trouble is its own. Keys are hostile
//! input: none escapes the destination, none is skipped. Errors name the hop that failed and the likely mend.
//!
//! # The modules
//!
//! A module uses those of its own block, or of one above it.

// Values: what things are.
pub mod clock;
pub mod damage;
pub mod error;
pub mod failpoint;
pub mod key;
pub mod object;
pub mod record;
pub mod share;

// Rules: decisions without I/O; time and randomness are arguments.
pub mod chain;
pub mod content;
pub mod copy_of;
pub mod digest;
pub mod flow;
pub mod layout;
pub mod own_file;
pub mod path;
pub mod policy;
pub mod public_keys;
pub mod renewal;
pub mod retry;
pub mod rhythm;
pub mod status;
pub mod trouble;
pub mod window;

// Edges: configuration, services, disk, database.
pub mod config;
pub mod destination;
pub mod gate;
pub mod identity;
pub mod keyring;
pub mod ledger;
pub mod manifest;
pub mod records;
pub mod role;
pub mod service_clock;
pub mod source;

// Work: what is done to one stream, how streams are found, what is to be done, and what keeps it from being done.
pub mod check;
pub mod discover;
pub mod mirror;
pub mod plan;
pub mod prove;
pub mod prune;
pub mod scrub;
pub mod verify;

// Process: when, with what, and on whose word.
pub mod assemble;
pub mod cli;
pub mod notify;
pub mod pulse;
pub mod scheduler;
pub mod server;
