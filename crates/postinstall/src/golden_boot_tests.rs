//! Golden nodes told by their files.

use super::*;
use crate::files::fixture::Texts;

fn look(files: &Texts) -> GoldenBoot {
    detect(files, &Known::default())
}

const KERNEL: [(&str, &str); 2] = [
    ("/boot/vmlinuz-6.1.0-42", ""),
    ("/lib/modules/6.1.0-42/modules.dep", ""),
];

#[test]
fn grub_is_found_by_its_configuration_or_by_its_tool_beside_a_kernel() {
    let tool = Texts::new(&KERNEL)
        .with("/usr/sbin/grub-install", "")
        .with("/usr/lib/grub/i386-pc/modinfo.sh", "")
        .with("/usr/lib/grub/x86_64-efi/modinfo.sh", "");
    let boot = look(&tool);
    assert_eq!(boot.loader, Some(Loader::Grub));
    assert_eq!(boot.grub_platforms, ["i386-pc", "x86_64-efi"]);
    assert_eq!(boot.tools, [Loader::Grub]);
    assert_eq!((boot.shim, boot.esp), (false, None));
    let redhat = Texts::new(&KERNEL)
        .with("/boot/grub2/grub.cfg", "")
        .with("/boot/efi/EFI/redhat/shimx64.efi", "")
        .with("/boot/efi/EFI/BOOT/BOOTX64.EFI", "");
    let boot = look(&redhat);
    assert_eq!((boot.loader, boot.shim), (Some(Loader::Grub), true));
    assert_eq!(boot.esp.as_deref(), Some("/boot/efi"));
}

#[test]
fn the_other_loaders_are_found_and_a_data_disk_has_none() {
    let systemd = Texts::new(&KERNEL).with("/efi/EFI/systemd/systemd-bootx64.efi", "");
    assert_eq!(look(&systemd).loader, Some(Loader::SystemdBoot));
    let extlinux = Texts::new(&KERNEL)
        .with("/boot/extlinux/extlinux.conf", "")
        .with("/usr/bin/extlinux", "");
    assert_eq!(look(&extlinux).loader, Some(Loader::Extlinux));
    let lilo = Texts::new(&KERNEL)
        .with("/etc/lilo.conf", "")
        .with("/sbin/lilo", "");
    assert_eq!(look(&lilo).loader, Some(Loader::Lilo));
    assert_eq!(look(&Texts::new(&KERNEL)), GoldenBoot::default());
    // grub-common on a machine without a kernel of its own: a container.
    let container = Texts::new(&[
        ("/usr/sbin/grub-install", ""),
        ("/usr/lib/grub/i386-pc/modinfo.sh", ""),
    ]);
    assert_eq!(look(&container).loader, None);
}

fn spec(golden: GoldenBoot, option: Option<&str>) -> BootSpec {
    BootSpec {
        golden,
        ..BootSpec::default().with_loader_option(option)
    }
}

fn refusal(files: &Texts) -> String {
    let golden = look(files);
    assert!(check(files, &spec(golden.clone(), Some("none"))).is_ok());
    check(files, &spec(golden, None)).unwrap_err().to_string()
}

#[test]
fn a_suse_a_red_hat_8_and_an_alpine_are_known() {
    let suse = Texts::new(&KERNEL)
        .with("/boot/grub2/grub.cfg", "menuentry x {\nlinux /boot/vmlinuz\n}\n")
        .with("/usr/sbin/grub2-install", "")
        .with("/usr/sbin/grub2-mkconfig", "")
        .with("/boot/efi/EFI/opensuse/shim.efi", "MZ")
        .with("/boot/efi/EFI/opensuse/grub.efi", "MZ")
        .with("/boot/efi/EFI/boot/bootx64.efi", "MZ");
    let boot = look(&suse);
    assert_eq!((boot.loader, boot.shim), (Some(Loader::Grub), true));
    assert_eq!(boot.program.as_deref(), Some("/EFI/opensuse/shim.efi"));
    let rhel8 = Texts::new(&KERNEL)
        .with("/boot/efi/EFI/redhat/shimx64.efi", "MZ")
        .with("/boot/efi/EFI/redhat/grubx64.efi", "MZ")
        .with("/boot/efi/EFI/redhat/grub.cfg", "blscfg\n");
    let boot = look(&rhel8);
    assert_eq!((boot.loader, boot.shim), (Some(Loader::Grub), true));
    assert!(check(&rhel8, &spec(boot, None)).unwrap().is_empty());
    let alpine = Texts::new(&[
        ("/boot/vmlinuz-lts", ""),
        ("/lib/modules/6.6.1-0-lts/modules.dep", ""),
        ("/boot/extlinux.conf", ""),
        ("/sbin/extlinux", ""),
    ]);
    let boot = look(&alpine);
    assert_eq!(boot.loader, Some(Loader::Extlinux));
    assert!(check(&alpine, &spec(boot, None)).unwrap().is_empty());
}

