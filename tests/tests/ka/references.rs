//! Names of golden disks in every file of a system that holds them: a clone replaces, removes or reports each
//! of them.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use ka_tests::disk::{Disk, GIB};
use ka_tests::golden::{self, By, MountedTree, Plan, Volume};
use ka_tests::mounts::Mounted;
use ka_tests::process::Program;

use crate::kit::{Kit, Outcome, mib};

const GIVEN_UP: &str = "0c0c0c0c-0000-4000-8000-00000000c0c0";

/// Returns a plan with swap, root, `/srv`, and a partition without anything on it.
fn plan() -> Plan {
    Plan {
        size: GIB / 2,
        sector_size: 512,
        table: "label: gpt\nsize=16MiB,type=swap\nsize=300MiB\nsize=64MiB\nsize=16MiB\n",
        volumes: vec![
            Volume::new(2, "ext4", "/").by(By::Device),
            Volume::new(3, "ext4", "/srv"),
            Volume::new(1, "swap", "none").by(By::Device),
        ],
        foreign_fstab: "# golden\n",
    }
}

/// A golden system, and a data disk that is mounted at its `/data` and stays at home.
///
/// Fields are dropped in this order: the last mount goes first.
struct Room {
    _mounted: Mounted,
    data: Disk,
    kit: Kit,
}

impl Room {
    fn new(label: &str) -> Result<Self> {
        let kit = Kit::with_plan(label, 1, plan())?;
        let data = kit.disk("data", mib(64), 512)?;
        data.write_table("label: gpt\nsize=32MiB\n")?;
        Program::new("mkfs.ext4")
            .arg("-qF")
            .arg(data.partition(1))
            .run()?;
        let mounted = Mounted::new(&data.partition(1), &kit.golden.root().join("data"), "defaults")?;
        Ok(Self {
            _mounted: mounted,
            data,
            kit,
        })
    }

    fn write(&self, path: &str, text: impl AsRef<[u8]>) -> Result<()> {
        write(self.kit.golden.root(), path, text)
    }

    fn golden(&self, partition: u32, tag: &str) -> Result<String> {
        golden::tag(&self.kit.golden.disk().partition(partition), tag)
    }

    /// Runs without the data disk, which must succeed; returns the output, the clone's disk and its file
    /// systems.
    fn cloned(&self, args: &[&str]) -> Result<(Outcome, Disk, MountedTree)> {
        let disk = self.kit.same_disk("n1")?;
        let data = self.data.name();
        let outcome = self.kit.clone_to(&[&disk], &[&["-X", &data], args].concat())?;
        outcome.expect_success()?;
        let clone = self.kit.mounted(&disk, &self.kit.plan.volumes)?;
        Ok((outcome, disk, clone))
    }

    fn data_uuid(&self) -> Result<String> {
        golden::tag(&self.data.partition(1), "UUID")
    }
}

fn write(root: &Path, path: &str, text: impl AsRef<[u8]>) -> Result<()> {
    let path = root.join(path);
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
}

fn escaped(uuid: &str) -> String {
    uuid.replace('-', "\\x2d")
}

/// Files with kernel command lines for many kinds of loaders and boards, with the text around the command
/// line.
const COMMAND_LINES: [(&str, &str, &str); 13] = [
    ("boot/refind_linux.conf", "\"Boot\" \"", "\"\n"),
    (
        "boot/limine.conf",
        "/Linux\n    protocol: linux\n    cmdline: ",
        "\n",
    ),
    ("boot/extlinux.conf", "LABEL x\n  APPEND ", "\n"),
    ("boot/extlinux/extlinux.conf", "label x\n\tappend ", "\n"),
    ("boot/syslinux/syslinux.cfg", "append ", "\n"),
    ("boot/cmdline.txt", "", "\n"),
    ("boot/firmware/cmdline.txt", "console=tty1 ", ""),
    ("boot/loader/entries/a.conf", "title x\noptions ", "\n"),
    ("boot/uEnv.txt", "bootargs=console=ttyS0 ", "\n"),
    ("etc/default/u-boot", "U_BOOT_PARAMETERS=\"", "\"\n"),
    ("etc/default/flash-kernel", "LINUX_KERNEL_CMDLINE='", "'\n"),
    (
        "etc/grub.d/45_mine",
        "#!/bin/sh\nexec tail -n +3 $0\nlinux /vmlinuz ",
        "\n",
    ),
    ("etc/sysconfig/kdump", "KDUMP_COMMANDLINE=\"", "\"\n"),
];

