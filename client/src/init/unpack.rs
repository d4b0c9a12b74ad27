//! Unpacking an archive onto the node's root in memory: the tools and drivers of `getstage2`.
//!
//! Everything is made beneath the root, on its own file system: no symbolic link is followed, nothing is
//! written into `/dev`, `/proc` or another mount, whatever the archive says.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use ka_cpio::{Entry, Kind, Reader};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use zstd::stream::read::Decoder;

/// Between two looks at the memory that is left.
const LOOK_EVERY_BYTES: u64 = 4 << 20;
/// Largest window of the compressor that is followed, as a power of two: 64 MiB. `zstd --long` wants more
/// memory than a node may have.
const MAX_WINDOW_LOG: u32 = 26;
/// One read.
const CHUNK_BYTES: usize = 128 << 10;

/// The limits of an archive.
pub(crate) struct Limits<'a> {
    /// Bytes of memory that must be left for the later steps.
    pub(crate) reserve_bytes: u64,
    /// Bytes of memory that are there now; `None` when that is not known.
    pub(crate) available: &'a dyn Fn() -> Option<u64>,
    /// Most entries and bytes taken at all.
    pub(crate) archive: ka_cpio::Limits,
}

/// The contents that were unpacked.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UnpackSummary {
    /// The number of files.
    pub(crate) files: u64,
    /// Bytes in them.
    pub(crate) bytes: u64,
}

/// Unpacks `archive`, one zstd frame, beneath `root`, and reads the bytes behind the frame: an initramfs is
/// padded, so that another one may follow it.
///
/// # Errors
/// It is no zstd frame, or damaged; and as [`unpack`].
pub(crate) fn unpack_compressed(
    archive: impl Read,
    root: &Path,
    limits: &Limits<'_>,
) -> anyhow::Result<UnpackSummary> {
    let mut plain = decompress(archive)?;
    let done = unpack(&mut plain, root, limits)?;
    io::copy(&mut plain.finish(), &mut io::sink()).context("reading what is behind the archive")?;
    Ok(done)
}

/// Reads the whole of `archive`, one zstd frame, and writes nothing: what [`unpack_compressed`] would unpack.
///
/// # Errors
/// It is no zstd frame, damaged, or over the limits.
pub(super) fn measure(archive: impl Read, limits: &Limits<'_>) -> anyhow::Result<UnpackSummary> {
    let mut reader = Reader::with_limits(decompress(archive)?, limits.archive);
    let mut found = UnpackSummary::default();
    while let Some(entry) = reader.next_entry()? {
        if entry.kind == Kind::File {
            found.files += 1;
            found.bytes += io::copy(&mut reader, &mut io::sink())?;
        }
    }
    Ok(found)
}

fn decompress<R: Read>(archive: R) -> anyhow::Result<Decoder<'static, BufReader<R>>> {
    let decoder = Decoder::new(archive).context("preparing to decompress")?;
    let mut plain = decoder.single_frame();
    plain
        .window_log_max(MAX_WINDOW_LOG)
        .context("preparing to decompress")?;
    Ok(plain)
}

/// Unpacks `archive` beneath `root`.
///
/// # Errors
/// The archive is damaged or wants something that is not allowed; the memory does not suffice.
fn unpack(archive: impl Read, root: &Path, limits: &Limits<'_>) -> anyhow::Result<UnpackSummary> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(root, flags, Mode::empty())
        .with_context(|| format!("opening {}", root.display()))?;
    let mut reader = Reader::with_limits(archive, limits.archive);
    let mut done = UnpackSummary::default();
    while let Some(entry) = reader.next_entry()? {
        let name = PathBuf::from(OsStr::from_bytes(&entry.name));
        let made = make(&root, &name, &entry, &mut reader, limits, &mut done);
        made.with_context(|| format!("unpacking /{}", name.display()))?;
    }
    // Padding behind the archive, and what a compressor still has.
    io::copy(&mut reader.into_inner(), &mut io::sink()).context("reading the end of the archive")?;
    Ok(done)
}

fn make(
    root: &OwnedFd,
    name: &Path,
    entry: &Entry,
    data: &mut impl Read,
    limits: &Limits<'_>,
    done: &mut UnpackSummary,
) -> anyhow::Result<()> {
    // The root itself.
    let Some(last) = name.file_name() else {
        return Ok(());
    };
    let parent = open_parent(root, name.parent().unwrap_or(Path::new("")))?;
    match entry.kind {
        Kind::Directory => make_directory(&parent, last, entry),
        Kind::Symlink => {
            let target = entry.target.as_deref().unwrap_or_default();
            make_link(&parent, last, OsStr::from_bytes(target))
        }
        Kind::File => {
            let file = create(&parent, last, entry)?;
            done.files += 1;
            copy(data, file, limits, done)
        }
        // The kernel makes the devices that exist (devtmpfs). Others have no use.
        Kind::CharDevice | Kind::BlockDevice | Kind::Fifo | Kind::Socket => Ok(()),
    }
}