#[test]
fn loaders_of_files_are_known_and_what_the_firmware_has_started_prevails() {
    let refind = Texts::new(&KERNEL).with("/boot/efi/EFI/refind/refind_x64.efi", "MZ");
    assert_eq!(look(&refind).loader, Some(Loader::Refind));
    let limine = Texts::new(&KERNEL)
        .with("/boot/limine.conf", "")
        .with("/boot/efi/EFI/limine/BOOTX64.EFI", "MZ");
    assert_eq!(look(&limine).loader, Some(Loader::Limine));
    let uki = Texts::new(&KERNEL).with("/efi/EFI/Linux/arch.efi", "MZ");
    assert_eq!(look(&uki).loader, Some(Loader::Uki));
    let both = refind
        .with("/boot/grub/grub.cfg", "linux /vmlinuz\n")
        .with("/usr/sbin/grub-install", "");
    assert_eq!(look(&both).loader, Some(Loader::Grub));
    let known = Known {
        started: Some("\\EFI\\REFIND\\refind_x64.efi".to_owned()),
        ..Known::default()
    };
    assert_eq!(detect(&both, &known).loader, Some(Loader::Refind));
}

#[test]
fn the_directory_that_is_live_is_the_golden_nodes_own() {
    let own = "11111111-0003-4000-8000-000000000003";
    let files = Texts::new(&KERNEL)
        .with("/boot/grub/grub.cfg", "linux /vmlinuz\n")
        .with("/boot/efi/EFI/debian/shimx64.efi", "MZ")
        .with(
            "/boot/efi/EFI/debian/grub.cfg",
            "search.fs_uuid 0badc0de-0003-4000-8000-000000000003 root\n",
        )
        .with("/boot/efi/EFI/ubuntu/shimx64.efi", "MZ")
        .with(
            "/boot/efi/EFI/ubuntu/grub.cfg",
            &format!("search.fs_uuid {own} root\n"),
        );
    let known = Known {
        uuids: vec![own.to_owned()],
        started: None,
    };
    assert_eq!(
        detect(&files, &known).program.as_deref(),
        Some("/EFI/ubuntu/shimx64.efi")
    );
}

#[test]
fn what_could_not_boot_is_refused_with_what_is_there_and_the_way_out() {
    let gentoo = Texts::new(&[
        ("/boot/", ""),
        ("/lib/modules/6.6.62-gentoo/modules.dep", ""),
        ("/usr/sbin/grub-install", ""),
        ("/etc/fstab", "# <fs>\n/dev/sda1 /boot ext2 noauto,noatime 1 2\n"),
    ]);
    for (files, words) in [
        (
            gentoo,
            [
                "/boot has no kernel in it, and /etc/fstab mounts /dev/sda1",
                "-r none",
            ],
        ),
        (Texts::new(&KERNEL), ["knows no boot loader", "-r none"]),
        (Texts::default(), ["knows no boot loader", "-r none"]),
        (
            Texts::new(&KERNEL).with("/boot/extlinux/extlinux.conf", ""),
            ["the program extlinux is not", "-r none"],
        ),
        (
            Texts::new(&KERNEL).with("/boot/boot.scr", ""),
            ["U-Boot", "-r none"],
        ),
        (
            Texts::new(&KERNEL).with("/boot/firmware/config.txt", ""),
            ["board", "-r none"],
        ),
        (
            Texts::new(&KERNEL).with("/boot/grub/menu.lst", ""),
            ["GRUB 0.9x", "-r none"],
        ),
        (
            Texts::new(&KERNEL).with("/boot/grub/grub.cfg", ""),
            ["neither grub-install", "-r none"],
        ),
        (
            Texts::new(&[
                ("/boot/grub/grub.cfg", "linux"),
                ("/usr/sbin/grub-install", ""),
                ("/boot/vmlinuz-6.1.0", ""),
            ]),
            ["/boot/vmlinuz-6.1.0 has no modules", "-r none"],
        ),
        (
            Texts::new(&[("/boot/grub/grub.cfg", "linux"), ("/usr/sbin/grub-install", "")]),
            ["no kernel in /boot", "-r none"],
        ),
        (
            Texts::new(&KERNEL)
                .with("/boot/grub/grub.cfg", "linux")
                .with("/usr/sbin/grub-install", ""),
            ["no grub-mkconfig", "-r none"],
        ),
    ] {
        let text = refusal(&files);
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
    }
}

