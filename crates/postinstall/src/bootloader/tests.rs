//! What is chosen on which machine, and what is run for it.

use super::*;
use crate::facts::tests::facts;
use crate::files::fixture::Texts;
use crate::plan::Action;
use crate::plan::fixture::commands;

fn bios() -> Facts {
    let mut facts = facts();
    facts.boot.golden.loader = Some(Loader::Grub);
    facts.boot.golden.grub_platforms = vec!["i386-pc".to_owned()];
    facts.boot.golden.tools = vec![Loader::Grub, Loader::SystemdBoot, Loader::Extlinux, Loader::Lilo];
    facts
}

fn uefi() -> Facts {
    let mut facts = bios();
    facts.firmware = Firmware::Uefi;
    facts.boot.golden.grub_platforms = vec!["x86_64-efi".to_owned()];
    facts.disks[0].table = TableKind::Gpt;
    facts.disks[0].esp = Some(1);
    facts
}

fn refusal(facts: &Facts) -> String {
    choose(facts).unwrap_err().to_string()
}

fn debian() -> Texts {
    Texts::new(&[
        ("/etc/debian_version", "12.7\n"),
        ("/usr/sbin/grub-install", ""),
        ("/usr/sbin/grub-mkconfig", ""),
    ])
}

#[test]
fn a_golden_node_without_loader_needs_none_and_none_can_be_asked_for() {
    assert_eq!(choose(&facts()).unwrap(), None);
    let mut facts = bios();
    facts.boot.loader = Some("none".to_owned());
    assert_eq!(choose(&facts).unwrap(), None);
    facts.boot.loader = Some("loadlin".to_owned());
    assert!(refusal(&facts).contains("-r loadlin"));
    facts.boot.loader = Some("lilo".to_owned());
    assert!(choose(&facts).unwrap().is_some());
    facts.boot.golden.tools.clear();
    assert!(refusal(&facts).contains("has no LILO"));
}

#[test]
fn a_bios_node_gets_grub_on_the_disk_with_boot() {
    let facts = bios();
    let install = choose(&facts).unwrap().unwrap();
    assert_eq!(install.to_string(), "GRUB for BIOS on /dev/nvme0n1");
    let files = debian().with("/boot/grub/device.map", "(hd0) /dev/disk/by-id/ata-GOLDEN\n");
    let plan = plan(&files, &facts, &install).unwrap();
    assert_eq!(
        commands(&plan),
        [
            "grub-install --target=i386-pc /dev/nvme0n1",
            "grub-mkconfig -o /boot/grub/grub.cfg"
        ]
    );
    assert_eq!(plan.lines()[0], "/boot/grub/device.map: (hd0)\t/dev/nvme0n1");
}

#[test]
fn what_cannot_boot_on_this_firmware_is_refused_with_the_way_out() {
    let mut facts = bios();
    facts.boot.golden.grub_platforms = vec!["x86_64-efi".to_owned()];
    let text = refusal(&facts);
    assert!(
        text.contains("booted by BIOS") && text.contains("x86_64-efi only") && text.contains("grub-pc-bin"),
        "{text}"
    );
    let mut facts = bios();
    facts.disks[0].table = TableKind::Gpt;
    assert!(refusal(&facts).contains("`bios 1`"));
    facts.disks[0].has_bios_partition = true;
    assert!(choose(&facts).unwrap().is_some());
    let mut facts = uefi();
    facts.boot.golden.grub_platforms = vec!["i386-pc".to_owned()];
    assert!(refusal(&facts).contains("booted by UEFI"));
    let mut facts = uefi();
    facts.mounts.retain(|mount| mount.path == "/");
    assert!(refusal(&facts).contains("no EFI system partition"));
    let mut facts = uefi();
    facts.disks[0].esp = None;
    assert!(refusal(&facts).contains("is not of type esp"));
    for word in ["lilo", "extlinux"] {
        let mut facts = uefi();
        facts.boot.loader = Some(word.to_owned());
        assert!(refusal(&facts).contains("boots by BIOS only"), "{word}");
    }
    let mut facts = bios();
    facts.boot.loader = Some("systemd-boot".to_owned());
    assert!(refusal(&facts).contains("boots by UEFI only"));
}

#[test]
fn secure_boot_wants_shim_and_debian_keeps_it() {
    let mut facts = uefi();
    facts.secure_boot = true;
    assert!(refusal(&facts).contains("no shim"));
    facts.boot.golden.shim = true;
    let install = choose(&facts).unwrap().unwrap();
    let files = debian()
        .with("/usr/lib/shim/shimx64.efi.signed", "")
        .with("/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed", "");
    let plan = plan(&files, &facts, &install).unwrap();
    assert_eq!(
        commands(&plan)[0],
        "grub-install --target=x86_64-efi --efi-directory=/boot/efi --uefi-secure-boot --force-extra-removable --no-nvram"
    );
}

#[test]
fn a_shim_that_no_tool_installs_is_copied_to_the_fallback_path() {
    let mut facts = uefi();
    facts.boot.golden.shim = true;
    let files = Texts::new(&[
        ("/usr/sbin/grub2-install", ""),
        ("/usr/sbin/grub2-mkconfig", ""),
        ("/boot/grub2/grub.cfg", ""),
        ("/boot/efi/EFI/redhat/shimx64.efi", "shim"),
        ("/boot/efi/EFI/redhat/grubx64.efi", "grub"),
        ("/boot/efi/EFI/redhat/grub.cfg", "stub"),
    ]);
    let install = choose(&facts).unwrap().unwrap();
    let plan = plan(&files, &facts, &install).unwrap();
    assert_eq!(commands(&plan), ["grub2-mkconfig -o /boot/grub2/grub.cfg"]);
    let text = plan.to_string();
    assert!(
        text.contains("/boot/efi/EFI/BOOT/BOOTX64.EFI: copied from /boot/efi/EFI/redhat/shimx64.efi"),
        "{text}"
    );
    assert!(text.contains("/boot/efi/EFI/BOOT/grubx64.efi"), "{text}");
}

