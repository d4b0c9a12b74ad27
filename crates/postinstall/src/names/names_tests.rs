//! Names in spellings that people and tools really use, and in bad ones.

use ka_disk::spec::{GoldenDevice, KnownDevice, Place};
use proptest::prelude::*;

use super::words::WordNotes;
use super::*;
use crate::facts::MountFact;
use crate::facts::tests::facts;
use crate::files::fixture::Texts;
use crate::fstab::CloneDevice;
use crate::fstab::DeviceMap;
use crate::plan::Plan;

const ROOT: &str = "11111111-0003-4000-8000-000000000003";
const NEW_ROOT: &str = "aaaaaaaa-0003-4000-8000-000000000003";
const NEW_SWAP: &str = "aaaaaaaa-0002-4000-8000-000000000002";

/// With an initramfs in /boot.
fn files(more: &[(&str, &str)]) -> Texts {
    let mut files = Texts::new(more);
    files.0.insert("/boot/initrd.img-6.1.0".to_owned(), vec![0]);
    files
}

/// Returns the usual clone, with an empty fourth partition like the golden one and a golden data disk that
/// was left out.
fn rich() -> Facts {
    let mut facts = facts();
    let bare = GoldenDevice {
        path: "/dev/sda4".to_owned(),
        partuuid: Some("11111111-04".to_owned()),
        aliases: vec!["/dev/disk/by-id/ata-GOLDEN_X1-part4".to_owned()],
        ..GoldenDevice::default()
    };
    let clone = CloneDevice {
        path: "/dev/nvme0n1p4".to_owned(),
        partuuid: Some("99999999-04".to_owned()),
        ..CloneDevice::default()
    };
    facts.partitions.push(clone.clone());
    facts.bare.push(DeviceMap {
        golden: bare,
        clone,
        options: Vec::new(),
    });
    facts.known.push(KnownDevice {
        device: GoldenDevice {
            path: "/dev/sdb1".to_owned(),
            uuid: Some("66666666-7777-4888-9999-aaaaaaaaaaaa".to_owned()),
            partuuid: Some("dddddddd-01".to_owned()),
            label: Some("data".to_owned()),
            ..GoldenDevice::default()
        },
        on: Some(Place {
            drive: "sdb".to_owned(),
            partition: 1,
        }),
        content: Some("ext4".to_owned()),
        table_id: None,
    });
    facts
}

fn crypttab_of(text: &str) -> (String, Vec<String>) {
    let facts = rich();
    let files = files(&[]);
    let new = crypttab::plan(text.as_bytes(), &super::read(&files, &facts).unwrap());
    (String::from_utf8(new.file.bytes).unwrap(), new.file.warnings)
}

fn command_line(text: &str) -> (String, Vec<String>) {
    let facts = rich();
    let files = files(&[]);
    let mut said = WordNotes::default();
    let names = super::read(&files, &facts).unwrap();
    (
        words::rewrite(text, &names, Manner::Usual, &mut said),
        said.warnings,
    )
}

#[test]
fn a_random_key_takes_the_clones_own_partition_or_none() {
    for device in [
        "/dev/sda4",
        "PARTUUID=11111111-04",
        "PARTUUID=\"11111111-04\"",
        "/dev/disk/by-partuuid/11111111-04",
        "/dev/disk/by-id/ata-GOLDEN_X1-part4",
        "/dev//sda4",
    ] {
        for rest in [
            "/dev/urandom swap",
            "/dev/random cipher=aes-xts-plain64,swap,size=256",
            "none tmp=ext4",
        ] {
            let (new, warnings) = crypttab_of(&format!("cswap\t{device}  {rest}\n"));
            assert!(
                new.starts_with("cswap\t") && new.contains("99999999-04  "),
                "{new}"
            );
            assert!(warnings.is_empty(), "{warnings:?}");
        }
    }
    for device in [
        "/dev/sdb1",
        "/dev/sdc",
        "/dev/nvme0n1p4",
        "/dev/nvme1n1p2",
        "UUID=66666666-7777-4888-9999-aaaaaaaaaaaa",
        "LABEL=data",
        "/dev/disk/by-path/pci-0000:00:1f.2-ata-2-part3",
        "/dev/vg0/swap",
        "/dev/mapper/vg0-swap",
        "/dev/sda3",
        "/dev/sda",
        "/dev/md0",
        "/dev/myswap",
    ] {
        let (new, warnings) = crypttab_of(&format!("cswap {device} /dev/urandom swap\n"));
        assert!(new.starts_with("# ka: not in this clone: cswap "), "{new}");
        assert!(
            warnings[0].contains("line 1: cswap: ") && warnings[0].contains(device),
            "{warnings:?}"
        );
    }
}

