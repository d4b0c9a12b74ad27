//! Directories in the order of the stream, with a bound on those that are open.

use std::sync::atomic::Ordering;

use rustix::fd::OwnedFd;
use rustix::fs::{self, FileType, Mode};

use super::{Dispatcher, Frame};
use crate::error::RestoreError;
use crate::fd_budget::CountedFd;
use crate::hashing::root_hash;
use crate::meta::Meta;
use crate::record::Cursor;
use crate::tree::MAX_DEPTH;
use crate::tree::target::dir::{Dir, NewDir};
use crate::tree::target::root::{DIR_FLAGS, Place};
use crate::tree::target::shared::Halt;

/// Entries of directories under way, kept for their end: far beyond honest trees, bearable for a small node.
const MAX_KEPT_BYTES: usize = 64 * 1024 * 1024;

impl<B: AsRef<[u8]> + Send + Sync> Dispatcher<'_, B> {
    pub(super) fn enter_root(&mut self, mut body: Cursor<'_>) -> Result<(), Halt> {
        if !self.stack.is_empty() {
            return Err(self.refuse("a root lies within another one"));
        }
        let mount_id = self.checked(body.u32())?;
        let id = self.checked(body.u64())?;
        let entry = body.0;
        let meta = self.checked(Meta::take_root(&mut body))?;
        self.checked(body.end())?;
        let Some(root) = self.roots.get(&mount_id).cloned() else {
            return Err(self.shared.fail(RestoreError::UnknownMount(mount_id)));
        };
        self.check_directory(&meta, entry.len())?;
        let permit = self.permit()?;
        let new = NewDir { id, entry, meta };
        let dir = Dir::root(self.shared, Place::root(root), root_hash(mount_id), &new, permit)?;
        self.stack.push(Frame { dir, identity: None });
        Ok(())
    }

    pub(super) fn enter(&mut self, mut body: Cursor<'_>) -> Result<(), Halt> {
        let id = self.checked(body.u64())?;
        let parent_id = self.checked(body.u64())?;
        let entry = body.0;
        let meta = self.checked(Meta::take(&mut body))?;
        self.checked(body.end())?;
        let parent = self.top()?;
        if parent.id != parent_id || self.stack.len() >= MAX_DEPTH {
            return Err(self.refuse("a directory lies where none can be"));
        }
        self.check_directory(&meta, entry.len())?;
        let permit = self.permit()?;
        let dir = Dir::make(self.shared, &parent, &NewDir { id, entry, meta }, permit)?;
        self.close_idle();
        self.stack.push(Frame { dir, identity: None });
        Ok(())
    }

    fn check_directory(&self, meta: &Meta<'_>, entry_len: usize) -> Result<(), Halt> {
        if FileType::from_raw_mode(meta.mode) != FileType::Directory {
            return Err(self.refuse("a directory whose mode says another type"));
        }
        if self.shared.kept_bytes.fetch_add(entry_len, Ordering::Relaxed) > MAX_KEPT_BYTES {
            return Err(self.refuse("its directories have more attributes than can be kept"));
        }
        Ok(())
    }

    pub(super) fn leave(&mut self, id: u64) -> Result<(), Halt> {
        let Some(frame) = self.stack.pop_if(|frame| frame.dir.id == id) else {
            return Err(self.refuse("a directory ends that is not the innermost one"));
        };
        self.reopen_top(&frame.dir)?;
        frame.dir.release(self.shared, &mut self.tally)
    }

    /// Opens the directory that is innermost now, if it was closed: up from its child, or down from the root.
    fn reopen_top(&mut self, child: &Dir) -> Result<(), Halt> {
        let Some(identity) = self.stack.last_mut().and_then(|frame| frame.identity.take()) else {
            return Ok(());
        };
        let permit = self.permit()?;
        let dir = self.top()?;
        let is_it = |fd: &OwnedFd| identity_of(fd) == Some(identity);
        let up = child
            .fd()
            .and_then(|child| fs::openat(&*child, c"..", DIR_FLAGS, Mode::empty()).ok());
        let fd = match up.filter(is_it) {
            Some(fd) => fd,
            None => {
                let place = &dir.location.place;
                let opened = place.open();
                opened.map_err(|error| self.shared.write_failed("opening", &place.path(), error))?
            }
        };
        dir.opened(CountedFd::new(fd, permit));
        Ok(())
    }

    /// Keeps the descriptors of a deep tree bounded.
    fn close_idle(&mut self) {
        let Some(index) = self.stack.len().checked_sub(self.shared.fds.max_idle()) else {
            return;
        };
        let frame = &mut self.stack[index];
        if let Some(fd) = frame.dir.fd()
            && let Some(identity) = identity_of(&*fd)
        {
            frame.identity = Some(identity);
            frame.dir.close();
        }
    }
}

fn identity_of(dir: impl rustix::fd::AsFd) -> Option<(u64, u64)> {
    fs::fstat(dir).ok().map(|stat| (stat.st_dev, stat.st_ino))
}
