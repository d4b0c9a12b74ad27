//! A golden node that lives: files grow, shrink, vanish and appear while they are read.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use ka_lab::disk::{Disk, MIB};
use ka_lab::mounts::Mounted;
use ka_lab::scratch::Scratch;
use ka_tree::ProblemKind;

use crate::copies::{Volume, copy, require_root, shell};

fn fill(root: &Path) {
    for number in 0..300 {
        let dir = root.join(format!("d{}", number % 10));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(number.to_string()), vec![b'x'; 1000 + number * 5000]).unwrap();
    }
    fs::write(root.join("steady"), "steady").unwrap();
}

/// Until told to stop: appends, truncates, removes, makes and renames.
fn disturb(root: &Path, stop: &AtomicBool) {
    let mut round = 0usize;
    while !stop.load(Ordering::Relaxed) {
        round += 1;
        let path = root.join(format!("d{}/{}", round % 10, round % 300));
        if let Ok(mut file) = OpenOptions::new().append(true).open(&path) {
            let _ = file.write_all(&[b'y'; 3000]);
            if round.is_multiple_of(3) {
                let _ = file.set_len(500);
            }
        }
        if round.is_multiple_of(5) {
            let _ = fs::remove_file(&path);
        }
        let _ = fs::write(root.join(format!("d{}/new{}", round % 10, round % 50)), "new");
        if round.is_multiple_of(11) {
            let _ = fs::rename(root.join("d3"), root.join("d3-moved"));
            let _ = fs::rename(root.join("d3-moved"), root.join("d3"));
        }
    }
}

#[test]
fn a_tree_that_changes_all_the_time_is_copied_to_its_end() {
    require_root();
    let golden = Volume::new("ext4");
    fill(golden.path());
    let stop = AtomicBool::new(false);
    let mut seen = 0;
    thread::scope(|scope| {
        scope.spawn(|| disturb(golden.path(), &stop));
        for _ in 0..5 {
            let clone = Volume::new("ext4");
            let copied = copy(golden.path(), clone.path());
            seen += copied.sent.problems.count();
            assert_eq!(fs::read(clone.path().join("steady")).unwrap(), b"steady");
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(seen > 0, "nothing was seen to change");
}

/// The time of modification is put back after each write, as `cp -p`, `tar` and `rsync -t` do.
#[test]
fn a_rewrite_that_puts_the_time_back_is_seen() {
    require_root();
    let (golden, clone) = (Volume::new("ext4"), Volume::new("ext4"));
    let file = golden.path().join("state.db");
    fs::write(&file, vec![b'0'; 48 << 20]).unwrap();
    let time = fs::metadata(&file).unwrap().modified().unwrap();
    let stop = AtomicBool::new(false);
    let copied = thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let mut opened = OpenOptions::new().write(true).open(&file).unwrap();
                opened.write_all(&[b'1'; 4096]).unwrap();
                opened.set_modified(time).unwrap();
            }
        });
        let copied = copy(golden.path(), clone.path());
        stop.store(true, Ordering::Relaxed);
        copied
    });
    let problems = copied.sent.problems.kept();
    assert!(
        problems
            .iter()
            .any(|problem| problem.path == file && problem.kind == ProblemKind::Changed),
        "{problems:?}"
    );
    assert_eq!(copied.sent.problems.unreadable(), 0, "{problems:?}");
}

