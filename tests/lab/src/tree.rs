//! Trees to clone: a small system, and one with everything a file system can hold that a careless copy loses.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, Permissions};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, lchown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::fs::{CWD, FileType, IFlags, Mode, XattrFlags};

use crate::disk::{GIB, MIB};
use crate::process::Program;
use crate::snapshot::set_mtime;

/// Makes the directories and files that any golden system has, in an empty root. `fstab` is its text.
///
/// # Errors
/// The tree cannot be written.
pub fn small_system(root: &Path, fstab: &str) -> Result<()> {
    for (dir, mode) in [
        ("bin", 0o755),
        ("dev", 0o755),
        ("etc", 0o755),
        ("home", 0o755),
        ("proc", 0o555),
        ("root", 0o700),
        ("run", 0o755),
        ("sys", 0o555),
        ("tmp", 0o1777),
        ("var/log", 0o755),
    ] {
        fs::create_dir_all(root.join(dir))?;
        fs::set_permissions(root.join(dir), Permissions::from_mode(mode))?;
    }
    fs::write(root.join("etc/fstab"), fstab)?;
    fs::write(root.join("etc/hostname"), "golden\n")?;
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
    fs::write(root.join("bin/sh"), noise(300_000, 1))?;
    fs::write(root.join("tmp/scrap"), "left out with -x /tmp\n")?;
    fs::write(root.join("run/pid"), "never travels\n")?;
    for index in 0..200 {
        fs::write(
            root.join(format!("var/log/file{index}")),
            noise(index * 37, index),
        )?;
    }
    set_mtime(&root.join("etc/hostname"), 1_000_000_000, 123_456_789)
}

/// Fills a directory with the hard cases: see the functions below.
///
/// # Errors
/// The tree cannot be written, or `setfacl` or `setcap` is missing.
pub fn hostile(dir: &Path) -> Result<()> {
    hostile_within_path_max(dir)?;
    deep_path(dir).context("a deep path")
}

/// Fills a directory with the hard cases that every program can reach by a path: all but the deep path.
///
/// # Errors
/// As [`hostile`].
pub fn hostile_within_path_max(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir)?;
    odd_names(dir).context("odd names")?;
    special_files(dir).context("special files")?;
    modes_and_owners(dir).context("modes and owners")?;
    links(dir).context("links")?;
    sizes(dir).context("sizes")?;
    sparse_files(dir).context("sparse files")?;
    attributes(dir).context("extended attributes")?;
    times(dir).context("times")?;
    flags(dir).context("flags")
}

