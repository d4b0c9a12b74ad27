//! Unpacking, with archives as `ka-initrd` writes them, and with forbidden ones.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

/// One entry in newc form, by hand: the writer of ours would refuse to write the bad ones.
pub(in super::super) fn entry(mode: u32, name: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = b"070701".to_vec();
    let size = u32::try_from(data.len()).unwrap();
    let name_size = u32::try_from(name.len() + 1).unwrap();
    for field in [1, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0] {
        bytes.extend(format!("{field:08x}").bytes());
    }
    bytes.extend(name.bytes());
    bytes.push(0);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend(data);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

pub(in super::super) fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = entries.concat();
    bytes.extend(entry(0, "TRAILER!!!", b""));
    bytes
}

fn unpack_with(bytes: &[u8], root: &Path, available: Option<u64>) -> anyhow::Result<UnpackSummary> {
    let limits = Limits {
        reserve_bytes: 100 << 20,
        available: &|| available,
        archive: ka_cpio::Limits::default(),
    };
    unpack(bytes, root, &limits)
}

fn unpack_into(root: &Path, entries: &[Vec<u8>]) -> Result<UnpackSummary, String> {
    unpack_with(&archive(entries), root, None).map_err(|error| format!("{error:#}"))
}

#[test]
fn tools_links_and_directories_are_made() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("usr")).unwrap();
    let done = unpack_into(
        root.path(),
        &[
            entry(0o040_755, ".", b""),
            entry(0o040_755, "usr", b""),
            entry(0o040_755, "usr/sbin", b""),
            entry(0o100_755, "usr/sbin/mkfs", b"#!/bin/sh\n"),
            entry(0o120_777, "usr/sbin/mkfs.ext9", b"mkfs"),
            entry(0o120_777, "sbin", b"usr/sbin"),
            entry(0o020_600, "usr/console", b""),
        ],
    )
    .unwrap();
    assert_eq!(done, UnpackSummary { files: 1, bytes: 10 });
    assert_eq!(
        fs::read(root.path().join("sbin/mkfs.ext9")).unwrap(),
        b"#!/bin/sh\n"
    );
    let mode = fs::metadata(root.path().join("usr/sbin/mkfs"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o755);
    assert!(!root.path().join("usr/console").exists());
}

#[test]
fn a_compressed_archive_is_unpacked_as_it_comes_over_the_chain() {
    let root = tempfile::tempdir().unwrap();
    let plain = archive(&[
        entry(0o120_777, "lib", b"usr/lib"),
        entry(0o040_755, "usr", b""),
        entry(0o100_644, "usr/empty", b""),
        entry(0o100_755, "usr/tool", &[7; 300_000]),
    ]);
    let mut bytes = zstd::encode_all(plain.as_slice(), 3).unwrap();
    let damaged = bytes[..bytes.len() / 2].to_vec();
    // Padding of an image behind which another one may come.
    bytes.extend([0; 3]);
    let limits = Limits {
        reserve_bytes: 0,
        available: &|| None,
        archive: ka_cpio::Limits::default(),
    };
    let mut input = bytes.as_slice();
    let done = unpack_compressed(&mut input, root.path(), &limits).unwrap();
    assert!(input.is_empty(), "a stream is read to its end");
    assert_eq!(
        done,
        UnpackSummary {
            files: 2,
            bytes: 300_000
        }
    );
    assert_eq!(fs::read(root.path().join("usr/tool")).unwrap(), [7; 300_000]);
    assert!(unpack_compressed(damaged.as_slice(), root.path(), &limits).is_err());
}

#[test]
fn what_is_there_is_replaced_and_never_written_into() {
    let root = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let precious = outside.path().join("precious");
    fs::write(&precious, "kept").unwrap();
    symlink(&precious, root.path().join("modules.dep")).unwrap();
    fs::write(root.path().join("link"), "old").unwrap();
    unpack_into(
        root.path(),
        &[
            entry(0o100_644, "modules.dep", b"new"),
            entry(0o120_777, "link", b"modules.dep"),
        ],
    )
    .unwrap();
    assert_eq!(fs::read(&precious).unwrap(), b"kept");
    assert_eq!(fs::read(root.path().join("modules.dep")).unwrap(), b"new");
    assert_eq!(fs::read(root.path().join("link")).unwrap(), b"new");
}

#[test]
fn nothing_is_made_outside_the_root_or_behind_a_link() {
    let root = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().to_str().unwrap();
    let through = unpack_into(
        root.path(),
        &[
            entry(0o120_777, "out", target.as_bytes()),
            entry(0o100_644, "out/file", b"x"),
        ],
    );
    assert!(through.unwrap_err().contains("not followed"));
    for name in ["../file", "a/../../file"] {
        assert!(
            unpack_into(root.path(), &[entry(0o100_644, name, b"x")]).is_err(),
            "{name}"
        );
    }
    unpack_into(root.path(), &[entry(0o100_644, "/absolute", b"x")]).unwrap();
    assert!(root.path().join("absolute").exists());
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn a_directory_with_contents_does_not_give_way() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("lib/modules")).unwrap();
    fs::create_dir(root.path().join("bin")).unwrap();
    unpack_into(root.path(), &[entry(0o120_777, "bin", b"usr/bin")]).unwrap();
    let error = unpack_into(root.path(), &[entry(0o120_777, "lib", b"usr/lib")]).unwrap_err();
    assert!(error.contains("/lib") && error.contains("in the way"), "{error}");
    let error = unpack_into(root.path(), &[entry(0o040_755, "bin", b"")]).unwrap_err();
    assert!(error.contains("no directory"), "{error}");
}

#[test]
fn too_little_memory_is_one_clear_error() {
    let root = tempfile::tempdir().unwrap();
    let bytes = archive(&[entry(0o100_644, "large", &vec![7; 5 << 20])]);
    let error = unpack_with(&bytes, root.path(), Some(99 << 20)).unwrap_err();
    let error = format!("{error:#}");
    assert!(
        error.contains("99.0 MiB are left") && error.contains("512 MiB"),
        "{error}"
    );
    unpack_with(&bytes, root.path(), Some(101 << 20)).unwrap();
}

#[test]
fn an_archive_cut_anywhere_is_an_error() {
    let bytes = archive(&[
        entry(0o040_755, "d", b""),
        entry(0o100_644, "d/file", b"contents"),
    ]);
    for length in 0..bytes.len() - 124 {
        let root = tempfile::tempdir().unwrap();
        assert!(
            unpack_with(&bytes[..length], root.path(), None).is_err(),
            "{length} bytes"
        );
    }
}
