//! The loader that is chosen on each machine, and the commands that install it.

use ka_disk::spec::SbatImage;
use ka_disk::table::TableKind;
use ka_distro::efi::Role;

use super::*;
use crate::facts::Firmware;
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
fn a_golden_node_without_loader_is_refused_and_none_can_be_asked_for() {
    assert!(refusal(&facts()).contains("-r none"));
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
    let facts = uefi();
    let with = |image: &[u8]| {
        let mut files = Texts::default();
        files
            .0
            .insert("/boot/efi/EFI/BOOT/BOOTX64.EFI".to_owned(), image.to_vec());
        files
    };
    grub::check_fallback(&with(&pe::tests::image(9)), &facts, "/boot/efi", true).unwrap();
    grub::check_fallback(&with(&pe::tests::image(0)), &facts, "/boot/efi", false).unwrap();
    let error = grub::check_fallback(&with(&pe::tests::image(0)), &facts, "/boot/efi", true).unwrap_err();
    assert!(error.to_string().contains("not signed"), "{error}");
    assert!(grub::check_fallback(&Texts::default(), &facts, "/boot/efi", false).is_err());
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
    let mut in_subvolume = facts.clone();
    for mount in &mut in_subvolume.mounts {
        mount.fstype = "btrfs".to_owned();
        mount.subvol = Some(String::new());
    }
    assert!(choose(&in_subvolume).is_ok(), "the top level can be read");
    for mount in &mut in_subvolume.mounts {
        mount.subvol = Some("@".to_owned());
    }
    assert!(refusal(&in_subvolume).contains("subvolume @"));
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
    let mut on_btrfs = facts.clone();
    for mount in &mut on_btrfs.mounts {
        mount.fstype = "btrfs".to_owned();
    }
    others::check_extlinux(&without, &on_btrfs).unwrap();
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

const ESP: &str = "/boot/efi";
const OWN_STUB: &str =
    "search.fs_uuid aaaaaaaa-0003-4000-8000-000000000003 root\nset prefix=($root)'/boot/grub'\n";
const DEAD_STUB: &str =
    "search.fs_uuid 0badc0de-2222-4333-8444-555555555555 root\nset prefix=($root)'/boot/grub'\n";

fn entered(files: &Texts, facts: &Facts, role: Role, before: &Texts) -> String {
    let install = Install::GrubUefi {
        esp: ESP.to_owned(),
        shim: role == Role::Shim,
    };
    let before = Before::of(before, &install);
    choice::entered(files, facts, ESP, Some(role), &before).unwrap_or_else(|error| error.to_string())
}

#[test]
fn the_loader_that_was_just_installed_is_entered_whatever_it_is_called_and_whatever_lies_beside_it() {
    let golden = Texts::new(&[
        ("/boot/efi/EFI/GRUB/grubx64.efi", "golden"),
        ("/boot/efi/EFI/zzz/grubx64.efi", "other"),
    ]);
    let facts = uefi();
    for name in ["arch", "GRUB", "my-own", "Arch Linux"] {
        let path = format!("/boot/efi/EFI/{name}/grubx64.efi");
        assert_eq!(
            entered(&golden.clone().with(&path, "new"), &facts, Role::Grub, &golden),
            path
        );
    }
}

#[test]
fn else_the_golden_nodes_own_is_entered_and_else_the_one_that_leads_to_the_clone() {
    let two = Texts::new(&[
        ("/boot/efi/EFI/debian/shimx64.efi", "shim"),
        ("/boot/efi/EFI/debian/grub.cfg", DEAD_STUB),
        ("/boot/efi/EFI/ubuntu/shimx64.efi", "shim"),
        ("/boot/efi/EFI/ubuntu/grub.cfg", OWN_STUB),
    ]);
    let mut facts = uefi();
    assert_eq!(
        entered(&two, &facts, Role::Shim, &two),
        "/boot/efi/EFI/ubuntu/shimx64.efi"
    );
    // A directory that leads elsewhere boots nothing, whatever the golden firmware said.
    facts.boot.golden.program = Some("/EFI/debian/shimx64.efi".to_owned());
    assert_eq!(
        entered(&two, &facts, Role::Shim, &two),
        "/boot/efi/EFI/ubuntu/shimx64.efi"
    );
    let unknown = two.with(
        "/boot/efi/EFI/debian/grub.cfg",
        "configfile /boot/grub/grub.cfg\n",
    );
    assert_eq!(
        entered(&unknown, &facts, Role::Shim, &unknown),
        "/boot/efi/EFI/debian/shimx64.efi"
    );
}

#[test]
fn where_nothing_else_tells_the_distributions_own_directory_does_and_doubt_is_said() {
    let files = Texts::new(&[
        ("/boot/efi/EFI/centos/shimx64.efi", ""),
        ("/boot/efi/EFI/redhat/shimx64.efi", ""),
        ("/boot/efi/EFI/boot/bootx64.efi", ""),
    ]);
    let rhel = files
        .clone()
        .with("/etc/os-release", "NAME=\"Red Hat\"\nID=\"rhel\"\n");
    assert_eq!(
        entered(&rhel, &uefi(), Role::Shim, &rhel),
        "/boot/efi/EFI/redhat/shimx64.efi"
    );
    let doubt = entered(&files, &uefi(), Role::Shim, &files);
    assert!(doubt.contains("centos") && doubt.contains("redhat"), "{doubt}");
    let suse = Texts::new(&[
        ("/boot/efi/EFI/opensuse/shim.efi", ""),
        ("/boot/efi/EFI/opensuse/grub.efi", ""),
    ]);
    assert_eq!(
        entered(&suse, &uefi(), Role::Shim, &suse),
        "/boot/efi/EFI/opensuse/shim.efi"
    );
}

#[test]
fn grub_goes_into_the_directory_that_the_golden_node_has() {
    let mut facts = uefi();
    facts.boot.golden.program = Some("/EFI/GRUB/grubx64.efi".to_owned());
    let arch = Texts::new(&[("/usr/bin/grub-install", ""), ("/usr/bin/grub-mkconfig", "")]);
    let install = choose(&facts).unwrap().unwrap();
    let commands = commands(&plan(&arch, &facts, &install).unwrap());
    assert!(
        commands[0].ends_with("--no-nvram --bootloader-id=GRUB"),
        "{}",
        commands[0]
    );
    assert!(commands[1].ends_with("--no-nvram --removable"), "{}", commands[1]);
}

/// RHEL 8: the whole configuration and its environment are on the EFI system partition.
fn rhel8() -> Texts {
    Texts::new(&[
        ("/boot/efi/EFI/redhat/shimx64.efi", "MZ"),
        ("/boot/efi/EFI/redhat/grubx64.efi", "MZ"),
        (
            "/boot/efi/EFI/redhat/grub.cfg",
            "set timeout=5\ninsmod blscfg\nblscfg\n",
        ),
        (
            "/boot/efi/EFI/redhat/grubenv",
            "# GRUB Environment Block\nkernelopts=root=UUID=aaaaaaaa-0003-4000-8000-000000000003 ro\n####",
        ),
        (
            "/boot/loader/entries/0123-5.14.conf",
            "linux /vmlinuz-5.14\noptions $kernelopts\n",
        ),
    ])
}

#[test]
fn a_red_hat_whose_configuration_is_on_the_efi_system_partition_gets_that_one_written_and_judged() {
    let mut facts = uefi();
    facts.boot.golden.shim = true;
    facts.boot.golden.grub_platforms.clear();
    facts.boot.golden.tools.clear();
    let install = choose(&facts).unwrap().unwrap();
    let with_tool = rhel8().with("/usr/sbin/grub2-mkconfig", "");
    let made = plan(&with_tool, &facts, &install).unwrap();
    assert_eq!(
        commands(&made),
        ["grub2-mkconfig -o /boot/efi/EFI/redhat/grub.cfg"]
    );
    // Without it the text was translated before, and stays.
    assert_eq!(commands(&plan(&rhel8(), &facts, &install).unwrap()), [""; 0]);
    grub::check_config(&rhel8(), &facts, Some(ESP)).unwrap();
    let golden = rhel8().with(
        "/boot/efi/EFI/redhat/grubenv",
        "# GRUB Environment Block\nkernelopts=root=UUID=11111111-0003-4000-8000-000000000003 ro\n####",
    );
    let error = grub::check_config(&golden, &facts, Some(ESP))
        .unwrap_err()
        .to_string();
    assert!(error.contains("EFI/redhat/grubenv still names"), "{error}");
    // A stub is no configuration of its own: nothing may be written over it.
    let fedora = rhel8()
        .with(
            "/boot/efi/EFI/redhat/grub.cfg",
            "search --fs-uuid --set=dev aaaaaaaa-0003-4000-8000-000000000003\nconfigfile $prefix/grub.cfg\n",
        )
        .with("/boot/grub2/grub.cfg", "blscfg\n")
        .with("/usr/sbin/grub2-mkconfig", "");
    assert_eq!(
        commands(&plan(&fedora, &facts, &install).unwrap()),
        ["grub2-mkconfig -o /boot/grub2/grub.cfg"]
    );
}

#[test]
fn a_loader_that_the_firmware_has_revoked_is_refused_under_secure_boot_only() {
    let mut facts = uefi();
    facts.boot.golden.shim = true;
    facts.boot.golden.sbat = vec![SbatImage {
        program: "/EFI/debian/shimx64.efi".to_owned(),
        components: vec![("shim".to_owned(), 2), ("shim.debian".to_owned(), 1)],
    }];
    facts.sbat_level = vec![("shim".to_owned(), 4), ("grub".to_owned(), 4)];
    assert!(choose(&facts).is_ok());
    facts.secure_boot = true;
    let text = refusal(&facts);
    assert!(text.contains("shimx64.efi: shim 2, at least 4"), "{text}");
    facts.sbat_level[0].1 = 2;
    assert!(choose(&facts).is_ok());
}

#[test]
fn a_loader_that_is_only_files_is_kept_and_gets_the_fallback_path() {
    let mut facts = uefi();
    facts.boot.golden.loader = Some(Loader::Refind);
    let files = Texts::new(&[
        ("/boot/efi/EFI/refind/refind_x64.efi", "refind"),
        ("/boot/efi/EFI/refind/refind.conf", "timeout 5\n"),
        ("/boot/efi/EFI/refind/drivers_x64/ext4_x64.efi", "driver"),
        (
            "/boot/refind_linux.conf",
            "\"x\" \"root=UUID=aaaaaaaa-0003-4000-8000-000000000003\"\n",
        ),
    ]);
    let install = choose(&facts).unwrap().unwrap();
    assert_eq!(install.to_string(), "rEFInd in /boot/efi");
    let text = plan(&files, &facts, &install).unwrap().to_string();
    for name in ["BOOTX64.EFI", "refind.conf", "drivers_x64/ext4_x64.efi"] {
        assert!(
            text.contains(&format!("/boot/efi/EFI/BOOT/{name}: copied")),
            "{text}"
        );
    }
    let whole = files.with("/boot/efi/EFI/BOOT/BOOTX64.EFI", "refind");
    let found = confirm(&whole, &facts, &install, &Before::default())
        .unwrap()
        .unwrap();
    assert_eq!(found.path, "/boot/efi/EFI/refind/refind_x64.efi");
    let golden = whole.with(
        "/boot/refind_linux.conf",
        "\"x\" \"root=UUID=11111111-0003-4000-8000-000000000003\"\n",
    );
    let error = confirm(&golden, &facts, &install, &Before::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains("/boot/refind_linux.conf still names"), "{error}");
    facts.firmware = Firmware::Bios;
    assert!(refusal(&facts).contains("UEFI only"));
}

#[test]
fn alpines_extlinux_is_installed_where_its_configuration_is() {
    let mut facts = bios();
    facts.boot.loader = Some("extlinux".to_owned());
    let install = choose(&facts).unwrap().unwrap();
    let files = Texts::new(&[
        ("/boot/extlinux.conf", "LABEL lts\n  LINUX vmlinuz-lts\n"),
        ("/boot/vmlinuz-lts", ""),
        ("/boot/ldlinux.sys", ""),
        ("/usr/share/syslinux/mbr.bin", "code"),
    ]);
    assert_eq!(
        commands(&plan(&files, &facts, &install).unwrap()),
        ["extlinux --install /boot"]
    );
    others::check_extlinux(&files, &facts).unwrap();
    assert_eq!(install.boot_code(&files).unwrap().unwrap(), b"code");
}