/// Returns bytes that look random and are the same every time: xorshift, seeded.
#[must_use]
pub fn noise(length: usize, seed: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ (seed as u64).wrapping_mul(0xff51_afd7_ed55_8ccd) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn odd_names(dir: &Path) -> Result<()> {
    let dir = sub(dir, "names")?;
    let longest = vec![b'x'; 255];
    let names: [&[u8]; 12] = [
        b"new\nline",
        b"\xff\xfe invalid utf-8 \x80",
        &longest,
        b"-rf",
        b" ",
        b" leading and trailing ",
        b"tab\there",
        b"back\\slash\\012",
        b"quote'\"`$(id)",
        "ünïcode \u{202e}".as_bytes(),
        b"...",
        b"\x01\x1b[31m",
    ];
    for (index, name) in names.iter().enumerate() {
        fs::write(dir.join(OsStr::from_bytes(name)), noise(index + 1, index))?;
    }
    fs::create_dir(dir.join(OsStr::from_bytes(b"dir\xff\n")))?;
    fs::write(dir.join(OsStr::from_bytes(b"dir\xff\n")).join("inside"), "x")?;
    fs::create_dir(dir.join(OsStr::from_bytes(&[0xc3; 255])))?;
    Ok(())
}

/// Makes 25 levels of 200 bytes: longer than `PATH_MAX`, so no single path leads there.
fn deep_path(dir: &Path) -> Result<()> {
    let mut here = File::open(sub(dir, "deep")?)?;
    let name = "d".repeat(200);
    for _ in 0..25 {
        let next = PathBuf::from(format!("/proc/self/fd/{}/{name}", here.as_raw_fd()));
        fs::create_dir(&next)?;
        let below = File::open(&next)?;
        here = below;
    }
    fs::write(format!("/proc/self/fd/{}/bottom", here.as_raw_fd()), "reached\n")?;
    Ok(())
}

fn special_files(dir: &Path) -> Result<()> {
    let dir = sub(dir, "special")?;
    let node = |name: &str, kind, major, minor| {
        let device = rustix::fs::makedev(major, minor);
        rustix::fs::mknodat(CWD, dir.join(name), kind, Mode::from_raw_mode(0o640), device)
    };
    node("null", FileType::CharacterDevice, 1, 3)?;
    node("big-numbers", FileType::CharacterDevice, 300, 100_000)?;
    node("block", FileType::BlockDevice, 7, 200)?;
    node("fifo", FileType::Fifo, 0, 0)?;
    // The path of a socket is limited to 108 bytes; the file stays when the listener is dropped.
    let handle = File::open(&dir)?;
    drop(UnixListener::bind(format!(
        "/proc/self/fd/{}/socket",
        handle.as_raw_fd()
    ))?);
    fs::hard_link(dir.join("null"), dir.join("null-again"))?;
    fs::hard_link(dir.join("fifo"), dir.join("fifo-again"))?;
    Ok(())
}

fn modes_and_owners(dir: &Path) -> Result<()> {
    let dir = sub(dir, "modes")?;
    for mode in [0o0, 0o4755, 0o2755, 0o6711, 0o1777, 0o400, 0o444] {
        let path = dir.join(format!("{mode:o}"));
        fs::write(&path, "mode")?;
        lchown(&path, Some(12_345), Some(54_321))?;
        fs::set_permissions(&path, Permissions::from_mode(mode))?;
    }
    let private = sub(&dir, "private")?;
    fs::write(private.join("in"), "x")?;
    lchown(&private, Some(65_534), Some(4_000_000_000))?;
    fs::set_permissions(&private, Permissions::from_mode(0o2000))?;
    Ok(())
}

fn links(dir: &Path) -> Result<()> {
    let dir = sub(dir, "links")?;
    let other = sub(&dir, "other")?;
    fs::write(dir.join("one"), noise(5000, 3))?;
    fs::hard_link(dir.join("one"), dir.join("two"))?;
    fs::hard_link(dir.join("one"), other.join("three"))?;
    symlink("one", dir.join("to-one"))?;
    symlink("/etc/../nowhere/at all", dir.join("dangling"))?;
    symlink(".", dir.join("to-itself"))?;
    // xfs allows 1024 bytes at most.
    symlink("t/".repeat(500), dir.join("long"))?;
    symlink(OsStr::from_bytes(b"\xff\n"), dir.join("odd"))?;
    lchown(dir.join("odd"), Some(77), Some(88))?;
    rustix::fs::linkat(
        CWD,
        dir.join("dangling"),
        CWD,
        dir.join("dangling-2"),
        rustix::fs::AtFlags::empty(),
    )?;
    set_mtime(&dir.join("to-one"), 1_111_111_111, 987_654_321)
}

/// Makes files with sizes around those of pages, records and blocks.
fn sizes(dir: &Path) -> Result<()> {
    let dir = sub(dir, "sizes")?;
    for size in [
        0_usize, 1, 511, 512, 513, 4095, 4096, 4097, 65_535, 65_536, 262_143, 262_144, 262_145, 1_048_575,
        1_048_576, 1_048_577, 5_000_003,
    ] {
        fs::write(dir.join(size.to_string()), noise(size, size))?;
    }
    fs::write(dir.join("zeros"), vec![0; 3_000_000])?;
    fs::write(
        dir.join("text"),
        "the same line again and again\n".repeat(100_000),
    )?;
    Ok(())
}

fn sparse_files(dir: &Path) -> Result<()> {
    let dir = sub(dir, "sparse")?;
    let over_8_gib = File::create(dir.join("over-8-gib"))?;
    over_8_gib.set_len(9 * GIB + 17)?;
    for offset in [0, 5 * MIB + 1, 8 * GIB + 3, 9 * GIB] {
        over_8_gib.write_all_at(b"data between holes", offset)?;
    }
    let hole = File::create(dir.join("one-hole"))?;
    hole.set_len(64 * MIB)?;
    let many = File::create(dir.join("many-holes"))?;
    for index in 0..500_u64 {
        many.write_all_at(&noise(4096, 9), index * 131_072)?;
    }
    many.set_len(100 * MIB)?;
    Ok(())
}

fn attributes(dir: &Path) -> Result<()> {
    let dir = sub(dir, "attributes")?;
    let set = |path: &Path, name: &str, value: &[u8]| {
        rustix::fs::lsetxattr(path, name, value, XattrFlags::empty())
            .with_context(|| format!("setting {name} of {}", path.display()))
    };
    let file = dir.join("file");
    fs::write(&file, "with attributes")?;
    set(&file, "user.empty", b"")?;
    set(&file, "user.binary", b"\0\xff\n=\0")?;
    // ext4 with blocks of 1 KiB takes no more than that for all of a file's attributes.
    set(&file, "user.long", &noise(600, 5))?;
    set(&file, "trusted.secret", b"root only")?;
    let below = sub(&dir, "dir")?;
    set(&below, "user.on-dir", b"yes")?;
    let link = dir.join("link");
    symlink("file", &link)?;
    set(&link, "trusted.on-link", b"links can have these only")?;
    Program::new("setfacl")
        .args(["-m", "u:1234:rw,g:4321:r,m::rw"])
        .arg(&file)
        .run()?;
    Program::new("setfacl")
        .args(["-d", "-m", "u:1234:rwx,o::-"])
        .arg(&below)
        .run()?;
    // Made under a default ACL and by another owner: inheritance must not leak into the copy.
    fs::write(below.join("plain"), "no acl of its own")?;
    Program::new("setfacl").arg("-b").arg(below.join("plain")).run()?;
    let capable = dir.join("capable");
    fs::write(&capable, noise(1000, 6))?;
    lchown(&capable, Some(10), Some(10))?;
    Program::new("setcap")
        .arg("cap_net_raw,cap_net_admin+ep")
        .arg(&capable)
        .run()?;
    Ok(())
}

/// Sets times before 1970, beyond 2038, and of a directory whose time must survive its children's arrival.
fn times(dir: &Path) -> Result<()> {
    let dir = sub(dir, "times")?;
    for (name, seconds, nanos) in [
        ("before-1970", -1, 999_999_999),
        ("beyond-2038", 4_102_444_800, 1),
        ("plain", 1_234_567_890, 123_456_789),
    ] {
        fs::write(dir.join(name), name)?;
        set_mtime(&dir.join(name), seconds, nanos)?;
    }
    let below = sub(&dir, "dir")?;
    fs::write(below.join("child"), "x")?;
    set_mtime(&below, 987_654_321, 111_222_333)?;
    set_mtime(&dir, 1_000_000_001, 1)
}

fn flags(dir: &Path) -> Result<()> {
    let dir = sub(dir, "flags")?;
    for (name, flags) in [
        ("immutable", IFlags::IMMUTABLE),
        ("append", IFlags::APPEND),
        ("nodump", IFlags::NODUMP),
        ("noatime", IFlags::NOATIME),
    ] {
        let path = dir.join(name);
        fs::write(&path, name)?;
        add_flags(&path, flags)?;
    }
    let below = sub(&dir, "immutable-dir")?;
    fs::write(below.join("child"), "x")?;
    fs::hard_link(below.join("child"), below.join("child-again"))?;
    set_mtime(&below, 1_500_000_000, 5)?;
    add_flags(&below, IFlags::IMMUTABLE)
}

fn add_flags(path: &Path, flags: IFlags) -> Result<()> {
    let file = OpenOptions::new().read(true).open(path)?;
    let had = rustix::fs::ioctl_getflags(&file)?;
    rustix::fs::ioctl_setflags(&file, had | flags)
        .with_context(|| format!("setting flags of {}", path.display()))
}

fn sub(dir: &Path, name: &str) -> Result<PathBuf> {
    let path = dir.join(name);
    fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
    Ok(path)
}