#[test]
fn what_opens_no_device_of_the_golden_nodes_stays() {
    for line in [
        "img /var/lib/secret.img none luks\n",
        "# cswap /dev/sdb1 /dev/urandom swap\n",
        "\n",
        "broken\n",
    ] {
        assert_eq!(crypttab_of(line).0, line);
    }
    let (new, _) = crypttab_of("root UUID=0c0c0c0c-0000-4000-8000-00000000c0c0 none luks,discard\n");
    assert!(new.starts_with("# ka:"), "{new}");
    let (new, _) = crypttab_of("a /var/x.img /key:LABEL=stick luks,header=/h.img:LABEL=data\n");
    assert!(new.starts_with("# ka:"), "{new}");
    let (new, _) = crypttab_of("a /var/x.img /key:LABEL=system luks\n");
    assert_eq!(new, format!("a /var/x.img /key:UUID={NEW_ROOT} luks\n"));
    let (new, _) = crypttab_of("a /var/x.img /dev/disk/by-label/stick luks\n");
    assert_eq!(new, "a /var/x.img none luks\n");
}

#[test]
fn words_about_layers_that_a_clone_lacks_are_taken_out_wherever_they_stand() {
    for word in [
        "rd.lvm.lv=vg0/root",
        "rd.lvm.vg=vg0",
        "rd_LVM_LV=vg0/root",
        "rd.luks.uuid=luks-0c0c0c0c-0000-4000-8000-00000000c0c0",
        "rd.luks.name=0c0c0c0c-0000-4000-8000-00000000c0c0=root",
        "luks.uuid=0c0c0c0c-0000-4000-8000-00000000c0c0",
        "luks.options=0c0c0c0c-0000-4000-8000-00000000c0c0=discard",
        "rd.luks.uuid=12345678",
        "rd.luks.key=/key:LABEL=stick",
        "md=0,/dev/sda1,/dev/sdb1",
        "rd.md.uuid=0a0a0a0a:1b1b1b1b:2c2c2c2c:3d3d3d3d",
        "rd.dm.uuid=isw_x",
        "rd.auto",
        "rd.auto=1",
        "domdadm",
        "dolvm",
        "cryptdevice=/dev/sda3:root:allow-discards",
        "cryptdevice=UUID=0c0c0c0c-0000-4000-8000-00000000c0c0:root",
        "cryptkey=LABEL=stick:ext4:/key",
        "cryptopts=target=root,source=UUID=0c0c0c0c-0000-4000-8000-00000000c0c0,lvm=vg0-root",
        "crypt_root=UUID=0c0c0c0c-0000-4000-8000-00000000c0c0",
        "cryptroot=/dev/sda3",
        "resume=/dev/mapper/vg0-swap",
        "resume=UUID=0badcafe-0000-4000-8000-0000deadbeef",
        "resume2=swap:/dev/sdb2",
    ] {
        for (before, after) in [
            (format!("quiet {word} splash\n"), "quiet splash\n"),
            (format!("{word} quiet\n"), "quiet\n"),
            (format!("quiet {word}"), "quiet"),
            (
                format!("GRUB_CMDLINE_LINUX=\"{word} quiet\"\n"),
                "GRUB_CMDLINE_LINUX=\"quiet\"\n",
            ),
            (
                format!("GRUB_CMDLINE_LINUX='quiet {word}'\n"),
                "GRUB_CMDLINE_LINUX='quiet'\n",
            ),
            (format!("options quiet {word} {word}\n"), "options quiet\n"),
            (format!("kernelopts={word} quiet \n"), "kernelopts=quiet \n"),
            (format!("\tAPPEND {word}\n"), "\tAPPEND\n"),
            (format!("\"Boot\" \"quiet {word}\"\n"), "\"Boot\" \"quiet\"\n"),
        ] {
            let (new, warnings) = command_line(&before);
            assert_eq!(new, after, "{before}");
            assert!(!warnings.is_empty(), "{before}");
        }
    }
}

