//! The newest log and digest: whether they can be read, what they are, and whether our own reading is in them.

use super::{Step, Walk};
use crate::check::blame::{self, Denied, Evidence};
use crate::check::content::{self, Log};
use crate::check::newest::{Newest, newest};
use crate::check::{Finding, Hop, State};
use crate::config::Role;
use crate::key::Shown;
use crate::layout::Stream;
use crate::source::client::Failure;
use crate::source::s3::probe::{Opened, Probe};

/// What was read.
#[derive(Default)]
pub(super) struct Bodies {
    log: Option<(String, Vec<u8>)>,
    digest: Option<(String, Vec<u8>)>,
    encryption: Vec<(String, Option<String>, Option<String>)>,
}

impl Bodies {
    /// The key of something that is there, and was read.
    pub(super) fn any_key(&self) -> Option<&str> {
        self.encryption.first().map(|(key, _, _)| key.as_str())
    }
}

impl Walk<'_> {
    /// Reads the newest log and digest, and says how they are encrypted.
    pub(super) async fn read(&mut self, probe: &Probe, streams: &[Stream]) -> Step<Bodies> {
        let is_digest = |stream: &&Stream| stream.kind.folder == "CloudTrail-Digest";
        let mut logs: Vec<&Stream> = streams.iter().filter(|stream| !is_digest(stream)).collect();
        // What every trail writes comes first.
        logs.sort_by_key(|stream| stream.kind.folder != "CloudTrail");
        let digests: Vec<&Stream> = streams.iter().filter(is_digest).collect();
        let (log, digest) = (self.find(probe, &logs).await?, self.find(probe, &digests).await?);
        let mut bodies = Bodies::default();
        let read = self.get(probe, log.as_ref(), digest.as_ref(), &mut bodies).await?;
        let digests_wanted = self.source.kinds.iter().any(|kind| kind == "CloudTrail-Digest");
        let mut finding = Finding::new(Hop::Get, State::Passed, read.join(", "), sizes(&bodies));
        if digest.is_none() && digests_wanted {
            finding.state = State::Warned;
            finding.causes =
                vec!["there is no digest: Account A must turn log file validation on, or nothing can be proved".into()];
        }
        if read.is_empty() {
            finding.state = State::Warned;
            finding.tried = "to find a log and a digest".into();
            finding.found = "there are folders, but no dated object in them".into();
        }
        self.findings.push(finding);
        let (tried, found) = encryption(&bodies, &self.source.kms_keys);
        self.passed(Hop::Kms, tried, found);
        Ok(bodies)
    }

    async fn find<'s>(&mut self, probe: &Probe, streams: &[&'s Stream]) -> Step<Option<Newest<'s>>> {
        let now = self.served_at.unwrap_or_else(|| self.process.clock.now());
        newest(probe, streams, now).await.map_err(|failure| {
            let prefix = streams.first().map_or_else(String::new, |stream| stream.prefix.clone());
            let blame = self.scene().list(&failure, &prefix);
            self.refused(Hop::List, format!("ListObjectsV2 under {}", Shown(&prefix)), failure, blame)
        })
    }

    /// Reads both; one that is let through is evidence about the other.
    async fn get(
        &mut self,
        probe: &Probe,
        log: Option<&Newest<'_>>,
        digest: Option<&Newest<'_>>,
        bodies: &mut Bodies,
    ) -> Step<Vec<String>> {
        let (mut read, mut failed) = (Vec::new(), None);
        for (is_digest, newest) in [(false, log), (true, digest)] {
            let Some(newest) = newest else { continue };
            let key = &newest.object.key;
            read.push(format!("GetObject of the newest {} {}", if is_digest { "digest" } else { "log" }, Shown(key)));
            match whole(probe, key).await {
                Ok((opened, bytes)) => {
                    bodies.encryption.push((key.clone(), opened.0, opened.1));
                    let slot = if is_digest { &mut bodies.digest } else { &mut bodies.log };
                    // Only logs of the usual kind are read as such.
                    *slot = (is_digest || newest.stream.kind.folder == "CloudTrail").then(|| (key.clone(), bytes));
                }
                Err(failure) => failed = failed.or(Some((key.clone(), failure))),
            }
        }
        let Some((key, failure)) = failed else { return Ok(read) };
        let head_was_allowed = blame::is_denial(&failure) && probe.head(&key).await.is_ok();
        let evidence = Evidence { another_was_read: !bodies.encryption.is_empty(), head_was_allowed };
        let denied = blame::denied(&failure, evidence);
        let is_kms = failure.code.starts_with("KMS.") || (blame::is_denial(&failure) && denied == Denied::Decrypting);
        let hop = if is_kms { Hop::Kms } else { Hop::Get };
        if is_kms {
            let tried = read.join(", ");
            self.passed(Hop::Get, tried, "let through as far as S3 is concerned");
        }
        let blame = self.scene().get(&failure, &key, denied);
        Err(self.refused(hop, format!("GetObject of {}", Shown(&key)), failure, blame))
    }

    pub(super) fn content(&mut self, bodies: &Bodies) -> Option<Log> {
        let (reader, mut broken) = (self.logged_as(), None);
        let mut whole = |key: &String, why: String| broken = Some(format!("{}: {why}", Shown(key)));
        let log = bodies.log.as_ref().and_then(|(key, bytes)| {
            content::log(bytes, &self.source.bucket, &reader).map_err(|why| whole(key, why)).ok()
        });
        let digest =
            bodies.digest.as_ref().and_then(|(key, bytes)| content::digest(bytes).map_err(|why| whole(key, why)).ok());
        let read = [log.as_ref().map(events), digest.map(|()| "a digest".into())];
        let read: Vec<String> = read.into_iter().flatten().collect();
        let mut finding = Finding::new(Hop::Content, State::Passed, "to inflate and parse them", read.join(" and "));
        if let Some(broken) = broken {
            finding.state = State::Warned;
            finding.found = broken;
            finding.causes = vec![
                "something else than CloudTrail writes under this name, or has altered it: it is mirrored as it is"
                    .into(),
            ];
        } else if read.is_empty() {
            self.skipped(Hop::Content, "nothing was read");
            return log;
        }
        self.findings.push(finding);
        log
    }

    pub(super) fn feedback(&mut self, bodies: &Bodies, log: Option<&Log>) {
        let (Some((key, _)), Some(log)) = (&bodies.log, log) else {
            return self.skipped(Hop::Loop, "no log could be read");
        };
        let tried = format!("to find our own reads in {}", Shown(key));
        let mut finding = Finding::new(Hop::Loop, State::Passed, tried, "none");
        if log.reads > 0 {
            finding.found = format!("reads of this bucket's objects: {}, ours: {}", log.reads, log.own_reads);
        }
        if log.own_reads > 0 {
            finding.state = State::Warned;
            finding.causes = vec![
                "the trail logs data events of the bucket that it writes to: each log that is mirrored makes another; \
                 Account A should exclude this bucket from the trail's data events"
                    .into(),
            ];
        }
        self.findings.push(finding);
    }

    /// The ARN that CloudTrail logs our requests under.
    fn logged_as(&self) -> String {
        match &self.source.role {
            Some(role) => session_arn(role),
            None => self.caller.as_ref().map(|caller| caller.arn.clone()).unwrap_or_default(),
        }
    }
}

