//! Sealed days: sorted, compressed, append-only files that name every object of a day.
//!
//! A manifest is gzip text. Its first line is a JSON header (version, source, stream prefix, day, generation, the
//! hash of the generation before, and that of the manifest that the stream wrote before, in the daily course the day
//! before's); each further line is one object, tab-separated, sorted by key:
//! `suffix  size  etag  sha256  inflated-sha256  modified  flags`. The suffix and the tag are percent-encoded
//! outside printable ASCII; hashes are hexadecimal, `-` where there is none; `modified` is seconds since the
//! epoch; flags are letters: `g` gone from the source, `d` by our own doing, `v` stored as a later version. A late object adds a
//! generation: a file of its own. Where two generations name one key, the later one holds.

use std::cmp::Ordering;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use flate2::Compression;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::error::{Class, Error, Report};
use crate::layout::{Day, Stream};
use crate::object::ETag;
use crate::record::Record;

/// The code of an error that a manifest here is missing or damaged.
pub const DAMAGED: &str = "ManifestDamaged";

mod claim;

pub use claim::{Claim, Claimed};

/// The first line of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// 1
    pub manifest: u32,
    /// Name of the source.
    pub source: String,
    /// The stream's key prefix.
    pub prefix: String,
    /// YYYYMMDD, 0 for keys without a day folder.
    pub day: i32,
    /// 1 for the first.
    pub generation: u32,
    /// SHA-256 of the generation before, hexadecimal.
    pub previous: Option<String>,
    /// It holds everything that earlier generations held.
    pub whole: bool,
    /// What the stream wrote before this one, of another day: whoever edits or removes a manifest has to change the
    /// next one, too, and the one after that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Named>,
}

/// One manifest, as another one of its stream names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// YYYYMMDD, 0 for keys without a day folder.
    pub day: i32,
    /// 1 for the first.
    pub generation: u32,
    /// SHA-256 of the file, hexadecimal.
    pub sha256: String,
}

/// The manifest files of all streams, under the state directory.
#[derive(Debug, Clone)]
pub struct Manifests {
    dir: PathBuf,
}

/// A manifest file as written.
pub struct Written {
    /// Its name below the manifests' directory.
    pub name: String,
    /// Its bytes, to be kept beside the copy as well.
    pub bytes: Vec<u8>,
    /// SHA-256 of them.
    pub hash: [u8; 32],
}

/// Which files make up a sealed day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generations {
    /// The first that counts.
    pub first: u32,
    /// The newest.
    pub last: u32,
    /// SHA-256 of the newest file.
    pub hash: [u8; 32],
}

impl Manifests {
    /// The manifests under `<state directory>/manifests`.
    pub fn under(state_dir: &Path) -> Self {
        Self { dir: state_dir.join("manifests") }
    }

    /// Writes one generation durably; what stood under its name came from a seal that was never recorded.
    ///
    /// # Errors
    /// What the file system says; any error when the claim was given up.
    pub fn write(
        &self,
        stream: &Stream,
        header: &Header,
        records: &[Record],
        claimed: &Claimed,
    ) -> io::Result<Written> {
        let bytes = encode(header, records)?;
        let name = file_name(stream, Day(header.day), header.generation);
        self.place(&name, &bytes, claimed)?;
        let hash = sha256(&bytes);
        Ok(Written { name, bytes, hash })
    }

    /// Writes a manifest that was written before, as it was, from the copy of it that is kept elsewhere.
    ///
    /// # Errors
    /// What the file system says; any error when the claim was given up.
    pub fn place(&self, name: &str, bytes: &[u8], claimed: &Claimed) -> io::Result<()> {
        let path = self.dir.join(name);
        let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        create_dirs_durably(parent)?;
        let staged = path.with_extension("new");
        let mut file = claimed.act(|| create_anew(&staged))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        claimed.act(|| {
            std::fs::rename(&staged, &path)?;
            File::open(parent)?.sync_all()
        })
    }