#[test]
fn quotes_around_a_value_belong_to_its_word() {
    for (before, after) in [
        (
            "GRUB_CMDLINE_LINUX=\"rd.lvm.lv=\\\"vg0/root\\\" quiet\"\n",
            "GRUB_CMDLINE_LINUX=\"quiet\"\n".to_owned(),
        ),
        (
            "GRUB_CMDLINE_LINUX=\"root=\\\"LABEL=my root\\\" quiet\"\n",
            format!("GRUB_CMDLINE_LINUX=\"root=UUID={NEW_ROOT} quiet\"\n"),
        ),
        ("ro rd.lvm.lv=\"vg0/root\" quiet\n", "ro quiet\n".to_owned()),
        ("ro rd.luks.uuid='luks-0c0c0c0c' quiet\n", "ro quiet\n".to_owned()),
        (
            "ro root='LABEL=system' quiet\n",
            format!("ro root='UUID={NEW_ROOT}' quiet\n"),
        ),
        (
            "ro root=\"LABEL=my other root\" quiet\n",
            format!("ro root=\"UUID={NEW_ROOT}\" quiet\n"),
        ),
    ] {
        assert_eq!(command_line(before).0, after);
    }
}

#[test]
fn switches_of_those_layers_and_all_else_stay() {
    let line = "linux /vmlinuz-6.1 ro quiet rd.luks=0 rd.lvm=0 rd.md=0 rd.auto=0 rd.luks.timeout=5 rd.driver.blacklist=nouveau \
                rd.break console=ttyS0,115200 crashkernel=1G-:256M noresume resume=none BOOT_IMAGE=(hd0,gpt2)/vmlinuz \
                root=/dev/nfs init=/lib/systemd/systemd modules=sd-mod,ext4 luks=no $kernelopts root=${rootdev}\n";
    assert_eq!(command_line(line), (line.to_owned(), Vec::new()));
}

#[test]
fn devices_on_command_lines_follow_in_every_spelling() {
    for (before, after) in [
        ("root=/dev/sda3", format!("root=UUID={NEW_ROOT}")),
        ("root=\"/dev/sda3\"", format!("root=\"UUID={NEW_ROOT}\"")),
        ("root=block:/dev/sda3", format!("root=block:UUID={NEW_ROOT}")),
        (
            "root=UUID=\"11111111-0003-4000-8000-000000000003\"",
            format!("root=UUID={NEW_ROOT}"),
        ),
        ("root=LABEL=system", format!("root=UUID={NEW_ROOT}")),
        ("root=0803", format!("root=UUID={NEW_ROOT}")),
        ("real_root=/dev/sda3", format!("real_root=UUID={NEW_ROOT}")),
        (
            "rootdev=UUID=11111111-0003-4000-8000-000000000003",
            format!("rootdev=UUID={NEW_ROOT}"),
        ),
        (
            "resume=PARTUUID=11111111-02",
            "resume=PARTUUID=99999999-02".to_owned(),
        ),
        ("resume=swap:/dev/sda2", format!("resume=swap:UUID={NEW_SWAP}")),
        (
            "cmdline=root=PARTUUID=11111111-03",
            "cmdline=root=PARTUUID=99999999-03".to_owned(),
        ),
        ("mmcroot=/dev/sda3", format!("mmcroot=UUID={NEW_ROOT}")),
        (
            "uuid(11111111-03):/vmlinuz",
            "uuid(99999999-03):/vmlinuz".to_owned(),
        ),
        (
            "--fs-uuid 11111111-0003-4000-8000-000000000003",
            format!("--fs-uuid {NEW_ROOT}"),
        ),
    ] {
        let (new, warnings) = command_line(&format!("ro {before} quiet\n"));
        assert_eq!(new, format!("ro {after} quiet\n"));
        assert!(warnings.is_empty(), "{warnings:?}");
    }
}

