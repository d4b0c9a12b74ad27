//! Depth and number: paths beyond `PATH_MAX`, few descriptors, many files, little memory.

use std::fs;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};

use crate::copies::{Volume, copy, require_root, shell};
use crate::facts::{COMMON_FLAGS, assert_same};

/// `levels` directories, each in the one before, with a file in every hundredth.
fn make_deep(root: &Path, name: &str, levels: u32) {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut dir = openat(CWD, root, flags, Mode::empty()).unwrap();
    for level in 0..levels {
        mkdirat(&dir, name, Mode::from_raw_mode(0o755)).unwrap();
        dir = openat(&dir, name, flags, Mode::empty()).unwrap();
        if level % 100 == 0 {
            let create = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
            let file = openat(&dir, "file", create, Mode::from_raw_mode(0o640)).unwrap();
            rustix::io::write(&file, &level.to_le_bytes()).unwrap();
            mkdirat(&dir, "beside", Mode::from_raw_mode(0o700)).unwrap();
        }
    }
}

#[test]
fn paths_far_beyond_path_max_arrive() {
    require_root();
    let (golden, clone) = (Volume::new("ext4"), Volume::new("xfs"));
    make_deep(golden.path(), "d", 3000);
    make_deep(golden.path(), &"long".repeat(60), 30);
    let copied = copy(golden.path(), clone.path());
    assert!(copied.sent.problems.is_empty(), "{:?}", copied.sent.problems);
    // find and md5sum go down step by step and care for no PATH_MAX.
    let list = "find . -printf '%d %y %m %T@ %f\\n' | sort | md5sum";
    assert_eq!(shell(golden.path(), list), shell(clone.path(), list));
    let content = "find . -type f -execdir md5sum {} \\; | sort | md5sum";
    assert_eq!(shell(golden.path(), content), shell(clone.path(), content));
}

#[test]
fn a_process_that_may_open_few_files_copies_deep_and_wide_trees_all_the_same() {
    require_root();
    let (golden, clone) = (Volume::new("ext4"), Volume::new("ext4"));
    make_deep(golden.path(), "d", 900);
    for dir in 0..3000 {
        let dir = golden.path().join(format!("wide/{dir}"));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("file"), "x").unwrap();
        rustix::fs::symlink("x", dir.join("link")).unwrap();
    }
    copy_alone(&golden, &clone, "ulimit -n 256;");
    let list = "find . -printf '%d %y %m %T@ %f\\n' | sort | md5sum";
    assert_eq!(shell(golden.path(), list), shell(clone.path(), list));
}

/// Copies in a process of its own, behind these words of a shell. They set limits, and variables of
/// [`copies_what_the_environment_says`].
fn copy_alone(golden: &Volume, clone: &Volume, words: &str) {
    let program = std::env::current_exe().unwrap();
    let run = format!(
        "{words} KA_FROM={:?} KA_TO={:?} exec {program:?} --ignored --exact deep::copies_what_the_environment_says",
        golden.path(),
        clone.path()
    );
    shell(golden.path(), &run);
}

/// Not a test of its own: the part of others that runs in a process with its own limits, and whose memory is
/// its own.
#[test]
#[ignore = "run by other tests"]
fn copies_what_the_environment_says() {
    let path = |name: &str| std::path::PathBuf::from(std::env::var_os(name).unwrap());
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let before = ka_host::system::peak_memory_bytes();
    let copied = copy(&path("KA_FROM"), &path("KA_TO"));
    let grown = ka_host::system::peak_memory_bytes().saturating_sub(before);
    assert!(copied.sent.problems.is_empty(), "{:?}", copied.sent.problems);
    assert!(number("KA_FILES").is_none_or(|files| copied.sent.totals.files == files));
    assert!(
        number("KA_MOST_BYTES").is_none_or(|most| grown < most),
        "{grown} bytes more"
    );
}

#[test]
fn a_hundred_thousand_tiny_files_need_little_memory() {
    require_root();
    let golden = Volume::with("ext4", 2 << 30, &["-q", "-N", "200000"], "noatime");
    let clone = Volume::with("ext4", 2 << 30, &["-q", "-N", "200000"], "noatime");
    let all_in_one = golden.path().join("flat");
    fs::create_dir(&all_in_one).unwrap();
    for number in 0..60_000 {
        fs::write(all_in_one.join(number.to_string()), number.to_string()).unwrap();
    }
    for dir in 0..2000 {
        let dir = golden.path().join(format!("nested{}/{dir}", dir % 7));
        fs::create_dir_all(&dir).unwrap();
        (0..20).for_each(|number| fs::write(dir.join(number.to_string()), "x").unwrap());
    }
    let most = 64 << 20;
    copy_alone(&golden, &clone, &format!("KA_FILES=100000 KA_MOST_BYTES={most}"));
    assert_same(golden.path(), clone.path(), COMMON_FLAGS);
}

#[test]
fn many_hard_links_across_directories_keep_their_identity() {
    require_root();
    let (golden, clone) = (Volume::new("ext4"), Volume::new("btrfs"));
    let root = golden.path();
    for dir in 0..40 {
        fs::create_dir(root.join(dir.to_string())).unwrap();
    }
    for number in 0..5000 {
        let first = root.join(format!("{}/{number}", number % 40));
        fs::write(&first, number.to_string()).unwrap();
        fs::hard_link(&first, root.join(format!("{}/{number}", (number + 1) % 40))).unwrap();
        fs::hard_link(&first, root.join(format!("{}/{number}-too", (number + 20) % 40))).unwrap();
    }
    copy(root, clone.path());
    assert_same(root, clone.path(), COMMON_FLAGS);
}
