//! What bytes turn out to be, computed while they stream.

use std::io::{self, Read};

use aws_lc_rs::digest;
use flate2::{Decompress, FlushDecompress, Status};
use md5::{Digest as _, Md5};

use crate::object::{Content, Gzip};

/// Inflated bytes are held for no longer than it takes to hash them.
const INFLATED_CHUNK: usize = 64 * 1024;
/// Bytes that are read at once.
const READ_BYTES: usize = 64 * 1024;
/// An object may inflate to this much, and to [`ALLOWED_RATIO`] for each byte of it besides.
const ALLOWED_INFLATED: u64 = 64 << 20;
/// Real logs stay below 100; deflate itself ends at 1,032.
const ALLOWED_RATIO: u64 = 200;
/// No object may inflate further, however large it is.
const MOST_INFLATED: u64 = 8 << 30;

/// What one whole gzip member holds.
///
/// # Errors
/// Why it is none, or that it holds more than `most` bytes.
pub fn inflate(gzip: &[u8], most: u64) -> Result<Vec<u8>, &'static str> {
    let mut rest = gzip;
    let mut inflated = Vec::new();
    let member = flate2::bufread::GzDecoder::new(&mut rest);
    match member.take(most + 1).read_to_end(&mut inflated) {
        Err(_) => Err("it is not one whole gzip member"),
        Ok(_) if inflated.len() as u64 > most => Err("it inflates too far"),
        Ok(_) if !rest.is_empty() => Err("data follows its gzip member"),
        Ok(_) => Ok(inflated),
    }
}

/// What is to be found out about an object's bytes, besides their length and SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// What is inside: the object's key ends in `.gz`.
    pub inflate: bool,
    /// Their MD5: it costs more than their SHA-256, and is not needed where the service's own checksum was checked.
    pub md5: bool,
}

impl Asked {
    /// All that can be found out; `inflate` when the object's key ends in `.gz`.
    pub fn all(inflate: bool) -> Self {
        Self { inflate, md5: true }
    }
}

/// Hashes the bytes of one object as they arrive, and checks its gzip where it should have one.
///
/// Holds about 110 KiB while it inflates, whatever the object; the bytes themselves are never altered.
pub struct Hashing {
    size: u64,
    sha256: digest::Context,
    md5: Option<Md5>,
    inflating: Option<Box<Inflating>>,
}

impl Hashing {
    /// Starts at the first byte. `inflate` when the object's key ends in `.gz`.
    pub fn new(inflate: bool) -> Self {
        Self::asked(Asked::all(inflate), Vec::new())
    }

    /// Starts at the first byte, with a buffer that may have been used before.
    pub fn asked(asked: Asked, buffer: Vec<u8>) -> Self {
        Self {
            size: 0,
            sha256: digest::Context::new(&digest::SHA256),
            md5: asked.md5.then(Md5::new),
            inflating: asked.inflate.then(|| Box::new(Inflating::new(buffer))),
        }
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        self.sha256.update(bytes);
        if let Some(md5) = &mut self.md5 {
            md5.update(bytes);
        }
        if let Some(inflating) = &mut self.inflating {
            inflating.update(bytes);
        }
    }

    /// How many bytes were taken so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// What all the bytes are.
    pub fn finish(self) -> Content {
        self.finish_with_buffer().0
    }

    /// The same, and the buffer for the next object.
    pub fn finish_with_buffer(self) -> (Content, Vec<u8>) {
        let (gzip, buffer) = match self.inflating {
            Some(inflating) => inflating.finish(),
            None => (Gzip::NotExpected, Vec::new()),
        };
        let content = Content {
            size: self.size,
            sha256: array(self.sha256.finish()),
            md5: self.md5.map(|md5| md5.finalize().into()),
            gzip,
        };
        (content, buffer)
    }
}

/// What these bytes are, all at once.
pub fn of(bytes: &[u8], inflate: bool) -> Content {
    let mut hashing = Hashing::new(inflate);
    hashing.update(bytes);
    hashing.finish()
}

/// Reads again what was stored before, with buffers that are used for one file after the other.
#[derive(Default)]
pub struct Checker {
    input: Vec<u8>,
    chunk: Vec<u8>,
}

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// Length in bytes, as stored.
    pub size: u64,
    /// SHA-256 of the bytes as stored, where it was asked for.
    pub sha256: Option<[u8; 32]>,
    /// What inflating them gave.
    pub gzip: Gzip,
}

