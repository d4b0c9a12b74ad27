//! Surveys of golden systems on real partitions.

use std::fs;
use std::path::PathBuf;

use ka_disk::desc::Desc;
use ka_disk::fs_type::FsType;
use ka_disk::golden::{BootCode, DeviceName, SurveyError, SurveyOptions, TypedOptions, survey};
use ka_disk::layout::Source;
use ka_disk::spec::{FsFeatures, FsSpec, InstallSpec, StreamKind};
use ka_disk::table::TableKind;
use ka_lab::disk::{Disk, MIB};

use crate::golden_disk::{Golden, TestDisk, blkid, tool};

/// Swap, root (ext4), extended, /home (xfs), spare.
const DESC: &str = "swap 64\nlinux 300\nextended fill\nlogical linux 400\nlogical linux fill\n";

fn classic() -> (TestDisk, Golden) {
    let disk = TestDisk::new(1024, 512, DESC);
    let (swap, root, home) = (disk.partition(1), disk.partition(2), disk.partition(5));
    tool("mkswap", &["-q", "-L", "swap one"], &swap);
    tool(
        "mkfs.ext4",
        &[
            "-q",
            "-F",
            "-L",
            "my golden root",
            "-m",
            "1",
            "-O",
            "^metadata_csum",
        ],
        &root,
    );
    tool("mkfs.xfs", &["-q", "-f", "-m", "reflink=0"], &home);
    let mut golden = Golden::new();
    golden.mount(&root, "/", "ext4", "");
    golden.mount(&home, "/home", "xfs", "");
    golden.write("/tmp/large", vec![7; 20 << 20]);
    golden.write("/home/file", "x");
    golden.write("/swap file", vec![0; 1 << 20]);
    golden.fstab(&format!(
        "# a golden node\nUUID={} / ext4 errors=remount-ro 0 1\nUUID={} /home xfs defaults 0 2\n\
         LABEL=swap\\040one none swap sw 0 0\n/swap\\040file none swap sw 0 0\n\
         tmpfs /tmp tmpfs defaults 0 0\nnas:/x /x nfs defaults 0 0\n/dev/sr0 /cd udf,iso9660 noauto 0 0\n",
        blkid(&root, "UUID"),
        blkid(&home, "UUID")
    ));
    (disk, golden)
}

fn options(golden: &Golden) -> SurveyOptions {
    SurveyOptions {
        root: golden.path().to_owned(),
        ..SurveyOptions::default()
    }
}

fn with_desc(golden: &Golden, drive: &str, desc: &str) -> SurveyOptions {
    let desc = Desc::parse(desc, "desc").unwrap();
    SurveyOptions {
        drives: [(name(drive), desc)].into(),
        ..options(golden)
    }
}

fn name(typed: &str) -> DeviceName {
    DeviceName::parse("-p", typed).unwrap()
}

fn mounted<'a>(spec: &'a InstallSpec, path: &str) -> &'a FsSpec {
    spec.filesystems
        .iter()
        .find(|fs| fs.mounts.iter().any(|mount| mount.path == path))
        .unwrap()
}

fn error(options: &SurveyOptions) -> String {
    survey(options).unwrap_err().to_string()
}

#[test]
fn a_classic_system_is_found_with_its_partitions_labels_and_features() {
    let (disk, golden) = classic();
    let spec = survey(&options(&golden)).unwrap();
    let root = mounted(&spec, "/");
    assert_eq!(
        (root.place.to_string(), root.fstype),
        (format!("{}p2", disk.name()), FsType::Ext4)
    );
    assert_eq!(root.label.as_deref(), Some("my golden root"));
    assert_eq!(root.uuid, None);
    assert!(root.used_bytes > 20 * MIB);
    let FsFeatures::Ext(features) = &root.features else {
        panic!("{:?}", root.features)
    };
    assert_eq!(features.reserved_hundredths, 100);
    assert!(!features.features.contains(&"metadata_csum".to_owned()));
    let FsFeatures::Xfs(features) = &mounted(&spec, "/home").features else {
        panic!()
    };
    assert!(features.flags.contains(&("reflink".to_owned(), false)));
    let swap = spec
        .filesystems
        .iter()
        .find(|fs| fs.fstype == FsType::Swap)
        .unwrap();
    assert_eq!(
        (swap.place.partition, swap.label.as_deref()),
        (1, Some("swap one"))
    );
    assert_eq!(
        (spec.swap_files[0].path.as_str(), spec.swap_files[0].size_bytes),
        ("/swap file", MIB)
    );
    let trees: Vec<&str> = spec.trees.iter().map(|tree| tree.path.as_str()).collect();
    assert_eq!(trees, ["/", "/home"]);
    assert!(matches!(&spec.drives[0].source, Source::AsIs(table) if table.kind == TableKind::Mbr));
    assert!(
        spec.notes.iter().any(|note| note.contains("p6")),
        "{:?}",
        spec.notes
    );
    let again = InstallSpec::from_json(&spec.to_json().unwrap()).unwrap();
    assert_eq!(again, spec);
}

