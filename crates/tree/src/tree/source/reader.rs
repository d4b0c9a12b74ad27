//! One reader thread: turns operations of the walk into records.

use std::ffi::CStr;
use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::fs::{self, FileType, Stat};
use rustix::io::Errno;

use super::attrs::{At, Attributes};
use super::dir::{Dir, Names};
use super::entry::{self, Entry, from_stat, from_statx};
use super::job::{DirAccess, Job, Op, Place};
use super::links::Claim;
use super::look::{is_mounted_over, kind_of, open_file};
use super::pack::Packer;
use super::shared::Shared;
use crate::compress::Squeezer;
use crate::fd_budget::CountedFd;
use crate::hashing::entry_hash;
use crate::meta::{Meta, Subvolume};
use crate::pipeline::{Output, Stopped};
use crate::problem::ProblemKind;
use crate::record::{Kind, LinkPrefix};
use crate::sync::lock;
use crate::tree::Tally;

/// One reader thread with its buffers.
pub(super) struct Reader<'a> {
    pub(super) shared: &'a Shared<'a>,
    pub(super) packer: Packer<'a>,
    pub(super) attributes: Attributes,
    pub(super) tally: Tally,
    target_buffer: Vec<u8>,
    /// Number of the job under way.
    job: u64,
    /// The value of [`Reader::tally`] when progress was told last.
    told: (u64, u64),
}

impl<'a> Reader<'a> {
    pub(super) fn new(shared: &'a Shared<'a>, squeezer: Squeezer<'a>, target: usize) -> Self {
        Self {
            shared,
            packer: Packer::new(squeezer, target),
            attributes: Attributes::new(),
            tally: Tally::default(),
            target_buffer: Vec::new(),
            job: 0,
            told: (0, 0),
        }
    }

    /// All operations of a job, then the rest of its last block.
    pub(super) fn run(&mut self, job: Job, out: &Output) -> Result<(), Stopped> {
        self.job = job.number;
        for op in job.ops {
            match op {
                Op::Enter { dir, place, found } => self.enter(&dir, place, &found, out)?,
                Op::Entries { dir, fd, names } => self.entries(&dir, &fd, &names, out)?,
                Op::Leave { dir } => self.leave(&dir, out)?,
            }
        }
        self.tell_progress();
        self.packer.flush(out)
    }

    /// Adds what this thread read to the stream's totals.
    pub(super) fn settle(self) {
        lock(&self.shared.tally).merge(&self.tally);
    }

    pub(super) fn tell_progress(&mut self) {
        let (files, bytes) = self.told;
        self.shared
            .progress
            .add(self.tally.files - files, self.tally.bytes - bytes);
        self.told = (self.tally.files, self.tally.bytes);
    }

    fn enter(
        &mut self,
        dir: &Arc<Dir>,
        place: Place,
        found: &DirAccess,
        out: &Output,
    ) -> Result<(), Stopped> {
        let mut meta = match found {
            DirAccess::Open(fd) => self.describe_open_dir(dir, fd),
            DirAccess::Stat(stat) => {
                self.attributes.clear();
                from_statx(stat)
            }
        };
        meta.name = dir.name();
        meta.xattrs = self.attributes.list();
        self.packer.room_for(out, 16 + meta.encoded_len())?;
        let kind = if place == Place::Beneath {
            Kind::Dir
        } else {
            Kind::Root
        };
        let body = self.packer.begin(kind, None);
        let block = self.packer.block();
        if let Place::Root { mount_id } = place {
            block.extend_from_slice(&mount_id.to_le_bytes());
        }
        block.extend_from_slice(&dir.id.to_le_bytes());
        if place == Place::Beneath {
            block.extend_from_slice(&dir.parent_id().to_le_bytes());
        }
        let entry_at = block.len();
        meta.put(block);
        let record = self.packer.finish(body, false);
        self.packer.now_at(dir.id);
        let entry = entry_hash(kind, &dir.hash, self.packer.bytes(entry_at..record.end), &[]);
        self.tally.add_directory(&entry);
        Ok(())
    }

