//! The entry that is being made: its name in messages, in warnings and in the ledger, and the decision about a
//! refusal by the target's file system.

use std::path::PathBuf;
use std::sync::Arc;

use rustix::io::Errno;

use super::created::Created;
use super::root::{FileSystem, Place};
use super::shared::{Halt, LateFlags, Shared};
use crate::RestoreError;
use crate::hashing::dir_hash;
use crate::meta::Meta;
use crate::record::Kind;
use crate::tree::ledger::{Facts, key};
use crate::warning::WarningKind;

/// Most files whose flags wait for all names; honest trees have a handful.
const MAX_LATE_FLAGS: usize = 1 << 16;

/// A directory of the target: where it is, on which file system, and its hash in the tree's digest.
#[derive(Debug, Clone)]
pub(super) struct Location {
    pub(super) place: Arc<Place>,
    pub(super) file_system: Arc<FileSystem>,
    pub(super) hash: [u8; 32],
}

/// An entry of a directory of the target; or, with an empty name, that directory itself.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    /// The state of the whole restore.
    pub(super) shared: &'a Shared<'a>,
    /// The directory.
    pub(super) location: &'a Location,
    /// The name in it.
    pub(super) name: &'a [u8],
}

impl<'a> Entry<'a> {
    /// The entry `name` of the directory at `location`.
    pub(super) const fn new(shared: &'a Shared<'a>, location: &'a Location, name: &'a [u8]) -> Self {
        Self {
            shared,
            location,
            name,
        }
    }

    /// The directory at `location` itself.
    pub(super) const fn directory(shared: &'a Shared<'a>, location: &'a Location) -> Self {
        Self::new(shared, location, b"")
    }

    /// The file system on which the entry is made.
    pub(super) fn file_system(&self) -> &'a FileSystem {
        &self.location.file_system
    }

    /// Stops the restore: `doing` something to this entry failed with `errno`.
    pub(super) fn failed(&self, doing: &'static str, errno: Errno) -> Halt {
        self.shared.write_failed(doing, &self.path(), errno.into())
    }

    /// Notes that the target cannot hold a part of this entry.
    pub(super) fn warn(&self, kind: WarningKind) {
        let file_system = &self.file_system().name;
        self.shared.warnings.add(kind, file_system, &self.path());
        self.inexact();
    }

    /// Notes that not all metadata of this entry can be read back.
    pub(super) fn inexact(&self) {
        if let Some(keeper) = &self.shared.keeper {
            keeper.inexact(self.key());
        }
    }

    /// Accepts that the file system refused a part of this entry, with a warning of `kind`, where it knows no such
    /// thing.
    ///
    /// # Errors
    /// Any other refusal ends the restore.
    pub(super) fn excuse(&self, kind: WarningKind, doing: &'static str, errno: Errno) -> Result<(), Halt> {
        let excused = self.file_system().lacks(errno).then_some(kind);
        self.judge(excused, doing, errno)
    }

    /// Leaves this entry out, with a warning, where the file system cannot hold its name or its kind.
    ///
    /// # Errors
    /// Any other refusal ends the restore.
    pub(super) fn leave_out(&self, kind: WarningKind, doing: &'static str, errno: Errno) -> Result<(), Halt> {
        if self.file_system().cannot_name(errno) {
            return self.judge(Some(WarningKind::Name), doing, errno);
        }
        self.excuse(kind, doing, errno)
    }

    /// Turns a refusal into the warning that excuses it, else into the end of the restore.
    ///
    /// # Errors
    /// There is no excuse.
    pub(super) fn judge(
        &self,
        excuse: Option<WarningKind>,
        doing: &'static str,
        errno: Errno,
    ) -> Result<(), Halt> {
        let Some(kind) = excuse else {
            return Err(self.failed(doing, errno));
        };
        self.warn(kind);
        Ok(())
    }

    /// The way to create this entry so that the fewest calls follow and nobody sees more than they should: final at
    /// once when it belongs to this process and has no special bits. `needed` are permissions without which the
    /// restore could not go on.
    pub(super) fn creation(&self, meta: &Meta<'_>, needed: u32) -> Created {
        let mode = meta.permissions();
        let is_ours = meta.uid == self.shared.uid && meta.gid == self.shared.gid;
        let is_plain = mode & 0o7000 == 0 && mode & self.shared.umask == 0 && mode & needed == needed;
        if self.file_system().is_poor || (is_ours && is_plain) {
            Created::Final(mode)
        } else {
            Created::Private
        }
    }

    /// Records this entry in the ledger, if there is one; `content` is asked for only then.
    pub(super) fn note(&self, kind: Kind, meta: &Meta<'_>, content: impl FnOnce() -> u64) -> Option<Facts> {
        let keeper = self.shared.keeper.as_ref()?;
        let facts = Facts {
            meta: keeper.meta(self.file_system().is_poor, kind, meta),
            content: content(),
        };
        keeper.note(self.key(), facts);
        Some(facts)
    }

    /// Keeps flags of this file until all its names are made.
    ///
    /// # Errors
    /// There are more such files than can be kept.
    pub(super) fn set_flags_later(&self, flags: u32) -> Result<(), Halt> {
        let mut late = crate::sync::lock(&self.shared.late_flags);
        if late.len() >= MAX_LATE_FLAGS {
            let reason = "it has more immutable files with several names than can be kept".to_owned();
            drop(late);
            return Err(self.shared.fail(RestoreError::Stream(reason)));
        }
        late.push(LateFlags {
            place: Arc::clone(&self.location.place),
            file_system: Arc::clone(&self.location.file_system),
            name: self.name.into(),
            key: self.key(),
            flags,
        });
        Ok(())
    }

    /// The path in the target, for messages.
    pub(super) fn path(&self) -> PathBuf {
        if self.name.is_empty() {
            self.location.place.path()
        } else {
            self.location.place.path_of(self.name)
        }
    }

    /// The entry's key in the ledger.
    pub(super) fn key(&self) -> u64 {
        if self.name.is_empty() {
            key(&self.location.hash)
        } else {
            key(&dir_hash(&self.location.hash, self.name))
        }
    }
}
