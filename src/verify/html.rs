//! The evidence report: one HTML file that needs nothing else, reads well on paper, and trusts no text in it.

use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::tz::Offset;

use super::finding::{Finding, VERDICTS};
use super::tally::{Chain, Hours, Tally};
use super::{Options, Verified, table};
use crate::chain::HOUR_SECONDS;
use crate::clock::{Timestamp, shift};
use crate::key::harmless;

const STYLE: &str = "\
body{font:14px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:75rem;padding:0 1rem;color:#1a1a1a;background:#fff}\
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem;border-bottom:1px solid #999}h3{font-size:1rem}\
table{border-collapse:collapse;width:100%;margin:.5rem 0}th,td{border:1px solid #bbb;padding:.2rem .4rem;text-align:left;\
vertical-align:top}.k{overflow-wrap:anywhere}th{background:#eee;white-space:nowrap}.said{font-size:1.1rem;font-weight:600}\
.c{width:auto}.c td,.c th{padding:.05rem .2rem;text-align:center;font:12px/1.3 ui-monospace,monospace}\
.c th{text-align:left}.P{background:#d9f2dc}.B{background:#f4b6b0;font-weight:700}\
.U{background:#f7d9a8}.G{background:#e89a92;font-weight:700}.S{background:#ddd}\
@page{size:landscape;margin:12mm}@media print{body{margin:0;max-width:none;font-size:10px}h2{break-after:avoid}tr{break-inside:avoid}\
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}";

/// A word with more bytes than this may be broken anywhere.
const LONG: usize = 30;

/// Text between tags or in an attribute: nothing in it is markup, and nothing in it moves the cursor.
struct Text<'a>(&'a str);

impl std::fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            c if harmless(c) => write!(f, "{c}"),
            c => write!(f, "{}", c.escape_default()),
        })
    }
}

/// Writes the report of one copy.
///
/// # Errors
/// Those of the writer, or of the findings' temporary file.
pub fn write(path: &str, options: &Options, verified: &mut Verified, out: &mut dyn Write) -> io::Result<()> {
    let style = BASE64.encode(crate::content::of(STYLE.as_bytes(), false).sha256);
    writeln!(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-{style}'\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>Evidence: {}</title><style>{STYLE}</style></head><body>",
        Text(path)
    )?;
    writeln!(out, "<h1>Evidence for the copy {}</h1>", Text(path))?;
    writeln!(out, "<p class=\"said\">{}</p>", Text(&table::sentence(verified)))?;
    checked(options, verified, out)?;
    keys(verified, out)?;
    chains(&verified.tally, out)?;
    for chain in &verified.tally.chains {
        calendar(&verified.tally, chain, out)?;
    }
    findings(&mut verified.tally, out)?;
    writeln!(out, "</body></html>")
}

fn checked(options: &Options, verified: &Verified, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "<h2>What was checked</h2><table>")?;
    let list = |list: &[String]| if list.is_empty() { "all".to_owned() } else { list.join(", ") };
    let mut row = |name: &str, value: &str| writeln!(out, "<tr><th>{}</th><td>{}</td></tr>", Text(name), Text(value));
    row("Tool", concat!("trailsync ", env!("CARGO_PKG_VERSION")))?;
    row("Time", &options.now.to_string())?;
    for source in &verified.sources {
        let since = source.since.map(|since| format!(", since {since}")).unwrap_or_default();
        row("Copy of", &format!("s3://{}/{} (source {}{since})", source.bucket, source.prefix, source.source))?;
    }
    row("Accounts", &list(&options.accounts))?;
    row("Regions", &list(&options.regions))?;
    row("Trails", &list(&options.trails))?;
    row("From", &options.from.map_or_else(|| "the beginning".into(), |from| from.to_string()))?;
    row("To", &options.to.map_or_else(|| "the end".into(), |to| to.to_string()))?;
    row("Grace", &format!("{} minutes", options.grace_seconds / 60))?;
    let trusted = options.keys.as_ref().map_or_else(|| "the copy's own".into(), |keys| keys.display().to_string());
    row("Public keys", &trusted)?;
    let tally = &verified.tally;
    let (stored, inflated) = (tally.stored_bytes, tally.inflated_bytes);
    row("Read", &format!("{} files, {stored} bytes as stored, {inflated} bytes inside", tally.files))?;
    row(
        "How",
        "Each digest: RSA PKCS#1 v1.5 with SHA-256 over its end, place, hash and previous signature; each link to the \
         one before, by place, hash and signature; each named log: SHA-256 of what is inside, and one whole gzip file; \
         manifests: stored bytes by SHA-256.",
    )?;
    writeln!(out, "</table>")
}

