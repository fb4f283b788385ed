//! Verifying a copy offline: digests and their chains, all that they name, and all that they do not.
//!
//! 1. [`places`] finds the accounts and regions, by folders and by what was recorded.
//! 2. For each, [`spot`] reads the digests in order; [`arrival`] is one of them, [`settle`] whether it can be believed,
//!    [`line`](mod@line) how it joins the one before and which hours lie between.
//! 3. What a believed digest names goes to the workers ([`work`](mod@work)), with what manifests or rows say of it
//!    ([`recorded`]); each file is read once.
//! 4. What is left is what no digest names: it is read, too, and said.
//! 5. At the end, chains are compared with each other: which should reach further?
//!
//! Memory is bounded: of what a digest named, 8 bytes are kept while its account and region are verified; findings go
//! to a [`spool`]; a few manifest days are held at a time.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::mpsc::sync_channel;

use crate::chain::HOUR_SECONDS;
use crate::clock::{Timestamp, seconds_between, shift};
use crate::content::Checker;
use crate::copy_of::CopyOf;
use crate::digest::PublicKey;
use crate::error::Error;

pub mod archive;
pub mod arrival;
pub mod finding;
pub mod html;
pub mod json;
pub mod line;
pub mod own;
pub mod places;
pub mod recorded;
pub mod rows;
pub mod settle;
pub mod spool;
pub mod spot;
pub mod table;
pub mod tally;
pub mod vault;
pub mod work;

use archive::Archive;
use finding::{Finding, Verdict, What};
use line::Span;
use own::Ring;
use places::Spot;
use recorded::{Recorded, Rows};
use spot::{At, Ends};
use tally::{Scope, Tally};
use work::{Desk, lock, work};

/// What is to be verified, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// Only these accounts; all when empty.
    pub accounts: Vec<String>,
    /// Only these trails; all when empty. What no digest names is then not judged.
    pub trails: Vec<String>,
    /// Only these regions; all when empty.
    pub regions: Vec<String>,
    /// Nothing before.
    pub from: Option<Timestamp>,
    /// Nothing from here on; up to here the copy should reach.
    pub to: Option<Timestamp>,
    /// A digest may be late by so much.
    pub grace_seconds: i64,
    /// Files read at a time.
    pub jobs: usize,
    /// The present time.
    pub now: Timestamp,
    /// Key files that count instead of the copy's own.
    pub keys: Option<PathBuf>,
    /// What the copy is of, as far as it does not say so itself.
    pub sources: Vec<CopyOf>,
}

/// Hears how far the work is.
pub trait Progress: Sync {
    /// A file of so many bytes was read.
    fn read(&self, bytes: u64);
    /// This account and region is next.
    fn at(&self, place: &str);
}

/// Nobody listens.
pub struct Silent;

impl Progress for Silent {
    fn read(&self, _bytes: u64) {}
    fn at(&self, _place: &str) {}
}

/// What was found, and with what it was judged.
pub struct Verified {
    /// Counts, chains, findings.
    pub tally: Tally,
    /// The keys that were at hand, by region.
    pub keys: Vec<(String, PublicKey)>,
    /// What the copy says that it is of.
    pub sources: Vec<CopyOf>,
}

/// What a script needs to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conclusion {
    /// Everything is proven.
    Proven,
    /// Something is wrong.
    Findings,
    /// Nothing is wrong, but not everything could be proven: no digests, no keys, another trail.
    Unproven,
}

impl Verified {
    /// The conclusion.
    pub fn conclusion(&self) -> Conclusion {
        let tally = &self.tally;
        let keyless = tally.keyless.len() as u64;
        let scopes = || tally.scopes.iter();
        let is_open = |scope: &Scope| !scope.has_digests || scope.another_trail;
        match tally.counts.failures() {
            failures if failures > keyless => Conclusion::Findings,
            _ if keyless > 0 || scopes().next().is_none() || scopes().any(is_open) => Conclusion::Unproven,
            _ => Conclusion::Proven,
        }
    }
}

/// A verification under way.
pub struct Run<'a, A> {
    archive: &'a A,
    rows: Option<&'a dyn Rows>,
    options: &'a Options,
    tally: &'a Mutex<Tally>,
    progress: &'a dyn Progress,
    desk: Desk,
    recorded: Recorded<'a, A>,
    keys: Ring,
    sources: Vec<CopyOf>,
    checker: Checker,
}

