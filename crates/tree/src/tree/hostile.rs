//! Streams that no sender makes: nothing outside the target is touched, nothing panics, memory stays bounded.

use std::fs;
use std::path::{Path, PathBuf};

use ka_host::mount::MountGuard;
use proptest::prelude::*;
use tempfile::TempDir;

use super::{RestoreOptions, RestoreSummary, SendOptions, TreeSource, TreeTarget, restore, send};
use crate::block;
use crate::error::RestoreError;
use crate::meta::{Meta, put_xattr};
use crate::progress::Progress;
use crate::record::{Kind, LinkPrefix, put, put_name};

/// A target within a directory whose other contents must stay as they are. On a file system of its own when
/// that is possible: damaged flags can make files immutable, and a test must clean up.
struct Cage {
    _mount: Option<MountGuard>,
    dir: TempDir,
}

impl Cage {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mount = ka_host::system::is_root()
            .then(|| MountGuard::mount(Path::new("none"), dir.path(), "tmpfs", "size=64m").unwrap());
        fs::create_dir(dir.path().join("target")).unwrap();
        fs::write(dir.path().join("outside"), "untouched").unwrap();
        Self { _mount: mount, dir }
    }

    fn target(&self) -> PathBuf {
        self.dir.path().join("target")
    }

    fn put(&self, blocks: Vec<Vec<u8>>) -> Result<RestoreSummary, RestoreError> {
        let targets = [TreeTarget {
            mount_id: 1,
            root: self.target(),
        }];
        let mut blocks = blocks.into_iter();
        let result = restore(
            &targets,
            &RestoreOptions {
                threads: 2,
                keep_ledger: true,
            },
            || Ok(blocks.next()),
            &Progress::new(),
        );
        let mut names: Vec<_> = fs::read_dir(self.dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["outside", "target"], "something was made outside");
        assert_eq!(fs::read(self.dir.path().join("outside")).unwrap(), b"untouched");
        result
    }

    /// Sends the stream's root and then `records`, and returns the restorer's error.
    fn refuses(&self, records: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut stream = block::start(1000);
        root(&mut stream);
        records(&mut stream);
        block::seal_plain(&mut stream);
        self.put(vec![stream]).unwrap_err().to_string()
    }
}

fn meta(mode: u32, name: &[u8]) -> Meta<'_> {
    Meta {
        mode,
        name,
        ..Meta::default()
    }
}

fn root(block: &mut Vec<u8>) {
    put(block, Kind::Root, None, |body| {
        body.extend_from_slice(&1u32.to_le_bytes());
        body.extend_from_slice(&1u64.to_le_bytes());
        meta(0o040_755, b"").put(body);
    });
}

fn dir(block: &mut Vec<u8>, id: u64, parent: u64, name: &[u8]) {
    put(block, Kind::Dir, None, |body| {
        body.extend_from_slice(&id.to_le_bytes());
        body.extend_from_slice(&parent.to_le_bytes());
        meta(0o040_755, name).put(body);
    });
}

fn entry(block: &mut Vec<u8>, kind: Kind, mode: u32, name: &[u8], rest: &[u8]) {
    put(block, kind, None, |body| {
        meta(mode, name).put(body);
        body.extend_from_slice(rest);
    });
}

fn big(block: &mut Vec<u8>, id: u64, size: u64, name: &[u8]) {
    put(block, Kind::Big, None, |body| {
        body.extend_from_slice(&id.to_le_bytes());
        body.extend_from_slice(&size.to_le_bytes());
        meta(0o100_644, name).put(body);
    });
}

fn extent(block: &mut Vec<u8>, id: u64, offset: u64) {
    put(block, Kind::Extent, None, |body| {
        body.extend_from_slice(&id.to_le_bytes());
        body.extend_from_slice(&offset.to_le_bytes());
        body.extend_from_slice(b"content");
    });
}

#[test]
fn names_that_lead_out_of_the_target_are_refused() {
    for name in [&b".."[..], b"../outside", b"/tmp/x", b".", b"", b"a/b", b"a\0b"] {
        let cage = Cage::new();
        cage.refuses(|block| entry(block, Kind::File, 0o100_644, name, b"evil"));
        cage.refuses(|block| dir(block, 2, 1, name));
        cage.refuses(|block| big(block, 1, 10, name));
        cage.refuses(|block| entry(block, Kind::Symlink, 0o120_777, name, b"x"));
    }
}

