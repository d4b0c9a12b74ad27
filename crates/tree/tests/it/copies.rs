//! File systems for tests, and a copy through the stream within one process.

use std::path::Path;
use std::thread;

use crossbeam_channel::bounded;
use ka_lab::disk::{Disk, GIB};
use ka_lab::mounts::Mounted;
use ka_lab::process::Program;
use ka_lab::scratch::Scratch;
use ka_tree::tree::{
    RestoreOptions, RestoreSummary, SendOptions, SendSummary, TreeSource, TreeTarget, read_back, restore,
    send,
};
use ka_tree::{Progress, RestoreError};

/// A file system on a loop device, mounted; everything goes when it is dropped, in this order.
pub(crate) struct Volume {
    mount: Mounted,
    _disk: Option<Disk>,
    _dir: Scratch,
}

impl Volume {
    /// 2 GiB, sparse, formatted by the system's own tool.
    pub(crate) fn new(kind: &str) -> Self {
        Self::with(kind, 2 * GIB, &[], "noatime")
    }

    pub(crate) fn with(kind: &str, bytes: u64, mkfs: &[&str], options: &str) -> Self {
        let dir = Scratch::new("volume").unwrap();
        let disk = Disk::new(&dir, "disk", bytes, 512).unwrap();
        Program::new(format!("mkfs.{kind}"))
            .args(mkfs)
            .arg(disk.checked().unwrap())
            .run()
            .unwrap();
        let mount = Mounted::of_type(kind, disk.device(), &dir.path().join("mnt"), options).unwrap();
        // Made by mkfs.ext4 only; without it trees of different file systems compare.
        let _ = std::fs::remove_dir(mount.point().join("lost+found"));
        Self {
            mount,
            _disk: Some(disk),
            _dir: dir,
        }
    }

    /// Returns a file system without a device (`tmpfs`, `ramfs`).
    pub(crate) fn virtual_one(kind: &str) -> Self {
        let dir = Scratch::new("volume").unwrap();
        let mount = Mounted::of_type(kind, Path::new("none"), &dir.path().join("mnt"), "rw").unwrap();
        Self {
            mount,
            _disk: None,
            _dir: dir,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.mount.point()
    }
}

/// Both sides of a copy.
pub(crate) struct Copied {
    pub(crate) sent: SendSummary,
    pub(crate) restored: RestoreSummary,
}

/// Copies with default options.
pub(crate) fn copy(from: &Path, to: &Path) -> Copied {
    copy_with(from, to, &options_for(from)).unwrap()
}

/// Copies a tree that nothing is wrong with to a file system that can take all of it.
pub(crate) fn copy_silently(from: &Volume, to: &Volume) -> Copied {
    let copied = copy(from.path(), to.path());
    assert!(copied.sent.problems.is_empty(), "{:?}", copied.sent.problems);
    let warnings = &copied.restored.warnings;
    assert!(warnings.is_empty(), "{warnings:?}");
    copied
}

pub(crate) fn options_for(root: &Path) -> SendOptions {
    SendOptions {
        golden_root: root.to_path_buf(),
        ..SendOptions::default()
    }
}

pub(crate) fn copy_with(from: &Path, to: &Path, options: &SendOptions) -> Result<Copied, RestoreError> {
    let sources = [TreeSource {
        mount_id: 7,
        root: from.to_path_buf(),
    }];
    let targets = [TreeTarget {
        mount_id: 7,
        root: to.to_path_buf(),
    }];
    let (blocks, received) = bounded::<Vec<u8>>(8);
    thread::scope(|scope| {
        let sources = &sources;
        let sender = scope.spawn(move || {
            let emit = |block: Vec<u8>| {
                assert!(
                    block.len() <= ka_tree::MAX_BLOCK_BYTES,
                    "a block of {} bytes",
                    block.len()
                );
                blocks.send(block).map_err(std::io::Error::other)
            };
            send(sources, options, emit, &Progress::new())
        });
        let options = RestoreOptions {
            threads: 3,
            keep_ledger: true,
        };
        let restored = restore(&targets, &options, || Ok(received.recv().ok()), &Progress::new());
        drop(received);
        let sent = sender.join().unwrap();
        let restored = restored?;
        let sent = sent.unwrap();
        assert_eq!(sent.totals, restored.totals);
        assert_eq!(differences(to, &restored), "", "read back at once");
        Ok(Copied { sent, restored })
    })
}

/// Returns the differences between a copy as it is read back and as it was written.
pub(crate) fn differences(to: &Path, restored: &RestoreSummary) -> String {
    let trees = [TreeSource {
        mount_id: 7,
        root: to.to_path_buf(),
    }];
    let ledger = restored.ledger.as_ref().unwrap();
    let read = read_back(&trees, to, ledger, &[], |_| Ok(()), &Progress::new()).unwrap();
    read.differences.to_string()
}

/// Runs a shell script in `dir` with the system's tools; they are the independent opinion.
pub(crate) fn shell(dir: &Path, script: &str) -> String {
    let script = format!("set -eu\ncd \"$1\"\n{script}");
    Program::new("bash")
        .args(["-c", &script, "bash"])
        .arg(dir)
        .run()
        .unwrap()
}

/// Returns the changes that `rsync` would still make. It compares everything it knows, content included.
pub(crate) fn rsync_differences(from: &Path, to: &Path, more: &[&str]) -> String {
    let slash = |path: &Path| format!("{}/", path.display());
    let args = [
        "-aHAXn",
        "--delete",
        "--checksum",
        "--itemize-changes",
        "--one-file-system",
    ];
    Program::new("rsync")
        .args(args)
        .args(more)
        .arg(slash(from))
        .arg(slash(to))
        .run()
        .unwrap()
}

/// Stops a test that needs devices and owners where it cannot have them: a skipped test is not a passed one.
pub(crate) fn require_root() {
    assert!(
        ka_host::system::is_root(),
        "loop devices need root: run `cargo xtask test`"
    );
}
