//! Trees with links that lead out, and what changing a file leaves as it was.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::{Duration, SystemTime};

use super::*;

#[test]
fn an_absolute_link_stays_inside_the_tree() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("etc")).unwrap();
    std::fs::write(dir.path().join("etc/passwd"), "inside").unwrap();
    symlink("/etc/passwd", dir.path().join("link")).unwrap();
    symlink("../../../../etc", dir.path().join("up")).unwrap();
    let root = Root::open(dir.path()).unwrap();
    for path in ["/link", "/up/passwd", "etc/passwd", "/../../etc/passwd"] {
        assert_eq!(root.read(path).unwrap().unwrap(), b"inside", "{path}");
    }
    assert_eq!(
        root.real_dir(Path::new("/up")).unwrap(),
        dir.path().canonicalize().unwrap().join("etc")
    );
    assert!(root.real_dir(Path::new("/link")).is_err());
}

#[test]
fn a_part_of_a_file_ends_where_the_file_ends() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("image"), "0123456789").unwrap();
    let root = Root::open(dir.path()).unwrap();
    let part = |offset, len| root.read_part("/image", offset, len).unwrap().unwrap();
    assert_eq!(part(2, 3), b"234");
    assert_eq!(part(8, 100), b"89");
    assert_eq!(part(100, 1), b"");
    assert_eq!(root.read_part("/other", 0, 1).unwrap(), None);
}

#[test]
fn what_is_written_through_a_link_lands_inside_the_tree() {
    let dir = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    symlink(outside.path(), dir.path().join("etc")).unwrap();
    let root = Root::open(dir.path()).unwrap();
    // The link's target does not exist inside the tree.
    assert!(root.write(Path::new("/etc/hostname"), b"n1\n", 0o644).is_err());
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    let inner = dir.path().join(outside.path().strip_prefix("/").unwrap());
    std::fs::create_dir_all(&inner).unwrap();
    root.write(Path::new("/etc/hostname"), b"n1\n", 0o644).unwrap();
    assert_eq!(std::fs::read(inner.join("hostname")).unwrap(), b"n1\n");
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn making_and_removing_files_leaves_the_directorys_times() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("etc")).unwrap();
    let old = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
    let etc = File::open(dir.path().join("etc")).unwrap();
    etc.set_times(std::fs::FileTimes::new().set_modified(old))
        .unwrap();
    let root = Root::open(dir.path()).unwrap();
    root.write(Path::new("/etc/new/deep"), b"x", 0o600).unwrap();
    root.write(Path::new("/etc/file"), b"x", 0o600).unwrap();
    root.link("file", Path::new("/etc/link")).unwrap();
    root.remove(Path::new("/etc/file")).unwrap();
    root.remove(Path::new("/etc/never")).unwrap();
    assert_eq!(root.names("/etc"), ["link", "new"]);
    assert_eq!(root.kind("/etc/link"), Some(Kind::Link));
    assert!(!root.exists("/etc/link"));
    assert_eq!(etc.metadata().unwrap().modified().unwrap(), old);
    let mode = std::fs::metadata(dir.path().join("etc/new/deep"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o600);
}

#[test]
fn an_immutable_file_is_rewritten_and_stays_immutable() {
    let dir = tempfile::Builder::new()
        .tempdir_in(env!("CARGO_MANIFEST_DIR"))
        .unwrap();
    let path = dir.path().join("fstab");
    std::fs::write(&path, "old and longer").unwrap();
    let root = Root::open(dir.path()).unwrap();
    let file = File::open(&path).unwrap();
    let Ok(plain) = ioctl_getflags(&file) else { return };
    ioctl_setflags(&file, plain | IFlags::IMMUTABLE).unwrap();
    root.write(Path::new("/fstab"), b"new", 0o644).unwrap();
    let after = ioctl_getflags(&file).unwrap();
    ioctl_setflags(&file, plain).unwrap();
    assert!(after.contains(IFlags::IMMUTABLE));
    assert_eq!(std::fs::read(&path).unwrap(), b"new");
}

#[test]
fn pipes_and_endless_files_are_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    File::create(dir.path().join("long"))
        .unwrap()
        .set_len(MAX_TEXT_BYTES + 1)
        .unwrap();
    let root = Root::open(dir.path()).unwrap();
    assert_eq!(root.read("/fifo").unwrap(), None);
    assert!(root.read("/long").is_err());
    assert_eq!(root.read("/nothing/there").unwrap(), None);
}