    /// Takes a generation that was kept elsewhere as the next one of a day; what the day is with it.
    ///
    /// # Errors
    /// `InvalidData` when it is damaged or another's; otherwise as for [`Manifests::place`].
    pub fn adopt(&self, stream: &Stream, header: &Header, bytes: &[u8], claimed: &Claimed) -> io::Result<Header> {
        let name = file_name(stream, Day(header.day), header.generation);
        self.place(&name, bytes, claimed)?;
        let path = self.dir.join(&name);
        let mut entries = Entries::open(&path)?;
        let found = entries.header().clone();
        entries.try_for_each(|record| record.map(drop))?;
        let Header { source, prefix, day, generation, .. } = &found;
        let same =
            (source, prefix, day, generation) == (&header.source, &header.prefix, &header.day, &header.generation);
        if same { Ok(found) } else { Err(damaged(&path, "it is the manifest of something else")) }
    }

    /// What a generation says of itself, when its file here has the given hash; `None` for any other file.
    pub fn intact(&self, stream: &Stream, day: Day, generation: u32, hash: &[u8; 32]) -> Option<Header> {
        let path = self.path(stream, day, generation);
        check_hash(&path, hash).and_then(|()| Entries::open(&path)).ok().map(|entries| entries.header().clone())
    }

    /// The objects of a sealed day in key order, the latest generation of each.
    ///
    /// # Errors
    /// `NotFound` or `InvalidData` when a file is missing, damaged or not the one that was recorded.
    pub fn read(&self, stream: &Stream, day: Day, generations: Generations) -> io::Result<Merged> {
        let mut lines = Vec::new();
        for generation in generations.first..=generations.last {
            let path = self.dir.join(file_name(stream, day, generation));
            if generation == generations.last {
                check_hash(&path, &generations.hash)?;
            }
            lines.push(Entries::open(&path)?);
        }
        Merged::new(lines)
    }

    /// The bytes of a file by its name, damaged or not; `None` when there is none or the disk cannot read it.
    ///
    /// # Errors
    /// What else the file system says.
    pub fn bytes(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match std::fs::read(self.dir.join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes a file again durably, from its recorded bytes; what stood there stays beside it, named by the time.
    ///
    /// # Errors
    /// What the file system says.
    pub fn restore(&self, name: &str, bytes: &[u8], now: i64) -> io::Result<()> {
        let path = self.dir.join(name);
        let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        create_dirs_durably(parent)?;
        let staged = path.with_extension("restored");
        let mut file = create_anew(&staged)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        if path.exists() {
            std::fs::hard_link(&path, path.with_extension(format!("damaged-{now}")))?;
        }
        std::fs::rename(&staged, &path)?;
        File::open(parent)?.sync_all()
    }

    /// Where a generation stands.
    pub fn path(&self, stream: &Stream, day: Day, generation: u32) -> PathBuf {
        self.dir.join(file_name(stream, day, generation))
    }
}

/// The name of a generation, below `manifests/`: `<source>/<encoded prefix>/<day>.<generation>.tsv.gz`.
pub fn file_name(stream: &Stream, day: Day, generation: u32) -> String {
    format!("{}/{}/{day}.{generation:04}.tsv.gz", stream.source, crate::key::file_safe(&stream.prefix))
}

fn check_hash(path: &Path, expected: &[u8; 32]) -> io::Result<()> {
    let mut context = aws_lc_rs::digest::Context::new(&SHA256);
    let mut file = File::open(path).map_err(|error| not_opened(path, &error))?;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            n => context.update(&buffer[..n]),
        }
    }
    if context.finish().as_ref() == expected { Ok(()) } else { Err(damaged(path, "its hash is not the recorded one")) }
}

/// A file of its own, even while somebody still writes to one that had this name.
fn create_anew(path: &Path) -> io::Result<File> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => File::create_new(path),
    }
}

fn create_dirs_durably(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().ok_or(io::ErrorKind::InvalidInput)?;
    create_dirs_durably(parent)?;
    match std::fs::create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => File::open(parent)?.sync_all(),
    }
}

fn encode(header: &Header, records: &[Record]) -> io::Result<Vec<u8>> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    serde_json::to_writer(&mut gzip, header)?;
    gzip.write_all(b"\n")?;
    for record in records {
        gzip.write_all(line(record).as_bytes())?;
    }
    gzip.finish()
}

