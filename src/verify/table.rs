//! What was found, for people: one sentence, the chains, then the findings with what to do, the worst first.

use std::io::{self, Write};

use comfy_table::{ContentArrangement, Table, presets};
use indicatif::{HumanBytes, HumanCount};

use super::finding::{Finding, VERDICTS, Verdict};
use super::tally::{Chain, Counts, Scope, Tally};
use super::{Conclusion, Verified};
use crate::clock::Timestamp;
use crate::key::Shown;

/// Findings that are shown; the counts are whole.
const SHOWN: u64 = 60;

/// Writes everything that people want to know.
///
/// # Errors
/// Those of the writer, or of the findings' temporary file.
pub fn write(verified: &mut Verified, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}\n", sentence(verified))?;
    let tally = &mut verified.tally;
    if !tally.chains.is_empty() {
        writeln!(out, "{}\n", chains(tally))?;
    }
    for scope in &tally.scopes {
        for line in remarks(scope) {
            writeln!(out, "{} {}: {line}", name(scope), Shown(&scope.region))?;
        }
    }
    findings(tally, out)
}

/// How it stands, in one sentence.
pub fn sentence(verified: &Verified) -> String {
    let tally = &verified.tally;
    let failures = tally.counts.failures();
    let logs: u64 = tally.chains.iter().map(|chain| chain.logs.of(Verdict::Valid)).sum();
    let digests: u64 = tally.chains.iter().map(|chain| chain.digests.of(Verdict::Valid)).sum();
    let read = format!("{} files, {} read", HumanCount(tally.files), HumanBytes(tally.stored_bytes));
    match verified.conclusion() {
        Conclusion::Proven => format!(
            "Proven: {} digests and all {} logs that they name are here, unaltered ({read}).",
            HumanCount(digests),
            HumanCount(logs)
        ),
        Conclusion::Unproven if tally.scopes.is_empty() => "There is nothing to verify here.".into(),
        Conclusion::Unproven => format!("Nothing is wrong, but not everything could be proven ({read})."),
        Conclusion::Findings => format!("Not proven: {failures} findings, {} ({read}).", counted(&tally.counts, true)),
    }
}

/// Counts in words: `2 altered, 1 missing`.
pub fn counted(counts: &Counts, failures: bool) -> String {
    let wanted = counts.each().filter(|(verdict, _)| !failures || verdict.is_failure());
    let words: Vec<_> = wanted.map(|(verdict, count)| format!("{count} {verdict}")).collect();
    if words.is_empty() { "-".into() } else { words.join(", ") }
}

/// A scope as people know it: account, after its organization and prefix where it has them.
pub fn name(scope: &Scope) -> String {
    let prefix = scope.root.strip_suffix("AWSLogs/").unwrap_or_default();
    let organization = scope.organization.as_ref().map(|org| format!("{org}/")).unwrap_or_default();
    Shown(&format!("{prefix}{organization}{}", scope.account)).to_string()
}

/// What is to be said of a scope beside its chains.
pub fn remarks(scope: &Scope) -> Vec<String> {
    let unnamed = |verdict| scope.unnamed.of(verdict);
    let mut lines = Vec::new();
    if !scope.has_digests {
        lines.push(format!(
            "proof is unavailable: no digests here ({} files compared with manifests, where there are any)",
            scope.unnamed.total()
        ));
    } else if unnamed(Verdict::Unknown) > 0 {
        lines.push(format!("{} files lie outside of what digests cover", unnamed(Verdict::Unknown)));
    }
    if scope.another_trail {
        lines.push(
            "another trail without digests writes here, as it seems: files that no digest names are unknown".into(),
        );
    }
    if unnamed(Verdict::Pending) > 0 {
        lines.push(format!("{} newest files wait for their digest", unnamed(Verdict::Pending)));
    }
    lines
}

/// In a word, how a chain stands.
pub fn state(chain: &Chain) -> &'static str {
    let failures = chain.digests.failures() + chain.logs.failures() + chain.backfills.failures() + chain.gap_hours;
    match (failures, chain.proven_through(), chain.ended) {
        (0, Some(_), true) => "ended",
        (0, Some(_), false) => "proven",
        (0, None, _) => "unproven",
        _ => "broken",
    }
}

/// A time, or a dash.
pub fn time(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "-".into(), |at| at.to_string())
}

fn chains(tally: &Tally) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header([
        "account",
        "region",
        "trail",
        "state",
        "from",
        "proven through",
        "last digest",
        "digests",
        "logs",
        "gap hours",
        "signed for",
    ]);
    for chain in &tally.chains {
        let scope = &tally.scopes[chain.scope];
        let origins = chain.origins.iter().map(|origin| Shown(origin).to_string()).collect::<Vec<_>>().join(", ");
        let backfills = chain.backfills.total();
        let backfills =
            if backfills > 0 { format!(" (+{} backfill)", counted(&chain.backfills, false)) } else { String::new() };
        table.add_row([
            name(scope),
            Shown(&scope.region).to_string(),
            Shown(&chain.trail).to_string(),
            state(chain).to_owned(),
            time(chain.runs.first().map(|run| run.from)),
            time(chain.proven_through()),
            time(chain.last),
            counted(&chain.digests, false) + &backfills,
            counted(&chain.logs, false),
            chain.gap_hours.to_string(),
            if chain.moved { format!("{origins} (moved)") } else { origins },
        ]);
    }
    table
}

fn findings(tally: &mut Tally, out: &mut dyn Write) -> io::Result<()> {
    let mut left = SHOWN;
    for verdict in VERDICTS {
        let mut last = None;
        let mut see = |finding: &Finding| {
            if left == 0 {
                return Ok(());
            }
            left -= 1;
            let mend = verdict.mend(finding.what);
            // The mend is said once for those that share it.
            if last != Some(mend) {
                last = Some(mend);
                writeln!(out, "\n{}{}{mend}", verdict.word(), if mend.is_empty() { "" } else { ": " })?;
            }
            writeln!(out, "  {}", line(finding))
        };
        tally.findings.each(|finding| finding.verdict == verdict, &mut see)?;
    }
    let all = tally.findings.len();
    if all > SHOWN {
        writeln!(out, "\n{} more findings are not shown: --json and --report have all of them", all - SHOWN)?;
    }
    Ok(())
}

/// A finding on one line.
pub fn line(finding: &Finding) -> String {
    let hours = match (finding.from, finding.to) {
        (Some(from), Some(to)) => format!("{from} to {to} "),
        (Some(from), None) => format!("{from} "),
        _ => String::new(),
    };
    let trail = if finding.trail.is_empty() { String::new() } else { format!(" ({})", Shown(&finding.trail)) };
    format!("{} {hours}{}{trail}: {}", finding.what.word(), Shown(&finding.key), Shown(&finding.detail))
}
