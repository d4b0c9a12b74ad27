//! The comparison of the data read back with the data written. Every fault between them is found and named.
//! All other tests here assert that a good copy reads back well, on every file system and with everything in
//! it (`copies::copy_with`).

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;

use ka_lab::disk::{Disk, MIB};
use ka_lab::mounts::Mounted;
use ka_lab::process::Program;
use ka_lab::scratch::Scratch;
use ka_tree::tree::{Differences, TreeSource, read_back};
use ka_tree::{Progress, SendError};

use crate::copies::{Copied, Volume, copy, differences, require_root, shell};

fn golden() -> Volume {
    let golden = Volume::new("ext4");
    let root = golden.path();
    fs::create_dir_all(root.join("etc/deep")).unwrap();
    for name in ["a", "b", "etc/c", "etc/deep/d"] {
        fs::write(root.join(name), format!("content of {name}")).unwrap();
    }
    fs::write(root.join("large"), vec![7; 2_000_000]).unwrap();
    fs::hard_link(root.join("a"), root.join("etc/a-too")).unwrap();
    symlink("a", root.join("link")).unwrap();
    shell(
        root,
        "setfattr -n user.x -v y b; mkfifo fifo; truncate -s 10M holes",
    );
    golden
}

/// Copies, does `harm` to the clone, and expects that exactly this is told.
fn expect(harm: &str, told: &[&str]) {
    let golden = golden();
    let clone = Volume::new("xfs");
    let Copied { restored, .. } = copy(golden.path(), clone.path());
    shell(clone.path(), harm);
    let found = differences(clone.path(), &restored);
    let mut found: Vec<_> = found.split("; ").collect();
    found.sort_unstable();
    assert_eq!(found, told, "after {harm}");
}

const META: &str = "its owner, mode, times, attributes or flags are not what was written";
const CONTENT: &str = "its content is not what was written";

#[test]
fn a_byte_that_changed_is_found_in_small_and_large_files() {
    require_root();
    for (file, at) in [("b", 3), ("large", 1_999_999), ("holes", 5_000_000), ("etc/c", 0)] {
        // The file's time is put back: only the content tells.
        let harm = format!(
            "touch -r {file} /tmp/ka-{at}-ref; printf X | dd of={file} bs=1 seek={at} conv=notrunc status=none
             touch -r /tmp/ka-{at}-ref {file}; rm /tmp/ka-{at}-ref"
        );
        expect(&harm, &[&format!("/{file}: {CONTENT}")]);
    }
}

#[test]
fn every_name_of_a_file_is_told() {
    require_root();
    expect(
        "printf X | dd of=a bs=1 conv=notrunc status=none",
        &[&format!("/a: {CONTENT}"), &format!("/etc/a-too: {CONTENT}")],
    );
}

#[test]
fn owner_mode_times_attributes_and_flags_are_compared() {
    require_root();
    for (harm, path) in [
        ("chown 1:0 b", "/b"),
        ("chgrp 1 b", "/b"),
        ("chmod 600 b", "/b"),
        ("touch -m -d '2001-02-03' b", "/b"),
        ("touch -a -d '2001-02-03' b", "/b"),
        ("setfattr -n user.x -v z b", "/b"),
        ("setfattr -x user.x b", "/b"),
        ("setfattr -n user.new -v z large", "/large"),
        ("chattr +A b", "/b"),
        ("chmod 700 etc/deep", "/etc/deep"),
        ("chown -h 5 link", "/link"),
        ("chmod 700 fifo", "/fifo"),
        ("chmod 700 .", "/"),
    ] {
        expect(harm, &[&format!("{path}: {META}")]);
    }
}

