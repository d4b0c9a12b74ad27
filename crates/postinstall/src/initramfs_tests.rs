//! The images that each tool builds, and their way to the place that the machine boots from.

use super::*;
use crate::facts::tests::facts;
use crate::files::fixture::Texts;
use crate::plan::fixture::{commands, written};

fn system(tool: &str) -> Texts {
    Texts::new(&[
        ("/boot/vmlinuz-6.1.0-9", ""),
        ("/boot/vmlinuz-6.1.0-10", ""),
        ("/lib/modules/6.1.0-9/modules.dep", ""),
        ("/lib/modules/6.1.0-10/modules.dep", ""),
        ("/lib/modules/5.10.0-1/modules.dep", ""),
        ("/boot/initrd.img-6.1.0-10", ""),
    ])
    .with(&format!("/usr/sbin/{tool}"), "")
}

fn needed() -> NeededModules {
    NeededModules {
        initramfs: vec!["libata".to_owned(), "ahci".to_owned()],
        ..NeededModules::default()
    }
}

#[test]
fn kernels_with_modules_and_an_image_count_and_the_newest_is_first() {
    assert_eq!(releases(&system("dracut")), ["6.1.0-10", "6.1.0-9"]);
}

#[test]
fn debian_gets_its_module_list_and_every_kernel_is_rebuilt() {
    let files = system("update-initramfs").with(
        "/etc/initramfs-tools/modules",
        "# mine\nloop\n# KA: what this machine's hardware needs\nmegaraid_sas\n# KA: end\n",
    );
    let plan = plan(&files, &facts(), &needed()).unwrap();
    assert_eq!(
        commands(&plan),
        [
            "update-initramfs -u -k 6.1.0-10",
            "update-initramfs -c -k 6.1.0-9"
        ]
    );
    assert_eq!(
        written(&plan, "/etc/initramfs-tools/modules"),
        "# mine\nloop\n# KA: what this machine's hardware needs\nlibata\nahci\n# KA: end\n"
    );
}

#[test]
fn options_of_r_reach_the_tool_and_with_names_a_module_for_all() {
    let mut facts = facts();
    facts.boot.initrd_options = vec!["--with=ata_piix".to_owned(), "-v".to_owned()];
    let debian = plan(&system("update-initramfs"), &facts, &needed()).unwrap();
    assert_eq!(commands(&debian)[0], "update-initramfs -u -k 6.1.0-10 -v");
    assert!(written(&debian, "/etc/initramfs-tools/modules").contains("\nata_piix\n"));
    let redhat = plan(&system("dracut"), &facts, &needed()).unwrap();
    assert_eq!(
        commands(&redhat),
        [
            "dracut --force /boot/initrd.img-6.1.0-10 6.1.0-10 -v",
            "dracut --force /boot/initramfs-6.1.0-9.img 6.1.0-9 -v"
        ]
    );
    assert!(
        written(&redhat, "/etc/dracut.conf.d/90-ka-hardware.conf").contains("\" libata ahci ata_piix \"")
    );
    let old = plan(&system("mkinitrd"), &facts, &needed()).unwrap();
    assert_eq!(
        commands(&old)[1],
        "mkinitrd -f --with=libata --with=ahci --with=ata_piix -v /boot/initrd-6.1.0-9.img 6.1.0-9"
    );
}

/// Debian with systemd-boot for the newer kernel; Fedora's manner, with no image in /boot, for the older one.
fn with_esp(tool: &str) -> Texts {
    system(tool)
        .with("/boot/efi/0123abcd/6.1.0-10/initrd.img-6.1.0-10", "")
        .with("/boot/efi/0123abcd/6.1.0-10/linux", "")
        .with("/efi/debian/6.1.0-9/initrd", "")
}

#[test]
fn the_image_that_the_loader_takes_from_the_esp_is_the_one_that_was_built() {
    assert_eq!(
        commands(&plan(&with_esp("dracut"), &facts(), &needed()).unwrap()),
        [
            "dracut --force /boot/initrd.img-6.1.0-10 6.1.0-10",
            "cp /boot/initrd.img-6.1.0-10 /boot/efi/0123abcd/6.1.0-10/initrd.img-6.1.0-10",
            "dracut --force /efi/debian/6.1.0-9/initrd 6.1.0-9"
        ]
    );
    assert_eq!(
        commands(&plan(&with_esp("update-initramfs"), &facts(), &needed()).unwrap()),
        [
            "update-initramfs -u -k 6.1.0-10",
            "cp /boot/initrd.img-6.1.0-10 /boot/efi/0123abcd/6.1.0-10/initrd.img-6.1.0-10",
            "update-initramfs -c -k 6.1.0-9",
            "cp /boot/initrd.img-6.1.0-9 /efi/debian/6.1.0-9/initrd"
        ]
    );
    assert_eq!(
        commands(&plan(&with_esp("mkinitcpio"), &facts(), &needed()).unwrap()),
        [
            "mkinitcpio -P",
            "mkinitcpio -k 6.1.0-10 -g /boot/efi/0123abcd/6.1.0-10/initrd.img-6.1.0-10",
            "mkinitcpio -k 6.1.0-9 -g /efi/debian/6.1.0-9/initrd"
        ]
    );
}

