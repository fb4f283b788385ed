//! Findings in bounded memory: the first few thousand are held, the others go to a file without a name.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Seek, Write};

use super::finding::Finding;

/// Findings that are held; each takes about half a KiB.
const HELD: usize = 10_000;

/// Findings in the order in which they were found.
#[derive(Default)]
pub struct Spool {
    held: Vec<Finding>,
    rest: Option<BufWriter<File>>,
    count: u64,
}

impl Spool {
    /// Takes one.
    ///
    /// # Errors
    /// When the temporary file cannot be written.
    pub fn push(&mut self, finding: Finding) -> io::Result<()> {
        self.count += 1;
        if self.held.len() < HELD {
            self.held.push(finding);
            return Ok(());
        }
        let rest = match &mut self.rest {
            Some(rest) => rest,
            none => none.insert(BufWriter::new(unnamed()?)),
        };
        serde_json::to_writer(&mut *rest, &finding)?;
        rest.write_all(b"\n")
    }

    /// How many there are.
    pub fn len(&self) -> u64 {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Shows those that are `wanted`; those that are held in the order of their keys.
    ///
    /// # Errors
    /// When the temporary file cannot be read, or `see` fails.
    pub fn each(
        &mut self,
        wanted: impl Fn(&Finding) -> bool,
        see: &mut dyn FnMut(&Finding) -> io::Result<()>,
    ) -> io::Result<()> {
        self.held.sort_by(|a, b| (&a.key, a.from, a.verdict).cmp(&(&b.key, b.from, b.verdict)));
        for finding in self.held.iter().filter(|finding| wanted(finding)) {
            see(finding)?;
        }
        let Some(rest) = &mut self.rest else { return Ok(()) };
        rest.flush()?;
        let mut file = rest.get_ref().try_clone()?;
        file.rewind()?;
        for line in BufReader::new(&file).lines() {
            let finding: Finding = serde_json::from_str(&line?)?;
            if wanted(&finding) {
                see(&finding)?;
            }
        }
        file.seek(io::SeekFrom::End(0)).map(|_| ())
    }
}

/// A file that vanishes with its descriptor.
fn unnamed() -> io::Result<File> {
    let path = std::env::temp_dir().join(format!("trailsync-verify-{:032x}", fastrand::u128(..)));
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::finding::{Verdict, What};

    #[test]
    fn more_findings_than_are_held_come_back_whole_and_more_than_once() {
        let mut spool = Spool::default();
        let count = HELD + 500;
        for number in 0..count {
            let verdict = if number % 2 == 0 { Verdict::Missing } else { Verdict::Altered };
            let key = format!("key \n {number:08}");
            let (account, region, trail, detail) = Default::default();
            let what = What::Log;
            spool.push(Finding { verdict, what, account, region, trail, key, from: None, to: None, detail }).unwrap();
        }
        for _ in 0..2 {
            let mut seen = Vec::new();
            let mut see = |finding: &Finding| {
                seen.push(finding.key.clone());
                Ok(())
            };
            spool.each(|finding| finding.verdict == Verdict::Missing, &mut see).unwrap();
            assert_eq!(seen.len(), count / 2);
            assert_eq!(seen.last().unwrap(), &format!("key \n {:08}", count - 2));
        }
        assert_eq!(spool.len(), count as u64);
    }
}
