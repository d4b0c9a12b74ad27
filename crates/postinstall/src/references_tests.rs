//! Texts as distributions write them.

use super::*;
use crate::facts::tests::facts;
use crate::files::fixture::Texts;
use crate::plan::Action;

const ROOT: &str = "11111111-0003-4000-8000-000000000003";
const SWAP: &str = "11111111-0002-4000-8000-000000000002";
const NEW_ROOT: &str = "aaaaaaaa-0003-4000-8000-000000000003";
const NEW_SWAP: &str = "aaaaaaaa-0002-4000-8000-000000000002";

/// The new text of the only file.
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