#[test]
fn hooks_of_the_tool_may_not_write_boot_entries_with_the_command_line_of_stage1() {
    let plan = plan(&with_esp("update-initramfs"), &facts(), &needed()).unwrap();
    let builds = plan.actions.iter().filter_map(|action| match action {
        Action::Run(command) if command.argv[0] == "update-initramfs" => Some(command),
        _ => None,
    });
    for command in builds {
        assert_eq!(
            command.env,
            [("KERNEL_INSTALL_BYPASS".to_owned(), "1".to_owned())]
        );
    }
}

#[test]
fn an_image_that_is_a_link_to_another_is_not_built_twice() {
    let files = system("dracut").with("/boot/initramfs-6.1.0-10.img", "-> initrd.img-6.1.0-10");
    assert_eq!(
        commands(&plan(&files, &facts(), &needed()).unwrap())[0],
        "dracut --force /boot/initrd.img-6.1.0-10 6.1.0-10"
    );
}

#[test]
fn dracuts_own_update_initramfs_is_dracut() {
    let files = system("dracut").with("/usr/sbin/update-initramfs", "#!/bin/sh\nexec dracut \"$@\"\n");
    assert_eq!(Tool::of(&files), Some(Tool::Dracut));
    // dracut-core may be installed beside initramfs-tools.
    let files = system("dracut").with("/usr/sbin/update-initramfs", "#!/bin/sh\nmkinitramfs\n");
    assert_eq!(Tool::of(&files), Some(Tool::InitramfsTools));
}

#[test]
fn a_unified_kernel_image_is_said_to_stay_as_it_was() {
    let files = system("dracut").with("/efi/EFI/Linux/debian-6.1.0-10.efi", "");
    let plan = plan(&files, &facts(), &needed()).unwrap();
    assert!(
        plan.to_string()
            .contains("/efi/EFI/Linux/debian-6.1.0-10.efi is a unified kernel image"),
        "{plan}"
    );
}

/// Returns the names that bash finds in the configuration, as mkinitcpio reads it, each once.
fn modules_by_bash(config: &str) -> Vec<String> {
    let script = format!("{config}\nset -f\nprintf '%s\\n' \"${{MODULES[@]}}\"");
    let ran = ka_host::run::Tool::new("bash")
        .args(["-c", &script])
        .run()
        .unwrap();
    let mut modules: Vec<String> = ran.text().lines().map(ToOwned::to_owned).collect();
    modules.sort();
    modules.dedup();
    modules
}

#[test]
fn arch_keeps_the_modules_it_had_in_whatever_shape_they_stand() {
    for (config, expected) in [
        ("MODULES=(ext4 ahci)\nHOOKS=(base udev)\n", "ahci ext4 libata"),
        (
            "MODULES=(\n  vfio # passthrough\n  vfio_pci\n)\nHOOKS=(base)\n",
            "ahci libata vfio vfio_pci",
        ),
        ("MODULES=(ext4) # root\n", "ahci ext4 libata"),
        ("MODULES=(ext4)\nMODULES+=(btrfs)\n", "ahci btrfs ext4 libata"),
        ("MODULES=\"ext4 xfs\"\n", "ahci ext4 libata xfs"),
        ("MODULES='ext4'", "ahci ext4 libata"),
        ("  MODULES=(ext4)\n", "ahci ext4 libata"),
        ("# MODULES=(ext4)\nMODULES=()\n", "ahci libata"),
        ("HOOKS=(base)\n", "ahci libata"),
        ("", "ahci libata"),
    ] {
        let files = system("mkinitcpio").with("/etc/mkinitcpio.conf", config);
        let made = plan(&files, &facts(), &needed()).unwrap();
        let text = written(&made, "/etc/mkinitcpio.conf");
        assert!(text.starts_with(config), "{text}");
        assert_eq!(modules_by_bash(&text).join(" "), expected, "{text}");
        assert_eq!(commands(&made), ["mkinitcpio -P"]);
        // A clone of a clone has the lines once.
        let again = plan(&files.with("/etc/mkinitcpio.conf", &text), &facts(), &needed()).unwrap();
        let rewritten = again
            .actions
            .iter()
            .any(|action| matches!(action, Action::Write { .. }));
        assert!(!rewritten, "{again}");
    }
}

#[test]
fn a_file_of_its_own_that_sets_archs_modules_anew_is_followed_by_ours_and_nothing_to_add_changes_nothing() {
    let files = system("mkinitcpio")
        .with("/etc/mkinitcpio.conf", "MODULES=(ext4)\n")
        .with("/etc/mkinitcpio.conf.d/gpu.conf", "MODULES=(i915)\n");
    let made = plan(&files, &facts(), &needed()).unwrap();
    let drop_in = written(&made, "/etc/mkinitcpio.conf.d/zz-ka-hardware.conf");
    assert_eq!(
        modules_by_bash(&format!("MODULES=(i915)\n{drop_in}")),
        ["ahci", "i915", "libata"]
    );
    let nothing = plan(&files, &facts(), &NeededModules::default()).unwrap();
    assert_eq!(nothing.actions.len(), 1, "{nothing}");
}

