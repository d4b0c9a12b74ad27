//! Golden trees that would fail each clone, and the like that would not.

use ka_disk::spec::{FsSpec, GoldenDevice, MountSpec};

use super::*;
use crate::boot_entries::tests::unified_image;
use crate::files::fixture::Texts;
use crate::golden_boot::{self, Known};

const ROOT: &str = "11111111-0003-4000-8000-000000000003";

fn mount(path: &str) -> MountSpec {
    MountSpec {
        path: path.to_owned(),
        options: "defaults".to_owned(),
        options_changed: false,
        subvol: None,
        mode: 0o755,
        uid: 0,
        gid: 0,
    }
}

/// sda1 is the EFI system partition, sda3 the root.
fn spec(files: &Texts, option: Option<&str>) -> InstallSpec {
    let fs = |id, partition, fstype, uuid: &str, path: &str| FsSpec {
        golden: Some(GoldenDevice {
            path: format!("/dev/sda{partition}"),
            uuid: Some(uuid.to_owned()),
            partuuid: Some(format!("11111111-0{partition}")),
            label: (path == "/").then(|| "system".to_owned()),
            ..GoldenDevice::default()
        }),
        label: (path == "/").then(|| "system".to_owned()),
        mounts: vec![mount(path)],
        ..FsSpec::new(
            id,
            Place {
                drive: "sda".to_owned(),
                partition,
            },
            fstype,
        )
    };
    let mut spec = InstallSpec::empty("golden".to_owned());
    spec.filesystems = vec![
        fs(0, 3, FsType::Ext4, ROOT, "/"),
        fs(1, 1, FsType::Vfat, "E5E5-0001", "/boot/efi"),
    ];
    spec.boot = ka_disk::spec::BootSpec {
        hooks: true,
        golden: golden_boot::detect(files, &Known::default()),
        ..ka_disk::spec::BootSpec::default().with_loader_option(option)
    };
    spec
}

fn tried(files: &Texts, spec: &InstallSpec) -> Result<Rehearsal, PostError> {
    check(files, spec, &|path| !path.contains("not-executable"))
}

fn refusal(files: &Texts) -> String {
    let error = tried(files, &spec(files, None)).unwrap_err().to_string();
    assert!(error.contains("-r none"), "{error}");
    tried(files, &spec(files, Some("none"))).unwrap();
    error
}

fn accepted(files: &Texts) -> Rehearsal {
    tried(files, &spec(files, None)).unwrap()
}

fn grub() -> Texts {
    Texts::new(&[
        ("/boot/vmlinuz-6.1.0-42", ""),
        ("/boot/initrd.img-6.1.0-42", "x"),
        ("/lib/modules/6.1.0-42/modules.dep", ""),
        ("/boot/grub/grub.cfg", "linux /vmlinuz\n"),
        ("/usr/sbin/grub-install", ""),
        ("/usr/sbin/grub-mkconfig", ""),
        ("/usr/lib/grub/i386-pc/modinfo.sh", ""),
    ])
}

fn with_image(line: &str) -> Texts {
    let mut files = grub();
    files
        .0
        .insert("/boot/efi/EFI/Linux/debian.efi".to_owned(), unified_image(line));
    files
}

#[test]
fn an_image_whose_command_line_could_not_be_a_clones_is_refused_with_the_word() {
    for (line, word) in [
        (format!("root=UUID={ROOT} ro"), ROOT),
        (format!("ro root=/dev/disk/by-uuid/{ROOT}"), ROOT),
        ("root=PARTUUID=11111111-03 ro".to_owned(), "11111111-03"),
        ("root=/dev/sda3 ro".to_owned(), "root=/dev/sda3"),
        ("root=\"/dev/sda3\" ro".to_owned(), "root="),
        (
            "root=/dev/mapper/vg0-root ro".to_owned(),
            "root=/dev/mapper/vg0-root",
        ),
        ("root=LABEL=other ro".to_owned(), "root=LABEL=other"),
        (
            "root=LABEL=system rd.lvm.lv=vg0/root".to_owned(),
            "rd.lvm.lv=vg0/root",
        ),
        (
            "root=LABEL=system resume=/dev/sda2".to_owned(),
            "resume=/dev/sda2",
        ),
    ] {
        let error = refusal(&with_image(&line));
        assert!(
            error.contains("/boot/efi/EFI/Linux/debian.efi")
                && error.contains(word)
                && error.contains("hook"),
            "{line}: {error}"
        );
    }
    for line in [
        "root=LABEL=system ro quiet",
        "ro rd.luks=0 console=ttyS0",
        "root=gpt-auto",
        "root=LABEL=system resume_offset=0",
        "",
    ] {
        assert_eq!(accepted(&with_image(line)), Rehearsal::default(), "{line}");
    }
}

#[test]
fn a_hook_that_may_make_the_image_anew_is_counted_on_and_another_is_not() {
    let golden = with_image(&format!("root=UUID={ROOT} ro"));
    let hook = "/etc/ka/hooks.d/50-uki.post-restore";
    let notes = accepted(&golden.clone().with(hook, "#!/bin/sh\nukify build …\n")).notes;
    assert!(
        notes.len() == 1 && notes[0].contains("count on a hook"),
        "{notes:?}"
    );
    accepted(&golden.clone().with(hook, "\u{7f}ELF"));
    refusal(&golden.clone().with(hook, "#!/bin/sh\necho license\n"));
    refusal(&golden.clone().with("/etc/ka/hooks.d/README", "ukify"));
    refusal(&golden.with("/etc/ka/hooks.d/not-executable.pre-boot", "#!/bin/sh\nukify\n"));
}