fn keys(verified: &Verified, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "<h2>Public keys</h2><p>Compare the fingerprints with <code>aws cloudtrail list-public-keys</code>, \
                   asked in the region, for the time of validity.</p>"
    )?;
    head(out, &["region", "fingerprint", "valid from", "valid until"])?;
    for (region, key) in &verified.keys {
        cells(out, &[region, &key.fingerprint, &key.valid_from.to_string(), &key.valid_until.to_string()])?;
    }
    writeln!(out, "</table>")
}

fn chains(tally: &Tally, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "<h2>Chains</h2>")?;
    head(
        out,
        &[
            "account",
            "region",
            "trail",
            "state",
            "from",
            "proven through",
            "digests",
            "logs",
            "gap hours",
            "keys",
            "signed for",
        ],
    )?;
    for chain in &tally.chains {
        let scope = &tally.scopes[chain.scope];
        let words = |set: &std::collections::BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(", ");
        let moved = if chain.moved { " (moved: the copy stands elsewhere)" } else { "" };
        cells(
            out,
            &[
                &table::name(scope),
                &scope.region,
                &chain.trail,
                table::state(chain),
                &table::time(chain.runs.first().map(|run| run.from)),
                &table::time(chain.proven_through()),
                &table::counted(&chain.digests, false),
                &table::counted(&chain.logs, false),
                &chain.gap_hours.to_string(),
                &words(&chain.keys),
                &format!("{}{moved}", words(&chain.origins)),
            ],
        )?;
    }
    writeln!(out, "</table>")?;
    for scope in &tally.scopes {
        for remark in table::remarks(scope) {
            writeln!(out, "<p>{} {}: {}</p>", Text(&table::name(scope)), Text(&scope.region), Text(&remark))?;
        }
    }
    Ok(())
}

/// A line for each day, a cell for each hour; days that are wholly proven are one line together.
fn calendar(tally: &Tally, chain: &Chain, out: &mut dyn Write) -> io::Result<()> {
    let (Some(first), Some(last)) = (chain.runs.first(), chain.runs.last()) else { return Ok(()) };
    let scope = &tally.scopes[chain.scope];
    let name = format!("{} {} {}", table::name(scope), scope.region, chain.trail);
    writeln!(
        out,
        "<h2>Hours of {}</h2><p>P proven &middot; B something named is bad &middot; U digest not believed \
                   &middot; G gap &middot; S logging stopped. UTC.</p><table class=\"c\">",
        Text(&name)
    )?;
    let mut whole: Option<(Timestamp, u64)> = None;
    let mut day = day_start(first.from);
    while day < last.to {
        if is_whole(chain, day) {
            whole = Some(whole.map_or((day, 1), |(from, days)| (from, days + 1)));
        } else {
            together(out, whole.take())?;
            hours(chain, day, out)?;
        }
        day = shift(day, 24 * HOUR_SECONDS);
    }
    together(out, whole)?;
    writeln!(out, "</table>")
}

fn together(out: &mut dyn Write, whole: Option<(Timestamp, u64)>) -> io::Result<()> {
    let Some((from, days)) = whole else { return Ok(()) };
    let hours = 24 * days;
    writeln!(
        out,
        "<tr><th>{}</th><td class=\"P\" colspan=\"24\">P all {hours} hours of {days} days</td></tr>",
        date(from)
    )
}

fn hours(chain: &Chain, day: Timestamp, out: &mut dyn Write) -> io::Result<()> {
    write!(out, "<tr><th>{}</th>", date(day))?;
    for hour in 0..24 {
        let from = shift(day, hour * HOUR_SECONDS);
        match worst(chain, from, shift(from, HOUR_SECONDS)) {
            Some(letter) => write!(out, "<td class=\"{letter}\" title=\"{hour:02}:00\">{letter}</td>")?,
            None => write!(out, "<td></td>")?,
        }
    }
    writeln!(out, "</tr>")
}

fn is_whole(chain: &Chain, day: Timestamp) -> bool {
    let end = shift(day, 24 * HOUR_SECONDS);
    let inside = |run: &super::tally::Run| run.hours == Hours::Proven && run.from <= day && end <= run.to;
    let at = chain.runs.partition_point(|run| run.from <= day);
    at.checked_sub(1).is_some_and(|at| inside(&chain.runs[at])) && worst(chain, day, end) == Some('P')
}

