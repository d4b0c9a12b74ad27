//! Regular files: small ones at once, large ones extent by extent from several writers.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use rustix::fd::OwnedFd;
use rustix::fs::{self, Mode, OFlags};
use rustix::io::{self, Errno};

use super::apply::{self, SEALING};
use super::created::Created;
use super::dir::Dir;
use super::entry::Entry;
use super::links::{Group, NameState};
use super::shared::{Halt, Shared};
use crate::fd_budget::{CountedFd, Permit};
use crate::hashing::{Domain, dir_hash, entry_hash, hash, piece_hash};
use crate::meta::Meta;
use crate::record::{Cursor, Kind};
use crate::tree::{Tally, ledger};
use crate::warning::WarningKind;

const CREATE_FLAGS: OFlags = OFlags::WRONLY
    .union(OFlags::CREATE)
    .union(OFlags::EXCL)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Makes a new file. `None` when the target cannot hold its name.
fn create(entry: Entry<'_>, parent: impl AsFd, meta: &Meta<'_>) -> Result<Option<(OwnedFd, Created)>, Halt> {
    let created = entry.creation(meta, 0);
    let mode = Mode::from_raw_mode(created.mode(0o600));
    match fs::openat(parent, entry.name, CREATE_FLAGS, mode) {
        Ok(file) => {
            apply::flags_before_content(entry, &file, meta);
            Ok(Some((file, created)))
        }
        Err(errno) => {
            entry.leave_out(WarningKind::Name, "creating", errno)?;
            Ok(None)
        }
    }
}

/// Makes a small file, whole. `has_names`: more names of it follow.
pub(super) fn whole(
    entry: Entry<'_>,
    parent: impl AsFd,
    meta: &Meta<'_>,
    content: &[u8],
    has_names: bool,
) -> Result<NameState, Halt> {
    let Some((file, created)) = create(entry, parent, meta)? else {
        return Ok(NameState::LeftOut);
    };
    write_all(&file, content, 0).map_err(|errno| entry.failed("writing", errno))?;
    finish(entry, &file, meta, created, has_names)?;
    Ok(NameState::Made)
}

/// Sets everything of a file whose content is written.
fn finish(
    entry: Entry<'_>,
    file: impl AsFd,
    meta: &Meta<'_>,
    created: Created,
    has_names: bool,
) -> Result<(), Halt> {
    let sealing = if has_names { meta.flags & SEALING } else { 0 };
    if sealing != 0 {
        entry.set_flags_later(sealing)?;
    }
    let flags = meta.flags & !sealing;
    apply::to_file(entry, file.as_fd(), &Meta { flags, ..*meta }, created)
}