#[test]
fn what_is_missing_or_should_not_be_there_is_told() {
    require_root();
    expect("rm b", &["/: 6 of its 7 entries are there"]);
    expect("rm -r etc/deep", &["/etc: 2 of its 3 entries are there"]);
    expect(
        "touch -r etc a-ref; touch etc/new; mkdir etc/dir; touch etc/dir/more; touch -r a-ref etc; rm a-ref; touch -r a .",
        &[
            &format!("/: {META}"),
            "/etc/dir: the golden node has no such file",
            "/etc/new: the golden node has no such file",
        ],
    );
    expect(
        "mv link keep; ln -s b link; touch -h -r keep link; rm keep; touch -r a .",
        &[&format!("/: {META}"), &format!("/link: {CONTENT}")],
    );
}

#[test]
fn more_differences_than_anybody_reads_are_counted() {
    require_root();
    let golden = Volume::new("ext4");
    for number in 0..50 {
        fs::write(golden.path().join(format!("f{number}")), "x").unwrap();
    }
    let clone = Volume::new("ext4");
    let Copied { restored, .. } = copy(golden.path(), clone.path());
    shell(clone.path(), "for f in f*; do echo y > $f; done");
    let told = differences(clone.path(), &restored);
    assert_eq!(told.split("; ").count(), 21, "{told}");
    assert!(told.ends_with("; and 30 more"), "{told}");
}

/// The disk itself is at fault: the file beneath the loop device changes while nothing is mounted.
#[test]
fn a_sector_that_the_disk_spoilt_is_found_and_named() {
    require_root();
    let golden = golden();
    let scratch = Scratch::new("spoilt").unwrap();
    let disk = Disk::new(&scratch, "disk", 256 * MIB, 512).unwrap();
    Program::new("mkfs.ext4")
        .arg("-q")
        .arg(disk.checked().unwrap())
        .run()
        .unwrap();
    let at = scratch.path().join("mnt");
    let mount = |options| Mounted::new(disk.device(), &at, options).unwrap();
    let mounted = mount("noatime");
    let Copied { restored, .. } = copy(golden.path(), &at);
    drop(mounted);
    spoil(disk.file(), b"content of etc/deep/d");
    let _mounted = mount("ro,noatime");
    assert_eq!(differences(&at, &restored), format!("/etc/deep/d: {CONTENT}"));
}

/// Changes the bytes of `file` that hold `text`.
fn spoil(file: &Path, text: &[u8]) {
    let bytes = fs::read(file).unwrap();
    let at = bytes
        .windows(text.len())
        .rposition(|window| window == text)
        .unwrap();
    let file = OpenOptions::new().write(true).open(file).unwrap();
    file.write_all_at(b"CONTENT", at as u64).unwrap();
    file.sync_all().unwrap();
}

#[test]
fn the_caller_can_end_it() {
    require_root();
    let (golden, clone) = (golden(), Volume::new("ext4"));
    let Copied { restored, .. } = copy(golden.path(), clone.path());
    let trees = [TreeSource {
        mount_id: 7,
        root: clone.path().to_path_buf(),
    }];
    let enough = |_: &Differences| Err(io::Error::other("enough"));
    let ended = read_back(
        &trees,
        clone.path(),
        restored.ledger.as_ref().unwrap(),
        &[],
        enough,
        &Progress::new(),
    );
    assert!(matches!(ended, Err(SendError::Emit(error)) if error.to_string() == "enough"));
}

#[test]
fn vfat_is_read_back_by_content() {
    require_root();
    if !Path::new("/sbin/mkfs.vfat").exists()
        || !fs::read_to_string("/proc/filesystems").unwrap().contains("vfat")
    {
        // This kernel cannot mount it; the machines of tests/qemu do.
        return;
    }
    let clone = Volume::with("vfat", 64 << 20, &[], "noatime");
    let golden = Volume::new("ext4");
    fs::write(golden.path().join("a"), "x").unwrap();
    let Copied { restored, .. } = copy(golden.path(), clone.path());
    assert_eq!(restored.ledger.as_ref().unwrap().content_only(), 2);
    shell(clone.path(), "printf y > a");
    assert_eq!(differences(clone.path(), &restored), format!("/a: {CONTENT}"));
}