#[test]
fn the_offset_of_a_swap_file_is_the_clones_or_goes_with_its_device() {
    let mut facts = rich();
    let files = files(&[]);
    let line = format!("ro resume=UUID={ROOT} resume_offset=38912 quiet\n");
    let rewritten = |facts: &Facts| {
        let names = super::read(&files, facts).unwrap();
        words::rewrite(&line, &names, Manner::Usual, &mut WordNotes::default())
    };
    assert_eq!(rewritten(&facts), "ro quiet\n");
    facts.swap_files.push(crate::facts::SwapFileFact {
        path: "/swapfile".to_owned(),
        offset_pages: Some(4711),
    });
    assert_eq!(
        rewritten(&facts),
        format!("ro resume=UUID={NEW_ROOT} resume_offset=4711 quiet\n")
    );
}

#[test]
fn options_of_the_root_name_a_subvolume_and_go_when_the_type_is_another() {
    let mut facts = rich();
    let files = files(&[]);
    let of = |facts: &Facts, line: &str| {
        let names = super::read(&files, facts).unwrap();
        words::rewrite(line, &names, Manner::Usual, &mut WordNotes::default())
    };
    facts.mounts[0].subvol = Some("@".to_owned());
    assert_eq!(
        of(&facts, "rootflags=noatime,subvolid=256 ro"),
        "rootflags=noatime,subvol=/@ ro"
    );
    assert_eq!(
        of(&facts, "rootflags=subvolid=256,subvol=@ ro"),
        "rootflags=subvol=@ ro"
    );
    assert_eq!(of(&facts, "rootflags=subvolid=5 ro"), "rootflags=subvolid=5 ro");
    assert_eq!(of(&facts, "rootflags=logdev=/dev/sdb1 ro"), "ro");
    facts.mounts[0] = MountFact {
        is_new_type: true,
        fstype: "xfs".to_owned(),
        ..facts.mounts[0].clone()
    };
    assert_eq!(
        of(&facts, "rootfstype=btrfs rootflags=subvol=@ ro"),
        "rootfstype=xfs ro"
    );
}