#[test]
fn kept_uuids_make_a_golden_root_the_clones() {
    let files = with_image(&format!("root=UUID={ROOT} ro"));
    let mut kept = spec(&files, None);
    kept.keep_uuids = true;
    assert_eq!(tried(&files, &kept).unwrap(), Rehearsal::default());
}

fn block(filled: usize) -> String {
    let mut text = "# GRUB Environment Block\nkernelopts=root=/dev/sda3 ro ".to_owned();
    text.push_str(&"x".repeat(filled.saturating_sub(text.len() + 1)));
    text.push('\n');
    text.push_str(&"#".repeat(1024 - text.len()));
    text
}

#[test]
fn a_full_environment_block_is_refused_whatever_the_loader_and_a_roomy_one_is_not() {
    for path in [
        "/boot/grub/grubenv",
        "/boot/grub2/grubenv",
        "/boot/efi/EFI/redhat/grubenv",
    ] {
        let full = grub().with(path, &block(1024));
        for option in [None, Some("none")] {
            let error = tried(&full, &spec(&full, option)).unwrap_err().to_string();
            assert!(error.contains(path) && error.contains("grub-editenv"), "{error}");
        }
        accepted(&grub().with(path, &block(900)));
        // No room for UUIDs, but for the kernel's longest names.
        accepted(&grub().with(path, &block(1018)));
    }
}

#[test]
fn entries_without_their_kernels_are_refused() {
    let systemd = Texts::new(&[
        ("/boot/vmlinuz-6.1.0-42", ""),
        ("/lib/modules/6.1.0-42/modules.dep", ""),
        ("/boot/efi/EFI/systemd/systemd-bootx64.efi", "MZ"),
        ("/boot/efi/EFI/BOOT/BOOTX64.EFI", "MZ"),
    ]);
    assert!(refusal(&systemd).contains("no entry to boot"));
    let entry = "/boot/efi/loader/entries/a.conf";
    let with = systemd.with(entry, "options root=UUID=x\nlinux /linux-6.1\n");
    assert!(refusal(&with).contains("/linux-6.1, which is not there"));
    accepted(&with.with("/boot/efi/linux-6.1", ""));
    let extlinux = Texts::new(&[
        ("/boot/vmlinuz-6.1.0-42", ""),
        ("/lib/modules/6.1.0-42/modules.dep", ""),
        ("/usr/bin/extlinux", ""),
        (
            "/boot/extlinux/extlinux.conf",
            "label a\n  linux /vmlinuz-6.1.0-42\n",
        ),
    ]);
    assert!(refusal(&extlinux).contains("names a kernel that is there"));
    let right = extlinux.with(
        "/boot/extlinux/extlinux.conf",
        "label a\n  linux /boot/vmlinuz-6.1.0-42\n",
    );
    assert!(refusal(&right).contains("mbr.bin"));
    accepted(&right.with("/usr/lib/syslinux/mbr/mbr.bin", "code"));
}

#[test]
fn vendor_directories_that_cannot_be_told_apart_are_an_obstacle_for_uefi_alone() {
    let two = grub()
        .with("/boot/efi/EFI/fedora/shimx64.efi", "MZ")
        .with("/boot/efi/EFI/fedora/grubx64.efi", "MZ")
        .with("/boot/efi/EFI/rocky/shimx64.efi", "MZ")
        .with("/boot/efi/EFI/rocky/grubx64.efi", "MZ");
    let found = accepted(&two);
    let why = found.uefi_obstacle.clone().unwrap();
    assert!(why.contains("fedora") && why.contains("rocky"), "{why}");
    assert!(found.notes[0].contains("nodes that boot by UEFI"), "{found:?}");
    let mut no_bios = two.clone();
    no_bios.0.remove("/usr/lib/grub/i386-pc/modinfo.sh");
    assert!(refusal(&no_bios).contains("rocky"));
    let told = two.with("/etc/os-release", "ID=rocky\n");
    assert_eq!(accepted(&told), Rehearsal::default());
}

#[test]
fn a_machine_id_that_nobody_corrects_is_refused_whatever_the_loader() {
    let line = "root=LABEL=system systemd.machine_id=00112233445566778899aabbccddeeff";
    let image = with_image(line);
    let by_hand = grub().with("/boot/grub/grub.cfg", &format!("linux /vmlinuz {line}\n"));
    for (files, option) in [(&image, None), (&image, Some("none")), (&by_hand, Some("none"))] {
        let error = tried(files, &spec(files, option)).unwrap_err().to_string();
        assert!(
            error.contains("systemd.machine_id=0011") && error.contains("--keep-identity"),
            "{error}"
        );
        let mut kept = spec(files, option);
        kept.boot.keep_identity = true;
        tried(files, &kept).unwrap();
    }
    // grub-mkconfig makes this one anew.
    accepted(&by_hand);
}