#[test]
fn command_lines_of_every_loader_name_the_clone_and_no_layer_that_it_lacks() -> Result<()> {
    let room = Room::new("refcmd")?;
    let (root, swap) = (room.golden(2, "UUID")?, room.golden(1, "UUID")?);
    room.write("etc/fstab", room.kit.golden.fstab())?;
    room.write("boot/initrd.img-6.1", "x")?;
    for (path, before, after) in COMMAND_LINES {
        let line = format!(
            "root=UUID={root} ro rd.lvm.lv=vg0/root resume=UUID={swap} rd.luks.uuid=luks-{GIVEN_UP} rd.md.uuid=0a:0b quiet"
        );
        room.write(path, format!("{before}{line}{after}"))?;
    }
    room.write(
        "boot/armbianEnv.txt",
        format!("verbosity=1\nrootdev=UUID={root}\nrootfstype=ext4\n"),
    )?;
    let mut grub = b"# gr\xfc\xdfe\nGRUB_CMDLINE_LINUX=\"resume=UUID=".to_vec();
    grub.extend(format!("{swap} dolvm\"\nGRUB_DISABLE_LINUX_UUID=true\n").as_bytes());
    room.write("etc/default/grub", &grub)?;
    let (outcome, disk, clone) = room.cloned(&["-r", "none"])?;
    let (new_root, new_swap) = (
        golden::tag(&disk.partition(2), "UUID")?,
        golden::tag(&disk.partition(1), "UUID")?,
    );
    for (path, before, after) in COMMAND_LINES {
        let text = fs::read_to_string(clone.root().join(path))?;
        let line = format!("root=UUID={new_root} ro resume=UUID={new_swap} quiet");
        ensure!(text == format!("{before}{line}{after}"), "{path}:\n{text}");
    }
    let text = fs::read_to_string(clone.root().join("boot/armbianEnv.txt"))?;
    ensure!(
        text == format!("verbosity=1\nrootdev=UUID={new_root}\nrootfstype=ext4\n"),
        "{text}"
    );
    let text = fs::read(clone.root().join("etc/default/grub"))?;
    ensure!(
        text.starts_with(b"# gr\xfc\xdfe\nGRUB_CMDLINE_LINUX=\"resume=UUID="),
        "the bytes are others"
    );
    let text = String::from_utf8_lossy(&text).into_owned();
    ensure!(
        text.contains(&format!(
            "=\"resume=UUID={new_swap}\"\n# ka: not in this clone: GRUB_DISABLE"
        )),
        "{text}"
    );
    outcome
        .server
        .says("rd.lvm.lv=vg0/root is about a volume group")?;
    Ok(())
}

#[test]
fn fstab_and_crypttab_name_the_clones_own_in_a_lasting_way_and_nothing_else() -> Result<()> {
    let room = Room::new("reftab")?;
    let data = room.data_uuid()?;
    let golden = room.kit.golden.disk().name();
    let fstab = format!(
        "{}UUID={data} /data ext4 defaults 0 2\n/data/home /home/more none bind 0 0\n/dev/sdq1 /backup ext4 defaults,noauto 0 0\n\
         UUID={GIVEN_UP} /stick vfat noauto 0 0\n/dev/vg0/old /old xfs nofail 0 0\n/dev/mapper/cswap none swap sw 0 0\n\
         /dev/mapper/lost none swap sw,x-systemd.requires=/dev/sdq1 0 0\nnas:/x /nas nfs defaults 0 0\n",
        room.kit.golden.fstab()
    );
    room.write("etc/fstab", &fstab)?;
    room.write("home/more/x", "")?;
    let partuuid = room.golden(4, "PARTUUID")?;
    room.write(
        "etc/crypttab",
        [
            b"# sch\xf6n\n".to_vec(),
            format!(
                "cswap /dev/{golden}p4 /dev/urandom swap\nother PARTUUID={partuuid} /dev/urandom swap\n\
                 bad /dev/sdq3 /dev/urandom swap\nlost UUID={GIVEN_UP} none luks\n"
            )
            .into_bytes(),
        ]
        .concat(),
    )?;
    let (outcome, disk, clone) = room.cloned(&[])?;
    let new = fs::read_to_string(clone.root().join("etc/fstab"))?;
    let uuid = |number| golden::tag(&disk.partition(number), "UUID");
    for line in [
        format!("UUID={}\t/  ext4", uuid(2)?),
        format!("UUID={}\t/srv  ext4", uuid(3)?),
        format!("UUID={}\tnone  swap", uuid(1)?),
        format!("# ka: not in this clone: UUID={data} /data ext4"),
        "# ka: not in this clone: /data/home /home/more none bind".to_owned(),
        "# ka: not in this clone: /dev/sdq1 /backup".to_owned(),
        format!("UUID={GIVEN_UP} /stick vfat noauto 0 0"),
        "# ka: not in this clone: /dev/vg0/old /old".to_owned(),
        "/dev/mapper/cswap none swap sw 0 0".to_owned(),
        "# ka: not in this clone: /dev/mapper/lost none".to_owned(),
        "nas:/x /nas nfs defaults 0 0".to_owned(),
    ] {
        let has = new.lines().any(|found| found.starts_with(&line));
        ensure!(has, "no line {line:?} in:\n{new}");
    }
    let own = golden::tag(&disk.partition(4), "PARTUUID")?;
    let crypttab = fs::read(clone.root().join("etc/crypttab"))?;
    let crypttab = String::from_utf8_lossy(&crypttab).into_owned();
    for line in [
        format!("cswap /dev/disk/by-partuuid/{own} /dev/urandom swap"),
        format!("other PARTUUID={own} /dev/urandom swap"),
        "# ka: not in this clone: bad /dev/sdq3 /dev/urandom swap".to_owned(),
        format!("# ka: not in this clone: lost UUID={GIVEN_UP} none luks"),
    ] {
        ensure!(
            crypttab.contains(&format!("{line}\n")),
            "no line {line:?} in:\n{crypttab}"
        );
    }
    outcome
        .server
        .says("/data (UUID=")?
        .says("bad: /dev/sdq3 names nothing that the clone has")?;
    Ok(())
}