#[test]
fn units_follow_their_devices_by_name_and_by_content() {
    let swap = "dev-disk-by\\x2duuid-11111111\\x2d0002\\x2d4000\\x2d8000\\x2d000000000002.swap";
    let new_swap = "dev-disk-by\\x2duuid-aaaaaaaa\\x2d0002\\x2d4000\\x2d8000\\x2d000000000002.swap";
    let esp = "/etc/systemd/system/boot-efi.mount";
    let text = files(&[])
        .with(
            esp,
            "[Mount]\nWhat=/dev/disk/by-uuid/E5E5-0001\nWhere=/boot/efi\nOptions=umask=0077\n",
        )
        .with(
            &format!("/etc/systemd/system/{swap}"),
            "[Swap]\nWhat=/dev/disk/by-uuid/11111111-0002-4000-8000-000000000002\n",
        )
        .with(
            &format!("/etc/systemd/system/swap.target.wants/{swap}"),
            "-> ../x",
        )
        .with(
            "/etc/systemd/system/srv.mount",
            "[Mount]\nWhat=LABEL=data\nWhere=/srv\n[Install]\nWantedBy=local-fs.target\n",
        )
        .with("/etc/systemd/system/srv.automount", "[Automount]\nWhere=/srv\n")
        .with(
            "/etc/systemd/system/local-fs.target.wants/srv.mount",
            "-> ../srv.mount",
        )
        .with(
            "/etc/systemd/system/db.service.d/wait.conf",
            "[Unit]\nBindsTo=dev-sdb1.device\nAfter=dev-sdb1.device network.target dev-sda3.device\n",
        );
    let facts = rich();
    let names = super::read(&text, &facts).unwrap();
    let mut plan = Plan::default();
    units::plan(&mut plan, &text, &names, &[]).unwrap();
    let written = |path: &str| crate::plan::fixture::written(&plan, path);
    assert!(written(esp).contains("What=/dev/disk/by-uuid/E5E5-0002\n"));
    let dir = "/etc/systemd/system";
    assert!(written(&format!("{dir}/{new_swap}")).contains(&format!("What=/dev/disk/by-uuid/{NEW_SWAP}\n")));
    let told = plan.to_string();
    for line in [
        format!("{dir}/{swap} removed"),
        format!("{dir}/swap.target.wants/{swap} removed"),
        format!("{dir}/swap.target.wants/{new_swap} -> {dir}/{new_swap}"),
        format!("{dir}/srv.mount removed"),
        format!("{dir}/srv.automount removed"),
        format!("{dir}/local-fs.target.wants/srv.mount removed"),
        "warning: /etc/systemd/system/srv.mount is for a disk".to_owned(),
    ] {
        assert!(told.contains(&line), "{line}:\n{told}");
    }
    let drop_in = written(&format!("{dir}/db.service.d/wait.conf"));
    assert!(
        drop_in.contains("# ka: not in this clone: BindsTo=dev-sdb1.device\n"),
        "{drop_in}"
    );
    let root = NEW_ROOT.replace('-', "\\x2d");
    assert!(
        drop_in.contains(&format!("network.target dev-disk-by\\x2duuid-{root}.device\n"))
            && !drop_in.contains("After=dev-sdb1"),
        "{drop_in}"
    );
}

#[test]
fn arrays_and_lvm_devices_are_taken_out() {
    let facts = rich();
    let files = files(&[]);
    let names = super::read(&files, &facts).unwrap();
    let text = "MAILADDR root\nDEVICE partitions\nARRAY /dev/md0 metadata=1.2\n  UUID=0a0a0a0a:1b1b1b1b:2c2c2c2c:3d3d3d3d\nHOMEHOST <system>\n";
    let new = String::from_utf8(tabs::mdadm(text.as_bytes(), &names).bytes).unwrap();
    assert_eq!(
        new,
        "MAILADDR root\nDEVICE partitions\n# ka: not in this clone: ARRAY /dev/md0 metadata=1.2\n\
         # ka: not in this clone:   UUID=0a0a0a0a:1b1b1b1b:2c2c2c2c:3d3d3d3d\nHOMEHOST <system>\n"
    );
    let text = "# LVM\nVERSION=1.1.2\nIDTYPE=devname IDNAME=/dev/sdb1 DEVNAME=/dev/sdb1 PVID=x\n";
    let new = String::from_utf8(tabs::lvm_devices(text.as_bytes(), &names).bytes).unwrap();
    assert!(
        new.ends_with("# ka: not in this clone: IDTYPE=devname IDNAME=/dev/sdb1 DEVNAME=/dev/sdb1 PVID=x\n")
    );
}

