//! What must hold before anything may be deleted at the source.

use super::Verdict;
use crate::config::section::Section;
use crate::config::value::show_duration;

const REQUIRE: &str = "after_mirror.require";
const ACCEPT: &str = "after_mirror.i_accept_deletion_without_proof";
const DELETE_AFTER: &str = "after_mirror.delete_after";

impl Verdict {
    /// Deletion cannot be undone: what makes it unsafe is refused, not warned of.
    pub(super) fn deletion(&mut self, source: &Section<'_>) {
        let Some(require) = source.text(REQUIRE).filter(|_| source.has("after_mirror")) else { return };
        let accepted = source.flag(ACCEPT) == Some(true);
        let digests = source.texts("kinds").is_none_or(|kinds| kinds.iter().any(|kind| kind == "CloudTrail-Digest"));
        if require == "stored" && !accepted {
            let problem = "is `stored`, with which logs are deleted of which nothing shows that they are genuine";
            let mend = "write `require = \"proven\"`, or acknowledge it with `i_accept_deletion_without_proof = true`";
            self.refuse(source, REQUIRE, problem, mend);
        }
        if require == "proven" && accepted {
            let problem = "is true, and `require = \"proven\"` deletes nothing without proof";
            self.warn(source, ACCEPT, problem, "drop it");
        }
        if require == "proven" && !digests {
            let problem = "is `proven`, and without CloudTrail-Digest in `kinds` nothing is ever proven or deleted";
            self.refuse(source, REQUIRE, problem, "add `CloudTrail-Digest` to `kinds`");
        }
        if source.flag("destination.allow_volatile") == Some(true) {
            let problem = "deletes originals while `destination.allow_volatile` lets the copies go with the machine";
            self.refuse(source, DELETE_AFTER, problem, "keep the copies on a durable file system, or delete nothing");
        }
        if let (Some(after), Some(retention)) = (source.duration(DELETE_AFTER), source.duration("source_retention"))
            && after >= retention
        {
            let problem = format!(
                "is {}, by when the bucket's own lifecycle, `source_retention`, {}, has removed everything",
                show_duration(after),
                show_duration(retention)
            );
            self.warn(source, DELETE_AFTER, problem, "drop `after_mirror`");
        }
    }
}
