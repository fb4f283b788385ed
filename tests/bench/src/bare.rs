//! The bare loop: reads the same files, inflates and hashes the same bytes, and does nothing else.
//!
//! It knows its files beforehand and opens each by its whole path; verification also walks, parses digests, checks
//! signatures, links, manifests and names, and opens each file so that no link can lead it astray.

use std::collections::BTreeSet;
use std::fs::File;
use std::hint::black_box;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use aws_lc_rs::digest::{Context, SHA256, digest};
use flate2::{Decompress, FlushDecompress, Status};
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Files that a thread takes at a time.
const BATCH: usize = 64;
const CHUNK_BYTES: usize = 64 * 1024;

/// What is hashed of each file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hashes {
    /// What is inside.
    Inside,
    /// The bytes as stored, too.
    Both,
    /// Only those: nothing is inflated.
    Stored,
}

/// What the loop took, without the walk before it.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Loop {
    /// How many files.
    pub files: u64,
    /// Bytes as stored.
    pub stored_bytes: u64,
    /// Bytes inside.
    pub inflated_bytes: u64,
    /// From the first file to the last.
    pub wall_seconds: f64,
    /// Processor time of all threads.
    pub cpu_seconds: f64,
    /// Half of the files are smaller as stored.
    pub median_stored: u64,
    /// Half of the files are smaller inside.
    pub median_inflated: u64,
    /// The part of it that went into inflating and hashing, without opening and reading.
    pub inflating_seconds: f64,
}

impl Loop {
    fn add(&mut self, other: Loop) {
        self.files += other.files;
        self.stored_bytes += other.stored_bytes;
        self.inflated_bytes += other.inflated_bytes;
        self.cpu_seconds += other.cpu_seconds;
        self.inflating_seconds += other.inflating_seconds;
    }
}

/// Reads all objects of a copy, with so many threads, and hashes them as is told.
pub fn run(root: &Path, jobs: usize, hashes: Hashes) -> io::Result<Loop> {
    let files = objects(root)?;
    let next = AtomicUsize::new(0);
    let began = Instant::now();
    let each: Vec<io::Result<(Loop, Sizes)>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..jobs).map(|_| scope.spawn(|| work(&files, &next, hashes))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(io::Error::other("panicked")))).collect()
    });
    let mut all = Loop { wall_seconds: began.elapsed().as_secs_f64(), ..Loop::default() };
    let mut sizes = (Vec::new(), Vec::new());
    for one in each {
        let (done, (stored, inflated)) = one?;
        all.add(done);
        sizes.0.extend(stored);
        sizes.1.extend(inflated);
    }
    (all.median_stored, all.median_inflated) = (median(sizes.0), median(sizes.1));
    Ok(all)
}

/// Of each file: bytes as stored, and inside.
type Sizes = (Vec<u64>, Vec<u64>);

fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Every object below a root, in the order of paths.
fn objects(root: &Path) -> io::Result<Vec<PathBuf>> {
    let (mut files, mut folders) = (Vec::new(), BTreeSet::from([root.to_owned()]));
    while let Some(folder) = folders.pop_first() {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.as_encoded_bytes();
            if name.starts_with(b".") || name.ends_with(b"%_meta.json") {
                continue;
            }
            match entry.file_type()?.is_dir() {
                true => _ = folders.insert(entry.path()),
                false => files.push(entry.path()),
            }
        }
    }
    files.sort_unstable();
    Ok(files)
}

fn work(files: &[PathBuf], next: &AtomicUsize, hashes: Hashes) -> io::Result<(Loop, Sizes)> {
    let mut sizes = Sizes::default();
    let (mut bytes, mut chunk) = (Vec::with_capacity(CHUNK_BYTES), vec![0; CHUNK_BYTES]);
    let mut done = Loop::default();
    let began = thread_seconds()?;
    loop {
        let from = next.fetch_add(BATCH, Ordering::Relaxed);
        if from >= files.len() {
            break;
        }
        for file in &files[from..files.len().min(from + BATCH)] {
            bytes.clear();
            File::open(file)?.read_to_end(&mut bytes)?;
            let began = thread_seconds()?;
            if hashes != Hashes::Inside {
                black_box(digest(&SHA256, &bytes));
            }
            let inside = if hashes == Hashes::Stored { 0 } else { inflate(&bytes, &mut chunk)? };
            done.inflating_seconds += thread_seconds()? - began;
            done.inflated_bytes += inside;
            sizes.1.push(inside);
            sizes.0.push(bytes.len() as u64);
            done.stored_bytes += bytes.len() as u64;
            done.files += 1;
        }
    }
    done.cpu_seconds = thread_seconds()? - began;
    Ok((done, sizes))
}

/// Inflates one gzip member and hashes what is inside.
fn inflate(mut bytes: &[u8], chunk: &mut [u8]) -> io::Result<u64> {
    let mut member = Decompress::new_gzip(15);
    let mut sha256 = Context::new(&SHA256);
    loop {
        let (read, written) = (member.total_in(), member.total_out());
        let status = member.decompress(bytes, chunk, FlushDecompress::None)?;
        bytes = &bytes[(member.total_in() - read) as usize..];
        let written = (member.total_out() - written) as usize;
        sha256.update(&chunk[..written]);
        match status {
            Status::StreamEnd => break,
            _ if written == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            _ => {}
        }
    }
    black_box(sha256.finish());
    Ok(member.total_out())
}

fn thread_seconds() -> io::Result<f64> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    Ok(time.tv_sec() as f64 + time.tv_nsec() as f64 / 1e9)
}
