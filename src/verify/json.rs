//! What was found, for machines: one JSON object a line.
//!
//! | `type` | says |
//! | --- | --- |
//! | `finding` | `verdict`, `what`, `account`, `region`, `trail`, `key`, `from`, `to`, `detail`, `mend`, `failure` |
//! | `chain` | one (account, region, trail): `state`, `from`, `proven_through`, `last_digest`, counts by verdict, `gap_hours` |
//! | `scope` | one (account, region): objects that no digest names, by verdict |
//! | `key` | one public key: `region`, `fingerprint`, `valid_from`, `valid_until` |
//! | `summary` | `conclusion` (`proven`, `findings`, `unproven`), counts of findings by verdict, files and bytes read; the last line |
//!
//! Verdicts: `altered`, `missing`, `bad_signature`, `gap`, `malformed`, `unreadable`, `unknown_key`, `unreferenced`
//! (failures); `unknown`, `pending`, `stopped`, `moved`, `later`, `valid`.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::finding::Finding;
use super::{Conclusion, Verified, table};
use crate::key::harmless_json;

/// Version of this output: a field may be added under the same one.
const VERSION: u32 = 1;

/// Writes all findings, chains, scopes and keys of the copy at `path`.
///
/// # Errors
/// Those of the writer, or of the findings' temporary file.
pub fn write(path: &str, verified: &mut Verified, out: &mut dyn Write) -> io::Result<()> {
    let mut see = |finding: &Finding| {
        let mut value = serde_json::to_value(finding)?;
        value["type"] = json!("finding");
        value["failure"] = json!(finding.verdict.is_failure());
        value["mend"] = json!(finding.verdict.mend(finding.what));
        line(out, &value)
    };
    verified.tally.findings.each(|_| true, &mut see)?;
    let tally = &verified.tally;
    for chain in &tally.chains {
        let scope = &tally.scopes[chain.scope];
        line(
            out,
            &json!({
                "type": "chain", "root": scope.root, "organization": scope.organization, "account": scope.account,
                "region": scope.region, "trail": chain.trail, "home_region": chain.home, "state": table::state(chain),
                "from": chain.runs.first().map(|run| run.from), "proven_through": chain.proven_through(),
                "last_digest": chain.last, "ended": chain.ended, "digests": chain.digests,
                "backfill_digests": chain.backfills, "logs": chain.logs, "gap_hours": chain.gap_hours,
                "keys": chain.keys, "signed_for": chain.origins, "moved": chain.moved,
            }),
        )?;
    }
    for scope in &tally.scopes {
        line(
            out,
            &json!({
                "type": "scope", "root": scope.root, "organization": scope.organization, "account": scope.account,
                "region": scope.region, "digests": scope.has_digests, "unnamed": scope.unnamed,
                "another_trail": scope.another_trail,
            }),
        )?;
    }
    for (region, key) in &verified.keys {
        let (from, until) = (key.valid_from, key.valid_until);
        let fingerprint = &key.fingerprint;
        line(
            out,
            &json!({"type": "key", "region": region, "fingerprint": fingerprint, "valid_from": from, "valid_until": until}),
        )?;
    }
    line(
        out,
        &json!({
            "type": "summary", "version": VERSION, "path": path, "conclusion": conclusion(verified),
            "findings": tally.counts, "files": tally.files, "stored_bytes": tally.stored_bytes,
            "inflated_bytes": tally.inflated_bytes, "foreign_files": tally.foreign,
            "regions_without_keys": tally.keyless,
        }),
    )
}

fn conclusion(verified: &Verified) -> &'static str {
    match verified.conclusion() {
        Conclusion::Proven => "proven",
        Conclusion::Findings => "findings",
        Conclusion::Unproven => "unproven",
    }
}

fn line(out: &mut dyn Write, value: &Value) -> io::Result<()> {
    writeln!(out, "{}", harmless_json(&value.to_string()))
}
