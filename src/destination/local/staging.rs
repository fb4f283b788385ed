//! Files that are written and not yet visible.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;

use rustix::fd::AsFd;
use rustix::fs::{AtFlags, OFlags, RenameFlags};
use rustix::io::{Errno, Result};

use crate::content::{Asked, Hashing};
use crate::object::Content;

use super::fault::errno;
use super::tree::{Durability, Tree, open_beneath, random_name};
use super::witness::Witness;

/// A whole file in the stage; removed when dropped before it found its place.
pub struct StagedFile {
    tree: Arc<Tree>,
    name: String,
    /// Called before the first byte was written.
    pub witness: Arc<Witness>,
    /// Removing it is still up to us.
    here: bool,
}

/// A file in the stage that is being written, and hashed on the way.
pub struct Writer {
    file: File,
    hashing: Hashing,
    staged: StagedFile,
}

impl Writer {
    /// Starts an empty file with its final rights.
    pub fn create(tree: &Arc<Tree>, asked: Asked) -> Result<Self> {
        Self::create_with(tree, asked, Vec::new())
    }

    /// The same, with a buffer that may have been used before.
    pub fn create_with(tree: &Arc<Tree>, asked: Asked, buffer: Vec<u8>) -> Result<Self> {
        let witness = tree.witness();
        let name = random_name();
        let file = open_beneath(tree.stage(), &name, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)?;
        let staged = StagedFile { tree: tree.clone(), name, witness, here: true };
        tree.access.file(&file)?;
        Ok(Self { file: File::from(file), hashing: Hashing::asked(asked, buffer), staged })
    }

    /// Appends bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hashing.update(bytes);
        self.file.write_all(bytes).map_err(|error| errno(&error))
    }

    /// Ends the file; it is durable now only where each file is synced by itself.
    ///
    /// That happens before the descriptor is closed: one that is opened later may not learn of an error.
    pub fn finish(self) -> Result<(Content, StagedFile)> {
        let (content, staged, _) = self.finish_with_buffer()?;
        Ok((content, staged))
    }

    /// The same, and the buffer for the next file.
    pub fn finish_with_buffer(self) -> Result<(Content, StagedFile, Vec<u8>)> {
        if self.staged.tree.durability == Durability::Each {
            rustix::fs::fsync(&self.file)?;
        }
        let (content, buffer) = self.hashing.finish_with_buffer();
        Ok((content, self.staged, buffer))
    }

    /// Ends the file and makes its bytes durable at once.
    pub fn finish_durably(self) -> Result<(Content, StagedFile)> {
        rustix::fs::fsync(&self.file)?;
        Ok((self.hashing.finish(), self.staged))
    }
}

impl StagedFile {
    /// Moves the file to where nothing stands yet, else `EEXIST`.
    pub fn place_new(&mut self, directory: impl AsFd, name: &str) -> Result<()> {
        let stage = self.tree.stage();
        match rustix::fs::renameat_with(stage, &self.name, &directory, name, RenameFlags::NOREPLACE) {
            Ok(()) => self.here = false,
            // NFS and some others cannot; there a link does not replace either, and our name goes on drop.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                rustix::fs::linkat(stage, &self.name, &directory, name, AtFlags::empty())?;
            }
            Err(errno) => return Err(errno),
        }
        Ok(())
    }

    /// Moves the file over what stands there.
    pub fn place_over(&mut self, directory: impl AsFd, name: &str) -> Result<()> {
        rustix::fs::renameat(self.tree.stage(), &self.name, directory, name)?;
        self.here = false;
        Ok(())
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        if self.here {
            // What cannot be removed now is removed when the tree is opened again.
            let _ = rustix::fs::unlinkat(self.tree.stage(), &self.name, AtFlags::empty());
        }
    }
}
