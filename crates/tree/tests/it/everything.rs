//! Everything that a file system can store about an entry, between the file systems that we clone.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use ka_lab::mounts::Mounted;
use ka_lab::tree::hostile_within_path_max;

use crate::copies::{
    Volume, copy, copy_silently, copy_with, options_for, require_root, rsync_differences, shell,
};
use crate::facts::{COMMON_FLAGS, assert_same};

/// Makes the lab's hostile tree, and adds what not every golden system of the lab can hold: labels, attributes
/// beyond a small block, access times of their own.
fn make_golden(root: &Path) {
    hostile_within_path_max(root).unwrap();
    shell(
        root,
        "
        mkdir -m 1777 modes/sticky; mkdir -m 2770 modes/group; chown 0:1000 modes/group; mkdir -m 0 modes/closed
        chown 5:6 special/null; chmod 0666 special/null
        head -c 300000 /dev/urandom > links/large; ln links/large links/other/large-too
        setfattr -n security.selinux -v system_u:object_r:etc_t:s0 sizes/4095
        setfattr -n user.big -v $(head -c 2000 /dev/zero | tr '\\0' v) sizes/4095
        setfattr -n trusted.t -v 0x00ff00 links; setfacl -m u:7:rwx links; setfacl -d -m u:8:rx,g::w,o::- links
        printf x | dd of=sparse/middle bs=1 seek=30M conv=notrunc status=none; truncate -s 60M sparse/middle
        cp sizes/1 flags/linked; ln flags/linked flags/linked-too; chattr +i flags/linked
        touch -h -d '1969-07-20 20:17:40.123456789' links/dangling special/fifo
        touch -d '2040-01-01 00:00:00.999999999' sizes/1 modes/closed
        touch -a -d '2001-02-03 04:05:06.7' sizes/4096
        ",
    );
}

/// Data runs and flags are asked for by the walk in `facts`; these tools speak for themselves.
fn tools_agree(golden: &Path, clone: &Path) {
    for script in [
        "getfacl -R -n -p . 2>/dev/null | sort | md5sum",
        "getcap attributes/capable",
        "lsattr -d flags/* | tr -d e-",
        "stat -c '%n %y %x %f %t %T' special/* sparse/* links links/dangling",
    ] {
        assert_eq!(shell(golden, script), shell(clone, script), "{script}");
    }
}

fn round_trip(from: &str, to: &str) {
    require_root();
    let golden = Volume::new(from);
    make_golden(golden.path());
    let clone = Volume::new(to);
    copy_silently(&golden, &clone);
    assert_same(golden.path(), clone.path(), COMMON_FLAGS);
    let differences = rsync_differences(
        golden.path(),
        clone.path(),
        // Compared without reading 9 GiB above; XFS shows its ACLs twice.
        &["--exclude=over-8-gib", "--filter=-x trusted.SGI_ACL*"],
    );
    assert_eq!(differences, "");
    tools_agree(golden.path(), clone.path());
    assert!(
        shell(
            clone.path(),
            "du -m sparse/over-8-gib sparse/middle sparse/one-hole | cut -f1"
        )
        .split_whitespace()
        .all(|mib| mib < "2")
    );
}

#[test]
fn everything_arrives_from_ext4_on_ext4() {
    round_trip("ext4", "ext4");
}

#[test]
fn everything_arrives_from_ext4_on_xfs() {
    round_trip("ext4", "xfs");
}

#[test]
fn everything_arrives_from_xfs_on_btrfs() {
    round_trip("xfs", "btrfs");
}

#[test]
fn everything_arrives_from_btrfs_on_ext4() {
    round_trip("btrfs", "ext4");
}

#[test]
fn a_clone_of_the_clone_has_the_same_digest() {
    require_root();
    let (golden, clone, again) = (Volume::new("ext4"), Volume::new("ext4"), Volume::new("ext4"));
    make_golden(golden.path());
    // Which name of several comes first depends on the order of the directory.
    shell(
        golden.path(),
        "chattr -i flags/linked flags/immutable-dir; rm flags/linked-too flags/immutable-dir/child-again
         cd links; rm two other/three other/large-too dangling-2; rm ../special/null-again ../special/fifo-again",
    );
    let first = copy(golden.path(), clone.path());
    let second = copy(clone.path(), again.path());
    assert_eq!(first.sent.totals, second.sent.totals);
}