#[test]
fn a_kernel_built_without_modules_is_whole_and_one_that_lost_them_is_named() {
    let files = Texts::new(&[
        ("/boot/grub/grub.cfg", "linux"),
        ("/usr/sbin/grub-install", ""),
        ("/usr/sbin/grub-mkconfig", ""),
        ("/boot/bzImage-6.1.0", ""),
    ]);
    assert!(refusal(&files).contains("has no modules"));
    let alone = files.with("/boot/config-6.1.0", "# CONFIG_MODULES is not set\n");
    assert!(check(&alone, &spec(look(&alone), None)).unwrap().is_empty());
    let two = Texts::new(&KERNEL)
        .with("/boot/grub/grub.cfg", "linux")
        .with("/usr/sbin/grub-install", "")
        .with("/usr/sbin/grub-mkconfig", "")
        .with("/boot/vmlinuz-6.1.0-43", "")
        .with("/boot/vmlinuz-6.1.0-42.old", "")
        .with("/boot/vmlinuz-0-rescue-00112233445566778899aabbccddeeff", "");
    let notes = check(&two, &spec(look(&two), None)).unwrap();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(
        notes[0].starts_with("/boot/vmlinuz-6.1.0-43 has no modules"),
        "{notes:?}"
    );
}

#[test]
fn systems_out_of_a_store_are_refused_whatever_loader_they_have() {
    let whole = Texts::new(&KERNEL)
        .with("/usr/sbin/grub-install", "")
        .with("/usr/sbin/grub-mkconfig", "")
        .with("/boot/grub/grub.cfg", "linux /vmlinuz\n");
    let refusal = |files: &Texts, option: Option<&str>| {
        let error = check(files, &spec(look(files), option)).err();
        error.map(|error| error.to_string()).unwrap_or_default()
    };
    assert_eq!(refusal(&whole, None), "");
    for (file, name) in [
        ("/etc/NIXOS", "NixOS"),
        ("/gnu/store/x", "Guix System"),
        ("/ostree/repo/config", "ostree"),
        ("/sysroot/ostree/repo/config", "ostree"),
    ] {
        let files = whole.clone().with(file, "");
        for option in [None, Some("grub")] {
            let error = refusal(&files, option);
            assert!(
                error.contains(name) && error.contains("-r none"),
                "{file}: {error}"
            );
        }
        assert_eq!(refusal(&files, Some("none")), "", "{file}");
    }
}

#[test]
fn an_image_named_for_its_package_is_no_kernel_without_modules() {
    let arch = Texts::new(&[
        ("/boot/vmlinuz-linux-lts", ""),
        ("/lib/modules/6.6.63-1-lts/modules.dep", ""),
        ("/lib/modules/6.6.63-1-lts/vmlinuz", ""),
        ("/lib/modules/6.6.63-1-lts/pkgbase", "linux-lts\n"),
        ("/boot/grub/grub.cfg", "linux /vmlinuz-linux-lts\n"),
        ("/usr/bin/grub-install", ""),
        ("/usr/bin/grub-mkconfig", ""),
    ]);
    let notes = |files: &Texts| check(files, &spec(look(files), None)).unwrap();
    assert_eq!(notes(&arch), [""; 0]);
    // One whose modules are gone is still told.
    let two = arch.with("/boot/vmlinuz-linux-zen", "");
    assert!(
        notes(&two)[0].starts_with("/boot/vmlinuz-linux-zen has no modules"),
        "{:?}",
        notes(&two)
    );
}