/// The worst that is known of some time.
fn worst(chain: &Chain, from: Timestamp, to: Timestamp) -> Option<char> {
    let bad = chain.bad.range(shift(from, -24 * HOUR_SECONDS)..to).any(|(_, end)| *end > from);
    let start = chain.runs.partition_point(|run| run.to <= from);
    let known = chain.runs[start..].iter().take_while(|run| run.from < to).map(|run| run.hours);
    let known = known.chain(bad.then_some(Hours::Bad)).max_by_key(|hours| match hours {
        Hours::Stopped => 0,
        Hours::Proven => 1,
        Hours::Unproven => 2,
        Hours::Bad => 3,
        Hours::Gap => 4,
    })?;
    Some(match known {
        Hours::Proven => 'P',
        Hours::Bad => 'B',
        Hours::Unproven => 'U',
        Hours::Gap => 'G',
        Hours::Stopped => 'S',
    })
}

fn findings(tally: &mut Tally, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "<h2>Findings</h2>")?;
    if tally.findings.is_empty() {
        return writeln!(out, "<p>None.</p>");
    }
    head(out, &["verdict", "what", "account", "region", "trail", "key", "time", "detail", "what to do"])?;
    for verdict in VERDICTS {
        let mut see = |finding: &Finding| {
            let time = [finding.from, finding.to].iter().flatten().map(ToString::to_string).collect::<Vec<_>>();
            let Finding { account, region, trail, key, detail, what, .. } = finding;
            cells(
                out,
                &[
                    verdict.word(),
                    what.word(),
                    account,
                    region,
                    trail,
                    key,
                    &time.join(" to "),
                    detail,
                    verdict.mend(*what),
                ],
            )
        };
        tally.findings.each(|finding| finding.verdict == verdict, &mut see)?;
    }
    writeln!(out, "</table>")
}

fn head(out: &mut dyn Write, names: &[&str]) -> io::Result<()> {
    write!(out, "<table><thead><tr>")?;
    names.iter().try_for_each(|name| write!(out, "<th>{}</th>", Text(name)))?;
    writeln!(out, "</tr></thead>")
}

fn cells(out: &mut dyn Write, values: &[&str]) -> io::Result<()> {
    write!(out, "<tr>")?;
    // Long words, such as keys, are broken where they must be; others stay whole.
    let is_long = |value: &str| value.split(' ').any(|word| word.len() > LONG);
    let class = |value: &str| if is_long(value) { " class=\"k\"" } else { "" };
    values.iter().try_for_each(|value| write!(out, "<td{}>{}</td>", class(value), Text(value)))?;
    writeln!(out, "</tr>")
}

fn day_start(time: Timestamp) -> Timestamp {
    let seconds = time.as_second();
    Timestamp::from_second(seconds - seconds.rem_euclid(24 * HOUR_SECONDS)).unwrap_or(time)
}

fn date(time: Timestamp) -> String {
    Offset::UTC.to_datetime(time).date().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_is_no_markup() {
        let hostile = "<script>alert('x')</script>\" onload=\"&\u{202e}\n\u{1b}";
        let shown = Text(hostile).to_string();
        assert!(!shown.contains(['<', '>', '"', '\'', '\u{202e}', '\n', '\u{1b}']), "{shown}");
        assert!(shown.starts_with("&lt;script&gt;alert(&#39;x&#39;)"));
    }

    #[test]
    fn an_hour_shows_the_worst_that_is_known_of_it() {
        let at = |hour: i64| Timestamp::from_second(1_795_478_400 + hour * HOUR_SECONDS).unwrap();
        let mut chain = Chain::new(0, "t", "r");
        chain.push(at(0), at(50), Hours::Proven);
        chain.push(at(50), at(52), Hours::Gap);
        chain.push(at(52), at(60), Hours::Proven);
        assert!(is_whole(&chain, at(0)) && is_whole(&chain, at(24)) && !is_whole(&chain, at(48)));
        assert_eq!(
            [49, 50, 52, 60].map(|hour| worst(&chain, at(hour), at(hour + 1))),
            [Some('P'), Some('G'), Some('P'), None]
        );
        chain.bad.insert(at(3), at(4));
        assert!(!is_whole(&chain, at(0)));
        assert_eq!(worst(&chain, at(3), at(4)), Some('B'));
        assert_eq!(worst(&chain, at(4), at(5)), Some('P'));
    }
}