fn line(record: &Record) -> String {
    let letters = [(record.gone, 'g'), (record.deleted, 'd'), (record.later, 'v')];
    let mut flags: String = letters.into_iter().filter(|(holds, _)| *holds).map(|(_, letter)| letter).collect();
    if flags.is_empty() {
        flags.push('-');
    }
    let inflated = record.inflated.map_or_else(|| "-".to_owned(), hex::encode);
    let (suffix, etag) = (escape(&record.suffix), escape(record.etag.as_str()));
    let (size, sha256, modified) = (record.size, hex::encode(record.sha256), record.modified.as_second());
    format!("{suffix}\t{size}\t{etag}\t{sha256}\t{inflated}\t{modified}\t{flags}\n")
}

/// Reads one line; `None` when it is not one that [`line()`] makes.
fn parse(text: &str) -> Option<Record> {
    let mut fields = text.split('\t');
    let mut field = || fields.next();
    let suffix = unescape(field()?)?;
    let size = field()?.parse().ok()?;
    let etag = ETag::new(&unescape(field()?)?);
    let sha256 = hash(field()?)?;
    let inflated = match field()? {
        "-" => None,
        text => Some(hash(text)?),
    };
    let modified = Timestamp::from_second(field()?.parse().ok()?).ok()?;
    let flags = field()?;
    let record = Record {
        suffix,
        size,
        modified,
        etag,
        sha256,
        inflated,
        gone: flags.contains('g'),
        deleted: flags.contains('d'),
        later: flags.contains('v'),
    };
    fields.next().is_none().then_some(record)
}

fn hash(text: &str) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    hex::decode_to_slice(text, &mut hash).ok().map(|()| hash)
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'%' | 0..0x20 | 0x7f.. => out.push_str(&format!("%{byte:02X}")),
            _ => out.push(char::from(byte)),
        }
    }
    out
}

fn unescape(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first == b'%' {
            let (digits, tail) = rest.split_at_checked(2)?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = tail;
        } else {
            bytes.push(first);
        }
    }
    String::from_utf8(bytes).ok()
}

/// SHA-256 of some bytes.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

fn not_opened(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("manifest {}: {error}", path.display()))
}

fn damaged(path: &Path, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("manifest {} is damaged: {why}", path.display()))
}

/// What a manifest that cannot be read means: this stream cannot go on, and no other is concerned.
pub fn unreadable(stream: &Stream, error: &io::Error) -> Error {
    let report = Report::new("read the manifests", stream.to_string(), error).code(DAMAGED);
    Error::of(
        Class::Stream,
        report.mend("restore it from the copy's `.trailsync/manifests`, or run `trailsync rebuild --set-aside`"),
    )
}

/// The entries of one manifest file, in key order.
pub struct Entries {
    path: PathBuf,
    header: Header,
    lines: Lines,
}

/// The lines of a gzip file that somebody opened.
type Lines = io::Lines<BufReader<GzDecoder<BufReader<Box<dyn Read + Send>>>>>;

impl Entries {
    /// Opens a manifest and reads its header.
    ///
    /// # Errors
    /// `NotFound`, or `InvalidData` for a file that is no manifest.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path).map_err(|error| not_opened(path, &error))?;
        Self::read(Box::new(file), path)
    }

    /// Reads the header of a manifest that somebody opened; messages name `path`.
    ///
    /// # Errors
    /// `InvalidData` for a file that is no manifest.
    pub fn read(file: Box<dyn Read + Send>, path: &Path) -> io::Result<Self> {
        let mut lines = BufReader::new(GzDecoder::new(BufReader::new(file))).lines();
        let first = lines.next().ok_or_else(|| damaged(path, "it is empty"))?;
        let first = first.map_err(|error| damaged(path, &error.to_string()))?;
        let header: Header = serde_json::from_str(&first).map_err(|_| damaged(path, "its header cannot be read"))?;
        if header.manifest != 1 {
            return Err(damaged(path, "it was written by a newer trailsync"));
        }
        Ok(Self { path: path.to_owned(), header, lines })
    }

    /// What the first line says.
    pub fn header(&self) -> &Header {
        &self.header
    }
}

impl Iterator for Entries {
    type Item = io::Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        let text = match self.lines.next()? {
            Ok(text) => text,
            Err(error) => return Some(Err(damaged(&self.path, &error.to_string()))),
        };
        Some(parse(&text).ok_or_else(|| damaged(&self.path, "a line cannot be read")))
    }
}

/// Several generations as one: each key once, from the latest generation that names it.
pub struct Merged {
    heads: Vec<(Option<Record>, Entries)>,
}

