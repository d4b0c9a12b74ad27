//! Texts as distributions write them.

use super::*;
use crate::facts::tests::facts;
use crate::files::fixture::Texts;
use crate::plan::Action;

const ROOT: &str = "11111111-0003-4000-8000-000000000003";
const SWAP: &str = "11111111-0002-4000-8000-000000000002";
const NEW_ROOT: &str = "aaaaaaaa-0003-4000-8000-000000000003";
const NEW_SWAP: &str = "aaaaaaaa-0002-4000-8000-000000000002";

/// Returns the new text of the only file.
fn rewritten(path: &str, text: &str) -> String {
    let plan = plan(&Texts::new(&[(path, text)]), &facts()).unwrap();
    match plan.actions.as_slice() {
        [] => text.to_owned(),
        [
            Action::Write {
                path: written, bytes, ..
            },
        ] if written == path => String::from_utf8(bytes.clone()).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn grubs_defaults_get_the_clones_uuids_and_keep_everything_else() {
    let text = format!(
        "# root=UUID={ROOT} in a comment stays\nGRUB_TIMEOUT=5\nGRUB_CMDLINE_LINUX_DEFAULT=\"quiet resume=UUID={SWAP}\"\n\
         GRUB_CMDLINE_LINUX='root=PARTUUID=11111111-03 console=ttyS0,115200'\n"
    );
    let expected = format!(
        "# root=UUID={ROOT} in a comment stays\nGRUB_TIMEOUT=5\nGRUB_CMDLINE_LINUX_DEFAULT=\"quiet resume=UUID={NEW_SWAP}\"\n\
         GRUB_CMDLINE_LINUX='root=PARTUUID=99999999-03 console=ttyS0,115200'\n"
    );
    assert_eq!(rewritten("/etc/default/grub", &text), expected);
}

#[test]
fn names_by_path_by_hardware_and_by_label_become_the_clones() {
    let text = "root=/dev/sda3 ro resume=/dev/disk/by-uuid/11111111-0002-4000-8000-000000000002\n\
                cryptdevice=/dev/disk/by-id/ata-GOLDEN_X1-part3:root boot=/dev/sda\nroot=LABEL=system\n";
    let expected = format!(
        "root=PARTUUID=99999999-03 ro resume=/dev/disk/by-uuid/{NEW_SWAP}\n\
         boot=/dev/nvme0n1\nroot=UUID={NEW_ROOT}\n"
    );
    assert_eq!(rewritten("/etc/kernel/cmdline", text), expected);
}

#[test]
fn bare_uuids_in_boot_entries_and_stubs_are_found() {
    let stub = format!("search.fs_uuid {ROOT} root\nset prefix=($root)'/boot/grub'\n");
    assert_eq!(
        rewritten("/boot/efi/EFI/debian/grub.cfg", &stub),
        format!("search.fs_uuid {NEW_ROOT} root\nset prefix=($root)'/boot/grub'\n")
    );
    let entry = format!(
        "title Linux\noptions rd.luks.uuid=luks-{} root=UUID={ROOT}\n",
        ROOT.to_uppercase()
    );
    assert_eq!(
        rewritten("/boot/loader/entries/abc-6.1.conf", &entry),
        format!("title Linux\noptions root=UUID={NEW_ROOT}\n")
    );
}

#[test]
fn crypttab_resume_and_lilo_are_rewritten() {
    assert_eq!(
        rewritten("/etc/crypttab", &format!("cswap UUID={SWAP} /dev/urandom swap\n")),
        format!("cswap PARTUUID=99999999-02 /dev/urandom swap\n")
    );
    assert_eq!(
        rewritten("/etc/initramfs-tools/conf.d/resume", "RESUME=/dev/sda2\n"),
        format!("RESUME=UUID={NEW_SWAP}\n")
    );
    assert_eq!(
        rewritten(
            "/etc/dracut.conf",
            &format!("kernel_cmdline=\"root=UUID={ROOT}\"\n")
        ),
        format!("kernel_cmdline=\"root=UUID={NEW_ROOT}\"\n")
    );
    assert_eq!(
        rewritten("/boot/extlinux/linux.cfg", &format!("append root=UUID={ROOT}\n")),
        format!("append root=UUID={NEW_ROOT}\n")
    );
    assert_eq!(
        rewritten(
            "/etc/lilo.conf",
            "boot=/dev/sda\nimage=/vmlinuz\n  root=/dev/sda3\n"
        ),
        "boot=/dev/nvme0n1\nimage=/vmlinuz\n  root=/dev/nvme0n1p3\n"
    );
}

#[test]
fn foreign_names_are_told_and_a_root_that_no_disk_has_becomes_the_clones() {
    let text = "/dev/sda30 /dev/sdb1 x11111111-03 /sys/dev/sda3 root=/dev/nfs\n";
    assert_eq!(rewritten("/etc/kernel/cmdline", text), text);
    let plan = plan(&Texts::new(&[("/etc/kernel/cmdline", text)]), &facts()).unwrap();
    assert_eq!(plan.warnings.len(), 2, "{plan}");
    assert!(plan.warnings[1].contains("/dev/sdb1 names no disk"), "{plan}");
    // Whatever it was, a clone has one root only.
    for root in [
        "UUID=deadbeef",
        "/dev/sdb2",
        "LABEL=\"other\"",
        "/dev/vg/other",
        "8:2",
        "PARTUUID=x/PARTNROFF=1",
    ] {
        assert_eq!(
            rewritten("/etc/kernel/cmdline", &format!("quiet root={root} ro\n")).replace('"', ""),
            "quiet root=PARTUUID=99999999-03 ro\n"
        );
    }
}

#[test]
fn the_environment_block_keeps_its_length() {
    let mut block = format!("# GRUB Environment Block\nkernelopts=root=/dev/sda3 resume=UUID={SWAP} \n");
    while block.len() < 1024 {
        block.push('#');
    }
    let new = rewritten("/boot/grub2/grubenv", &block);
    assert_eq!(new.len(), 1024);
    assert!(
        new.contains("root=PARTUUID=99999999-03") && new.ends_with("##"),
        "{new}"
    );
}

#[test]
fn kept_uuids_change_nothing() {
    let mut facts = facts();
    for map in &mut facts.devices {
        map.clone.uuid.clone_from(&map.golden.uuid);
    }
    let files = Texts::new(&[(
        "/etc/default/grub",
        "GRUB_CMDLINE_LINUX=\"resume=UUID=11111111-0002-4000-8000-000000000002\"\n",
    )]);
    assert!(plan(&files, &facts).unwrap().is_empty());
}

/// Returns the new texts of all files, with the reported lines.
fn all(files: &[(&str, &str)], facts: &Facts) -> (Texts, Vec<String>) {
    let mut after = Texts::new(files);
    let plan = plan(&after, facts).unwrap();
    for action in plan.actions {
        match action {
            Action::Write { path, bytes, .. } => drop(after.0.insert(path, bytes)),
            Action::Remove { path, .. } => drop(after.0.remove(&path)),
            other => panic!("{other:?}"),
        }
    }
    (after, plan.warnings)
}

#[test]
fn records_follow_or_become_comments_and_none_means_another_disk() {
    let link = format!("/dev/disk/by-uuid/{NEW_ROOT}");
    for (path, before, after) in [
        ("/etc/auto.data", "a -fstype=ext4 :/dev/sda3\nb -fstype=ext4 :/dev/sdb1\n".to_owned(),
            format!("a -fstype=ext4 :{link}\n# ka: not in this clone: b -fstype=ext4 :/dev/sdb1\n")),
        ("/etc/auto.master.d/x.autofs", format!("/- -fstype=ext4 :/dev/disk/by-uuid/{ROOT}\n"),
            format!("/- -fstype=ext4 :/dev/disk/by-uuid/{NEW_ROOT}\n")),
        // A disk that may be plugged in some day.
        ("/etc/auto.usb", "stick :UUID=2222-3333\n".to_owned(), "stick :UUID=2222-3333\n".to_owned()),
        ("/etc/auto.two", "a -ro \\\n  :/dev/sdb1\nb :/dev/sda3\n".to_owned(),
            format!("# ka: not in this clone: a -ro \\\n# ka: not in this clone:   :/dev/sdb1\nb :{link}\n")),
        ("/etc/cron.d/backup", "0 3 * * * root mount /dev/sdb1 /mnt && x\n0 4 * * * root fsck /dev/sda3\n".to_owned(),
            format!("# ka: not in this clone: 0 3 * * * root mount /dev/sdb1 /mnt && x\n0 4 * * * root fsck {link}\n")),
        ("/var/spool/cron/crontabs/root", "@daily mount /dev/sdb1 /b\n".to_owned(),
            "# ka: not in this clone: @daily mount /dev/sdb1 /b\n".to_owned()),
        ("/etc/smartd.conf", "/dev/sdb -a\n/dev/disk/by-id/ata-OTHER_X -a\nDEVICESCAN -a\n".to_owned(),
            "# ka: not in this clone: /dev/sdb -a\n# ka: not in this clone: /dev/disk/by-id/ata-OTHER_X -a\nDEVICESCAN -a\n".to_owned()),
        ("/etc/hdparm.conf", "quiet\n/dev/sdb {\n\tspindown_time = 24\n}\n/dev/sda {\n\tapm = 128\n}\n".to_owned(),
            "quiet\n# ka: not in this clone: /dev/sdb {\n# ka: not in this clone: \tspindown_time = 24\n# ka: not in this clone: }\n/dev/nvme0n1 {\n\tapm = 128\n}\n".to_owned()),
        ("/etc/kdump.conf", format!("ext4 UUID={ROOT}\npath /var/crash\n"), format!("ext4 UUID={NEW_ROOT}\npath /var/crash\n")),
        ("/etc/kdump.conf", "ext4 /dev/vg0/crash\nraw /dev/sda7\npath /x\n".to_owned(),
            "# ka: not in this clone: ext4 /dev/vg0/crash\n# ka: not in this clone: raw /dev/sda7\npath /x\n".to_owned()),
        ("/etc/initramfs-tools/conf.d/cryptroot", "target=root,source=/dev/sda5,key=none\n".to_owned(),
            "# ka: not in this clone: target=root,source=/dev/sda5,key=none\n".to_owned()),
        ("/etc/fstab.d/srv.fstab", "UUID=66666666-7777-4888-9999-aaaaaaaaaaaa /srv ext4 defaults 0 0\n".to_owned(),
            "# ka: not in this clone: UUID=66666666-7777-4888-9999-aaaaaaaaaaaa /srv ext4 defaults 0 0\n".to_owned()),
        ("/etc/mtab", "/dev/sda3 / ext4 rw 0 0\n".to_owned(), String::new()),
        ("/etc/rc.local", "#!/bin/sh\nmount /dev/sdb1 /mnt\nhdparm -S 1 /dev/sda3\n".to_owned(),
            format!("#!/bin/sh\nmount /dev/sdb1 /mnt\nhdparm -S 1 {link}\n")),
        ("/etc/default/smartmontools", "crypto=aes md=x\nenable_smart=\"/dev/sda\"\n".to_owned(),
            "crypto=aes md=x\nenable_smart=\"/dev/nvme0n1\"\n".to_owned()),
        ("/etc/dracut.conf.d/x.conf", format!("add_device+=\" /dev/disk/by-uuid/{ROOT} /dev/vg0/swap \"\nkernel_cmdline=\"root=/dev/sda3 rd.lvm.lv=vg0/x\"\n"),
            format!("add_device+=\" /dev/disk/by-uuid/{NEW_ROOT}  \"\nkernel_cmdline=\"root=PARTUUID=99999999-03\"\n")),
        ("/etc/default/grub.d/x.cfg", "GRUB_DEVICE=/dev/sda3\nGRUB_TIMEOUT=1\n".to_owned(),
            "# ka: not in this clone: GRUB_DEVICE=/dev/sda3\nGRUB_TIMEOUT=1\n".to_owned()),
        ("/boot/grub/grubenv.txt", format!("saved_entry=gnulinux-advanced-{ROOT}>gnulinux-6.1-advanced-{ROOT}\n"),
            format!("saved_entry=gnulinux-advanced-{NEW_ROOT}>gnulinux-6.1-advanced-{NEW_ROOT}\n")),
        ("/etc/default/grub", format!("GRUB_OS_PROBER_SKIP_LIST=\"{ROOT}@/dev/sda3\"\n"),
            format!("GRUB_OS_PROBER_SKIP_LIST=\"{NEW_ROOT}@UUID={NEW_ROOT}\"\n")),
    ] {
        let (new, told) = all(&[(path, &before)], &facts());
        let text = String::from_utf8(new.0[path].clone()).unwrap();
        assert_eq!(text, after, "{path}: {told:?}");
        let comments = after.contains("ka: not") && !path.contains("grub");
        assert!(!comments || !told.is_empty(), "{path} is silent");
    }
}

#[test]
fn caches_of_disks_go_and_ids_of_golden_storage_become_comments() {
    let mut facts = facts();
    facts.known.push(ka_disk::spec::KnownDevice {
        device: ka_disk::spec::GoldenDevice {
            aliases: vec!["/dev/disk/by-id/scsi-3600508b400105e210000900000490000".to_owned()],
            ..ka_disk::spec::GoldenDevice::default()
        },
        ..ka_disk::spec::KnownDevice::default()
    });
    let (new, _) = all(
        &[
            ("/etc/blkid.tab", "<device UUID=\"x\">/dev/sda3</device>\n"),
            (
                "/etc/multipath/wwids",
                "/3600508b400105e210000900000490000/\n/36005000000000000000000000000000f/\n",
            ),
            (
                "/etc/multipath/bindings",
                "mpatha 3600508b400105e210000900000490000\n",
            ),
        ],
        &facts,
    );
    assert!(!new.0.contains_key("/etc/blkid.tab"));
    let text = |path: &str| String::from_utf8(new.0[path].clone()).unwrap();
    assert_eq!(
        text("/etc/multipath/wwids"),
        "# ka: not in this clone: /3600508b400105e210000900000490000/\n/36005000000000000000000000000000f/\n"
    );
    assert!(text("/etc/multipath/bindings").starts_with("# ka: not in this clone: mpatha"));
}

#[test]
fn a_script_of_u_boots_is_made_anew_with_its_check_sums() {
    let script = crate::uboot::tests::script;
    let path = "/boot/boot.scr";
    let mut files = Texts::new(&[("/boot/initrd.img-6.1", "x")]);
    files.0.insert(
        path.to_owned(),
        script("setenv bootargs root=/dev/sda3 rootwait\nbooti 1\n"),
    );
    let plan = plan(&files, &facts()).unwrap();
    let [Action::Write { bytes, .. }] = plan.actions.as_slice() else {
        panic!("{plan}")
    };
    assert_eq!(
        *bytes,
        script(&format!(
            "setenv bootargs root=UUID={NEW_ROOT} rootwait\nbooti 1\n"
        ))
    );
}