impl Checker {
    /// Reads to the end; hashes the bytes as stored only with `stored`.
    ///
    /// # Errors
    /// Those of the reader.
    pub fn check(&mut self, from: &mut dyn Read, stored: bool, inflate: bool) -> io::Result<Checked> {
        self.input.resize(READ_BYTES, 0);
        let mut sha256 = stored.then(|| digest::Context::new(&digest::SHA256));
        let mut inflating = inflate.then(|| Inflating::new(std::mem::take(&mut self.chunk)));
        let mut size = 0;
        loop {
            let bytes = match from.read(&mut self.input) {
                Ok(0) => break,
                Ok(read) => &self.input[..read],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            size += bytes.len() as u64;
            if let Some(sha256) = &mut sha256 {
                sha256.update(bytes);
            }
            if let Some(inflating) = &mut inflating {
                inflating.update(bytes);
            }
        }
        let gzip = inflating.map_or(Gzip::NotExpected, |inflating| {
            let (gzip, chunk) = inflating.finish();
            self.chunk = chunk;
            gzip
        });
        Ok(Checked { size, sha256: sha256.map(|sha256| array(sha256.finish())), gzip })
    }
}

/// Follows one gzip member to the end of its trailer.
struct Inflating {
    member: Decompress,
    state: State,
    sha256: digest::Context,
    chunk: Vec<u8>,
}

enum State {
    Inside,
    Ended,
    Broken(&'static str),
}

impl Inflating {
    /// Inflates into a buffer that may have been used before.
    fn new(mut chunk: Vec<u8>) -> Self {
        chunk.resize(INFLATED_CHUNK, 0);
        Self {
            // The decoder checks the header, the CRC and the length of the trailer.
            member: Decompress::new_gzip(15),
            state: State::Inside,
            sha256: digest::Context::new(&digest::SHA256),
            chunk,
        }
    }

    fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self.state {
                State::Inside => bytes = self.inflate(bytes),
                State::Ended => self.state = State::Broken(trailing(bytes)),
                State::Broken(_) => return,
            }
        }
    }

    /// Inflates one chunk; returns the bytes that are still to be read.
    fn inflate<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let (read, written) = (self.member.total_in(), self.member.total_out());
        let status = self.member.decompress(bytes, &mut self.chunk, FlushDecompress::None);
        let read = usize::try_from(self.member.total_in() - read).unwrap_or(bytes.len());
        let written = usize::try_from(self.member.total_out() - written).unwrap_or_default();
        self.sha256.update(&self.chunk[..written]);
        match status {
            Err(error) => self.state = State::Broken(reason(error.message())),
            Ok(_) if self.is_a_bomb() => self.state = State::Broken("inflates too far"),
            Ok(Status::StreamEnd) => self.state = State::Ended,
            // A decoder that neither reads nor writes would never end.
            Ok(_) if read == 0 && written == 0 && !bytes.is_empty() => self.state = State::Broken("damaged"),
            Ok(_) => {}
        }
        &bytes[read..]
    }

    fn is_a_bomb(&self) -> bool {
        let (read, inflated) = (self.member.total_in(), self.member.total_out());
        inflated > MOST_INFLATED || inflated > ALLOWED_INFLATED + ALLOWED_RATIO * read
    }

    /// What it was, and the buffer.
    fn finish(mut self) -> (Gzip, Vec<u8>) {
        // The last chunk may have been full, with more to come from the bytes that were read.
        while matches!(self.state, State::Inside) && self.drain() {}
        let gzip = match self.state {
            State::Ended => Gzip::Whole { sha256: array(self.sha256.finish()), size: self.member.total_out() },
            State::Inside if self.member.total_in() == 0 => Gzip::Broken("empty"),
            State::Inside => Gzip::Broken("cut short"),
            State::Broken(why) => Gzip::Broken(why),
        };
        (gzip, self.chunk)
    }

    /// Inflates what was read before; returns whether that gave anything.
    fn drain(&mut self) -> bool {
        let written = self.member.total_out();
        self.inflate(&[]);
        self.member.total_out() > written
    }
}

fn trailing(bytes: &[u8]) -> &'static str {
    if bytes.starts_with(&[0x1f]) { "more than one member" } else { "trailing data" }
}

/// The decoder's words, in ours.
fn reason(message: Option<&str>) -> &'static str {
    let message = message.unwrap_or_default();
    [
        ("incorrect header check", "not gzip"),
        ("unknown compression method", "not gzip"),
        ("unknown header flags", "not gzip"),
        ("header crc mismatch", "wrong checksum of the header"),
        ("incorrect data check", "wrong checksum"),
        ("incorrect length check", "wrong length"),
    ]
    .into_iter()
    .find_map(|(theirs, ours)| message.starts_with(theirs).then_some(ours))
    .unwrap_or("damaged")
}

