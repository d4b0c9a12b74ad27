//! Round trips, comparison with GNU cpio, and hostile archives.

#![allow(clippy::unwrap_used, reason = "helpers of tests, outside of #[test]")]

use std::io::Read as _;
use std::process::{Command, Stdio};

use ka_cpio::{CpioError, Entry, Kind, Limits, Reader, TRAILER, Writer};
use proptest::prelude::*;

fn sample() -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    writer.directory("dev", 0o755).unwrap();
    writer
        .device("dev/console", Kind::CharDevice, 0o600, (5, 1))
        .unwrap();
    writer.directory("etc", 0o755).unwrap();
    writer.file("etc/hello", 0o644, b"hello\n").unwrap();
    writer.file("etc/ping", 0o4755, &[7; 4097]).unwrap();
    writer.symlink("init", "etc/hello").unwrap();
    writer.finish().unwrap()
}

fn read_all(bytes: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, CpioError> {
    let mut reader = Reader::new(bytes);
    let mut all = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        let data = reader.data()?;
        all.push((entry, data));
    }
    Ok(all)
}

#[test]
fn what_is_written_is_read_back() {
    let all = read_all(&sample()).unwrap();
    let names: Vec<_> = all
        .iter()
        .map(|(entry, _)| String::from_utf8(entry.name.clone()).unwrap())
        .collect();
    assert_eq!(
        names,
        ["dev", "dev/console", "etc", "etc/hello", "etc/ping", "init"]
    );
    assert_eq!(all[1].0.kind, Kind::CharDevice);
    assert_eq!(all[1].0.header.rdevice, (5, 1));
    assert_eq!(all[3].1, b"hello\n");
    assert_eq!(all[4].0.header.permissions(), 0o4755);
    assert_eq!(all[4].1, vec![7; 4097]);
    assert_eq!(all[5].0.target.as_deref(), Some(&b"etc/hello"[..]));
}

#[test]
fn gnu_cpio_reads_it_too() {
    use std::io::Write as _;
    let mut child = Command::new("cpio")
        .args(["--list", "--verbose", "--numeric-uid-gid", "--quiet"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("cpio is one of xtask/packages.txt");
    child.stdin.take().unwrap().write_all(&sample()).unwrap();
    let said = child.wait_with_output().unwrap();
    assert!(said.status.success());
    let said = String::from_utf8(said.stdout).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 6, "{said}");
    assert!(
        lines[1].starts_with("crw-------") && lines[1].contains("5,   1"),
        "{said}"
    );
    assert!(
        lines[4].starts_with("-rwsr-xr-x") && lines[4].contains("4097"),
        "{said}"
    );
    assert!(lines[5].ends_with("init -> etc/hello"), "{said}");
}

#[test]
fn what_gnu_cpio_writes_is_read() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a"), "some text").unwrap();
    std::fs::hard_link(dir.path().join("a"), dir.path().join("b")).unwrap();
    let made = Command::new("sh")
        .args(["-c", "find . | sort | cpio --create --format=newc --quiet"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    let all = read_all(&made.stdout).unwrap();
    assert_eq!(all[0].0.name, b"", "the root is the empty name");
    assert_eq!(all[1].0.header.inode, all[2].0.header.inode);
    assert_eq!(all[1].0.header.links, 2);
    // Hard-linked files have their data with the last name.
    assert_eq!((all[1].1.len(), all[2].1.len()), (0, 9));
}

#[test]
fn the_same_entries_give_the_same_bytes_and_no_clock_gets_in() {
    assert_eq!(sample(), sample());
    for (entry, _) in read_all(&sample()).unwrap() {
        assert_eq!(
            (entry.header.mtime, entry.header.uid, entry.header.gid),
            (0, 0, 0)
        );
    }
}

#[test]
fn an_archive_cut_anywhere_is_an_error() {
    let bytes = sample();
    // Only padding follows the trailer's name.
    let end = bytes
        .windows(TRAILER.len())
        .rposition(|part| part == TRAILER.as_bytes());
    for length in 0..end.unwrap() + TRAILER.len() {
        assert!(read_all(&bytes[..length]).is_err(), "cut at {length}");
    }
}

/// A decoder that fails on an empty buffer, as zstd's does.
struct NeverEmpty<'a>(&'a [u8]);

impl std::io::Read for NeverEmpty<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if buffer.is_empty() {
            return Err(std::io::Error::other("asked for nothing"));
        }
        self.0.read(buffer)
    }
}

#[test]
fn the_input_is_never_asked_for_nothing() {
    let bytes = sample();
    let mut reader = Reader::new(NeverEmpty(&bytes));
    while reader.next_entry().unwrap().is_some() {
        let mut data = Vec::new();
        reader.read_to_end(&mut data).unwrap();
    }
}

#[test]
fn data_is_skipped_when_nobody_reads_it() {
    let bytes = sample();
    let mut reader = Reader::new(&bytes[..]);
    let mut count = 0;
    while let Some(entry) = reader.next_entry().unwrap() {
        if entry.name == b"etc/ping" {
            reader.read_exact(&mut [0; 10]).unwrap();
        }
        count += 1;
    }
    assert_eq!(count, 6);
    assert_eq!(reader.next_entry().unwrap(), None);
    assert_eq!(reader.offset(), bytes.len() as u64);
}

