//! Reading objects and judging them, several at a time.

use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Progress;
use super::archive::{Archive, unreadable};
use super::finding::{Finding, Verdict, What};
use super::recorded::Stored;
use super::tally::Tally;
use crate::clock::Timestamp;
use crate::content::{Checked, Checker};
use crate::destination::Place;
use crate::object::Gzip;

/// Objects that are handed over at a time.
const BATCH: usize = 64;

/// One object to read, and what it should be.
pub struct Job {
    /// Which.
    pub place: Place,
    /// Its scope's number.
    pub scope: usize,
    /// The hash of what is inside, as a digest names it.
    pub inside: Option<[u8; 32]>,
    /// What it was when it was stored.
    pub stored: Option<Stored>,
    /// Who asks.
    pub asked: Asked,
}

/// Why an object is read.
pub enum Asked {
    /// A digest names it.
    Named(Arc<By>),
    /// It is here, and no digest names it: what is counted when its bytes are right.
    Here(Standing),
}

/// What is counted of an object that no digest names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// What is counted.
    pub verdict: Verdict,
    /// Why; nothing where the hours around it are named instead of the object.
    pub why: Option<&'static str>,
}

/// The digest that names objects.
pub struct By {
    /// Its chain's number.
    pub chain: usize,
    /// Its key.
    pub key: String,
    /// From when it covers.
    pub from: Timestamp,
    /// Up to when.
    pub to: Timestamp,
    /// It is a backfill digest.
    pub backfill: bool,
}

/// Hands jobs to the workers in batches; what waits is bounded.
pub struct Desk {
    batch: Vec<Job>,
    workers: SyncSender<Vec<Job>>,
}

impl Desk {
    /// A desk in front of some workers.
    pub fn new(workers: SyncSender<Vec<Job>>) -> Self {
        Self { batch: Vec::with_capacity(BATCH), workers }
    }

    /// Takes a job.
    pub fn push(&mut self, job: Job) {
        self.batch.push(job);
        if self.batch.len() == BATCH {
            self.flush();
        }
    }

    /// Hands over what is here.
    pub fn flush(&mut self) {
        let batch = std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH));
        // Workers go only when this desk has gone.
        let _ = self.workers.send(batch);
    }
}

/// One worker: reads until the desk has gone.
pub fn work<A: Archive>(archive: &A, jobs: &Mutex<Receiver<Vec<Job>>>, tally: &Mutex<Tally>, progress: &dyn Progress) {
    let mut checker = Checker::default();
    loop {
        let batch = lock(jobs).recv();
        let Ok(batch) = batch else { return };
        let done: Vec<_> = batch
            .into_iter()
            .map(|job| {
                let read = read(archive, &mut checker, &job);
                progress.read(read.as_ref().ok().and_then(Option::as_ref).map_or(0, |checked| checked.size));
                let judged = judge(archive, &job, &read);
                (job, read.ok().flatten(), judged)
            })
            .collect();
        let mut tally = lock(tally);
        for (job, checked, (verdict, detail)) in done {
            record(&mut tally, &job, checked.as_ref(), verdict, detail);
        }
    }
}

/// The guard of a lock, also when another thread panicked with it.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read<A: Archive>(archive: &A, checker: &mut Checker, job: &Job) -> Result<Option<Checked>, String> {
    let Some(mut bytes) = archive.object(&job.place).map_err(|error| error.to_string())? else { return Ok(None) };
    let inflate = job.inside.is_some() || job.place.key.ends_with(".gz");
    let checked = checker.check(&mut bytes, job.stored.is_some(), inflate);
    checked.map(Some).map_err(|error| unreadable(&job.place.key, &error).to_string())
}

/// What is said of an object that was read.
fn judge<A: Archive>(archive: &A, job: &Job, read: &Result<Option<Checked>, String>) -> (Verdict, String) {
    let checked = match read {
        Err(error) => return (Verdict::Unreadable, error.clone()),
        Ok(None) => return (Verdict::Missing, absent(job)),
        Ok(Some(checked)) => checked,
    };
    let (verdict, detail) = judge_bytes(job.inside, job.stored, checked);
    match (verdict, &job.asked) {
        (Verdict::Valid, Asked::Named(_)) => (Verdict::Valid, String::new()),
        (Verdict::Valid, Asked::Here(here)) => (here.verdict, here.why.unwrap_or_default().to_owned()),
        (_, Asked::Named(by)) => {
            let beside = job.inside.and_then(|inside| vouched_version(archive, &job.place, inside));
            let beside = beside.map(|version| format!("; the later version {version} beside it is what it names"));
            (verdict, format!("{detail}, by the digest {}{}", by.key, beside.unwrap_or_default()))
        }
        (_, Asked::Here(..)) => (verdict, detail),
    }
}

