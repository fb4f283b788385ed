//! Whether the manifests beside a copy are those that were written: each whole, and each as others name it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufReader;
use std::path::Path;

use super::{FOLDER, File, Recorded};
use crate::error::Error;
use crate::key::file_safe;
use crate::layout::{Day, Stream};
use crate::manifest::{Entries, Generations, Header};
use crate::object::Gzip;
use crate::verify::archive::{Archive, unreadable};
use crate::verify::finding::{Finding, Verdict, What};

/// A manifest of a stream: source, day, generation.
type Which = (String, i32, u32);

/// What was found so far of the manifests of a stream.
struct Shelf<'s> {
    stream: &'s Stream,
    /// The files that are here, and their hashes where they are whole.
    here: BTreeMap<Which, (String, Option<[u8; 32]>)>,
    /// Which one names which, by which hash.
    named: Vec<(Which, Which, String)>,
    findings: Vec<Finding>,
}

impl<A: Archive> Recorded<'_, A> {
    /// Checks the manifests of a stream themselves: each whole, with the hash by which the next generation, the manifest
    /// that was written next, and the database where there is one, name it.
    ///
    /// # Errors
    /// As for [`Recorded::of`].
    pub fn examine(&mut self, stream: &Stream) -> Result<Vec<Finding>, Error> {
        let mut sealed = self.rows.map_or_else(|| Ok(BTreeMap::new()), |rows| rows.sealed(stream))?;
        let mut shelf = Shelf { stream, here: BTreeMap::new(), named: Vec::new(), findings: Vec::new() };
        for ((day, source), files) in self.files(stream)?.iter() {
            for file in files {
                self.examine_file(&mut shelf, source, *day, file);
            }
            shelf.see_that_none_is_missing(source, *day, files);
            if (*source == stream.source || stream.source.is_empty())
                && let Some(sealed) = sealed.remove(day)
            {
                shelf.compare_with_database(source, *day, files, &sealed);
            }
        }
        for day in sealed.keys() {
            let name = format!("{FOLDER}/{}/{}/{day}", stream.source, file_safe(&stream.prefix));
            shelf.find(Verdict::Missing, name, "the database has the hash of a manifest of this day");
        }
        shelf.compare_with_each_other();
        Ok(shelf.findings)
    }

    /// Takes one manifest in, or says what is wrong with it.
    fn examine_file(&mut self, shelf: &mut Shelf<'_>, source: &str, day: Day, file: &File) {
        let which = (source.to_owned(), day.0, file.generation);
        let hash = match self.read_file(shelf.stream, day, file) {
            Ok((header, hash)) => {
                shelf.take_names(&which, &header);
                Some(hash)
            }
            Err((verdict, why)) => {
                shelf.find(verdict, file.name.clone(), &why);
                None
            }
        };
        shelf.here.insert(which, (file.name.clone(), hash));
    }

    fn read_file(&mut self, stream: &Stream, day: Day, file: &File) -> Result<(Header, [u8; 32]), (Verdict, String)> {
        let open = || match self.archive.kept(&file.name) {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err((Verdict::Missing, "it went while it was looked at".to_owned())),
            Err(error) => Err((Verdict::Unreadable, error.to_string())),
        };
        let mut bytes = BufReader::new(open()?);
        let checked = self.checker.check(&mut bytes, true, true);
        let checked = checked.map_err(|error| (Verdict::Unreadable, unreadable(&file.name, &error).to_string()))?;
        if let Gzip::Broken(why) = checked.gzip {
            return Err((Verdict::Altered, format!("it is no whole manifest: {why}")));
        }
        let entries = Entries::read(open()?, Path::new(&file.name));
        let mut entries = entries.map_err(|error| (Verdict::Altered, error.to_string()))?;
        let header = entries.header().clone();
        if (header.day, header.generation) != (day.0, file.generation) || !header.prefix.ends_with(tail(&stream.prefix))
        {
            return Err((Verdict::Altered, "it is the manifest of another stream, day or generation".into()));
        }
        match entries.find_map(Result::err) {
            Some(error) => Err((Verdict::Altered, error.to_string())),
            None => Ok((header, checked.sha256.unwrap_or_default())),
        }
    }
}

