//! What each kind of alarm means, what was done about it, and what is left to do.

/// The story of a kind of alarm.
pub struct Story {
    /// The class that colours it.
    pub class: &'static str,
    /// What happened, and what trailsync did.
    pub told: &'static str,
    /// A command, or nothing.
    pub next: &'static str,
    /// The alert whose entry in the runbook tells more.
    pub runbook: &'static str,
}

const ALTERED: &str = "TrailsyncAltered";
const MISSING: &str = "TrailsyncMissing";
const CHANGED: &str = "TrailsyncSourceChanged";
const DAMAGED: &str = "TrailsyncCopyDamaged";
const STALLED: &str = "TrailsyncProofStalled";
const OTHER: &str = "TrailsyncAlarm";

/// Every kind that is told apart, with its story.
const STORIES: [(&str, Story); 24] = [
    (
        "altered",
        bad(
            "The copy has other bytes than CloudTrail's signed digest names: it was altered before it came. It stays as it came, and the proof stands still before it.",
            "trailsync verify",
            ALTERED,
        ),
    ),
    (
        "bad_signature",
        bad(
            "A digest is not what CloudTrail signed. It stays as it came, and vouches for nothing.",
            "trailsync verify",
            ALTERED,
        ),
    ),
    (
        "malformed_digest",
        bad("A digest cannot be read. It stays as it came, and vouches for nothing.", "trailsync verify", ALTERED),
    ),
    (
        "unknown_key",
        bad(
            "A digest names a key that CloudTrail does not have. The keys are asked for again.",
            "trailsync verify",
            ALTERED,
        ),
    ),
    (
        "unreferenced",
        bad(
            "A log lies in an hour that is proven, and no digest names it: CloudTrail did not write it there. It is mirrored all the same.",
            "trailsync verify",
            ALTERED,
        ),
    ),
    (
        "missing",
        bad(
            "A digest names a log that is neither here nor at the source. It is asked for again, ever more seldom.",
            "trailsync verify",
            MISSING,
        ),
    ),
    (
        "gap",
        bad(
            "Hours have no digest: it was deleted, was never written, or validation was off. It ends when the digest comes.",
            "trailsync verify",
            MISSING,
        ),
    ),
    (
        "replaced",
        warn(
            "The source has other bytes under a key than those that were mirrored. Both are kept: the first in its place, the later one beside it.",
            "trailsync verify",
            CHANGED,
        ),
    ),
    (
        "vanished",
        warn("An object that was mirrored is gone from the source. The copy stays.", "trailsync verify", CHANGED),
    ),
    (
        "malformed",
        warn(
            "A log is not one whole gzip file at the source either. It is mirrored as it is.",
            "trailsync verify",
            CHANGED,
        ),
    ),
    (
        "conflict",
        warn("Another file stood where the copy belongs. Nothing was written over it.", "trailsync check", OTHER),
    ),
    (
        "rotten",
        bad(
            "A copy has other bytes than when it came: the disk, or somebody, changed it. It is fetched again, and the damaged file kept aside.",
            "trailsync scrub",
            DAMAGED,
        ),
    ),
    ("lost", bad("A copy is not here any more. It is fetched again.", "trailsync scrub", DAMAGED)),
    ("scrub", warn("Copies cannot be read again now. Mirroring goes on.", "trailsync scrub", DAMAGED)),
    ("proof", warn("The proof cannot go on now. Mirroring goes on.", "trailsync check", STALLED)),
    (
        "unknown_trail",
        warn(
            "Most logs of a day are named by no digest: another trail, without digests, writes there, too.",
            "trailsync verify",
            STALLED,
        ),
    ),
    (
        "clock_skew",
        warn("This host's clock and the service's differ. Nothing is sealed until they agree.", "timedatectl", OTHER),
    ),
    (
        "destination",
        bad(
            "The destination cannot be used: nothing of this source is mirrored. It is looked at again and again.",
            "trailsync check",
            "TrailsyncFailing",
        ),
    ),
    (
        "deletion",
        warn("Something could not be deleted at the source. Mirroring goes on.", "trailsync prune --dry-run", OTHER),
    ),
    ("metadata", warn("What lies beside a copy is not what trailsync wrote there.", "trailsync scrub", DAMAGED)),
    (
        "unknown_folder",
        warn("A folder is of no kind that is known. It is not mirrored.", "trailsync status --json", OTHER),
    ),
    (
        "undiscovered",
        bad(
            "Accounts, kinds or regions under a prefix could not be listed. It is tried again within seconds, then ever later.",
            "trailsync check",
            "TrailsyncFailing",
        ),
    ),
    (
        "nothing_there",
        warn("Of a configured account no log was ever delivered.", "trailsync check", "TrailsyncNeverListed"),
    ),
    ("", warn("Somebody should look at this.", "trailsync status", OTHER)),
];

const fn bad(told: &'static str, next: &'static str, runbook: &'static str) -> Story {
    Story { class: "bad", told, next, runbook }
}

const fn warn(told: &'static str, next: &'static str, runbook: &'static str) -> Story {
    Story { class: "warn", told, next, runbook }
}

/// The story of this kind.
pub fn story(kind: &str) -> &'static Story {
    let known = STORIES.iter().find(|(name, _)| *name == kind);
    &known.unwrap_or(&STORIES[STORIES.len() - 1]).1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_one_story_and_others_have_one_too() {
        for (at, (kind, _)) in STORIES.iter().enumerate() {
            assert_eq!(STORIES.iter().position(|(other, _)| other == kind), Some(at), "{kind} is told twice");
        }
        assert_eq!(story("no such kind").runbook, OTHER);
        assert_eq!((story("altered").class, story("altered").next), ("bad", "trailsync verify"));
    }
}