#[test]
fn openrcs_dmcrypt_makes_no_swap_on_a_strange_partition() {
    let facts = rich();
    let files = files(&[]);
    let names = super::read(&files, &facts).unwrap();
    let text = "# examples\nswap=crypt-swap\nsource='/dev/sdb2'\noptions='-c aes'\n\nswap=other\nsource=\"/dev/sda4\"\n";
    let new = String::from_utf8(crypttab::dmcrypt(text.as_bytes(), &names).bytes).unwrap();
    assert!(
        new.contains(
            "# ka: not in this clone: swap=crypt-swap\n# ka: not in this clone: source='/dev/sdb2'\n"
        ),
        "{new}"
    );
    assert!(
        new.ends_with("swap=other\nsource='/dev/disk/by-partuuid/99999999-04'\n"),
        "{new}"
    );
}

#[test]
fn kernel_names_stay_kernel_names_where_that_is_asked_for() {
    let mut facts = rich();
    facts.boot.kernel_names = true;
    let files = files(&[]);
    let names = super::read(&files, &facts).unwrap();
    let line = words::rewrite(
        "root=/dev/sda3 resume=/dev/sda2\n",
        &names,
        Manner::Usual,
        &mut WordNotes::default(),
    );
    assert_eq!(line, "root=/dev/nvme0n1p3 resume=/dev/nvme0n1p2\n");
    let new = crypttab::plan(b"cswap /dev/sda4 /dev/urandom swap\n", &names);
    assert_eq!(new.file.bytes, b"cswap /dev/nvme0n1p4 /dev/urandom swap\n");
}

#[test]
fn groups_and_mapped_names_are_one() {
    for (name, mapped) in [
        ("/dev/vg0/root", Some("vg0-root")),
        ("/dev/my-vg/the-root", Some("my--vg-the--root")),
        ("/dev/mapper/luks-1", Some("luks-1")),
        ("/dev/mapper/control", None),
        ("/dev/disk/by-id", None),
        ("/dev/pts/0", None),
        ("/dev/cciss/c0d0p1", None),
    ] {
        assert_eq!(spelling::volume(name).as_deref(), mapped, "{name}");
    }
    for name in [
        "/dev/sda",
        "/dev/xvda1",
        "/dev/nvme0n1p2",
        "/dev/mmcblk0",
        "/dev/md127p1",
        "/dev/md/root",
        "/dev/cciss/c0d0p1",
    ] {
        assert!(spelling::is_kernel_name(name), "{name}");
    }
    for name in [
        "/dev/null",
        "/dev/sr0",
        "/dev/ttyS0",
        "/dev/urandom",
        "/dev/shm",
        "/dev/stdin",
        "/dev/sdfoo-bar",
    ] {
        assert!(!spelling::is_kernel_name(name), "{name}");
    }
}

proptest! {
    #[test]
    fn names_of_units_come_back_as_they_went(path in "(/[a-zA-Z0-9:_.+ -]{1,8}){1,4}") {
        let plain = path.trim_matches('/').to_owned();
        prop_assume!(!plain.is_empty());
        prop_assert_eq!(spelling::unit_unescaped(&spelling::unit_escaped(&path)), format!("/{plain}"));
    }

    #[test]
    fn any_line_is_read_without_panic(line in "\\PC{0,80}", text in "[ =\"'/a-zA-Z0-9.,:(){}\\\\-]{0,60}") {
        let _ = command_line(&line);
        let _ = command_line(&format!("root={text} rd.luks.uuid={line}\n"));
        let _ = crypttab_of(&format!("{line}\nx {text} /dev/urandom swap\n"));
    }

    #[test]
    fn a_line_without_names_stays(words in "(quiet|ro|splash|console=tty0|init=/bin/sh| |\"|'|\t){0,12}") {
        prop_assert_eq!(command_line(&words), (words, Vec::new()));
    }

    #[test]
    fn no_golden_id_outlives_its_line(prefix in "(linux /vmlinuz |append |options |kernel_cmdline=|cmdline: |)", quote in "[\"']?", tag in "(root=UUID=|resume=/dev/disk/by-uuid/|rd.luks.uuid=luks-|x=UUID=|--fs-uuid=)") {
        let line = format!("{prefix}{quote}ro {tag}{ROOT} quiet{quote}\n");
        let (new, _) = command_line(&line);
        prop_assert!(!new.contains(ROOT), "{}", new);
        prop_assert!(new.contains("ro ") && new.contains("quiet"), "{}", new);
    }
}

