//! One writer thread: makes the entries of a chunk.

use std::ops::Range;
use std::os::fd::AsFd;

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::chunk::{Chunk, Item};
use super::dir::HeldDir;
use super::entry::Entry;
use super::links::{Group, NameState, with_place};
use super::shared::{Halt, Shared};
use super::{apply, file};
use crate::block::OpenBlock;
use crate::fd_budget::CountedFd;
use crate::hashing::entry_hash;
use crate::meta::Meta;
use crate::record::{self, Cursor, Kind, Malformed, Record};
use crate::sync::lock;
use crate::tree::Tally;
use crate::tree::ledger::{self, Facts};
use crate::warning::WarningKind;

/// One writer thread.
pub(super) struct Writer<'a> {
    shared: &'a Shared<'a>,
    tally: Tally,
}

impl<'a> Writer<'a> {
    pub(super) fn new(shared: &'a Shared<'a>) -> Self {
        Self {
            shared,
            tally: Tally::default(),
        }
    }

    /// Adds what this thread wrote to the stream's totals.
    pub(super) fn settle(self) {
        lock(&self.shared.tally).merge(&self.tally);
    }

    /// Everything of a chunk.
    pub(super) fn write<B: AsRef<[u8]>>(&mut self, chunk: &Chunk<B>) -> Result<(), Halt> {
        let (files, bytes) = (self.tally.files, self.tally.bytes);
        for item in &chunk.items {
            if self.shared.is_stopped() {
                return Err(Halt);
            }
            self.item(&chunk.block, item)?;
        }
        self.shared
            .progress
            .add(self.tally.files - files, self.tally.bytes - bytes);
        Ok(())
    }

    fn item<B: AsRef<[u8]>>(&mut self, block: &OpenBlock<B>, item: &Item) -> Result<(), Halt> {
        let part = |at: &Range<usize>| block.records().get(at.clone()).unwrap_or(&[]);
        match item {
            Item::Entries { dir, at } => {
                self.entries(dir, part(at))?;
                dir.dir.release(self.shared, &mut self.tally)
            }
            Item::First { dir, at, group } => {
                let mut rest = part(at);
                let record = self.checked(record::take(&mut rest))?;
                if let Some(record) = record {
                    let (state, facts) = self.entry(dir, &record, true)?;
                    group.remember(facts);
                    group.settle(state);
                }
                dir.dir.release(self.shared, &mut self.tally)
            }
            Item::Link { dir, at, group } => {
                self.link(dir, part(at), group)?;
                dir.dir.release(self.shared, &mut self.tally)
            }
            Item::Extent { file, at } => {
                file.extent(self.shared, part(at), &mut self.tally)?;
                file.release(self.shared, &mut self.tally)
            }
        }
    }

    fn entries(&mut self, held: &HeldDir, mut rest: &[u8]) -> Result<(), Halt> {
        while let Some(record) = self.checked(record::take(&mut rest))? {
            self.entry(held, &record, false)?;
        }
        Ok(())
    }

    /// Makes one entry; in a directory that the target cannot hold it is only counted.
    fn entry(
        &mut self,
        held: &HeldDir,
        record: &Record<'_>,
        has_names: bool,
    ) -> Result<(NameState, Option<Facts>), Halt> {
        let dir = &held.dir;
        let mut cursor = Cursor(record.body);
        let meta = self.checked(Meta::take(&mut cursor))?;
        let rest = cursor.0;
        let head = &record.body[..record.body.len() - rest.len()];
        self.checked(check_type(record.kind, &meta))?;
        let entry = dir.entry(self.shared, meta.name);
        let state = match (held.fd.as_deref(), record.kind) {
            (None, _) if dir.is_left_out => NameState::LeftOut,
            (None, _) => return Err(entry.failed("creating", Errno::BADF)),
            (Some(parent), Kind::File) => file::whole(entry, parent, &meta, rest, has_names)?,
            (Some(parent), Kind::Symlink) => symlink(entry, parent, &meta, rest)?,
            (Some(parent), _) => self.special(entry, parent, &meta, rest)?,
        };
        let bytes = if record.kind == Kind::File {
            rest.len() as u64
        } else {
            0
        };
        self.tally
            .add_file(&entry_hash(record.kind, &dir.location.hash, head, rest), bytes);
        let facts = if state == NameState::Made {
            entry
                .note(record.kind, &meta, || ledger::whole(record.kind, rest))
                .inspect(|_| dir.count_entry())
        } else {
            None
        };
        Ok((state, facts))
    }

    fn special(
        &self,
        entry: Entry<'_>,
        parent: &CountedFd,
        meta: &Meta<'_>,
        rest: &[u8],
    ) -> Result<NameState, Halt> {
        let mut cursor = Cursor(rest);
        let major = self.checked(cursor.u32())?;
        let minor = self.checked(cursor.u32())?;
        self.checked(cursor.end())?;
        let created = entry.creation(meta, 0);
        let kind = FileType::from_raw_mode(meta.mode);
        let mode = Mode::from_raw_mode(created.mode(0o600));
        if let Err(errno) = fs::mknodat(parent, entry.name, kind, mode, fs::makedev(major, minor)) {
            entry.leave_out(WarningKind::Special, "creating", errno)?;
            return Ok(NameState::LeftOut);
        }
        apply::to_name(entry, parent.as_fd(), meta, created)?;
        Ok(NameState::Made)
    }