#[test]
fn units_follow_and_what_nobody_translates_is_told_with_its_file() -> Result<()> {
    let room = Room::new("refunit")?;
    let (srv, swap, data) = (
        room.golden(3, "UUID")?,
        room.golden(1, "UUID")?,
        room.data_uuid()?,
    );
    let units = "etc/systemd/system";
    // There is no line for /srv: its unit mounts it. A mount outside fstab travels only if the survey finds
    // it.
    room.write("etc/fstab", room.kit.golden.fstab())?;
    room.write(
        &format!("{units}/srv.mount"),
        format!("[Mount]\nWhat=/dev/disk/by-uuid/{srv}\nWhere=/srv\nOptions=x-systemd.requires=dev-disk-by\\x2duuid-{}.device\n", escaped(&srv)),
    )?;
    let swap_unit = format!("dev-disk-by\\x2duuid-{}.swap", escaped(&swap));
    room.write(
        &format!("{units}/{swap_unit}"),
        format!("[Swap]\nWhat=/dev/disk/by-uuid/{swap}\n"),
    )?;
    let wants = room.kit.golden.root().join(units).join("swap.target.wants");
    fs::create_dir_all(&wants)?;
    std::os::unix::fs::symlink(format!("../{swap_unit}"), wants.join(&swap_unit))?;
    room.write(
        &format!("{units}/data.mount"),
        format!("[Mount]\nWhat=UUID={data}\nWhere=/data\n"),
    )?;
    room.write("etc/my/tool.conf", format!("disk = {}\n", srv.to_uppercase()))?;
    room.write(
        "etc/my/escaped.conf",
        format!("unit = dev-disk-by\\x2duuid-{}.device\n", escaped(&data)),
    )?;
    room.write("etc/my/comment.conf", format!("# disk = {srv}\n"))?;
    let (outcome, disk, clone) = room.cloned(&[])?;
    let (new_srv, new_swap) = (
        golden::tag(&disk.partition(3), "UUID")?,
        golden::tag(&disk.partition(1), "UUID")?,
    );
    let text = fs::read_to_string(clone.root().join(units).join("srv.mount"))?;
    let expected = format!(
        "[Mount]\nWhat=/dev/disk/by-uuid/{new_srv}\nWhere=/srv\nOptions=x-systemd.requires=dev-disk-by\\x2duuid-{}.device\n",
        escaped(&new_srv)
    );
    ensure!(text == expected, "{text}");
    let swap_unit = format!("dev-disk-by\\x2duuid-{}.swap", escaped(&new_swap));
    let text = fs::read_to_string(clone.root().join(units).join(&swap_unit))?;
    ensure!(
        text == format!("[Swap]\nWhat=/dev/disk/by-uuid/{new_swap}\n"),
        "{text}"
    );
    let link = clone
        .root()
        .join(units)
        .join("swap.target.wants")
        .join(&swap_unit);
    ensure!(fs::symlink_metadata(link)?.is_symlink());
    ensure!(!clone.root().join(units).join("data.mount").exists());
    outcome
        .server
        .says("/etc/my/tool.conf still names the golden node (UUID ")?
        .says("/etc/my/escaped.conf still names the golden node")?;
    ensure!(
        !outcome.server.all().contains("comment.conf"),
        "a comment is told"
    );
    Ok(())
}

