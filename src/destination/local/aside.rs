//! Moves what was damaged out of the way, and keeps it.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use rustix::fd::AsFd;
use rustix::fs::{AtFlags, RenameFlags};
use rustix::io::{Errno, Result as SystemResult};

use crate::destination::{DAMAGED, Sum};
use crate::error::Error;

use super::fault::failed;
use super::tree::{OWN, Tree, split};

/// Places that are tried for one file that is damaged again and again.
const PLACES: u32 = 1000;

/// Moves what stands at a path to `.trailsync/damaged/<path>`, or below a number there when that is taken.
pub fn set_aside(tree: &Arc<Tree>, path: &str) -> Result<Option<String>, Error> {
    let fault = |errno| failed("set aside", tree.shown(path), errno);
    let below = path.strip_prefix(&format!("{OWN}/")).unwrap_or(path);
    for number in 1..=PLACES {
        let folder = if number == 1 { String::new() } else { format!("{number}/") };
        let target = format!("{OWN}/{DAMAGED}/{folder}{below}");
        match move_new(tree, path, &target) {
            Ok(true) => return Ok(Some(target)),
            Ok(false) => return Ok(None),
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(fault(errno)),
        }
    }
    Err(fault(Errno::EXIST))
}

/// Moves durably, over nothing; `false` when there is nothing to move.
fn move_new(tree: &Tree, path: &str, target: &str) -> SystemResult<bool> {
    let ((from, name), (to, new_name)) = (split(path), split(target));
    let source = match tree.open_dir(from) {
        Err(Errno::NOENT) => return Ok(false),
        opened => opened?,
    };
    let directory = tree.make_dir(to)?;
    let moved = match rustix::fs::renameat_with(&source, name, &directory, new_name, RenameFlags::NOREPLACE) {
        // NFS and some others cannot; there a link does not replace either.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            rustix::fs::linkat(&source, name, &directory, new_name, AtFlags::empty())
                .and_then(|()| rustix::fs::unlinkat(source.as_fd(), name, AtFlags::empty()))
        }
        moved => moved,
    };
    match moved {
        Err(Errno::NOENT) => return Ok(false),
        moved => moved?,
    }
    tree.sync_dirs([to, from], &tree.witness())?;
    Ok(true)
}

/// Size and SHA-256 of a file, as the storage gives them now.
pub fn sum(mut file: File) -> std::io::Result<Sum> {
    let mut context = Context::new(&SHA256);
    let (mut size, mut step) = (0, vec![0; 128 * 1024]);
    loop {
        match file.read(&mut step)? {
            0 => break,
            read => {
                context.update(&step[..read]);
                size += read as u64;
            }
        }
    }
    let mut sha256 = [0; 32];
    sha256.copy_from_slice(context.finish().as_ref());
    Ok(Sum { size, sha256 })
}
