//! The traces of a refused stream, and the result of a proved one.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fs;

use anyhow::anyhow;

use super::super::unpack::tests::{archive, entry};
use super::*;

/// Returns the tools, packed with additional files of an attacker in the chain.
fn packed(more: &[(&str, &[u8])]) -> Vec<u8> {
    let mut entries = vec![
        entry(0o040_755, "sbin", b""),
        entry(0o040_755, "etc", b""),
        entry(0o100_755, "sbin/mkfs", &[7; 300_000]),
    ];
    entries.extend(more.iter().map(|(name, data)| entry(0o100_755, name, data)));
    zstd::encode_all(archive(&entries).as_slice(), 1).unwrap()
}

const WICKED: &[(&str, &[u8])] = &[("etc/ld.so.preload", b"/x.so"), ("sbin/modprobe", b"#!/bin/sh\n")];

fn limits(available: &dyn Fn() -> Option<u64>) -> Limits<'_> {
    Limits {
        reserve_bytes: 100 << 20,
        available,
        archive: ka_cpio::Limits::default(),
    }
}

/// Receives `bytes` in small blocks, then how the stream ended.
fn receive(
    bytes: &[u8],
    end: Result<(), &'static str>,
    root: &Path,
    available: &dyn Fn() -> Option<u64>,
) -> anyhow::Result<UnpackSummary> {
    let mut blocks: VecDeque<&[u8]> = bytes.chunks(1000).collect();
    let limits = limits(available);
    let next = || {
        assert_eq!(names(root), Vec::<String>::new(), "unpacked before the end");
        match blocks.pop_front() {
            Some(block) => Ok(Some(block)),
            None => end.map(|()| None).map_err(|reason| anyhow!(reason)),
        }
    };
    HeldArchive::collect(next, &limits)?.unpack(root, &limits)
}

/// Returns bytes that do not compress.
fn noise(len: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let random = fs::File::open("/dev/urandom").unwrap();
    random.take(len).read_to_end(&mut bytes).unwrap();
    bytes
}

fn names(root: &Path) -> Vec<String> {
    let entries = fs::read_dir(root).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn nothing_of_a_refused_stream_is_ever_there_and_an_honest_one_afterwards_is_whole() {
    let root = tempfile::tempdir().unwrap();
    let plenty = || Some(1 << 30);
    let refused = receive(
        &packed(WICKED),
        Err("not signed with the server's key"),
        root.path(),
        &plenty,
    );
    assert!(refused.unwrap_err().to_string().contains("not signed"));
    assert_eq!(names(root.path()), Vec::<String>::new());

    let done = receive(&packed(&[]), Ok(()), root.path(), &plenty).unwrap();
    assert_eq!(
        done,
        UnpackSummary {
            files: 1,
            bytes: 300_000
        }
    );
    assert_eq!(fs::read(root.path().join("sbin/mkfs")).unwrap(), [7; 300_000]);
    for (name, _) in WICKED {
        assert!(!root.path().join(name).exists(), "{name}");
    }
}

#[test]
fn an_archive_that_is_damaged_anywhere_leaves_the_root_as_it_was() {
    let bytes = packed(WICKED);
    let plenty = || Some(1 << 30);
    for at in [bytes.len() / 3, bytes.len() - 40] {
        let root = tempfile::tempdir().unwrap();
        assert!(receive(&bytes[..at], Ok(()), root.path(), &plenty).is_err());
        assert_eq!(names(root.path()), Vec::<String>::new(), "cut at {at}");
    }
}

#[test]
fn tools_that_do_not_fit_are_refused_before_the_first_is_unpacked() {
    let root = tempfile::tempdir().unwrap();
    let bytes = packed(&[("sbin/large", &[0; 20 << 20])]);
    let little = || Some(110 << 20);
    let error = receive(&bytes, Ok(()), root.path(), &little)
        .unwrap_err()
        .to_string();
    assert!(error.contains("too little memory"), "{error}");
    assert_eq!(names(root.path()), Vec::<String>::new());
    receive(&bytes, Ok(()), root.path(), &|| Some(121 << 20)).unwrap();
}

#[test]
fn memory_that_runs_out_while_the_stream_comes_is_one_clear_error() {
    let root = tempfile::tempdir().unwrap();
    let left = Cell::new(200u64 << 20);
    let shrinking = || {
        left.set(left.get() - (30 << 20));
        Some(left.get())
    };
    let error = receive(
        &packed(&[("sbin/noise", &noise(10_000))]),
        Ok(()),
        root.path(),
        &shrinking,
    );
    let error = error.unwrap_err().to_string();
    assert!(error.contains("80.0 MiB are left"), "{error}");
    assert_eq!(names(root.path()), Vec::<String>::new());
}

/// A machine that just holds its tools has no room for them packed beside them.
#[test]
fn what_was_unpacked_is_given_back() {
    let limits = limits(&|| None);
    let mut once = Some(noise(8 << 20));
    let held = HeldArchive::collect(|| Ok(once.take()), &limits).unwrap();
    let blocks = || rustix::fs::fstat(&held.file).unwrap().st_blocks;
    let before = blocks();
    let mut reader = held.reader(true);
    io::copy(&mut reader, &mut io::sink()).unwrap();
    assert!(
        blocks() * 512 <= 1 << 20,
        "{} of {before} blocks are left",
        blocks()
    );
}