fn write_all(file: impl AsFd, content: &[u8], offset: u64) -> Result<(), Errno> {
    let mut written = 0;
    while written < content.len() {
        match io::pwrite(file.as_fd(), &content[written..], offset + written as u64) {
            Ok(0) => return Err(Errno::IO),
            Ok(more) => written += more,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// A large or sparse file under way.
#[derive(Debug)]
pub(super) struct BigFile {
    pub(super) id: u64,
    dir: Arc<Dir>,
    name: Box<[u8]>,
    /// The encoded entry, for the end.
    entry: Box<[u8]>,
    /// Hash of its path.
    hash: [u8; 32],
    /// `None` when the target cannot hold it.
    file: Option<CountedFd>,
    created: Created,
    /// Extents under way, and one until the stream is through with it.
    pending: AtomicUsize,
    /// Sum of the content written, kept when it is to be read back.
    sum: AtomicU64,
    end: OnceLock<BigEnd>,
    group: Option<Arc<Group>>,
}

/// The stream's announcement of a large file.
pub(super) struct NewBigFile<'a> {
    /// Its number in the stream.
    pub(super) id: u64,
    /// Its size at the time it was opened, bytes.
    pub(super) size: u64,
    /// The encoded entry.
    pub(super) entry: &'a [u8],
    /// The group of its names, if it has several.
    pub(super) group: Option<Arc<Group>>,
}

/// The stream's word at the end of a large file.
#[derive(Debug, Clone, Copy)]
pub(super) struct BigEnd {
    pub(super) size: u64,
    /// The length of the file on disk by now: as it was begun, or as far as its last extent.
    pub(super) reached: u64,
}

impl BigFile {
    /// Creates the file with its size, all hole.
    pub(super) fn begin(
        shared: &Shared<'_>,
        dir: &Arc<Dir>,
        new: NewBigFile<'_>,
        permit: Permit,
    ) -> Result<Arc<Self>, Halt> {
        let meta = Meta::take(&mut Cursor(new.entry)).map_err(|malformed| shared.damaged(malformed))?;
        let entry = dir.entry(shared, meta.name);
        let held = dir.hold();
        let made = match held.fd.as_deref() {
            Some(parent) => create(entry, parent, &meta)?,
            None if dir.is_left_out => None,
            None => return Err(entry.failed("creating", Errno::BADF)),
        };
        let created = made.as_ref().map_or(Created::Private, |(_, created)| *created);
        let file = made.map(|(file, _)| CountedFd::new(file, permit));
        // vfat writes zeros instead of making a hole: not before it must be.
        if let Some(file) = file
            .as_ref()
            .filter(|_| new.size > 0 && !entry.file_system().is_poor)
        {
            fs::ftruncate(file, new.size).map_err(|errno| entry.failed("setting the size of", errno))?;
        }
        Ok(Arc::new(Self {
            id: new.id,
            name: meta.name.into(),
            entry: new.entry.into(),
            hash: dir_hash(&dir.location.hash, meta.name),
            file,
            created,
            pending: AtomicUsize::new(1),
            sum: AtomicU64::new(0),
            end: OnceLock::new(),
            group: new.group,
            dir: held.dir,
        }))
    }

    /// True when the file was made as long as the stream says.
    pub(super) fn has_size(&self) -> bool {
        self.file.is_some() && !self.dir.location.file_system.is_poor
    }

    /// An extent is under way; [`BigFile::release`] must follow.
    pub(super) fn hold(&self) {
        self.pending.fetch_add(1, Ordering::Relaxed);
    }

    /// Writes one extent: `part` is its encoded offset and its content.
    pub(super) fn extent(&self, shared: &Shared<'_>, part: &[u8], tally: &mut Tally) -> Result<(), Halt> {
        let mut cursor = Cursor(part);
        let offset = cursor.u64().map_err(|malformed| shared.damaged(malformed))?;
        let content = cursor.0;
        if let Some(file) = &self.file {
            write_all(file, content, offset)
                .map_err(|errno| self.dir.entry(shared, &self.name).failed("writing", errno))?;
        }
        if shared.keeper.is_some() {
            self.sum
                .fetch_add(ledger::content_sum(offset, content), Ordering::Relaxed);
        }
        tally.add_part(
            &piece_hash(Domain::Extent, &self.hash, offset, content),
            content.len() as u64,
        );
        Ok(())
    }

    /// The stream is through with it; `part` is the hashed part of its end record.
    pub(super) fn end(&self, end: BigEnd, part: &[u8], tally: &mut Tally) {
        let _ = self.end.set(end);
        tally.add_part(&hash(Domain::FileEnd, &self.hash, &[part]), 0);
    }

    /// Something of it is done. When it was the last: owner, mode, attributes, times; then the directory's turn.
    pub(super) fn release(&self, shared: &Shared<'_>, tally: &mut Tally) -> Result<(), Halt> {
        if self.pending.fetch_sub(1, Ordering::AcqRel) != 1 {
            return Ok(());
        }
        let meta = Meta::take(&mut Cursor(&self.entry)).map_err(|malformed| shared.damaged(malformed))?;
        let entry = self.dir.entry(shared, &self.name);
        if let (Some(file), Some(end)) = (&self.file, self.end.get()) {
            if end.size != end.reached {
                fs::ftruncate(file, end.size).map_err(|errno| entry.failed("setting the size of", errno))?;
            }
            finish(entry, file, &meta, self.created, self.group.is_some())?;
            let sum = self.sum.load(Ordering::Relaxed);
            let facts = entry.note(Kind::Big, &meta, || ledger::content(Kind::Big, end.size, sum));
            if facts.is_some() {
                self.dir.count_entry();
            }
            if let Some(group) = &self.group {
                group.remember(facts);
            }
        }
        if let Some(group) = &self.group {
            group.settle(if self.file.is_some() {
                NameState::Made
            } else {
                NameState::LeftOut
            });
        }
        tally.add_file(
            &entry_hash(Kind::Big, &self.dir.location.hash, &self.entry, &[]),
            0,
        );
        self.dir.release(shared, tally)
    }
}
