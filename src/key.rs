//! Object keys as the service sends them, and how they are shown to people.

use std::fmt::{self, Write as _};

/// Shows hostile text on one line: control, format and bidirectional characters are escaped.
///
/// Keys, messages and codes come from another account; none of them may move the cursor, colour the
/// terminal or forge a second log line.
pub struct Shown<'a>(pub &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            if harmless(c) { f.write_char(c)? } else { write!(f, "{}", c.escape_default())? }
        }
        Ok(())
    }
}

/// Whether a character can be shown as it is: printable ASCII, letters and digits of any script.
pub fn harmless(c: char) -> bool {
    matches!(c, ' '..='~') || (!c.is_ascii() && c.is_alphanumeric())
}

/// The same JSON document in characters that are [`harmless`]: all others become escapes of JSON's own.
///
/// serde escapes no more than it must, and lets C1 controls and bidirectional characters through. Beyond
/// ASCII, and at DEL, a document has only the text of its strings, so every such character may be escaped.
pub fn harmless_json(document: &str) -> String {
    let mut text = String::with_capacity(document.len());
    for c in document.chars() {
        if harmless(c) || c.is_ascii_whitespace() {
            text.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            text.push_str(&format!("\\u{unit:04x}"));
        }
    }
    text
}

/// Decodes what S3 sends under `encoding-type=url`: form style, `+` is a space.
///
/// A `%` that no two hexadecimal digits follow stays as it is. Returns `None` when the bytes are not
/// UTF-8, which S3 does not allow in a key.
pub fn decode_listed(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let (byte, used) = match (first, tail) {
            (b'+', _) => (b' ', 1),
            (b'%', [high, low, ..]) => match (nibble(*high), nibble(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, 3),
                _ => (b'%', 1),
            },
            _ => (first, 1),
        };
        bytes.push(byte);
        rest = &rest[used..];
    }
    String::from_utf8(bytes).ok()
}

fn nibble(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// The smallest key that sorts after every key that starts with `prefix`, or `None` when there is none.
///
/// S3 sorts by UTF-8 bytes, which is the order of code points, so the last character is raised by one.
pub fn after_prefix(prefix: &str) -> Option<String> {
    let mut head = prefix.to_owned();
    while let Some(last) = head.pop() {
        let next = (u32::from(last) + 1..=u32::from(char::MAX)).find_map(char::from_u32);
        if let Some(next) = next {
            head.push(next);
            return Some(head);
        }
    }
    None
}

/// A prefix as the name of one directory of ours.
///
/// Slashes become `+`; all but letters, digits, `-`, `_` and `.` are percent-encoded, and so is a leading dot.
/// Names that would be longer than 200 bytes end in two dots and a hash of the whole; no others have two dots in a row.
pub fn file_safe(prefix: &str) -> String {
    let mut name = String::with_capacity(prefix.len());
    for byte in prefix.trim_end_matches('/').bytes() {
        match byte {
            b'/' => name.push('+'),
            b'.' if !name.is_empty() && !name.ends_with('.') => name.push('.'),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => name.push(char::from(byte)),
            _ => name.push_str(&format!("%{byte:02X}")),
        }
    }
    if name.len() > 200 || prefix.ends_with("//") {
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, prefix.as_bytes());
        name.truncate(160);
        name.push_str("..");
        name.push_str(&hex::encode(&hash.as_ref()[..16]));
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listed_keys_are_decoded_form_style() {
        assert_eq!(decode_listed("a+b%2Bc%25d%0A/%C3%A9").as_deref(), Some("a b+c%d\n/é"));
        assert_eq!(decode_listed("100%").as_deref(), Some("100%"));
        assert_eq!(decode_listed("%zz%4").as_deref(), Some("%zz%4"));
        assert_eq!(decode_listed("%FF"), None);
    }

    #[test]
    fn shown_text_stays_on_one_line_and_keeps_the_terminal_as_it_is() {
        let shown = Shown("é\u{202e}\x1b[0m\r\n\u{85}\u{feff}").to_string();
        assert_eq!(shown, "é\\u{202e}\\u{1b}[0m\\r\\n\\u{85}\\u{feff}");
    }

    #[test]
    fn json_keeps_its_meaning_and_harms_no_terminal() {
        let key = "é\u{7f}\u{9b}31m\u{202e}\u{2028}\u{10ffff}\u{1b}\n\"";
        let document = serde_json::to_string_pretty(&[key]).expect("JSON");
        let shown = harmless_json(&document);
        assert!(shown.chars().all(|c| harmless(c) || c == '\n'), "{shown:?}");
        assert!(shown.contains("\\u009b31m\\u202e\\u2028\\udbff\\udfff"), "{shown}");
        assert_eq!(serde_json::from_str::<Vec<String>>(&shown).expect("JSON"), [key]);
    }

    #[test]
    fn no_prefix_has_the_file_name_of_a_longer_one() {
        let long = format!("{}/", "a".repeat(1000));
        let name = file_safe(&long);
        assert_eq!(name.len(), 194);
        assert_ne!(file_safe(&format!("{name}/")), name);
        assert_eq!(file_safe("AWSLogs/us east/é.b/"), "AWSLogs+us%20east+%C3%A9.b");
    }

    #[test]
    fn the_key_after_a_prefix_sorts_after_all_its_keys() {
        assert_eq!(after_prefix("a/b/").as_deref(), Some("a/b0"));
        assert_eq!(after_prefix("a\u{10ffff}").as_deref(), Some("b"));
        assert_eq!(after_prefix("\u{d7ff}").as_deref(), Some("\u{e000}"));
        assert_eq!(after_prefix(""), None);
    }
}
