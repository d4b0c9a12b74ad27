//! The features that only btrfs has: subvolumes and its own flags.

use std::fs;

use ka_tree::WarningKind;

use crate::copies::{Volume, copy, copy_silently, require_root, shell};
use crate::facts::{COMMON_FLAGS, assert_same};

/// Compress, do not compress, no copy on write.
const BTRFS_FLAGS: u32 = COMMON_FLAGS | 0x4 | 0x400 | 0x80_0000;

fn golden() -> Volume {
    let golden = Volume::new("btrfs");
    shell(
        golden.path(),
        "btrfs -q subvolume create @home; echo x > @home/file; mkdir @home/d; btrfs -q subvolume create @home/d/inner
         echo y > @home/d/inner/file; chown 5:6 @home; chmod 0711 @home; ln @home/file @home/d/link
         btrfs -q subvolume create frozen; echo z > frozen/file; btrfs property set frozen ro true
         touch nocow; chattr +C nocow; head -c 100000 /dev/urandom > nocow; mkdir squeezed; chattr +c squeezed
         head -c 400000 /dev/zero > squeezed/zeros; btrfs property set squeezed compression zstd
         head -c 900000 /dev/urandom > plain-in-nocow; mkdir nocowdir; chattr +C nocowdir; cp --reflink=never plain-in-nocow nocowdir/big",
    );
    golden
}

#[test]
fn subvolumes_and_flags_arrive_on_btrfs() {
    require_root();
    let (golden, clone) = (golden(), Volume::new("btrfs"));
    copy_silently(&golden, &clone);
    assert_same(golden.path(), clone.path(), BTRFS_FLAGS);
    let list = "btrfs subvolume list . | sed 's/.* path //' | sort; btrfs property get frozen ro";
    assert_eq!(shell(golden.path(), list), shell(clone.path(), list));
    assert!(
        fs::write(clone.path().join("frozen/new"), "").is_err(),
        "a read-only subvolume stays so"
    );
}

#[test]
fn subvolumes_become_directories_elsewhere_with_a_warning() {
    require_root();
    let (golden, clone) = (golden(), Volume::new("ext4"));
    let copied = copy(golden.path(), clone.path());
    let subvolumes = copied
        .restored
        .warnings
        .iter()
        .find(|warning| warning.kind == WarningKind::Subvolume);
    assert_eq!(subvolumes.unwrap().count, 3);
    assert_eq!(fs::read(clone.path().join("@home/d/inner/file")).unwrap(), b"y\n");
    assert_eq!(shell(clone.path(), "stat -c '%u:%g %a' @home"), "5:6 711\n");
}