#[test]
fn the_number_of_a_subvolume_becomes_its_name_in_every_spelling() {
    let mut facts = rich();
    facts.mounts[0].subvol = Some("@".to_owned());
    let files = files(&[]);
    let of = |facts: &Facts, line: &str| {
        let names = super::read(&files, facts).unwrap();
        words::rewrite(line, &names, Manner::Usual, &mut WordNotes::default())
    };
    for (before, after) in [
        ("rootflags=subvolid=256", "rootflags=subvol=/@"),
        ("rootflags=subvolid=0x100,ssd", "rootflags=subvol=/@,ssd"),
        (
            "rootflags=compress=zstd:1,subvolid=256,noatime",
            "rootflags=compress=zstd:1,subvol=/@,noatime",
        ),
        ("rootflags=subvol=/@,subvolid=256", "rootflags=subvol=/@"),
        ("rootflags=\"subvolid=256\"", "rootflags=\"subvol=/@\""),
        (
            "rootflags='noatime,subvolid=256'",
            "rootflags='noatime,subvol=/@'",
        ),
        (
            "GRUB_CMDLINE_LINUX=\"rootflags=subvolid=256 quiet\"",
            "GRUB_CMDLINE_LINUX=\"rootflags=subvol=/@ quiet\"",
        ),
        (
            "GRUB_CMDLINE_LINUX=rootflags=subvolid=256",
            "GRUB_CMDLINE_LINUX=rootflags=subvol=/@",
        ),
        (
            "kernelopts=root=LABEL=system rootflags=subvolid=256 ro",
            "kernelopts=root=LABEL=system rootflags=subvol=/@ ro",
        ),
        ("rootflags=subvolid=5", "rootflags=subvolid=5"),
    ] {
        assert_eq!(
            of(&facts, before).replace(&format!("UUID={NEW_ROOT}"), "LABEL=system"),
            after
        );
    }
    // This subvolume was never seen mounted. Its number is another one's in the clone.
    facts.mounts[0].subvol = None;
    assert_eq!(of(&facts, "ro rootflags=subvolid=256 quiet"), "ro quiet");
    assert_eq!(of(&facts, "ro rootflags=ssd,subvolid=256"), "ro rootflags=ssd");
}

#[test]
fn the_kernels_names_of_volumes_follow_where_the_volume_is_known_and_go_where_it_is_not() {
    let mut facts = rich();
    facts.devices[1].golden.path = "/dev/mapper/vg0-swap".to_owned();
    facts.devices[1].golden.aliases = vec!["/dev/dm-1".to_owned(), "/dev/md127".to_owned()];
    let files = files(&[]);
    let names = super::read(&files, &facts).unwrap();
    let of = |line: &str| words::rewrite(line, &names, Manner::Usual, &mut WordNotes::default());
    for name in ["/dev/dm-1", "/dev/md127", "/dev/mapper/vg0-swap", "/dev/vg0/swap"] {
        assert_eq!(
            of(&format!("ro resume={name}")),
            format!("ro resume=UUID={NEW_SWAP}")
        );
    }
    for name in ["/dev/dm-2", "/dev/md126", "/dev/md/other", "/dev/dm-10"] {
        assert_eq!(of(&format!("ro resume={name} quiet")), "ro quiet");
        assert_eq!(of(&format!("root={name} ro")), format!("root=UUID={NEW_ROOT} ro"));
    }
}