#[test]
fn excluded_directories_do_not_count_and_kept_uuids_are_sent() {
    let (_disk, golden) = classic();
    let all = mounted(&survey(&options(&golden)).unwrap(), "/").used_bytes;
    let mut options = SurveyOptions::parse(&TypedOptions {
        root: golden.path().as_os_str(),
        exclude: &["/tmp/|/not//there".into()],
        ..TypedOptions::default()
    })
    .unwrap();
    options.keep_uuids = true;
    let spec = survey(&options).unwrap();
    let root = mounted(&spec, "/");
    assert!(root.used_bytes < all - 19 * MIB, "{} {all}", root.used_bytes);
    assert_eq!(root.uuid, root.golden.as_ref().unwrap().uuid);
    assert_eq!(spec.excluded, [b"/not/there".to_vec(), b"/tmp".to_vec()]);
    assert!(spec.notes.iter().any(|note| note.contains("-x /not/there")));
}

#[test]
fn a_desc_file_moves_and_changes_file_systems() {
    let (disk, golden) = classic();
    let desc = "table gpt\nesp 64\nlinux 400 mount=/home fs=ext4 label=homes options=noatime\nlinux fill mount=/ fs=xfs\n";
    let mut options = with_desc(&golden, &disk.name(), desc);
    let failed = error(&options);
    assert!(
        failed.starts_with("the label `my golden root` of") && failed.contains("label="),
        "{failed}"
    );
    let desc = Desc::parse(&desc.replace("fs=xfs", "fs=xfs label=root"), "desc").unwrap();
    options.drives = [(name(&disk.name()), desc)].into();
    let spec = survey(&options).unwrap();
    let home = mounted(&spec, "/home");
    assert_eq!(
        (home.place.partition, home.fstype, home.golden_fstype),
        (2, FsType::Ext4, Some(FsType::Xfs))
    );
    assert_eq!(
        (home.label.as_deref(), home.mounts[0].options.as_str()),
        (Some("homes"), "noatime")
    );
    assert!(home.mounts[0].options_changed);
    let root = mounted(&spec, "/");
    assert_eq!((root.place.partition, root.fstype), (3, FsType::Xfs));
    assert_eq!(
        root.mounts[0].options, "defaults",
        "errors= is an option of ext4 only"
    );
    assert_eq!(root.features, FsFeatures::Default);
    assert!(
        spec.notes
            .iter()
            .any(|note| note.contains("no place in the clone") && note.contains("swap SIZE"))
    );
}

#[test]
fn a_line_that_is_too_small_for_what_is_in_use_is_named() {
    let (disk, golden) = classic();
    let failed = error(&with_desc(
        &golden,
        &disk.name(),
        "swap 64\nlinux 20\nextended fill\nlogical linux fill\n",
    ));
    assert!(
        failed.starts_with("desc:2: / (ext4, 21 MiB in use) does not go onto 20 MiB"),
        "{failed}"
    );
}