#[test]
fn a_link_made_by_the_stream_is_never_followed() {
    let link_out = |block: &mut Vec<u8>| entry(block, Kind::Symlink, 0o120_777, b"way", b"..");
    let link_file = |block: &mut Vec<u8>| entry(block, Kind::Symlink, 0o120_777, b"way", b"../outside");
    Cage::new().refuses(|block| {
        link_out(block);
        // A writer makes the link, the dispatcher the directory. The later one is refused.
        dir(block, 2, 1, b"way");
        entry(block, Kind::File, 0o100_644, b"new", b"evil");
    });
    Cage::new().refuses(|block| {
        link_file(block);
        entry(block, Kind::File, 0o100_644, b"way", b"evil");
    });
    Cage::new().refuses(|block| {
        link_file(block);
        big(block, 1, 7, b"way");
        extent(block, 1, 0);
    });
}

#[test]
fn records_out_of_order_are_refused() {
    let cage = Cage::new();
    let end = |block: &mut Vec<u8>| {
        put(block, Kind::End, None, |body| body.extend_from_slice(&[0; 56]));
    };
    let reason = cage.refuses(end);
    assert!(reason.contains("it ends within a directory"), "{reason}");
    assert!(cage.refuses(root).contains("a root lies within another"));
    assert!(
        cage.refuses(|block| dir(block, 2, 9, b"d"))
            .contains("none can be")
    );
    assert!(
        cage.refuses(|block| extent(block, 3, 0))
            .contains("content of no file")
    );
    let unended = cage.refuses(|block| {
        big(block, 1, 5, b"b");
        dir(block, 2, 1, b"d");
    });
    assert!(unended.contains("not ended"), "{unended}");
    let unknown = cage.refuses(|block| {
        put(block, Kind::Link, None, |body| {
            body.extend_from_slice(&77u64.to_le_bytes());
            put_name(body, b"name");
        });
    });
    assert!(
        unknown.contains("a name of a file that was not in it"),
        "{unknown}"
    );
    assert!(cage.refuses(|_| ()).contains("ended before its end"));
}

#[test]
fn impossible_sizes_and_types_are_refused() {
    assert!(
        Cage::new()
            .refuses(|block| big(block, 1, u64::MAX, b"b"))
            .contains("impossible")
    );
    let past_the_end = Cage::new().refuses(|block| {
        big(block, 1, 5, b"b");
        extent(block, 1, u64::MAX - 3);
    });
    assert!(past_the_end.contains("content of no file"), "{past_the_end}");
    let disguised = Cage::new().refuses(|block| entry(block, Kind::File, 0o060_644, b"disk", b""));
    assert!(disguised.contains("another type"), "{disguised}");
    Cage::new().refuses(|block| entry(block, Kind::Special, 0o100_644, b"file", &[0; 8]));
}

#[test]
fn depth_and_kept_attributes_are_bounded() {
    let cage = Cage::new();
    let mut list = Vec::new();
    (0..8).for_each(|number| put_xattr(&mut list, format!("user.{number}").as_bytes(), &vec![0; 60_000]));
    let mut blocks = Vec::new();
    let mut first = block::start(100);
    root(&mut first);
    block::seal_plain(&mut first);
    blocks.push(first);
    for id in 2..400u64 {
        let mut next = block::start(600_000);
        put(&mut next, Kind::Dir, None, |body| {
            body.extend_from_slice(&id.to_le_bytes());
            body.extend_from_slice(&(id - 1).to_le_bytes());
            Meta {
                xattrs: &list,
                ..meta(0o040_755, b"d")
            }
            .put(body);
        });
        block::seal_plain(&mut next);
        blocks.push(next);
    }
    let reason = cage.put(blocks).unwrap_err().to_string();
    assert!(reason.contains("more attributes than can be kept"), "{reason}");
}