/// Verifies a copy. Blocks; reads with `options.jobs` threads of its own.
///
/// # Errors
/// When the copy or the rows cannot be read at all; single files that cannot be read are findings.
pub fn verify<A: Archive>(
    archive: &A,
    rows: Option<&dyn Rows>,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Verified, Error> {
    let tally = Mutex::new(Tally::default());
    let jobs = options.jobs.max(1);
    let (sender, receiver) = sync_channel(2 * jobs);
    let receiver = Mutex::new(receiver);
    let (keys, sources) = std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| work(archive, &receiver, &tally, progress));
        }
        let mut find = |finding| lock(&tally).find(finding);
        let keys = Ring::read(archive, options.keys.as_deref(), &mut find)?;
        let mut sources = own::sources(archive, &mut find)?;
        let unsaid = |known: &&CopyOf| !sources.iter().any(|source| source.source == known.source);
        let more: Vec<_> = options.sources.iter().filter(unsaid).cloned().collect();
        sources.extend(more);
        let (recorded, desk) = (Recorded::new(archive, rows)?, Desk::new(sender));
        let checker = Checker::default();
        let mut run = Run { archive, rows, options, tally: &tally, progress, desk, recorded, keys, sources, checker };
        run.everything()?;
        run.desk.flush();
        Ok::<_, Error>((run.keys, run.sources))
    })?;
    let mut tally = tally.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(error) = tally.broken() {
        return Err(archive::unreadable("a temporary file of findings", &error));
    }
    let of_region = |keys: &crate::public_keys::PublicKeys| -> Vec<_> {
        keys.all().iter().map(|key| (keys.region.clone(), key.clone())).collect()
    };
    let keys = keys.each().flat_map(of_region).collect();
    Ok(Verified { tally, keys, sources })
}

impl<A: Archive> Run<'_, A> {
    fn everything(&mut self) -> Result<(), Error> {
        let mut spots = places::spots(self.archive)?;
        spots.extend(self.recorded.streams()?.iter().filter_map(Spot::of));
        let wanted = |list: &[String], name: &String| list.is_empty() || list.contains(name);
        let mut ends = Vec::new();
        for spot in spots {
            if wanted(&self.options.accounts, &spot.account) && wanted(&self.options.regions, &spot.region) {
                ends.push(self.spot(spot)?);
            }
        }
        self.ends(ends);
        let keyless = lock(self.tally).keyless.clone();
        keyless.into_iter().for_each(|region| lock(self.tally).find(no_keys(region)));
        Ok(())
    }

    fn spot(&mut self, spot: Spot) -> Result<Ends, Error> {
        self.progress.at(&format!("{} {}", spot.account, spot.region));
        let (root, organization) = (spot.root.clone(), spot.organization.clone());
        let (account, region) = (spot.account.clone(), spot.region.clone());
        let scope = Scope { root, organization, account, region, ..Scope::default() };
        let number = {
            let mut tally = lock(self.tally);
            tally.scopes.push(scope);
            tally.scopes.len() - 1
        };
        let Options { from, to, .. } = *self.options;
        let span = Span { from, to, since: self.since(spot.prefix()), oldest: None };
        let ends = At::new(self, spot, number, span).verify();
        self.recorded.forget();
        ends
    }

    /// From when on the copy holds everything: the earliest of what its sources say, when all of them do.
    fn since(&self, prefix: &str) -> Option<Timestamp> {
        let here = self.sources.iter().filter(|source| source.prefix == prefix.trim_end_matches('/'));
        here.map(|source| source.since).min().flatten()
    }

    /// The bucket that the copy under a prefix is of, where it says so.
    fn bucket_of(&self, prefix: &str) -> Option<&str> {
        let here = |source: &&CopyOf| source.prefix == prefix.trim_end_matches('/');
        self.sources.iter().find(here).map(|source| source.bucket.as_str())
    }

    /// Compares all chains: one that ends before the others, or before the logs, lacks its last digests.
    fn ends(&self, all: Vec<Ends>) {
        let reach = |line: &line::Line| if line.identity.backfill { None } else { line.reaches() };
        let through = all.iter().flat_map(|ends| &ends.lines).filter_map(reach).max();
        for ends in all {
            let Ends { lines, span, newest, listed } = ends;
            for mut line in lines.into_iter().filter(|line| !line.identity.backfill) {
                let due = line.reaches().map(|last| self.due(last, newest, listed, through));
                let mut tally = lock(self.tally);
                let chain = &mut tally.chains[line.identity.chain];
                let findings = line.end(due, &span, chain);
                findings.into_iter().for_each(|finding| tally.find(finding));
            }
        }
    }

    /// Up to when a chain that reaches to `last` should reach, in whole hours after it.
    fn due(
        &self,
        last: Timestamp,
        newest: Option<Timestamp>,
        listed: Option<Timestamp>,
        through: Option<Timestamp>,
    ) -> Timestamp {
        let Options { now, grace_seconds, to, .. } = *self.options;
        let hours_to = |time: Timestamp| seconds_between(last, time).div_euclid(HOUR_SECONDS);
        let logs = newest.map(|log| hours_to(log) + 1);
        let known = [through, listed].into_iter().flatten().map(|time| hours_to(shift(time, -grace_seconds)));
        let hours = logs.into_iter().chain(known).chain(to.map(hours_to)).max().unwrap_or(0);
        let most = hours_to(shift(now, -grace_seconds));
        shift(last, hours.min(most).max(0) * HOUR_SECONDS)
    }
}

fn no_keys(region: String) -> Finding {
    let key = format!(".trailsync/{}", crate::public_keys::file_name(&region));
    let detail = "there is no file of public keys for this region: its digests cannot be judged".to_owned();
    let (account, trail) = Default::default();
    let (verdict, what) = (Verdict::UnknownKey, What::Keys);
    Finding { verdict, what, account, region, trail, key, from: None, to: None, detail }
}