impl Merged {
    /// Merges manifests, given oldest first.
    ///
    /// # Errors
    /// As for [`Entries::open`].
    pub fn new(generations: Vec<Entries>) -> io::Result<Self> {
        let mut heads = Vec::with_capacity(generations.len());
        for mut entries in generations {
            heads.push((entries.next().transpose()?, entries));
        }
        Ok(Self { heads })
    }
}

impl Iterator for Merged {
    type Item = io::Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        if let [(head, entries)] = &mut self.heads[..] {
            let record = head.take()?;
            return Some(entries.next().transpose().map(|next| {
                *head = next;
                record
            }));
        }
        let order = |a: &Record, b: &Record| a.suffix.as_bytes().cmp(b.suffix.as_bytes());
        let least = self.heads.iter().filter_map(|(head, _)| head.as_ref()).min_by(|a, b| order(a, b))?.suffix.clone();
        let mut latest = None;
        for (head, entries) in &mut self.heads {
            if head.as_ref().is_some_and(|record| record.suffix.cmp(&least) == Ordering::Equal) {
                latest = head.take();
                match entries.next().transpose() {
                    Ok(next) => *head = next,
                    Err(error) => return Some(Err(error)),
                }
            }
        }
        latest.map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Kind;

    fn stream() -> Stream {
        Stream::new("prod", "AWSLogs/", None, "222222222222", Kind::named("CloudTrail").unwrap(), "us-east-1")
    }

    fn record(suffix: &str, size: u64) -> Record {
        Record {
            suffix: suffix.into(),
            size,
            modified: Timestamp::from_second(1_700_000_000).unwrap(),
            etag: ETag::new("\"abc-2\""),
            sha256: [7; 32],
            inflated: (size > 1).then_some([9; 32]),
            gone: size == 3,
            deleted: size == 3,
            later: size == 4,
        }
    }

    fn header(generation: u32) -> Header {
        let prefix = stream().prefix;
        let (source, previous, after) = ("prod".into(), None, None);
        Header { manifest: 1, source, prefix, day: 20230710, generation, previous, whole: false, after }
    }

    #[test]
    fn a_late_object_adds_a_generation_and_the_latest_entry_of_a_key_holds() {
        let dir = tempfile::tempdir().unwrap();
        let manifests = Manifests::under(dir.path());
        let odd = "2023/07/10/b\t\n%\u{ffff}é";
        let claim = Claim::default();
        let first = [record("2023/07/10/a", 1), record("2023/07/10/c", 2)];
        manifests.write(&stream(), &header(1), &first, &claim.claimed()).unwrap();
        let second = [record("2023/07/10/a", 3), record(odd, 4)];
        let last = manifests.write(&stream(), &header(2), &second, &claim.claimed()).unwrap();
        let generations = Generations { first: 1, last: 2, hash: last.hash };
        let all: Vec<_> = manifests.read(&stream(), Day(20230710), generations).unwrap().map(Result::unwrap).collect();
        assert_eq!(all, [record("2023/07/10/a", 3), record(odd, 4), record("2023/07/10/c", 2)]);
    }

    #[test]
    fn a_write_that_was_given_up_leaves_a_later_one_alone() {
        let dir = tempfile::tempdir().unwrap();
        let manifests = Manifests::under(dir.path());
        let (late, claim) = (Claim::default().claimed(), Claim::default());
        let written = manifests.write(&stream(), &header(1), &[record("2023/07/10/a", 1)], &claim.claimed()).unwrap();
        manifests.write(&stream(), &header(1), &[record("2023/07/10/b", 1)], &late).err().unwrap();
        let generations = Generations { first: 1, last: 1, hash: written.hash };
        assert_eq!(manifests.read(&stream(), Day(20230710), generations).unwrap().count(), 1);
    }

    #[test]
    fn a_damaged_manifest_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let manifests = Manifests::under(dir.path());
        let claim = Claim::default();
        let written = manifests.write(&stream(), &header(1), &[record("2023/07/10/a", 1)], &claim.claimed()).unwrap();
        let generations = Generations { first: 1, last: 1, hash: written.hash };
        let mut bytes = written.bytes;
        bytes[12] ^= 1;
        std::fs::write(manifests.path(&stream(), Day(20230710), 1), bytes).unwrap();
        let error = manifests.read(&stream(), Day(20230710), generations).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