#[test]
fn uefi_without_shim_installs_both_paths_on_every_distribution() {
    let facts = uefi();
    let install = choose(&facts).unwrap().unwrap();
    let on_debian = plan(&debian(), &facts, &install).unwrap();
    assert_eq!(
        commands(&on_debian)[0],
        "grub-install --target=x86_64-efi --efi-directory=/boot/efi --no-nvram --no-uefi-secure-boot --force-extra-removable"
    );
    let arch = Texts::new(&[("/usr/bin/grub-install", ""), ("/usr/bin/grub-mkconfig", "")]);
    let on_arch = plan(&arch, &facts, &install).unwrap();
    assert_eq!(
        commands(&on_arch)[..2],
        [
            "grub-install --target=x86_64-efi --efi-directory=/boot/efi --no-nvram",
            "grub-install --target=x86_64-efi --efi-directory=/boot/efi --no-nvram --removable"
        ]
    );
    assert!(plan(&Texts::default(), &facts, &install).is_err());
}

#[test]
fn the_fallback_path_must_be_signed_where_shim_is() {
    let with = |image: &[u8]| {
        let mut files = Texts::default();
        files
            .0
            .insert("/boot/efi/EFI/BOOT/BOOTX64.EFI".to_owned(), image.to_vec());
        files
    };
    grub::check_fallback(&with(&pe::tests::image(9)), "/boot/efi", true).unwrap();
    grub::check_fallback(&with(&pe::tests::image(0)), "/boot/efi", false).unwrap();
    let error = grub::check_fallback(&with(&pe::tests::image(0)), "/boot/efi", true).unwrap_err();
    assert!(error.to_string().contains("not signed"), "{error}");
    assert!(grub::check_fallback(&Texts::default(), "/boot/efi", false).is_err());
}

#[test]
fn extlinux_needs_the_active_partition_and_brings_its_boot_code() {
    let mut facts = bios();
    facts.boot.loader = Some("extlinux".to_owned());
    let install = choose(&facts).unwrap().unwrap();
    let files = Texts::new(&[("/usr/lib/syslinux/mbr/mbr.bin", "code")]);
    assert_eq!(install.boot_code(&files).unwrap().unwrap(), b"code");
    assert_eq!(
        commands(&plan(&files, &facts, &install).unwrap()),
        ["extlinux --install /boot/extlinux"]
    );
    assert!(install.boot_code(&Texts::default()).is_err());
    facts.disks[0].active = Some(1);
    assert!(refusal(&facts).contains("active partition"));
}

#[test]
fn extlinux_must_have_left_its_second_stage_and_a_kernel_to_boot() {
    let files = Texts::new(&[
        ("/boot/extlinux/ldlinux.sys", "stage 2"),
        ("/boot/extlinux/extlinux.conf", "UI menu.c32\ninclude linux.cfg\n"),
        ("/boot/extlinux/linux.cfg", "label a\n\tLINUX ../vmlinuz\n"),
        ("/boot/extlinux/../vmlinuz", ""),
    ]);
    let facts = bios();
    others::check_extlinux(&files, &facts).unwrap();
    let refusal = |files: &Texts| others::check_extlinux(files, &facts).unwrap_err().to_string();
    let config = "/boot/extlinux/linux.cfg";
    assert!(refusal(&files.clone().with(config, "kernel /vmlinuz\n")).contains("names a kernel"));
    let golden = "append root=UUID=11111111-0003-4000-8000-000000000003\n";
    assert!(refusal(&files.clone().with(config, golden)).contains("golden file system"));
    let mut without = files;
    without.0.remove("/boot/extlinux/ldlinux.sys");
    assert!(refusal(&without).contains("left no /boot/extlinux/ldlinux.sys"));
}

#[test]
fn lilo_may_not_have_been_told_of_a_golden_root() {
    let with = |root: &str| Texts::new(&[("/etc/lilo.conf", &format!("append=\"root=UUID={root}\"\n"))]);
    others::check_lilo(&with("aaaaaaaa-0003-4000-8000-000000000003"), &bios()).unwrap();
    let golden = with("11111111-0003-4000-8000-000000000003");
    let refusal = others::check_lilo(&golden, &bios()).unwrap_err().to_string();
    assert!(refusal.contains("/etc/lilo.conf still names"), "{refusal}");
}

#[test]
fn systemd_boot_is_told_not_to_judge_the_provisional_table() {
    let mut facts = uefi();
    facts.boot.loader = Some("systemd-boot".to_owned());
    let install = choose(&facts).unwrap().unwrap();
    let files = Texts::new(&[("/usr/bin/bootctl", "")]);
    let plan = plan(&files, &facts, &install).unwrap();
    let [Action::Run(command)] = plan.actions.as_slice() else {
        panic!("{plan}")
    };
    assert_eq!(
        command.argv.join(" "),
        "bootctl --esp-path=/boot/efi --no-variables install"
    );
    assert_eq!(command.env[0].0, "SYSTEMD_RELAX_ESP_CHECKS");
}
