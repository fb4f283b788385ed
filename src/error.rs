//! What went wrong, named by what the caller can do about it.

use std::fmt;

use crate::key::Shown;

/// A failure, classed by the caller's next step.
///
/// Every message names the operation, what it was done to, what the service said, and, where one is
/// known, the likely mend.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Try the same again, later and with backoff.
    #[error("{0}")]
    Transient(Box<Report>),
    /// The credentials were not accepted: assume the role once more, then try again once.
    #[error("{0}")]
    Credentials(Box<Report>),
    /// This one object cannot be had: record it and go on with the others.
    #[error("{0}")]
    Object(Box<Report>),
    /// Nothing in this stream can be had: end the pass, let the stream rest, show it.
    #[error("{0}")]
    Stream(Box<Report>),
    /// The program must not go on: its state can no longer be trusted.
    #[error("{0}")]
    Fatal(Box<Report>),
}

/// The class of an [`Error`] without its story.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// See [`Error::Transient`].
    Transient,
    /// See [`Error::Credentials`].
    Credentials,
    /// See [`Error::Object`].
    Object,
    /// See [`Error::Stream`].
    Stream,
    /// See [`Error::Fatal`].
    Fatal,
}

/// The story of a failure.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// What was tried: an API name (`GetObject`) or a plain verb (`publish`).
    pub operation: &'static str,
    /// What it was tried on: a key, a prefix, a role ARN, a path. Shown escaped.
    pub subject: String,
    /// The service's error code (`AccessDenied`) or the system's (`ENOSPC`).
    pub code: Option<String>,
    /// What the service or the system said. Shown escaped.
    pub message: String,
    /// The service's request id, for its support.
    pub request_id: Option<String>,
    /// What would likely mend it, in words that an operator can act on.
    pub mend: Option<String>,
}

impl Report {
    /// A report of `operation` on `subject` that says `message`.
    pub fn new(operation: &'static str, subject: impl Into<String>, message: impl fmt::Display) -> Self {
        Self { operation, subject: subject.into(), message: message.to_string(), ..Self::default() }
    }

    /// Adds the code that the service or system gave.
    pub fn code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// Adds the likely mend.
    pub fn mend(mut self, mend: impl Into<String>) -> Self {
        self.mend = Some(mend.into());
        self
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of `{}` failed: ", self.operation, Shown(&self.subject))?;
        if let Some(code) = &self.code {
            write!(f, "{}: ", Shown(code))?;
        }
        write!(f, "{}", Shown(&self.message))?;
        if let Some(id) = &self.request_id {
            write!(f, " (request {})", Shown(id))?;
        }
        match &self.mend {
            Some(mend) => write!(f, "; {}", Shown(mend)),
            None => Ok(()),
        }
    }
}

impl Error {
    /// An error of the given class.
    pub fn of(class: Class, report: Report) -> Self {
        let report = Box::new(report);
        match class {
            Class::Transient => Self::Transient(report),
            Class::Credentials => Self::Credentials(report),
            Class::Object => Self::Object(report),
            Class::Stream => Self::Stream(report),
            Class::Fatal => Self::Fatal(report),
        }
    }

    /// What the caller can do.
    pub fn class(&self) -> Class {
        match self {
            Self::Transient(_) => Class::Transient,
            Self::Credentials(_) => Class::Credentials,
            Self::Object(_) => Class::Object,
            Self::Stream(_) => Class::Stream,
            Self::Fatal(_) => Class::Fatal,
        }
    }

    /// The story, whatever the class.
    pub fn report(&self) -> &Report {
        match self {
            Self::Transient(r) | Self::Credentials(r) | Self::Object(r) | Self::Stream(r) | Self::Fatal(r) => r,
        }
    }

    /// The service's or system's code, or an empty string.
    pub fn code(&self) -> &str {
        self.report().code.as_deref().unwrap_or_default()
    }

    /// The same story in another class.
    pub fn into_class(self, class: Class) -> Self {
        let (Self::Transient(r) | Self::Credentials(r) | Self::Object(r) | Self::Stream(r) | Self::Fatal(r)) = self;
        Self::of(class, *r)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_operation_object_code_request_and_mend_without_control_characters() {
        let mut report = Report::new("GetObject", "a\x1b[31m\nb", "Access\r\nDenied")
            .code("AccessDenied")
            .mend("add `s3:GetObject`");
        report.request_id = Some("R1".into());
        let text = Error::of(Class::Object, report).to_string();
        assert_eq!(
            text,
            "GetObject of `a\\u{1b}[31m\\nb` failed: AccessDenied: Access\\r\\nDenied (request R1); add `s3:GetObject`"
        );
    }
}
