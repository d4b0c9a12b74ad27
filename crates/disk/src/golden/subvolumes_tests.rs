//! Tests of the choice of subvolumes, with the layouts that distributions install.

use super::*;

fn subvolume(id: u64, path: &str) -> Subvolume {
    Subvolume {
        id,
        path: path.to_owned(),
        is_read_only: false,
        has_parent: false,
    }
}

fn snapshot(id: u64, path: &str) -> Subvolume {
    Subvolume {
        is_read_only: true,
        has_parent: true,
        ..subvolume(id, path)
    }
}

fn chosen(all: &[Subvolume], mounts: &[(&str, &str)]) -> Choice {
    let view = |(mount_point, subvolume): &(&'static str, &'static str)| View {
        mount_point,
        subvolume,
    };
    let mounts: Vec<(&'static str, &'static str)> = mounts
        .iter()
        .map(|(a, b)| (&*String::from(*a).leak(), &*String::from(*b).leak()))
        .collect();
    let views: Vec<View<'_>> = mounts.iter().map(view).collect();
    let points: Vec<&str> = mounts.iter().map(|(point, _)| *point).collect();
    choose(all, &views, &points, &[], false)
}

#[test]
fn the_list_is_understood() {
    let all = "ID 256 gen 8 top level 5 parent_uuid -                                    path @\n\
               ID 259 gen 7 top level 257 parent_uuid ee3ca968-cb83-644c-b02c-0632f2a655d6 path @/a path b\n";
    let found = parse(all, "ID 259 gen 7 top level 257 path @/a path b\n", "");
    assert_eq!(found, [subvolume(256, "@"), snapshot(259, "@/a path b")]);
}

#[test]
fn paths_within_the_mounted_subvolume_are_completed() {
    let all = "ID 256 gen 8 top level 5 parent_uuid - path root\nID 257 gen 8 top level 5 parent_uuid - path home\n\
               ID 258 gen 8 top level 256 parent_uuid - path pool/data\n\
               ID 259 gen 8 top level 258 parent_uuid - path pool/data/inner\n\
               ID 260 gen 8 top level 257 parent_uuid - path home/x\n";
    let paths = |mounted: &str| -> Vec<String> {
        let found = parse(all, "", mounted);
        found.into_iter().map(|subvolume| subvolume.path).collect()
    };
    assert_eq!(
        paths("root"),
        ["root", "home", "root/pool/data", "root/pool/data/inner", "home/x"]
    );
    assert_eq!(paths("")[2], "pool/data");
}

#[test]
fn the_snapper_layout_of_opensuse_keeps_its_root_and_leaves_the_other_snapshots() {
    let all = [
        subvolume(256, "@"),
        subvolume(257, "@/.snapshots"),
        subvolume(258, "@/.snapshots/1/snapshot"),
        subvolume(259, "@/home"),
        snapshot(260, "@/.snapshots/2/snapshot"),
        subvolume(261, "@/.snapshots/3/snapshot"),
        subvolume(262, "@/.snapshots/1/snapshot/var/lib/machines"),
    ];
    let choice = chosen(
        &all,
        &[
            ("/", "@/.snapshots/1/snapshot"),
            ("/.snapshots", "@/.snapshots"),
            ("/home", "@/home"),
        ],
    );
    assert_eq!(choice.travelling, [257, 258, 262, 259]);
    assert_eq!(
        choice.skipped,
        [Path::new("/.snapshots/2"), Path::new("/.snapshots/3")]
    );
    assert!(choice.unseen.is_empty(), "{choice:?}");
    let notes = choice.notes("/dev/sda2");
    let told =
        "on the btrfs of /dev/sda2 2 snapshots are left out: /.snapshots/2/snapshot, /.snapshots/3/snapshot;";
    assert!(notes[0].starts_with(told), "{notes:?}");
    let volume = Volume {
        device: "sda2".to_owned(),
        all: all.to_vec(),
        choice,
    };
    let mounted = ["@/.snapshots/1/snapshot", "@/.snapshots", "@/home"].map(str::to_owned);
    assert_eq!(
        volume.to_make(&mounted),
        ["@", "@/.snapshots", "@/.snapshots/1/snapshot", "@/home"]
    );
}

#[test]
fn what_no_mount_shows_is_named_and_snapshots_may_be_taken() {
    let all = [
        subvolume(256, "@"),
        subvolume(257, "@old"),
        subvolume(258, "timeshift-btrfs/snapshots/2026-01-01/@"),
        snapshot(259, "@/backup/monday"),
        subvolume(260, "@/var/lib/docker/btrfs/subvolumes/1"),
    ];
    let choice = chosen(&all, &[("/", "@")]);
    assert_eq!(choice.travelling, [256, 260]);
    assert_eq!(choice.skipped, [Path::new("/backup/monday")]);
    assert_eq!(choice.unseen, ["@old", "timeshift-btrfs/snapshots/2026-01-01/@"]);
    let views = [View {
        mount_point: "/",
        subvolume: "@",
    }];
    let taken = choose(&all, &views, &["/"], &[], true);
    assert_eq!(taken.travelling, [256, 259, 260]);
    assert!(taken.skipped.is_empty());
    let excluded = choose(&all, &views, &["/"], &[PathBuf::from("/backup")], false);
    assert!(excluded.snapshots.is_empty() && !excluded.travelling.contains(&259));
}

#[test]
fn a_top_level_beside_its_subvolumes_shows_what_no_other_line_brings() {
    let all = [
        subvolume(256, "@"),
        subvolume(257, "@home"),
        subvolume(258, "@/nested"),
        subvolume(259, "timeshift-btrfs/snapshots/x/@"),
    ];
    let choice = chosen(&all, &[("/", "@"), ("/volumes/01", "")]);
    assert_eq!(choice.travelling, [5, 256, 258, 257]);
    assert_eq!(
        choice.skipped,
        [Path::new("/volumes/01/timeshift-btrfs/snapshots/x/@")]
    );
}

#[test]
fn what_something_else_is_mounted_over_is_not_seen() {
    let all = [subvolume(256, "@"), subvolume(257, "@/data")];
    let views = [View {
        mount_point: "/",
        subvolume: "@",
    }];
    let choice = choose(&all, &views, &["/", "/data"], &[], false);
    assert_eq!(choice.unseen, ["@/data"]);
}