#[test]
fn an_environment_block_keeps_its_1024_bytes_or_its_short_names() -> Result<()> {
    let room = Room::new("refenv")?;
    room.write("etc/fstab", room.kit.golden.fstab())?;
    room.write("boot/initrd.img-6.1", "x")?;
    let golden = room.kit.golden.disk().name();
    let block = |filled: usize| {
        let mut text = format!("# GRUB Environment Block\nkernelopts=root=/dev/{golden}p2 ro ");
        text.push_str(&"x".repeat(filled.saturating_sub(text.len() + 1)));
        text.push('\n');
        text.push_str(&"#".repeat(1024 - text.len()));
        text
    };
    for (path, filled) in [("boot/grub2/grubenv", 300), ("boot/efi/EFI/redhat/grubenv", 1020)] {
        room.write(path, block(filled))?;
    }
    let (outcome, disk, clone) = room.cloned(&["-r", "none"])?;
    let roomy = fs::read_to_string(clone.root().join("boot/grub2/grubenv"))?;
    let uuid = golden::tag(&disk.partition(2), "UUID")?;
    ensure!(
        roomy.len() == 1024 && roomy.contains(&format!("kernelopts=root=UUID={uuid} ro ")),
        "{roomy}"
    );
    let full = fs::read_to_string(clone.root().join("boot/efi/EFI/redhat/grubenv"))?;
    let short = format!("kernelopts=root={} ro ", disk.partition(2).display());
    ensure!(full.len() == 1024 && full.contains(&short), "{full}");
    outcome.server.says("has no room for UUIDs")?;
    Ok(())
}

#[test]
fn kernel_names_stay_where_the_operator_wants_them() -> Result<()> {
    let room = Room::new("refkern")?;
    room.write("etc/fstab", room.kit.golden.fstab())?;
    let golden = room.kit.golden.disk().name();
    room.write("etc/kernel/cmdline", format!("root=/dev/{golden}p2 ro\n"))?;
    let (_, disk, clone) = room.cloned(&["--kernel-names"])?;
    let fstab = fs::read_to_string(clone.root().join("etc/fstab"))?;
    ensure!(
        fstab.contains(&format!("{}\t/  ext4", disk.partition(2).display())),
        "{fstab}"
    );
    let line = fs::read_to_string(clone.root().join("etc/kernel/cmdline"))?;
    ensure!(
        line == format!("root={} ro\n", disk.partition(2).display()),
        "{line}"
    );
    Ok(())
}