fn array(digest: digest::Digest) -> [u8; 32] {
    let mut array = [0; 32];
    array.copy_from_slice(digest.as_ref());
    array
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, GzBuilder, write::GzEncoder};

    use super::*;

    #[test]
    fn plain_bytes_are_hashed_and_not_inflated() {
        let content = of(b"abc", false);
        assert_eq!(content.size, 3);
        assert_eq!(hex::encode(content.sha256), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(content.md5.map(hex::encode).unwrap(), "900150983cd24fb0d6963f7d28e17f72");
        assert_eq!(content.gzip, Gzip::NotExpected);
    }

    #[test]
    fn one_whole_member_gives_the_hash_of_what_is_inside_however_it_is_cut() {
        let inside = noise(300_000);
        let stored = gzip(&inside);
        let whole = Gzip::Whole { sha256: of(&inside, false).sha256, size: 300_000 };
        for chunk in [1, 7, 4096, 65_536, stored.len()] {
            let mut hashing = Hashing::new(true);
            stored.chunks(chunk).for_each(|bytes| hashing.update(bytes));
            let content = hashing.finish();
            assert_eq!(content.gzip, whole, "chunks of {chunk}");
            assert_eq!(content.sha256, of(&stored, false).sha256);
        }
    }

    #[test]
    fn a_checker_sees_in_file_after_file_what_arriving_bytes_are() {
        let mut checker = Checker::default();
        for inside in [noise(300_000), noise(10), Vec::new(), noise(70_000)] {
            let stored = gzip(&inside);
            for bytes in [&stored[..], &stored[..stored.len() - 9], &[&stored[..], b"x"].concat(), b""] {
                let (was, checked) = (of(bytes, true), checker.check(&mut &bytes[..], true, true).unwrap());
                assert_eq!(checked, Checked { size: was.size, sha256: Some(was.sha256), gzip: was.gzip });
            }
        }
        let plain = checker.check(&mut &b"abc"[..], false, false).unwrap();
        assert_eq!(plain, Checked { size: 3, sha256: None, gzip: Gzip::NotExpected });
    }

    #[test]
    fn headers_may_carry_a_name_and_a_comment() {
        let mut encoder =
            GzBuilder::new().filename("x").comment("y").extra(vec![1; 9]).write(Vec::new(), Compression::fast());
        encoder.write_all(b"abc").unwrap();
        assert!(matches!(of(&encoder.finish().unwrap(), true).gzip, Gzip::Whole { size: 3, .. }));
    }

    #[test]
    fn a_member_cut_anywhere_is_cut_short() {
        let stored = gzip(b"a log");
        assert_eq!(of(&[], true).gzip, Gzip::Broken("empty"));
        for end in 1..stored.len() {
            assert_eq!(of(&stored[..end], true).gzip, Gzip::Broken("cut short"), "after {end} bytes");
        }
    }

    #[test]
    fn no_flipped_bit_changes_what_is_inside_unnoticed() {
        let stored = gzip(&noise(200));
        let whole = of(&stored, true).gzip;
        let mut unnoticed = 0;
        for bit in 0..stored.len() * 8 {
            let mut flipped = stored.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            match of(&flipped, true).gzip {
                Gzip::Broken(_) => {}
                same => {
                    assert_eq!(same, whole, "bit {bit}");
                    unnoticed += 1;
                }
            }
        }
        // The header's time, system and hints, and what fills up the last byte before the trailer.
        assert!(unnoticed < 64, "{unnoticed}");
    }

    #[test]
    fn what_follows_the_member_is_named() {
        let one = gzip(b"one");
        let with = |tail: &[u8]| of(&[&one, tail].concat(), true).gzip;
        assert_eq!(with(&one), Gzip::Broken("more than one member"));
        assert_eq!(with(b"x"), Gzip::Broken("trailing data"));
        assert_eq!(with(&[0; 512]), Gzip::Broken("trailing data"));
    }

    #[test]
    fn wrong_trailers_and_other_formats_are_named() {
        let stored = gzip(b"a log");
        let mut crc = stored.clone();
        crc[stored.len() - 8] ^= 1;
        assert_eq!(of(&crc, true).gzip, Gzip::Broken("wrong checksum"));
        let mut length = stored.clone();
        length[stored.len() - 4] ^= 1;
        assert_eq!(of(&length, true).gzip, Gzip::Broken("wrong length"));
        assert_eq!(of(b"{\"Records\":[]}", true).gzip, Gzip::Broken("not gzip"));
        assert_eq!(of(&[0x1f, 0x8b, 9, 0, 0, 0, 0, 0, 0, 0], true).gzip, Gzip::Broken("not gzip"));
    }

    #[test]
    fn a_bomb_is_cut_early_and_a_dense_log_is_not() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        let zeros = vec![0; 1 << 20];
        (0..256).for_each(|_| encoder.write_all(&zeros).unwrap());
        let bomb = encoder.finish().unwrap();
        let mut inflating = Inflating::new(Vec::new());
        inflating.update(&bomb);
        assert!(inflating.member.total_out() < 96 << 20, "{}", inflating.member.total_out());
        assert_eq!(inflating.finish().0, Gzip::Broken("inflates too far"));

        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        let record = [noise(1_000), vec![b' '; 99_000]].concat();
        (0..1_500).for_each(|_| encoder.write_all(&record).unwrap());
        let dense = encoder.finish().unwrap();
        assert!(matches!(of(&dense, true).gzip, Gzip::Whole { size: 150_000_000, .. }), "{}", dense.len());
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn noise(len: usize) -> Vec<u8> {
        let mut rng = fastrand::Rng::with_seed(len as u64);
        (0..len).map(|_| rng.u8(b'!'..b'~')).collect()
    }
}