/// The object's encryption and key, and its bytes.
async fn whole(probe: &Probe, key: &str) -> Result<((Option<String>, Option<String>), Vec<u8>), Failure> {
    let Opened { fetched, encryption, kms_key } = probe.open(key).await?;
    Ok(((encryption, kms_key), content::collect(fetched).await?))
}

fn sizes(bodies: &Bodies) -> String {
    let sizes = [("log", &bodies.log), ("digest", &bodies.digest)];
    let sizes =
        sizes.into_iter().filter_map(|(what, body)| Some(format!("{what} of {} bytes", body.as_ref()?.1.len())));
    sizes.collect::<Vec<_>>().join(", ")
}

fn encryption(bodies: &Bodies, known: &[String]) -> (String, String) {
    let keys: Vec<&String> = bodies.encryption.iter().filter_map(|(_, _, key)| key.as_ref()).collect();
    let tried = "how they are encrypted".to_owned();
    let Some(key) = keys.first() else { return (tried, "without a KMS key: nothing is needed".to_owned()) };
    let hint = if known.contains(key) { "" } else { "; name it in `kms_keys`, so that `trailsync policy` prints it" };
    (tried, format!("with {}, which decrypts for us{hint}", Shown(key)))
}

fn events(log: &Log) -> String {
    if log.events == 1 { "a log of one event".to_owned() } else { format!("a log of {} events", log.events) }
}

/// The session's ARN, which drops the role's path (IAM guide, "IAM identifiers").
fn session_arn(role: &Role) -> String {
    let mut parts = role.arn.splitn(6, ':');
    let partition = parts.nth(1).unwrap_or("aws");
    let account = parts.nth(2).unwrap_or_default();
    let name = role.arn.rsplit('/').next().unwrap_or_default();
    format!("arn:{partition}:sts::{account}:assumed-role/{name}/{}", role.session_name)
}