    fn describe_open_dir(&mut self, dir: &Arc<Dir>, fd: &Arc<CountedFd>) -> Meta<'static> {
        let stat = fs::fstat(&**fd);
        self.read_attributes(dir, b"", At::Open(fd.as_fd()));
        let mut meta = match stat {
            Ok(stat) => from_stat(&stat),
            Err(errno) => {
                self.shared.problem(dir, b"", kind_of(errno));
                Meta {
                    mode: FileType::Directory.as_raw_mode() | 0o700,
                    ..Meta::default()
                }
            }
        };
        let flags = &self.shared.flags[dir.source];
        meta.flags = flags.flags(&**fd);
        meta.project = flags.project(&**fd);
        meta.subvolume = stat.map_or(Subvolume::No, |stat| entry::subvolume(fd.as_fd(), &stat));
        meta
    }

    fn leave(&mut self, dir: &Arc<Dir>, out: &Output) -> Result<(), Stopped> {
        self.packer.room_for(out, 8)?;
        let body = self.packer.begin(Kind::DirEnd, None);
        self.packer.block().extend_from_slice(&dir.id.to_le_bytes());
        self.packer.finish(body, false);
        self.packer.now_at(0);
        Ok(())
    }

    fn entries(
        &mut self,
        dir: &Arc<Dir>,
        fd: &Arc<CountedFd>,
        names: &Names,
        out: &Output,
    ) -> Result<(), Stopped> {
        for (name, kind) in names.iter() {
            let entry = Entry { dir, name, out };
            match kind {
                FileType::RegularFile => self.regular(entry, fd)?,
                _ => self.other(entry, fd)?,
            }
        }
        Ok(())
    }

    /// Reads a regular file, as the listing reported it. Its present kind is checked again once it is open.
    fn regular(&mut self, entry: Entry<'_>, fd: &CountedFd) -> Result<(), Stopped> {
        let Entry { dir, name, .. } = entry;
        let file = match open_file(fd, name) {
            Ok(file) => file,
            Err(Errno::LOOP | Errno::NXIO) => return self.other(entry, fd),
            Err(errno) => return self.report(dir, name, errno),
        };
        match fs::fstat(&file) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile => {
                self.other(entry, fd)
            }
            Ok(stat) if stat.st_dev != dir.device && is_mounted_over(fd, name) => {
                self.shared
                    .problem(dir, name.to_bytes(), ProblemKind::MountedOver);
                Ok(())
            }
            Ok(stat) if stat.st_nlink > 1 => match self.claim(dir, name, &stat) {
                Ok(link) => self.content(entry, &file, stat, link),
                Err(group) => self.link(entry, group),
            },
            Ok(stat) => self.content(entry, &file, stat, None),
            Err(errno) => self.report(dir, name, errno),
        }
    }

    /// Symbolic links, devices, fifos, sockets; looked at by name, never opened.
    fn other(&mut self, entry: Entry<'_>, fd: &CountedFd) -> Result<(), Stopped> {
        let Entry { dir, name, .. } = entry;
        let stat = match fs::statat(
            fd,
            name,
            fs::AtFlags::SYMLINK_NOFOLLOW | fs::AtFlags::NO_AUTOMOUNT,
        ) {
            Ok(stat) => stat,
            Err(errno) => return self.report(dir, name, errno),
        };
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => Kind::Symlink,
            FileType::RegularFile | FileType::Directory | FileType::Unknown => {
                // It was something else when the directory was listed.
                self.shared.problem(dir, name.to_bytes(), ProblemKind::Changed);
                return Ok(());
            }
            _ => Kind::Special,
        };
        let mut target = std::mem::take(&mut self.target_buffer);
        target.clear();
        if kind == Kind::Symlink {
            match fs::readlinkat(fd, name, target) {
                Ok(read) => target = read.into_bytes(),
                Err(errno) => return self.report(dir, name, errno),
            }
        } else {
            target.extend_from_slice(&fs::major(stat.st_rdev).to_le_bytes());
            target.extend_from_slice(&fs::minor(stat.st_rdev).to_le_bytes());
        }
        let link = if stat.st_nlink > 1 {
            self.claim(dir, name, &stat)
        } else {
            Ok(None)
        };
        let done = match link {
            Ok(link) => {
                self.read_attributes(dir, name.to_bytes(), At::Name(fd.as_fd(), name));
                self.whole(entry, &from_stat(&stat), kind, link, &target)
            }
            Err(group) => self.link(entry, group),
        };
        self.target_buffer = target;
        done
    }

    /// Sends an entry that fits into one record; `rest` is what follows its metadata.
    fn whole(
        &mut self,
        entry: Entry<'_>,
        meta: &Meta<'_>,
        kind: Kind,
        link: Option<LinkPrefix>,
        rest: &[u8],
    ) -> Result<(), Stopped> {
        let Entry { dir, name, out } = entry;
        let meta = Meta {
            name: name.to_bytes(),
            xattrs: self.attributes.list(),
            ..*meta
        };
        self.packer.room(out, dir, meta.encoded_len() + rest.len())?;
        let body = self.packer.begin(kind, link);
        meta.put(self.packer.block());
        self.packer.block().extend_from_slice(rest);
        let record = self.packer.finish(body, link.is_some());
        let head = record.start..record.end - rest.len();
        let entry = entry_hash(kind, &dir.hash, self.packer.bytes(head), rest);
        self.tally.add_file(&entry, 0);
        Ok(())
    }

    /// One more name of a file that was sent under another one.
    fn link(&mut self, entry: Entry<'_>, group: u64) -> Result<(), Stopped> {
        let Entry { dir, name, out } = entry;
        self.packer.room(out, dir, 10 + name.count_bytes())?;
        let body = self.packer.begin(Kind::Link, None);
        let block = self.packer.block();
        block.extend_from_slice(&group.to_le_bytes());
        crate::record::put_name(block, name.to_bytes());
        self.packer.finish(body, false);
        let entry = entry_hash(Kind::Link, &dir.hash, name.to_bytes(), &[]);
        self.tally.add_file(&entry, 0);
        Ok(())
    }

    /// The role of a file with several names: its first name (with the prefix for its record), or the group.
    fn claim(&self, dir: &Dir, name: &CStr, stat: &Stat) -> Result<Option<LinkPrefix>, u64> {
        let names = u32::try_from(stat.st_nlink).unwrap_or(u32::MAX);
        match self
            .shared
            .links
            .claim(self.job, &self.shared.stop, (stat.st_dev, stat.st_ino), names)
        {
            Claim::First(link) => Ok(Some(link)),
            Claim::Again { group } => Err(group),
            Claim::TooMany => {
                let without = "its hard links: too many files have several names".to_owned();
                self.shared
                    .problem(dir, name.to_bytes(), ProblemKind::Incomplete(without));
                Ok(None)
            }
        }
    }

    pub(super) fn read_attributes(&mut self, dir: &Dir, name: &[u8], entry: At<'_>) {
        if let Err(missing) = self.attributes.read(entry) {
            self.shared.problem(dir, name, missing.into());
        }
    }

    pub(super) fn report(&self, dir: &Dir, name: &CStr, errno: Errno) -> Result<(), Stopped> {
        self.shared.problem(dir, name.to_bytes(), kind_of(errno));
        Ok(())
    }
}