#[test]
fn a_stream_for_another_mount_is_refused() {
    let cage = Cage::new();
    let mut stream = block::start(100);
    put(&mut stream, Kind::Root, None, |body| {
        body.extend_from_slice(&99u32.to_le_bytes());
        body.extend_from_slice(&1u64.to_le_bytes());
        meta(0o040_755, b"").put(body);
    });
    block::seal_plain(&mut stream);
    assert!(matches!(
        cage.put(vec![stream]),
        Err(RestoreError::UnknownMount(99))
    ));
}

/// Returns a small honest stream.
fn honest() -> (Vec<Vec<u8>>, super::TreeTotals) {
    let golden = tempfile::tempdir().unwrap();
    for dir in ["a", "a/b", "c"] {
        fs::create_dir(golden.path().join(dir)).unwrap();
        fs::write(golden.path().join(dir).join("file"), vec![b'x'; 20_000]).unwrap();
    }
    fs::write(golden.path().join("large"), vec![b'y'; 60_000]).unwrap();
    fs::hard_link(golden.path().join("large"), golden.path().join("c/large-too")).unwrap();
    fs::hard_link(golden.path().join("a/file"), golden.path().join("c/file-too")).unwrap();
    std::os::unix::fs::symlink("nowhere", golden.path().join("a/link")).unwrap();
    let mut blocks = Vec::new();
    let sources = [TreeSource {
        mount_id: 1,
        root: golden.path().to_path_buf(),
    }];
    let options = SendOptions {
        block_bytes: 16 * 1024,
        ..SendOptions::default()
    };
    let emit = |block| {
        blocks.push(block);
        Ok(())
    };
    let sent = send(&sources, &options, emit, &Progress::new()).unwrap();
    (blocks, sent.totals)
}

#[test]
fn lost_repeated_and_exchanged_blocks_are_noticed() {
    let (blocks, totals) = honest();
    assert_eq!(Cage::new().put(blocks.clone()).unwrap().totals, totals);
    for index in 0..blocks.len() {
        let mut lost = blocks.clone();
        lost.remove(index);
        assert!(Cage::new().put(lost).is_err(), "without block {index}");
        let mut twice = blocks.clone();
        twice.insert(index, blocks[index].clone());
        assert!(Cage::new().put(twice).is_err(), "with block {index} twice");
    }
}

#[test]
fn groups_of_names_that_never_come_do_no_harm() {
    let cage = Cage::new();
    let mut stream = block::start(100);
    root(&mut stream);
    for number in 0..1000u64 {
        let link = LinkPrefix {
            group: number,
            names: u32::MAX,
        };
        put(&mut stream, Kind::File, Some(link), |body| {
            meta(0o100_644, number.to_string().as_bytes()).put(body)
        });
    }
    put(
        &mut stream,
        Kind::File,
        Some(LinkPrefix { group: 5, names: 2 }),
        |body| meta(0o100_644, b"again").put(body),
    );
    block::seal_plain(&mut stream);
    let reason = cage.put(vec![stream]).unwrap_err().to_string();
    assert!(reason.contains("have the same number"), "{reason}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn damaged_streams_end_in_an_error_or_in_the_honest_tree(
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let (mut blocks, totals) = honest();
        for (block, byte, value) in flips {
            let count = blocks.len();
            let block = &mut blocks[block.index(count)];
            let len = block.len();
            // Half of the damage in the first bytes, where the records' frames are.
            let index = byte.index(if value.is_multiple_of(2) { len } else { len.min(150) });
            block[index] = value;
        }
        if let Ok(summary) = Cage::new().put(blocks) {
            prop_assert_eq!(summary.totals, totals);
        }
    }

    #[test]
    fn random_records_never_panic(
        records in proptest::collection::vec((0u8..20, proptest::collection::vec(any::<u8>(), 0..80)), 0..40),
    ) {
        let mut stream = block::start(1000);
        root(&mut stream);
        for (kind, body) in records {
            stream.push(kind | if body.len().is_multiple_of(7) { 0x80 } else { 0 });
            stream.extend_from_slice(&u32::try_from(body.len()).unwrap().to_le_bytes());
            stream.extend_from_slice(&body);
        }
        block::seal_plain(&mut stream);
        prop_assert!(Cage::new().put(vec![stream]).is_err());
    }
}