#[test]
fn every_block_size_thread_count_and_compression_gives_the_same_tree() {
    require_root();
    let golden = Volume::new("ext4");
    make_golden(golden.path());
    for (threads, block_bytes, compress) in [
        (1, 0, ka_tree::Compress::Always),
        (5, 100_000, ka_tree::Compress::Never),
        (2, 1 << 20, ka_tree::Compress::Auto),
    ] {
        let clone = Volume::new("ext4");
        let options = ka_tree::tree::SendOptions {
            threads,
            block_bytes,
            compress,
            ..options_for(golden.path())
        };
        copy_with(golden.path(), clone.path(), &options).unwrap();
        assert_same(golden.path(), clone.path(), COMMON_FLAGS);
    }
}

#[test]
fn project_ids_and_their_inheritance_arrive_where_both_sides_have_them() {
    require_root();
    let (golden, clone) = (Volume::new("xfs"), Volume::new("xfs"));
    let script = "mkdir p; chattr -p 42 +P p; touch p/in; mkdir p/d; touch p/d/deep; ln p/in p/d/in";
    shell(golden.path(), script);
    copy_silently(&golden, &clone);
    let list = "lsattr -p -d p p/in p/d p/d/deep";
    assert!(shell(golden.path(), list).contains("42"));
    assert_eq!(shell(golden.path(), list), shell(clone.path(), list));
}

#[test]
fn excluded_skipped_mounted_and_kernel_directories_leave_only_what_they_should() {
    require_root();
    let golden = Volume::new("ext4");
    let root = golden.path();
    shell(
        root,
        "mkdir -p proc sys dev run/lock var/cache/deep var/spool mnt home; echo x > proc/x; echo x > dev/null
         echo x > run/lock/x; echo x > var/cache/deep/x; echo x > swapfile; echo x > var/spool/ours; echo x > mnt/under
         chmod 0711 var/cache; setfattr -n user.kept -v y var/cache; mkdir var/sys; echo kept > var/sys/x",
    );
    let other = Mounted::of_type("tmpfs", Path::new("none"), &root.join("mnt"), "mode=0750").unwrap();
    fs::write(root.join("mnt/on-tmpfs"), "x").unwrap();
    let bind = Mounted::new(&root.join("var"), &root.join("home"), "bind").unwrap();
    let clone = Volume::new("ext4");
    let options = ka_tree::tree::SendOptions {
        excluded: vec![root.join("var/cache")],
        skip: vec![root.join("swapfile"), root.join("var/spool/ours")],
        ..options_for(root)
    };
    let copied = copy_with(root, clone.path(), &options).unwrap();
    drop((other, bind));
    assert!(copied.sent.problems.is_empty());
    let list = shell(clone.path(), "find . | LC_ALL=C sort");
    let expected =
        ". ./dev ./home ./mnt ./proc ./run ./sys ./var ./var/cache ./var/spool ./var/sys ./var/sys/x";
    assert_eq!(list.split_whitespace().collect::<Vec<_>>().join(" "), expected);
    assert_eq!(
        shell(
            clone.path(),
            "stat -c %a mnt var/cache; getfattr --only-values -n user.kept var/cache"
        ),
        "750\n711\ny"
    );
}

#[test]
fn content_written_behind_a_hole_stays_where_it_was() {
    require_root();
    let (golden, clone) = (Volume::new("xfs"), Volume::new("ext4"));
    let file = File::create(golden.path().join("many-holes")).unwrap();
    for piece in 0..200u64 {
        file.write_all_at(&piece.to_le_bytes(), piece * 3_333_333)
            .unwrap();
    }
    drop(file);
    copy(golden.path(), clone.path());
    assert_same(golden.path(), clone.path(), COMMON_FLAGS);
}