#[test]
fn a_drive_by_another_name_takes_what_its_lines_mount() {
    let (_disk, golden) = classic();
    let spec = survey(&with_desc(
        &golden,
        "sdz",
        "swap 100\nlinux 600 mount=/\nlinux fill mount=/home\n",
    ))
    .unwrap();
    assert_eq!(spec.drives.len(), 1);
    assert_eq!(
        (spec.drives[0].name.as_str(), spec.drives[0].golden_bytes),
        ("sdz", 0)
    );
    assert_eq!(mounted(&spec, "/home").place.to_string(), "sdz3");
    let failed = error(&with_desc(&golden, "sdz", "linux fill\n"));
    assert!(
        failed.starts_with("-p sdz: the golden node has no drive of that name"),
        "{failed}"
    );
}

#[test]
fn what_is_not_mounted_is_named_unless_it_is_optional() {
    let (disk, golden) = classic();
    let fstab = fs::read_to_string(golden.path().join("etc/fstab")).unwrap();
    let spare = disk.partition(6);
    tool("mkfs.ext4", &["-q", "-F"], &spare);
    let line = |options: &str| {
        format!(
            "{fstab}UUID={} /spare ext4 {options} 0 2\n",
            blkid(&spare, "UUID")
        )
    };
    golden.fstab(&line("defaults"));
    let failed = error(&options(&golden));
    assert!(
        failed.contains("fstab:9: /spare (UUID=") && failed.contains("is not mounted"),
        "{failed}"
    );
    golden.fstab(&line("nofail"));
    let spec = survey(&options(&golden)).unwrap();
    assert!(
        spec.notes.iter().any(|note| note.starts_with("/spare (UUID=")),
        "{:?}",
        spec.notes
    );
}

#[test]
fn a_line_that_means_another_device_is_refused() {
    let (_disk, golden) = classic();
    let fstab = fs::read_to_string(golden.path().join("etc/fstab")).unwrap();
    golden.fstab(&fstab.replace(" / ext4", "x / ext4"));
    let failed = error(&options(&golden));
    assert!(
        failed.contains("fstab:2:") && failed.contains("is mounted there now"),
        "{failed}"
    );
}

#[test]
fn excluded_disks_and_raw_partitions_are_left_out_of_the_trees() {
    let (disk, mut golden) = classic();
    let other = TestDisk::new(64, 4096, "linux fill\n");
    tool("mkfs.ext4", &["-q", "-F"], &other.partition(1));
    golden.mount(&other.partition(1), "/data", "ext4", "");
    let fstab = fs::read_to_string(golden.path().join("etc/fstab")).unwrap();
    golden.fstab(&format!(
        "{fstab}UUID={} /data ext4 defaults 0 2\n",
        blkid(&other.partition(1), "UUID")
    ));
    let spec = survey(&options(&golden)).unwrap();
    assert_eq!(spec.drives.len(), 2);

    let mut without = options(&golden);
    without.excluded_disks = vec![name(&other.name())];
    without.raw = vec![name(&format!("/dev/{}p6", disk.name()))];
    let spec = survey(&without).unwrap();
    assert_eq!(spec.drives.len(), 1);
    assert!(
        spec.notes
            .iter()
            .any(|note| note.contains("/data is left out with the disk"))
    );
    assert_eq!(spec.raw[0].place.partition, 6);
    let names: Vec<&str> = spec.streams.iter().map(|stream| stream.name.as_str()).collect();
    assert_eq!(names, ["kainstall2", "kainstall3"]);
    assert_eq!(spec.streams[1].kind, StreamKind::Raw { index: 0 });

    without.raw = vec![name(&format!("{}p5", disk.name()))];
    let failed = error(&without);
    assert!(
        failed.contains("p5: it is mounted at") && failed.contains("read-only"),
        "{failed}"
    );
    without.raw = vec![name("sdz9")];
    assert!(error(&without).starts_with("-D sdz9: the golden node has no such partition"));
    without.excluded_disks = vec![name("sdz")];
    assert!(error(&without).starts_with("-X sdz: there is no such disk"));
}