#[test]
fn an_image_that_a_boot_loader_loads_and_nobody_makes_is_named() {
    let config = "menuentry x {\n  linux /vmlinuz-6.1.0-10 root=/dev/sda\n  initrd /intel-ucode.img /initrd.img-6.1.0-10\n}\n\
                  menuentry y {\n  initrd /my-own-initrd.img\n}\n# initrd /initrd-old\n";
    for tool in ["dracut", "update-initramfs", "mkinitrd"] {
        let files = system(tool)
            .with("/boot/grub/grub.cfg", config)
            .with("/boot/my-own-initrd.img", "")
            .with("/boot/initrd-old", "")
            .with("/boot/intel-ucode.img", "");
        let warnings = plan(&files, &facts(), &needed()).unwrap().warnings;
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(
            warnings[0].starts_with("/boot/grub/grub.cfg loads my-own-initrd.img"),
            "{warnings:?}"
        );
    }
}

#[test]
fn a_gentoo_kernel_gets_its_image_under_the_name_that_it_has() {
    let files = Texts::new(&[
        ("/boot/kernel-genkernel-x86_64-6.6.62-gentoo", ""),
        ("/boot/initramfs-genkernel-x86_64-6.6.62-gentoo", ""),
        ("/lib/modules/6.6.62-gentoo/modules.dep", ""),
        ("/usr/bin/dracut", ""),
    ]);
    assert_eq!(
        commands(&plan(&files, &facts(), &needed()).unwrap()),
        ["dracut --force /boot/initramfs-genkernel-x86_64-6.6.62-gentoo 6.6.62-gentoo"]
    );
}

#[test]
fn a_system_without_kernel_has_nothing_to_build_and_one_without_tool_is_warned_of() {
    assert!(plan(&Texts::default(), &facts(), &needed()).unwrap().is_empty());
    let plan = plan(&system("nothing"), &facts(), &needed()).unwrap();
    assert!(plan.is_empty() && plan.warnings.len() == 1, "{plan}");
}

#[test]
fn alpines_images_get_a_feature_with_this_hardwares_modules_and_keep_their_names() {
    let files = Texts::new(&[
        ("/boot/vmlinuz-lts", ""),
        ("/boot/initramfs-lts", ""),
        (
            "/lib/modules/6.6.58-0-lts/modules.dep",
            "kernel/drivers/ata/ahci.ko.gz: kernel/drivers/ata/libata.ko.gz\nkernel/drivers/ata/libata.ko.gz:\n\
             kernel/drivers/ata/ahci-platform.ko.gz:\n",
        ),
        ("/sbin/mkinitfs", ""),
        ("/etc/mkinitfs/mkinitfs.conf", "features=\"base ext4\""),
    ]);
    let made = plan(&files, &facts(), &needed()).unwrap();
    assert_eq!(commands(&made), ["mkinitfs -o /boot/initramfs-lts 6.6.58-0-lts"]);
    assert_eq!(
        written(&made, "/etc/mkinitfs/features.d/ka-hardware.modules"),
        "kernel/drivers/ata/ahci.ko*\nkernel/drivers/ata/libata.ko*\n"
    );
    let config = written(&made, "/etc/mkinitfs/mkinitfs.conf");
    assert!(config.contains("features=\"base ext4\"\n"), "{config}");
    assert!(
        config.contains("\nfeatures=\"$features ka-hardware\"\n"),
        "{config}"
    );
    // A second run has one such line, and none where nothing is needed.
    let again = plan(
        &files.with("/etc/mkinitfs/mkinitfs.conf", &config),
        &facts(),
        &NeededModules::default(),
    )
    .unwrap();
    assert_eq!(
        written(&again, "/etc/mkinitfs/mkinitfs.conf"),
        "features=\"base ext4\"\n"
    );
    assert_eq!(commands(&again).len(), 1);
}

#[test]
fn slackwares_mkinitrd_is_not_called_and_a_missing_tool_is_told_only_where_there_is_an_image() {
    let slackware = Texts::new(&[
        ("/boot/vmlinuz-generic-5.15.19", ""),
        ("/lib/modules/5.15.19/modules.dep", ""),
        ("/etc/slackware-version", "Slackware 15.0\n"),
        ("/sbin/mkinitrd", ""),
    ]);
    let huge = plan(&slackware, &facts(), &needed()).unwrap();
    assert!(
        huge.is_empty() && huge.warnings.is_empty(),
        "{huge} {:?}",
        huge.warnings
    );
    let generic = plan(&slackware.with("/boot/initrd.gz", ""), &facts(), &needed()).unwrap();
    assert!(generic.is_empty(), "{generic}");
    assert!(
        generic.warnings[0].contains("stays the golden node's"),
        "{:?}",
        generic.warnings
    );
}