    fn link(&mut self, held: &HeldDir, name: &[u8], group: &Group) -> Result<(), Halt> {
        let dir = &held.dir;
        let entry = dir.entry(self.shared, name);
        let first = group.wait(self.shared)?;
        if let Some(parent) = held.fd.as_deref().filter(|_| first == NameState::Made) {
            let linked = with_place(group, dir, parent.as_fd(), |place| {
                match fs::linkat(place, &*group.name, parent, name, AtFlags::empty()) {
                    Err(errno) if cannot_link(entry, errno) => {
                        entry.warn(WarningKind::HardLink);
                        copy(place, &group.name, parent, name)
                    }
                    linked => linked,
                }
            });
            let linked = linked.and_then(|linked| Ok(linked?));
            linked.map_err(|error| self.shared.write_failed("linking", &entry.path(), error))?;
            if let (Some(keeper), Some(facts)) = (&self.shared.keeper, group.facts.get()) {
                dir.count_entry();
                keeper.note_name(entry.key(), group.key, *facts);
            }
        }
        self.tally
            .add_file(&entry_hash(Kind::Link, &dir.location.hash, name, &[]), 0);
        Ok(())
    }

    fn checked<T>(&self, parsed: Result<T, Malformed>) -> Result<T, Halt> {
        parsed.map_err(|malformed| self.shared.damaged(malformed))
    }
}

fn symlink(entry: Entry<'_>, parent: &CountedFd, meta: &Meta<'_>, to: &[u8]) -> Result<NameState, Halt> {
    if to.is_empty() || to.contains(&0) {
        let malformed = Malformed("a symbolic link that leads nowhere");
        return Err(entry.shared.damaged(malformed));
    }
    if let Err(errno) = fs::symlinkat(to, parent, entry.name) {
        entry.leave_out(WarningKind::Symlink, "creating", errno)?;
        return Ok(NameState::LeftOut);
    }
    let created = entry.creation(&Meta { mode: 0, ..*meta }, 0);
    apply::to_name(entry, parent.as_fd(), meta, created)?;
    Ok(NameState::Made)
}

fn check_type(kind: Kind, meta: &Meta<'_>) -> Result<(), Malformed> {
    let fits = match FileType::from_raw_mode(meta.mode) {
        FileType::RegularFile => kind == Kind::File,
        FileType::Symlink => kind == Kind::Symlink,
        FileType::CharacterDevice | FileType::BlockDevice | FileType::Fifo | FileType::Socket => {
            kind == Kind::Special
        }
        FileType::Directory | FileType::Unknown => false,
    };
    if fits {
        Ok(())
    } else {
        Err(Malformed("an entry whose mode says another type"))
    }
}

/// No hard links here (vfat), too many of this file, or two file systems where the golden node has one.
fn cannot_link(entry: Entry<'_>, errno: Errno) -> bool {
    matches!(
        errno,
        Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK | Errno::XDEV
    ) || entry.file_system().is_poor && matches!(errno, Errno::PERM | Errno::INVAL)
}

/// The bytes that a copy reads and writes at a time.
const COPY_BYTES: usize = 256 * 1024;

/// Content, owner, mode and times, which is what file systems without hard links can hold at most.
fn copy(place: impl AsFd, first: &[u8], parent: &CountedFd, name: &[u8]) -> Result<(), Errno> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let from = fs::openat(place, first, flags | OFlags::RDONLY, Mode::empty())?;
    let stat = fs::fstat(&from)?;
    let create = flags | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
    let to = fs::openat(parent, name, create, Mode::from_raw_mode(0o600))?;
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        let read = rustix::io::read(&from, &mut buffer[..])?;
        if read == 0 {
            break;
        }
        let mut rest = &buffer[..read];
        while !rest.is_empty() {
            let written = rustix::io::write(&to, rest)?;
            rest = &rest[written..];
        }
    }
    // Refused where there is no such thing; the warning says that it is a copy.
    let _ = fs::fchown(
        &to,
        Some(fs::Uid::from_raw(stat.st_uid)),
        Some(fs::Gid::from_raw(stat.st_gid)),
    );
    let _ = fs::fchmod(&to, Mode::from_raw_mode(stat.st_mode & 0o7777));
    let spec = |seconds, nanos| fs::Timespec {
        tv_sec: seconds,
        tv_nsec: nanos,
    };
    let nanos = |nanos| i64::try_from(nanos).unwrap_or(0);
    let times = fs::Timestamps {
        last_access: spec(stat.st_atime, nanos(stat.st_atime_nsec)),
        last_modification: spec(stat.st_mtime, nanos(stat.st_mtime_nsec)),
    };
    let _ = fs::futimens(&to, &times);
    Ok(())
}