#[test]
fn a_partition_that_is_copied_raw_need_not_be_mounted_though_fstab_says_so() {
    let (disk, golden) = classic();
    let fstab = fs::read_to_string(golden.path().join("etc/fstab")).unwrap();
    let spare = disk.partition(6);
    tool("mkfs.vfat", &["-n", "WINDOWS"], &spare);
    golden.fstab(&format!("{fstab}LABEL=WINDOWS /windows ntfs defaults 0 0\n"));
    assert!(error(&options(&golden)).contains("/windows (LABEL=WINDOWS) is not mounted"));
    let raw = vec![name(&format!("{}p6", disk.name()))];
    let spec = survey(&SurveyOptions {
        raw,
        ..options(&golden)
    })
    .unwrap();
    assert_eq!(
        (spec.raw[0].golden.label.as_deref(), spec.raw[0].block_size),
        (Some("WINDOWS"), 512)
    );
    assert_eq!(spec.trees.len(), 2);
}

#[test]
fn an_overlay_is_a_plain_directory() {
    let mut golden = Golden::new();
    golden.mount(std::path::Path::new("tmpfs"), "/", "tmpfs", "size=8M");
    golden.fstab("/dev/sda1 / xfs defaults 0 1\n");
    let spec = survey(&with_desc(&golden, "sda", "linux fill\n")).unwrap();
    assert_eq!(
        (mounted(&spec, "/").place.to_string(), mounted(&spec, "/").fstype),
        ("sda1".to_owned(), FsType::Xfs)
    );
}

#[test]
fn boot_code_is_446_bytes_or_refused() {
    let (disk, golden) = classic();
    let drive = disk.name();
    let mut asked = options(&golden);
    asked.boot_code = vec![BootCode::OfDrive(name(&drive))];
    assert_eq!(
        survey(&asked).unwrap().drives[0]
            .boot_code_array()
            .map(|code| code.len()),
        Some(446)
    );
    let file = golden.path().join("mbr.bin");
    let pair = [drive.into(), file.clone().into_os_string()];
    for (length, fits) in [(446, true), (512, false), (445, false), (0, false)] {
        fs::write(&file, vec![0x90; length]).unwrap();
        let typed = TypedOptions {
            root: golden.path().as_os_str(),
            boot_code_file: &pair,
            ..TypedOptions::default()
        };
        match SurveyOptions::parse(&typed) {
            Ok(asked) => {
                let spec = survey(&asked).unwrap();
                assert!(fits && spec.drives[0].boot_code.as_deref() == Some(&[0x90; 446][..]));
            }
            Err(faults) => {
                let text = faults[0].to_string();
                assert!(
                    !fits && text.contains(&format!("has {length} bytes, but boot code is exactly 446")),
                    "{text}"
                );
            }
        }
    }
    asked.boot_code = vec![BootCode::OfDrive(name("sdz"))];
    assert!(error(&asked).starts_with("-m sdz:"));
}

/// A link like udev's leads to the drive itself, wherever an option names a drive.
#[test]
fn a_drive_may_be_named_by_any_link_to_it() {
    let disk = TestDisk::new(64, 512, "linux fill\n");
    let link = std::path::Path::new("/dev/disk/by-id").join(format!("ka-test-{}", disk.name()));
    fs::create_dir_all("/dev/disk/by-id").unwrap();
    std::os::unix::fs::symlink(format!("/dev/{}", disk.name()), &link).unwrap();
    let typed = link.to_str().unwrap();
    let found = ["-p", "-X", "-m", "-M"]
        .map(|option| DeviceName::parse(option, typed).map_err(|error| error.to_string()));
    let relative =
        DeviceName::parse("-D", typed.trim_start_matches("/dev/")).map_err(|error| error.to_string());
    fs::remove_file(&link).unwrap();
    // Without udev these directories hold nothing else.
    for dir in ["/dev/disk/by-id", "/dev/disk"] {
        fs::remove_dir(dir).ok();
    }
    for found in found.into_iter().chain([relative]) {
        assert_eq!(found.unwrap().as_str(), disk.name());
    }
}

