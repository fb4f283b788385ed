//! XML as the services write it.

use std::fmt::Write as _;

/// A document in the making.
#[derive(Debug, Default)]
pub(crate) struct Xml(String);

impl Xml {
    pub fn document() -> Xml {
        Xml("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_owned())
    }

    pub fn fragment() -> Xml {
        Xml::default()
    }

    pub fn open(&mut self, name: &str) -> &mut Self {
        self.0.extend(["<", name, ">"]);
        self
    }

    pub fn open_in(&mut self, name: &str, namespace: &str) -> &mut Self {
        let _ = write!(self.0, "<{name} xmlns=\"{namespace}\">");
        self
    }

    pub fn close(&mut self, name: &str) -> &mut Self {
        self.0.extend(["</", name, ">"]);
        self
    }

    pub fn text(&mut self, name: &str, text: &str) -> &mut Self {
        self.open(name);
        escape(text, &mut self.0);
        self.close(name)
    }

    pub fn number(&mut self, name: &str, number: u64) -> &mut Self {
        let _ = write!(self.0, "<{name}>{number}</{name}>");
        self
    }

    pub fn flag(&mut self, name: &str, flag: bool) -> &mut Self {
        let _ = write!(self.0, "<{name}>{flag}</{name}>");
        self
    }

    pub fn raw(&mut self, xml: &str) -> &mut Self {
        self.0.push_str(xml);
        self
    }

    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.0)
    }
}

/// Control characters become references, as S3 writes them: illegal in XML 1.0, and the reason why
/// listings should ask for `encoding-type=url`.
fn escape(text: &str, into: &mut String) {
    let is_plain = |byte| byte >= b' ' && !matches!(byte, b'&' | b'<' | b'>' | b'"' | 0x7f);
    if text.bytes().all(is_plain) {
        return into.push_str(text);
    }
    for character in text.chars() {
        match character {
            '&' => into.push_str("&amp;"),
            '<' => into.push_str("&lt;"),
            '>' => into.push_str("&gt;"),
            '"' => into.push_str("&quot;"),
            control if control.is_ascii_control() && control != '\t' && control != '\n' => {
                let _ = write!(into, "&#x{:x};", u32::from(control));
            }
            plain => into.push(plain),
        }
    }
}