/// Files beside fstab and command lines: path, golden text, clone's text. `{root}` is the golden root's UUID
/// and `{dev}` its kernel name; some names are those of a disk that the clone does not have. The new text has
/// the same marks.
const OTHER_FILES: [(&str, &str, &str); 15] = [
    (
        "etc/auto.data",
        "a -fstype=ext4 :/dev/disk/by-uuid/{root}\nb -fstype=ext4 :/dev/sdq1\n",
        "a -fstype=ext4 :/dev/disk/by-uuid/{root}\n# ka: not in this clone: b -fstype=ext4 :/dev/sdq1\n",
    ),
    (
        "etc/cron.d/job",
        "0 3 * * * root mount /dev/sdq1 /mnt\n0 4 * * * root tune2fs -l {dev}\n",
        "# ka: not in this clone: 0 3 * * * root mount /dev/sdq1 /mnt\n0 4 * * * root tune2fs -l /dev/disk/by-uuid/{root}\n",
    ),
    (
        "etc/rc.local",
        "#!/bin/sh\nblockdev --setra 8192 {dev}\n",
        "#!/bin/sh\nblockdev --setra 8192 /dev/disk/by-uuid/{root}\n",
    ),
    (
        "etc/smartd.conf",
        "/dev/sdq -a\nDEVICESCAN\n",
        "# ka: not in this clone: /dev/sdq -a\nDEVICESCAN\n",
    ),
    (
        "etc/hdparm.conf",
        "/dev/sdq {\n\tapm = 1\n}\n",
        "# ka: not in this clone: /dev/sdq {\n# ka: not in this clone: \tapm = 1\n# ka: not in this clone: }\n",
    ),
    (
        "etc/kdump.conf",
        "ext4 UUID={root}\nraw /dev/sdq2\n",
        "ext4 UUID={root}\n# ka: not in this clone: raw /dev/sdq2\n",
    ),
    (
        "etc/udev/rules.d/60-x.rules",
        "ENV{ID_FS_UUID}==\"{root}\", SYMLINK+=\"system\"\n",
        "ENV{ID_FS_UUID}==\"{root}\", SYMLINK+=\"system\"\n",
    ),
    (
        "etc/dracut.conf.d/x.conf",
        "add_device+=\" /dev/sdq2 {dev} \"\nkernel_cmdline=\"root={dev} rd.md.uuid=0a:0b ro\"\n",
        "add_device+=\"  /dev/disk/by-uuid/{root} \"\nkernel_cmdline=\"root=UUID={root} ro\"\n",
    ),
    (
        "etc/initramfs-tools/conf.d/resume",
        "RESUME=/dev/sdq2\n",
        "RESUME=none\n",
    ),
    (
        "etc/default/grub.d/x.cfg",
        "GRUB_DEVICE={dev}\nGRUB_CMDLINE_LINUX=\"root={dev}\"\n",
        "# ka: not in this clone: GRUB_DEVICE={dev}\nGRUB_CMDLINE_LINUX=\"root=UUID={root}\"\n",
    ),
    (
        "etc/default/grub",
        "GRUB_DEFAULT=\"gnulinux-advanced-{root}>gnulinux-6.1-advanced-{root}\"\n",
        "GRUB_DEFAULT=\"gnulinux-advanced-{root}>gnulinux-6.1-advanced-{root}\"\n",
    ),
    (
        "etc/fstab.d/more.fstab",
        "/dev/sdq1 /more ext4 defaults 0 0\n",
        "# ka: not in this clone: /dev/sdq1 /more ext4 defaults 0 0\n",
    ),
    ("etc/mtab", "{dev} / ext4 rw 0 0\n", ""),
    (
        "etc/default/hddtemp",
        "DISKS=\"{dev}\"\n",
        "DISKS=\"/dev/disk/by-uuid/{root}\"\n",
    ),
    (
        "etc/systemd/system/job.service",
        "[Service]\nExecStart=/sbin/tune2fs -l {dev}\n",
        "[Service]\nExecStart=/sbin/tune2fs -l /dev/disk/by-uuid/{root}\n",
    ),
];

#[test]
fn jobs_maps_and_lists_of_disks_name_the_clones_or_nothing() -> Result<()> {
    let room = Room::new("refmore")?;
    let golden = room.golden(2, "UUID")?;
    let device = format!("/dev/{}p2", room.kit.golden.disk().name());
    room.write("etc/fstab", room.kit.golden.fstab())?;
    room.write("boot/initrd.img-6.1", "x")?;
    let filled = |text: &str, root: &str| text.replace("{root}", root).replace("{dev}", &device);
    for (path, text, _) in OTHER_FILES {
        room.write(path, filled(text, &golden))?;
    }
    room.write(
        "etc/blkid.tab",
        format!("<device UUID=\"{golden}\">{device}</device>\n"),
    )?;
    room.write("etc/restic.conf", format!("source={golden}\n"))?;
    let (outcome, disk, clone) = room.cloned(&["-r", "none"])?;
    let own = golden::tag(&disk.partition(2), "UUID")?;
    for (path, _, expected) in OTHER_FILES {
        let text = fs::read_to_string(clone.root().join(path))?;
        ensure!(text == filled(expected, &own), "{path}:\n{text}");
    }
    ensure!(!clone.root().join("etc/blkid.tab").exists());
    for line in [
        "/etc/auto.data: line 2: /dev/sdq1 names no disk of the clone",
        "/etc/cron.d/job: line 1: /dev/sdq1",
        "/etc/smartd.conf: line 1: /dev/sdq ",
        "/etc/hdparm.conf: line 1: /dev/sdq ",
        "/etc/kdump.conf: line 2: /dev/sdq2",
        "/etc/dracut.conf.d/x.conf: line 1: /dev/sdq2",
        "/etc/restic.conf still names the golden node (UUID ",
    ] {
        outcome.server.says(line)?;
    }
    Ok(())
}
