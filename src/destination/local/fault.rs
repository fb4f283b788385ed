//! What the system's errors mean to the caller.

use rustix::io::Errno;

use crate::error::{Class, Error, Report};

/// A failed system call, classed by what can be done about it.
pub fn failed(operation: &'static str, subject: impl Into<String>, errno: Errno) -> Error {
    let report = Report::new(operation, subject, message(errno)).code(code(errno));
    match mend(errno) {
        Some(mend) => Error::of(Class::Stream, report.mend(mend)),
        None => Error::of(Class::Transient, report),
    }
}

/// A tree that must not be used as it is.
pub fn refused(subject: impl Into<String>, why: impl Into<String>, mend: impl Into<String>) -> Error {
    Error::of(Class::Fatal, Report::new("open", subject, why.into()).mend(mend))
}

/// The code of a tree that is not at its path any more.
pub const GONE: &str = "DestinationGone";

/// A tree that is not at its path any more.
pub fn gone(subject: impl Into<String>, why: &str) -> Error {
    let mend = "put the very directory back, or mount it again, and it goes on by itself; when another one takes its \
                place, start trailsync again";
    Error::of(Class::Stream, Report::new("look at", subject, why).code(GONE).mend(mend))
}

/// The error number of a failed read or write.
pub fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// What would mend an error that waiting alone does not.
fn mend(errno: Errno) -> Option<&'static str> {
    Some(match errno {
        Errno::NOSPC => "make room on the destination's file system (space or inodes); it goes on by itself then",
        Errno::DQUOT => "raise the quota of the user that this runs as; it goes on by itself then",
        Errno::ROFS => "mount the destination's file system writable; it goes on by itself then",
        Errno::ACCESS | Errno::PERM => "give the user that this runs as the right to write the destination's tree",
        Errno::LOOP | Errno::NOTDIR => {
            "move what is no directory out of the destination's tree; links are not followed"
        }
        Errno::XDEV => "mount no other file system inside the destination's tree",
        _ => return None,
    })
}

fn message(errno: Errno) -> String {
    let text = std::io::Error::from(errno).to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

fn code(errno: Errno) -> String {
    let name = match errno {
        Errno::NOSPC => "ENOSPC",
        Errno::DQUOT => "EDQUOT",
        Errno::ROFS => "EROFS",
        Errno::IO => "EIO",
        Errno::ACCESS => "EACCES",
        Errno::PERM => "EPERM",
        Errno::LOOP => "ELOOP",
        Errno::NOTDIR => "ENOTDIR",
        Errno::ISDIR => "EISDIR",
        Errno::NOENT => "ENOENT",
        Errno::EXIST => "EEXIST",
        Errno::XDEV => "EXDEV",
        Errno::MFILE => "EMFILE",
        Errno::NFILE => "ENFILE",
        Errno::NOMEM => "ENOMEM",
        Errno::FBIG => "EFBIG",
        Errno::STALE => "ESTALE",
        Errno::INVAL => "EINVAL",
        Errno::NAMETOOLONG => "ENAMETOOLONG",
        other => return format!("errno {}", other.raw_os_error()),
    };
    name.to_owned()
}