impl Shelf<'_> {
    /// The manifests that one names: the generation before it, and what its stream wrote before it.
    fn take_names(&mut self, which: &Which, header: &Header) {
        let (source, day, generation) = which;
        if let (Some(hash), true) = (&header.previous, *generation > 1) {
            self.named.push((which.clone(), (source.clone(), *day, generation - 1), hash.clone()));
        }
        if let Some(after) = &header.after {
            self.named.push((which.clone(), (source.clone(), after.day, after.generation), after.sha256.clone()));
        }
    }

    /// Generations are numbered without a gap.
    fn see_that_none_is_missing(&mut self, source: &str, day: Day, files: &[File]) {
        let Some(last) = files.last() else { return };
        for generation in 1..last.generation {
            if !self.here.contains_key(&(source.to_owned(), day.0, generation)) {
                let name = beside(&last.name, day.0, generation);
                self.find(Verdict::Missing, name, "a later generation of this day is here, and this one is not");
            }
        }
    }

    fn compare_with_database(&mut self, source: &str, day: Day, files: &[File], sealed: &Generations) {
        let Some(last) = files.last() else { return };
        if sealed.last > last.generation {
            let why = format!("the database knows generation {} of this day, here is {}", sealed.last, last.generation);
            self.find(Verdict::Missing, last.name.clone(), &why);
        }
        let of_last = self.here.get(&(source.to_owned(), day.0, sealed.last)).cloned();
        if let Some((name, Some(hash))) = of_last
            && hash != sealed.hash
        {
            self.find(Verdict::Altered, name, "the database has another hash of it");
        }
    }

    /// Every manifest that another one names is here, with that hash. When two that follow each other were changed,
    /// the earlier one is named all the same: it is for people to say whether only its name in the later one is wrong.
    fn compare_with_each_other(&mut self) {
        let (mut altered, mut missing) = (BTreeMap::new(), BTreeMap::new());
        for (namer, which, hash) in std::mem::take(&mut self.named) {
            let by = self.here.get(&namer).map(|(name, _)| name.clone()).unwrap_or_default();
            match self.here.get(&which) {
                Some((name, Some(here))) if hex::encode(here) != hash => {
                    altered.insert(name.clone(), by);
                }
                Some(_) => {}
                None => _ = missing.insert(beside(&by, which.1, which.2), by),
            }
        }
        let told: BTreeSet<_> = self.findings.iter().map(|finding| finding.key.clone()).collect();
        for (name, by) in missing.into_iter().filter(|(name, _)| !told.contains(name)) {
            self.find(Verdict::Missing, name, &format!("`{by}` was written after it, and names it"));
        }
        for (name, by) in altered.iter().filter(|(name, _)| !told.contains(*name)) {
            let doubt = if altered.contains_key(by) || told.contains(by) { ", and was altered itself" } else { "" };
            self.find(Verdict::Altered, name.clone(), &format!("`{by}` names it with another hash{doubt}"));
        }
    }

    fn find(&mut self, verdict: Verdict, key: String, detail: &str) {
        self.findings.push(Finding {
            verdict,
            what: What::Manifest,
            account: self.stream.account.clone(),
            region: self.stream.region.clone(),
            trail: String::new(),
            key,
            from: None,
            to: None,
            detail: detail.to_owned(),
        });
    }
}

/// Where another manifest of the stream stands, by the name of one.
fn beside(name: &str, day: i32, generation: u32) -> String {
    let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
    format!("{folder}/{}.{generation:04}.tsv.gz", Day(day))
}

fn tail(prefix: &str) -> &str {
    prefix.find("AWSLogs/").map_or(prefix, |at| &prefix[at..])
}