#[test]
fn a_whole_disk_file_system_goes_where_mount_says() {
    let disk = TestDisk::new(64, 512, "linux fill\n");
    let whole = Disk::scratch(64 * MIB, 512).unwrap();
    tool("mkfs.ext4", &["-q", "-F"], &disk.partition(1));
    tool("mkfs.ext4", &["-q", "-F"], whole.checked().unwrap());
    let mut golden = Golden::new();
    golden.mount(&disk.partition(1), "/", "ext4", "");
    golden.mount(whole.device(), "/srv", "ext4", "");
    let (root, srv) = (blkid(&disk.partition(1), "UUID"), blkid(whole.device(), "UUID"));
    golden.fstab(&format!(
        "UUID={root} / ext4 defaults 0 1\nUUID={srv} /srv ext4 defaults 0 2\n"
    ));
    let failed = error(&options(&golden));
    assert!(
        failed.starts_with("/srv (/dev/loop") && failed.contains("mount=/srv"),
        "{failed}"
    );
    let spec = survey(&with_desc(
        &golden,
        &disk.name(),
        "linux 100\nlinux fill mount=/srv\n",
    ))
    .unwrap();
    assert_eq!(mounted(&spec, "/srv").place.partition, 2);
}

#[test]
fn a_plain_directory_is_a_golden_system_when_the_desc_file_places_it() {
    let golden = Golden::new();
    golden.fstab("/dev/sda2 / ext4 defaults 0 1\n/dev/sda1 none swap sw 0 0\n");
    golden.write("/bin/program", vec![1; 3 << 20]);
    let spec = survey(&with_desc(&golden, "sda", "swap 64\nlinux fill\n")).unwrap();
    let root = mounted(&spec, "/");
    assert_eq!(root.place.to_string(), "sda2");
    assert!(
        (3 * MIB..4 * MIB).contains(&root.used_bytes),
        "{}",
        root.used_bytes
    );
    assert_eq!(
        spec.filesystems
            .iter()
            .filter(|fs| fs.fstype == FsType::Swap)
            .count(),
        1
    );
    let failed = error(&options(&golden));
    assert!(failed.contains("-p sda DESC"), "{failed}");
}

#[test]
fn a_root_without_fstab_or_without_anything_mounted_is_refused() {
    let golden = Golden::new();
    assert!(matches!(survey(&options(&golden)), Err(SurveyError::Root { .. })));
    golden.fstab("proc /proc proc defaults 0 0\n");
    let failed = error(&options(&golden));
    assert!(
        failed.contains("no line for it") && failed.contains("mount=/"),
        "{failed}"
    );
    let missing = SurveyOptions {
        root: PathBuf::from("/no/such/root"),
        ..SurveyOptions::default()
    };
    assert!(error(&missing).starts_with("/no/such/root: "));
}

#[test]
fn labels_partuuids_and_links_name_devices_without_udev() {
    let disk = TestDisk::new(
        128,
        512,
        "table gpt\nlinux 50 name=System\nlinux fill name=Homes\n",
    );
    tool("mkfs.ext4", &["-q", "-F", "-L", "my root"], &disk.partition(1));
    tool("mkfs.ext4", &["-q", "-F"], &disk.partition(2));
    let mut golden = Golden::new();
    golden.mount(&disk.partition(1), "/", "ext4", "");
    golden.mount(&disk.partition(2), "/home", "ext4", "");
    let table = &disk.plan.table;
    let partuuid = table.partuuid(table.find(2).unwrap()).unwrap();
    for (root, home) in [
        ("LABEL=my\\040root".to_owned(), "PARTLABEL=Homes".to_owned()),
        (
            "/dev/disk/by-label/my\\134x20root".to_owned(),
            format!("/dev/disk/by-partuuid/{partuuid}"),
        ),
        (
            "PARTLABEL=System".to_owned(),
            format!("PARTUUID={}", partuuid.to_uppercase()),
        ),
    ] {
        golden.fstab(&format!(
            "{root} / ext4 defaults 0 1\n{home} /home auto defaults 0 2\n"
        ));
        let spec = survey(&options(&golden)).unwrap();
        assert_eq!(
            mounted(&spec, "/home")
                .golden
                .as_ref()
                .unwrap()
                .partuuid
                .as_deref(),
            Some(partuuid.as_str())
        );
    }
    golden.fstab("PARTLABEL=System / ext4 defaults 0 1\nPARTLABEL=System /home auto defaults 0 2\n");
    assert!(error(&options(&golden)).contains("fstab:2:"));
}