/// Judges bytes by the hash that a digest names, and by what they were when they were stored.
pub fn judge_bytes(inside: Option<[u8; 32]>, stored: Option<Stored>, checked: &Checked) -> (Verdict, String) {
    let changed = stored.is_some_and(|stored| stored.size != checked.size || checked.sha256 != Some(stored.sha256));
    let altered = |why: String| (Verdict::Altered, why);
    match (&checked.gzip, inside) {
        (Gzip::Broken(why), _) if changed => altered(format!("its bytes are not those that were stored ({why})")),
        (Gzip::Broken(why), _) if stored.is_some() => {
            (Verdict::Malformed, format!("it is no whole gzip file ({why}), and was none when it was stored"))
        }
        (Gzip::Broken(why), _) => (Verdict::Malformed, format!("it is no whole gzip file ({why})")),
        (Gzip::Whole { sha256, .. }, Some(inside)) if *sha256 != inside => {
            altered(format!("what is inside has the hash {}, not {}", hex::encode(sha256), hex::encode(inside)))
        }
        (Gzip::NotExpected, Some(_)) => (Verdict::Malformed, "it is no gzip file".into()),
        _ if changed && inside.is_some() => {
            altered("what is inside is right, but the bytes around it are not those that were stored".into())
        }
        _ if changed => altered("its bytes are not those that were stored".into()),
        _ => (Verdict::Valid, String::new()),
    }
}

fn absent(job: &Job) -> String {
    match &job.asked {
        Asked::Named(by) => format!("the digest {} names it", by.key),
        Asked::Here(..) => "it was mirrored once, as a manifest or the database says".into(),
    }
}

/// The later version of an object that a digest vouches for, if one does.
fn vouched_version<A: Archive>(archive: &A, place: &Place, inside: [u8; 32]) -> Option<String> {
    let at = place.key.rfind('/').map_or(0, |at| at + 1);
    let (folder, name) = place.key.split_at(at);
    let versions = archive.list(folder).ok()?.objects.into_iter().filter(|object| *object.name == *name);
    let mut checker = Checker::default();
    versions.filter_map(|object| object.version).find_map(|version| {
        let place = Place { key: place.key.clone(), version: Some(version.to_string()) };
        let checked = checker.check(&mut archive.object(&place).ok()??, false, true).ok()?;
        matches!(checked.gzip, Gzip::Whole { sha256, .. } if sha256 == inside).then(|| version.to_string())
    })
}

fn record(tally: &mut Tally, job: &Job, checked: Option<&Checked>, verdict: Verdict, detail: String) {
    if let Some(checked) = checked {
        tally.files += 1;
        tally.stored_bytes += checked.size;
        if let Gzip::Whole { size, .. } = checked.gzip {
            tally.inflated_bytes += size;
        }
    }
    let mut trail = String::new();
    match &job.asked {
        Asked::Named(by) => {
            let chain = &mut tally.chains[by.chain];
            trail.clone_from(&chain.trail);
            chain.logs.add(verdict);
            if verdict != Verdict::Valid && !by.backfill {
                chain.bad.insert(by.from, by.to);
            }
        }
        Asked::Here(..) => tally.scopes[job.scope].unnamed.add(verdict),
    }
    let unsaid = matches!(&job.asked, Asked::Here(Standing { verdict: counted, why: None }) if *counted == verdict);
    if verdict == Verdict::Valid || unsaid {
        return;
    }
    let scope = &tally.scopes[job.scope];
    let finding = Finding {
        verdict,
        what: if job.place.key.contains("/CloudTrail-Digest/") { What::Digest } else { What::Log },
        account: scope.account.clone(),
        region: scope.region.clone(),
        trail,
        key: shown(&job.place),
        from: None,
        to: None,
        detail,
    };
    tally.find(finding);
}

/// A place as findings name it: the key, and the version where it is a later one.
pub fn shown(place: &Place) -> String {
    match &place.version {
        Some(version) => format!("{} (version {version})", place.key),
        None => place.key.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(inside: u8) -> Checked {
        Checked { size: 5, sha256: Some([1; 32]), gzip: Gzip::Whole { sha256: [inside; 32], size: 9 } }
    }

    #[test]
    fn bytes_are_judged_by_the_digest_and_by_what_was_stored() {
        let stored = |sha| Some(Stored { size: 5, sha256: [sha; 32], later: false });
        let verdict =
            |inside: Option<u8>, stored, checked| judge_bytes(inside.map(|byte| [byte; 32]), stored, &checked).0;
        assert_eq!(verdict(Some(7), None, checked(7)), Verdict::Valid);
        assert_eq!(verdict(Some(7), stored(1), checked(7)), Verdict::Valid);
        assert_eq!(verdict(Some(7), stored(2), checked(7)), Verdict::Altered);
        assert_eq!(verdict(Some(7), None, checked(8)), Verdict::Altered);
        assert_eq!(verdict(None, stored(2), checked(8)), Verdict::Altered);
        assert_eq!(verdict(None, None, checked(8)), Verdict::Valid);
        let broken = Checked { gzip: Gzip::Broken("cut short"), ..checked(0) };
        assert_eq!(verdict(Some(7), None, broken.clone()), Verdict::Malformed);
        assert_eq!(verdict(Some(7), stored(1), broken.clone()), Verdict::Malformed);
        assert_eq!(verdict(Some(7), stored(2), broken), Verdict::Altered);
    }
}