/// Opens the directory an entry lies in; it must be there, made by the archive itself or by the image.
fn open_parent(root: &OwnedFd, parent: &Path) -> anyhow::Result<OwnedFd> {
    let path = if parent.as_os_str().is_empty() {
        Path::new(".")
    } else {
        parent
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV;
    let opened = rustix::fs::openat2(root, path, flags, Mode::empty(), resolve);
    opened.map_err(|errno| match errno {
        Errno::LOOP => anyhow!("its directory is a symbolic link, which is not followed"),
        Errno::XDEV => anyhow!("its directory is another file system"),
        other => anyhow!(io::Error::from(other)),
    })
}

fn make_directory(parent: &OwnedFd, name: &OsStr, entry: &Entry) -> anyhow::Result<()> {
    let mode = Mode::from_raw_mode(entry.header.permissions());
    match rustix::fs::mkdirat(parent, name, mode) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) if kind_of(parent, name)? == FileType::Directory => Ok(()),
        Err(Errno::EXIST) => bail!("something that is no directory has this name"),
        Err(errno) => Err(errno.into()),
    }
}

fn make_link(parent: &OwnedFd, name: &OsStr, target: &OsStr) -> anyhow::Result<()> {
    // `/lib` and its like are never gone, not for a moment: the kernel may look for a module just then.
    let is_there =
        rustix::fs::readlinkat(parent, name, Vec::new()).is_ok_and(|old| old.as_bytes() == target.as_bytes());
    if is_there {
        return Ok(());
    }
    remove(parent, name)?;
    rustix::fs::symlinkat(target, parent, name)?;
    Ok(())
}

fn create(parent: &OwnedFd, name: &OsStr, entry: &Entry) -> anyhow::Result<File> {
    // A running program (`/init`) is replaced by name, too, and never written into.
    remove(parent, name)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(entry.header.permissions());
    let file = rustix::fs::openat(parent, name, flags, mode)?;
    rustix::fs::fchmod(&file, mode)?;
    Ok(File::from(file))
}

/// Removes the entry that is in the way. An empty directory gives way, one with contents does not.
fn remove(parent: &OwnedFd, name: &OsStr) -> anyhow::Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR) => rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR).map_err(|errno| {
            anyhow!(
                "a directory of that name is in the way: {}",
                io::Error::from(errno)
            )
        }),
        Err(errno) => Err(errno.into()),
    }
}

fn kind_of(parent: &OwnedFd, name: &OsStr) -> anyhow::Result<FileType> {
    let stat = rustix::fs::statat(parent.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(FileType::from_raw_mode(stat.st_mode))
}

fn copy(
    data: &mut impl Read,
    mut file: File,
    limits: &Limits<'_>,
    done: &mut UnpackSummary,
) -> anyhow::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let count = data.read(&mut chunk)?;
        if count == 0 {
            return Ok(());
        }
        let before = done.bytes / LOOK_EVERY_BYTES;
        done.bytes += count as u64;
        if done.bytes / LOOK_EVERY_BYTES != before {
            check_memory((limits.available)(), limits.reserve_bytes)?;
        }
        file.write_all(&chunk[..count])
            .map_err(|error| match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::OutOfMemory => too_small((limits.available)()),
                _ => anyhow!(error),
            })?;
    }
}

/// Errors when less than `reserve_bytes` of memory are there.
pub(super) fn check_memory(available: Option<u64>, reserve_bytes: u64) -> anyhow::Result<()> {
    match available {
        Some(bytes) if bytes < reserve_bytes => Err(too_small(available)),
        _ => Ok(()),
    }
}

/// The machine has too little memory, in one line.
pub(super) fn too_small(available: Option<u64>) -> anyhow::Error {
    let left = available.map_or_else(|| "none".to_owned(), ka_report::text::size);
    anyhow!(
        "this machine has too little memory for the tools that it needs ({left} are left): give it at least 512 MiB, \
         better 1 GiB"
    )
}

#[cfg(test)]
#[path = "unpack_tests.rs"]
pub(super) mod tests;