/// One write while it is read the first time: the second look finds it quiet.
#[test]
fn a_small_file_that_changes_once_arrives_whole() {
    require_root();
    let (golden, clone) = (Volume::new("ext4"), Volume::new("ext4"));
    let names: Vec<_> = (0..400)
        .map(|number| golden.path().join(format!("{number:03}")))
        .collect();
    for name in &names {
        fs::write(name, vec![b'a'; 200_000]).unwrap();
    }
    let copied = thread::scope(|scope| {
        scope.spawn(|| {
            for name in names.iter().rev() {
                fs::write(name, vec![b'b'; 200_000]).unwrap();
            }
        });
        copy(golden.path(), clone.path())
    });
    let torn: Vec<_> = copied
        .sent
        .problems
        .kept()
        .iter()
        .map(|problem| problem.path.clone())
        .collect();
    for name in names.iter().filter(|name| !torn.contains(name)) {
        let arrived = fs::read(clone.path().join(name.file_name().unwrap())).unwrap();
        let is_one = arrived.windows(2).all(|pair| pair[0] == pair[1]);
        assert!(is_one, "{} is torn and was not named", name.display());
    }
}

#[test]
fn a_file_that_grows_without_end_is_reported_by_name_and_arrives_as_it_was_begun() {
    require_root();
    let (golden, clone) = (Volume::new("ext4"), Volume::new("ext4"));
    let log = golden.path().join("var.log");
    fs::write(&log, vec![b'l'; 40 << 20]).unwrap();
    let stop = AtomicBool::new(false);
    let copied = thread::scope(|scope| {
        scope.spawn(|| {
            let mut file = OpenOptions::new().append(true).open(&log).unwrap();
            while !stop.load(Ordering::Relaxed) {
                file.write_all(b"one more line\n").unwrap();
            }
        });
        let copied = copy(golden.path(), clone.path());
        stop.store(true, Ordering::Relaxed);
        copied
    });
    let problems = copied.sent.problems.kept();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(
        (problems[0].path.clone(), &problems[0].kind),
        (log, &ProblemKind::Changed)
    );
    let arrived = fs::read(clone.path().join("var.log")).unwrap();
    assert!(arrived.len() >= 40 << 20 && arrived[..40 << 20].iter().all(|byte| *byte == b'l'));
}

/// Returns a disk whose file system has files `a` and `z`, one of no known type, and a large one at its end.
fn damaged_disk(scratch: &Scratch) -> Disk {
    let disk = Disk::new(scratch, "damaged", 64 * MIB, 512).unwrap();
    // Written to the file beneath, so that the kernel has nothing of it in its cache.
    let script = "mkdir tree; echo before > tree/a; echo after > tree/z; echo odd > tree/odd
        head -c 30M /dev/zero | tr '\\0' x > large
        mkfs.ext4 -q -O ^has_journal -d tree damaged.img
        debugfs -w -R 'write large large' damaged.img; debugfs -w -R 'sif odd mode 0170644' damaged.img";
    shell(scratch.path(), script);
    disk.reread().unwrap();
    disk
}

#[test]
fn what_cannot_be_read_is_named_and_the_rest_arrives() {
    require_root();
    let (scratch, clone) = (Scratch::new("damaged").unwrap(), Volume::new("ext4"));
    let disk = damaged_disk(&scratch);
    let golden = Mounted::new(disk.device(), &scratch.path().join("golden"), "ro").unwrap();
    // What lies behind the cut cannot be read any more: the loop device says EIO.
    OpenOptions::new()
        .write(true)
        .open(disk.file())
        .unwrap()
        .set_len(24 << 20)
        .unwrap();
    let copied = copy(golden.point(), clone.path());

    let problems = copied.sent.problems.kept();
    let of = |name: &str| {
        problems
            .iter()
            .find(|problem| problem.path == golden.point().join(name))
    };
    assert!(of("odd").is_some(), "{problems:?}");
    assert_eq!(copied.sent.problems.unreadable(), 2, "{problems:?}");
    let text = of("large").unwrap().to_string();
    assert!(text.contains("cannot be read: at byte "), "{text}");
    assert_eq!(fs::read(clone.path().join("z")).unwrap(), b"after\n");
    assert!(!clone.path().join("odd").exists());
    let large = fs::read(clone.path().join("large")).unwrap();
    assert!(large.len() == 30 << 20 && large[..1 << 20].iter().all(|byte| *byte == b'x'));
}