#[test]
fn names_that_climb_out_are_refused_and_absolute_ones_made_relative() {
    for (name, expected) in [
        ("../etc/passwd", None),
        ("a/../../b", None),
        ("/etc/x", Some("etc/x")),
        ("./a//b", Some("a/b")),
    ] {
        let bytes = archive_of(name, 0o100_644, b"");
        match (read_all(&bytes), expected) {
            (Ok(all), Some(expected)) => assert_eq!(all[0].0.name, expected.as_bytes()),
            (Err(err), None) => assert!(err.to_string().contains(".."), "{err}"),
            (other, _) => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn hostile_headers_are_errors_and_cost_nothing() {
    let cases = [
        (archive_head(0o100_644, u32::MAX, 2, b"a\0"), "unexpected end"),
        (
            archive_head(0o100_644, 0, u32::MAX, b"a\0"),
            "a name of 4294967295 bytes",
        ),
        (archive_head(0o100_644, 0, 0, b""), "a name of 0 bytes"),
        (
            archive_head(0o100_644, 0, 3, b"a\0b"),
            "does not end where it says",
        ),
        (
            archive_head(0o120_777, 5000, 2, b"a\0"),
            "link target of 5000 bytes",
        ),
        (archive_head(0o120_777, 0, 2, b"a\0"), "link target of 0 bytes"),
        (archive_head(0o040_755, 4, 2, b"a\0"), "only files have data"),
        (archive_head(0, 0, 2, b"a\0"), "of no file type"),
        (b"070707000000".repeat(20), "expected a newc header"),
    ];
    for (bytes, expected) in cases {
        let err = read_all(&bytes).unwrap_err().to_string();
        assert!(err.contains(expected), "{err:?} lacks {expected:?}");
        assert!(!err.contains('\n'));
    }
    let mut signed = sample();
    signed[6] = b'+';
    assert!(read_all(&signed).unwrap_err().to_string().contains("hexadecimal"));
}

#[test]
fn limits_hold() {
    let bytes = sample();
    let read = |limits| {
        let mut reader = Reader::with_limits(&bytes[..], limits);
        loop {
            match reader.next_entry() {
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(err) => return Some(err.to_string()),
            }
        }
    };
    assert_eq!(
        read(Limits {
            entries: 6,
            bytes: 5000
        }),
        None
    );
    assert!(
        read(Limits {
            entries: 5,
            bytes: 5000
        })
        .unwrap()
        .contains("more than 5 entries")
    );
    assert!(
        read(Limits {
            entries: 6,
            bytes: 4000
        })
        .unwrap()
        .contains("more than 4000 bytes")
    );
}

#[test]
fn names_the_kernel_would_drop_are_not_written() {
    let mut writer = Writer::new(Vec::new());
    let long = "a".repeat(5000);
    for bad in ["", "/abs", "a/../b", "a//b", ".", TRAILER, "a\0b", &long] {
        assert!(writer.file(bad, 0o644, b"").is_err(), "{bad:.20}");
    }
    assert!(writer.symlink("a", "").is_err());
    assert!(writer.device("a", Kind::File, 0o644, (1, 1)).is_err());
}

/// A header with these numbers and zeros otherwise, followed by `rest`.
fn archive_head(mode: u32, size: u32, name_size: u32, rest: &[u8]) -> Vec<u8> {
    let numbers = [1, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
    let mut bytes = b"070701".to_vec();
    for number in numbers {
        bytes.extend_from_slice(format!("{number:08x}").as_bytes());
    }
    bytes.extend_from_slice(rest);
    bytes
}

fn archive_of(name: &str, mode: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, mode, data) in [(name, mode, data), (TRAILER, 0, &b""[..])] {
        let name_size = u32::try_from(name.len() + 1).unwrap();
        let size = u32::try_from(data.len()).unwrap();
        bytes.extend(archive_head(mode, size, name_size, name.as_bytes()));
        bytes.push(0);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

proptest! {
    #[test]
    fn any_tree_survives(entries in proptest::collection::vec(("[a-z_./-]{1,30}", 0u32..0o10000, proptest::collection::vec(any::<u8>(), 0..300)), 0..20)) {
        let mut writer = Writer::new(Vec::new());
        let mut kept = Vec::new();
        for (name, permissions, data) in entries {
            if writer.file(&name, permissions, &data).is_ok() {
                kept.push((name, permissions, data));
            }
        }
        let bytes = writer.finish().unwrap();
        prop_assert_eq!(bytes.len() % 4, 0);
        let all = read_all(&bytes).unwrap();
        prop_assert_eq!(all.len(), kept.len());
        for ((entry, data), (name, permissions, expected)) in all.iter().zip(&kept) {
            prop_assert_eq!(&entry.name, name.as_bytes());
            prop_assert_eq!(entry.header.permissions(), *permissions);
            prop_assert_eq!(data, expected);
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(read_all(&bytes).is_err());
    }

    #[test]
    fn damaged_archives_never_panic(at in 0usize..1000, byte in any::<u8>()) {
        let mut bytes = sample();
        let at = at % bytes.len();
        bytes[at] = byte;
        if let Ok(all) = read_all(&bytes) {
            for (entry, _) in all {
                prop_assert!(!entry.name.split(|byte| *byte == b'/').any(|part| part == b".."));
            }
        }
    }
}
