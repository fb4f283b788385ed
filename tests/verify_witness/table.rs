//! The table: case by case, what the AWS CLI says and what we say, and which of it is right.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::judges::Said;

/// How what a judge said compares with what was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grade {
    /// Nothing was harmed, and nothing is blamed.
    Right,
    /// What was harmed is blamed, each by its name, and nothing else.
    Found,
    /// Nobody is blamed, but the exit code says that nothing is proven.
    Unproven,
    /// Only some of what was harmed is blamed.
    InPart,
    /// Something was harmed, and nothing is said.
    Silent,
    /// Something is blamed that was not harmed.
    FalseAlarm,
}

impl Grade {
    fn of(said: &Said, harmed: &BTreeSet<String>) -> Self {
        let (blamed, harmed): (_, BTreeSet<_>) = (said.keys(), harmed.iter().map(String::as_str).collect());
        match (blamed.is_empty(), harmed.is_empty()) {
            (true, true) if said.code == 0 => Self::Right,
            (true, false) if said.code == 0 => Self::Silent,
            (true, _) => Self::Unproven,
            (false, _) if blamed == harmed => Self::Found,
            (false, _) if blamed.is_subset(&harmed) => Self::InPart,
            (false, _) => Self::FalseAlarm,
        }
    }

    fn is_good(self) -> bool {
        matches!(self, Self::Right | Self::Found)
    }

    fn word(self) -> &'static str {
        match self {
            Self::Right => "right",
            Self::Found => "found",
            Self::Unproven => "unproven",
            Self::InPart => "IN PART",
            Self::Silent => "SILENT",
            Self::FalseAlarm => "FALSE ALARM",
        }
    }
}

/// A case, as one generator made it.
pub struct Row<'c> {
    name: &'c str,
    generator: &'static str,
    harmed: BTreeSet<String>,
    aws: (Grade, Said),
    ours: (Grade, Said),
}

impl<'c> Row<'c> {
    pub fn new(name: &'c str, generator: &'static str, harmed: &BTreeSet<String>, aws: Said, ours: Said) -> Self {
        let (aws, ours) = ((Grade::of(&aws, harmed), aws), (Grade::of(&ours, harmed), ours));
        Self { name, generator, harmed: harmed.clone(), aws, ours }
    }

    /// What must not be: that we are wrong, or say something else than the CLI where it is right.
    pub fn complaint(&self) -> Option<String> {
        let (grade, said) = &self.ours;
        // Without any digest nothing says which hours there should be.
        let is_honest = *grade == Grade::Unproven && self.name == "digests gone: all";
        let is_agreed = !self.aws.0.is_good() || self.differing().is_none();
        if (grade.is_good() || is_honest) && is_agreed {
            return None;
        }
        let (name, generator, harmed, aws) = (self.name, self.generator, &self.harmed, &self.aws.1);
        Some(format!("{name} ({generator})\n  harmed: {harmed:#?}\n  aws: {aws:#?}\n  ours: {said:#?}"))
    }

    /// A key of which we do not say what the CLI says, in our words.
    fn differing(&self) -> Option<&str> {
        let ours = &self.ours.1.blamed;
        let is_same = |key: &str, why: &str| ours.iter().any(|(other, our)| other == key && means(why, our));
        self.aws.1.blamed.iter().find(|(key, why)| !is_same(key, why)).map(|(key, _)| key.as_str())
    }

    fn cells(&self) -> [String; 5] {
        let cell = |(grade, said): &(Grade, Said)| (grade.word().to_owned(), said.line());
        let ((aws, aws_said), (ours, ours_said)) = (cell(&self.aws), cell(&self.ours));
        [self.name.to_owned(), aws, ours, aws_said, ours_said]
    }
}

/// Whether what the CLI says and what we say is the same thing.
fn means(theirs: &str, ours: &str) -> bool {
    let ours_may_be: &[&str] = match theirs.trim_start_matches("(backfill) ") {
        "log hash value doesn't match" => &["log altered", "log malformed"],
        "log not found" => &["log missing"],
        "log invalid format" | "log unexpected data after end of compressed stream" => &["log malformed"],
        "digest not found" => &["hour gap", "digest missing"],
        // We also say which part of it is wrong.
        "digest signature verification failed" => {
            &["digest altered", "digest bad signature", "metadata altered", "metadata missing"]
        }
        "digest public key not found" => &["digest unknown key"],
        "digest invalid format" => &["digest malformed", "metadata malformed"],
        "digest has been moved from its original location" => &["digest altered"],
        _ => &[],
    };
    ours_may_be.contains(&ours)
}

const LEGEND: &str = "\
What `aws cloudtrail validate-logs` and `trailsync verify` say of the same files: exit code and findings, (notes).

right        nothing was harmed, and nothing is blamed
found        what was harmed is blamed, each file or hour by its name, and nothing else
IN PART      only some of what was harmed is blamed
SILENT       something was harmed, and nothing is said
FALSE ALARM  something is blamed that was not harmed
unproven     nothing is blamed, but the exit code says that nothing is proven

";

/// One line for each case; two where the generators' chains are not judged alike.
pub fn text(rows: &[Row<'_>]) -> String {
    let (fakeaws, script): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.generator == "fakeaws");
    let mut lines = vec![["case", "aws", "trailsync", "aws says", "trailsync says"].map(str::to_owned)];
    for row in script {
        let cells = row.cells();
        match fakeaws.iter().find(|other| other.name == row.name).map(|other| other.cells()) {
            Some(other) if other == cells => lines.push(cells),
            other => {
                let of = |[name, rest @ ..]: [String; 5], whose: &str| {
                    let [a, b, c, d] = rest;
                    [format!("{name} ({whose})"), a, b, c, d]
                };
                lines.extend(other.map(|cells| of(cells, "fakeaws")));
                lines.push(of(cells, "script"));
            }
        }
    }
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths = [0, 1, 2, 3].map(width);
    let mut text = LEGEND.to_owned();
    for [name, aws, ours, aws_said, ours_said] in &lines {
        let [a, b, c, d] = widths;
        let _ = writeln!(text, "{name:a$}  {aws:b$}  {ours:c$}  {aws_said:d$}  {ours_said}");
    }
    text
}
