//! Small logs made from a seed.

use std::fmt::Write as _;

use bytes::Bytes;

const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0];
const BLOCK: usize = 65_535;

/// A gzip of exactly `size` bytes: stored blocks, so that making it costs no compression and
/// its length is known beforehand. Sizes too small to hold a log hold padding only, and below
/// 23 bytes nothing is a gzip: there the body is zeros.
pub fn body(seed: u64, size: u32) -> Bytes {
    let size = size as usize;
    let Some(text_length) = text_length(size) else {
        return Bytes::from(vec![0; size]);
    };
    let text = text(seed, text_length);
    let mut gzip = Vec::with_capacity(size);
    gzip.extend_from_slice(&GZIP_HEADER);
    store(&text, &mut gzip);
    let mut crc = flate2::Crc::new();
    crc.update(&text);
    gzip.extend_from_slice(&crc.sum().to_le_bytes());
    gzip.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
    Bytes::from(gzip)
}

/// How much text fits: each started block takes five bytes.
fn text_length(size: usize) -> Option<usize> {
    let payload = size.checked_sub(GZIP_HEADER.len() + 8)?;
    let blocks = payload.div_ceil(BLOCK + 5).max(1);
    payload.checked_sub(5 * blocks)
}

fn store(text: &[u8], gzip: &mut Vec<u8>) {
    let mut rest = text;
    loop {
        let (block, after) = rest.split_at(rest.len().min(BLOCK));
        let length = u16::try_from(block.len()).unwrap_or(u16::MAX);
        gzip.push(u8::from(after.is_empty()));
        gzip.extend_from_slice(&length.to_le_bytes());
        gzip.extend_from_slice(&(!length).to_le_bytes());
        gzip.extend_from_slice(block);
        rest = after;
        if rest.is_empty() {
            return;
        }
    }
}

/// One event, then blanks up to the length, which JSON allows.
fn text(seed: u64, length: usize) -> Vec<u8> {
    let mut text = String::with_capacity(length);
    let mut random = fastrand::Rng::with_seed(seed);
    let _ = write!(
        text,
        r#"{{"Records":[{{"eventVersion":"1.08","eventSource":"s3.amazonaws.com","eventName":"GetObject","eventID":"{:032x}"}}]}}"#,
        random.u128(..)
    );
    if text.len() > length {
        text.clear();
        text.push_str(&r#"{"Records":[]}"#[..length.min(14)]);
    }
    let mut text = text.into_bytes();
    text.resize(length, b' ');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn a_generated_body_is_a_gzip_of_exactly_its_size() {
        for size in [180, 200, 321, 4_096, 70_000, 200_000] {
            let bytes = body(7, size);
            assert_eq!(bytes.len(), size as usize);
            assert_eq!(bytes, body(7, size));
            let mut text = String::new();
            flate2::read::GzDecoder::new(&bytes[..])
                .read_to_string(&mut text)
                .expect("a gzip");
            let log: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            assert_eq!(
                log["Records"].as_array().map(Vec::len),
                Some(1),
                "size {size}"
            );
        }
    }
}
