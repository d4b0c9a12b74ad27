//! Targets that cannot take everything: full, or of another kind.

use std::fs;

use ka_tree::{RestoreError, WarningKind};

use crate::copies::{Volume, copy, copy_with, options_for, require_root, shell};

#[test]
fn a_full_target_ends_with_one_reason_that_names_the_file() {
    require_root();
    let golden = Volume::new("ext4");
    for number in 0..60 {
        fs::write(golden.path().join(format!("f{number}")), vec![b'x'; 1 << 20]).unwrap();
    }
    let clone = Volume::with("ext4", 32 << 20, &["-q"], "noatime");
    let Err(error) = copy_with(golden.path(), clone.path(), &options_for(golden.path())) else {
        panic!("60 MiB fit into 32");
    };
    assert!(
        matches!(&error, RestoreError::Full { path } if path.starts_with(clone.path())),
        "{error}"
    );
    assert!(error.to_string().contains("use a larger disk"), "{error}");
}

#[test]
fn a_target_without_inodes_left_is_full() {
    require_root();
    let golden = Volume::new("ext4");
    (0..500).for_each(|number| fs::write(golden.path().join(number.to_string()), "").unwrap());
    let clone = Volume::with("ext4", 32 << 20, &["-q", "-N", "100"], "noatime");
    let error = copy_with(golden.path(), clone.path(), &options_for(golden.path()))
        .err()
        .unwrap();
    assert!(matches!(error, RestoreError::Full { .. }), "{error}");
}

#[test]
fn what_a_file_system_cannot_hold_is_counted_with_an_example() {
    require_root();
    let golden = Volume::new("ext4");
    shell(
        golden.path(),
        "for f in a b c; do echo $f > $f; setfattr -n user.x -v y $f; done
         setfacl -m u:5:r a; chattr +d b; ln -s x link; mkdir d; setfattr -n security.selinux -v l d",
    );
    let clone = Volume::virtual_one("ramfs");
    let copied = copy(golden.path(), clone.path());
    let of = |kind: &WarningKind| {
        copied
            .restored
            .warnings
            .iter()
            .find(|warning| warning.kind == *kind)
    };
    assert_eq!(of(&WarningKind::Xattr("user".into())).unwrap().count, 3);
    assert_eq!(of(&WarningKind::Acl).unwrap().example, clone.path().join("a"));
    assert!(of(&WarningKind::SelinuxLabel).is_some());
    assert!(of(&WarningKind::Flag("d (no dump)")).is_some());
    let text = of(&WarningKind::Acl).unwrap().to_string();
    assert!(
        text.starts_with("ACL not supported by ") && text.contains("1 entry, e.g. "),
        "{text}"
    );
    assert_eq!(fs::read(clone.path().join("c")).unwrap(), b"c\n");
}

#[test]
fn an_attribute_too_large_for_the_target_is_a_warning_and_not_a_full_disk() {
    require_root();
    let (golden, clone) = (Volume::new("xfs"), Volume::new("ext4"));
    fs::write(golden.path().join("f"), "").unwrap();
    let value = vec![b'v'; 30_000];
    rustix::fs::setxattr(
        golden.path().join("f"),
        "user.big",
        &value,
        rustix::fs::XattrFlags::empty(),
    )
    .unwrap();
    let copied = copy(golden.path(), clone.path());
    let warnings = &copied.restored.warnings;
    assert!(
        warnings
            .iter()
            .any(|warning| warning.kind == WarningKind::Xattr("user".into())),
        "{warnings:?}"
    );
}

#[test]
fn nothing_that_is_there_is_overwritten() {
    require_root();
    let (golden, clone) = (Volume::new("ext4"), Volume::new("ext4"));
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("victim"), "untouched").unwrap();
    fs::write(golden.path().join("victim"), "from the stream").unwrap();
    std::os::unix::fs::symlink(outside.path().join("victim"), clone.path().join("victim")).unwrap();
    let error = copy_with(golden.path(), clone.path(), &options_for(golden.path()))
        .err()
        .unwrap();
    assert!(error.to_string().contains("victim"), "{error}");
    assert_eq!(fs::read(outside.path().join("victim")).unwrap(), b"untouched");

    let clone = Volume::new("ext4");
    fs::remove_file(golden.path().join("victim")).unwrap();
    fs::create_dir(golden.path().join("dir")).unwrap();
    fs::write(golden.path().join("dir/escaped"), "from the stream").unwrap();
    std::os::unix::fs::symlink(outside.path(), clone.path().join("dir")).unwrap();
    assert!(copy_with(golden.path(), clone.path(), &options_for(golden.path())).is_err());
    assert!(!outside.path().join("escaped").exists());
}
