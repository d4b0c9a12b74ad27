//! Boot images, stage1 and stage2, made by the real `ka-initrd` and judged by cpio, zstd, modinfo and a run
//! of their contents.

mod small_root;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use ka_tests::process::Program;
use ka_tests::scratch::Scratch;
use ka_tests::{binaries, debian, kernel, tree};
use nix::sys::signal::Signal;

use self::small_root::{
    Small, compile, error_line, expect_complete, expect_unchanged, index_lines, initrd, modules_in, unpack,
};

/// Most bytes of stage 1 with every network driver of Debian's generic kernel.
const MAX_STAGE1_BYTES: u64 = 24 << 20;
/// Modules enough to have dependencies and soft dependencies of every sort, and few enough to be quick.
const FEW: [&str; 12] = [
    "drivers/net/virtio_net",
    "drivers/net/net_failover",
    "net/core/failover",
    "drivers/virtio/virtio",
    "drivers/virtio/virtio_ring",
    "drivers/net/ethernet/broadcom/tg3",
    "drivers/net/phy/libphy",
    "drivers/net/phy/realtek",
    "drivers/net/ethernet/realtek/r8169",
    "drivers/net/wireless/ath/ath",
    "drivers/block/virtio_blk",
    "fs/jfs/jfs",
];

#[test]
fn stage1_holds_every_wired_network_driver_of_debians_kernel() -> Result<()> {
    let scratch = Scratch::new("stage1")?;
    let (root, out) = (kernel::generic()?, scratch.path().join("out"));
    let client = binaries::static_client()?;
    let made = initrd()
        .arg("stage1")
        .arg("-o")
        .arg(&out)
        .arg("--root")
        .arg(&root);
    made.arg("--client").arg(&client).run()?;
    let image = fs::read(out.join("stage1.img"))?;
    ensure!(image.len() as u64 <= MAX_STAGE1_BYTES, "{} bytes", image.len());
    let release = kernel::release(&root)?;
    let kernel_image = root.join(format!("boot/vmlinuz-{release}"));
    ensure!(
        fs::read(out.join("vmlinuz"))? == fs::read(kernel_image)?,
        "another kernel"
    );

    let unpacked = unpack(&scratch, &image, "unpacked")?;
    ensure!(
        fs::read(unpacked.join("init"))? == fs::read(client)?,
        "/init is not the client"
    );
    for dir in [
        "dev",
        "proc",
        "sys",
        "run",
        "tmp",
        "mnt",
        "etc/ka",
        "root",
        "lib/firmware",
    ] {
        ensure!(unpacked.join(dir).is_dir(), "/{dir} is missing");
    }
    let have = modules_in(&unpacked)?;
    let wanted = "e1000 e1000e igb igc ixgbe i40e ice iavf r8169 8139too tg3 bnx2 bnx2x bnxt_en mlx4_en mlx5_core \
        sky2 atlantic alx forcedeth via_velocity pcnet32 ena gve hv_netvsc vmxnet3 xen_netfront virtio_net virtio_pci \
        r8152 ax88179_178a cdc_ether smsc95xx xhci_pci ehci_pci pci_hyperv realtek broadcom marvell thunderbolt_net";
    for name in wanted.split_whitespace() {
        ensure!(have.contains(name), "{name} is missing");
    }
    for name in [
        "iwlwifi",
        "mac80211",
        "can_dev",
        "qmi_wwan",
        "bonding",
        "ppp_generic",
        "ib_core",
        "ahci",
        "sd_mod",
    ] {
        ensure!(!have.contains(name), "{name} does not belong there");
    }
    expect_complete(&unpacked, &root)?;
    expect_unchanged(&unpacked, &root)
}

#[test]
fn the_same_files_give_the_same_images_whatever_their_times_and_place() -> Result<()> {
    let small = Small::new(&FEW)?;
    small.add_host_tools(&["sh", "blkid", "mke2fs"])?;
    let (first, (first2, _)) = (small.stage1(&[])?, small.stage2(&["--fs", "ext4"])?);
    let touch = "find \"$0\" -exec touch -h -d '2001-02-03 04:05:06' {} +";
    Program::new("sh").args(["-c", touch]).arg(&small.root).run()?;
    // The copy has another order in the directories, and other inode numbers.
    let copy = small.scratch.path().join("copy");
    Program::new("sh")
        .args([
            "-c",
            "mkdir \"$1\" && cd \"$0\" && find . | sort -r | cpio --quiet -pdm \"$1\"",
        ])
        .arg(&small.root)
        .arg(&copy)
        .run()?;
    let small = Small { root: copy, ..small };
    ensure!(small.stage1(&[])? == first, "stage1 differs");
    ensure!(small.stage2(&["--fs", "ext4"])?.0 == first2, "stage2 differs");
    compile(&small.client, "int main(void) { return 1; }", &["-static"])?;
    ensure!(small.stage1(&[])? != first, "another client gives the same image");
    Ok(())
}

#[test]
fn chosen_drivers_come_with_what_they_need_and_nothing_else() -> Result<()> {
    let small = Small::new(&FEW)?;
    let all = modules_in(&small.unpack(&small.stage1(&[])?, "all")?)?;
    let network = FEW[..9]
        .iter()
        .map(|path| path.rsplit('/').next().unwrap_or(path).to_owned());
    ensure!(all == network.collect(), "{all:?}");
    let image = small.stage1(&["--drivers", "virtio-net,r8169"])?;
    let chosen = modules_in(&small.unpack(&image, "chosen")?)?;
    // realtek is a soft dependency of r8169; the others are in modules.dep.
    let expected = [
        "failover",
        "libphy",
        "net_failover",
        "r8169",
        "realtek",
        "virtio",
        "virtio_net",
        "virtio_ring",
    ];
    ensure!(chosen == expected.map(str::to_owned).into(), "{chosen:?}");
    Ok(())
}

#[test]
fn modules_are_taken_however_they_are_compressed() -> Result<()> {
    let small = Small::new(&FEW[..5])?;
    let plain = small.stage1(&[])?;
    // Not every depmod knows every packing: the root gets its own index, with the new names.
    let line = "cd \"$0\" && xz -C crc32 net/net_failover.ko && zstd -q --rm net/virtio_net.ko && gzip virtio/virtio.ko \
        && sed -i 's/net_failover.ko/&.xz/g; s/virtio_net.ko/&.zst/g; s/virtio.ko/&.gz/g' ../../modules.dep";
    let dir = small.root.join("lib/modules").join(kernel::release(&small.root)?);
    Program::new("sh")
        .args(["-c", line])
        .arg(dir.join("kernel/drivers"))
        .run()?;
    let packed = small.unpack(&small.stage1(&[])?, "packed")?;
    let plain = small.unpack(&plain, "plain")?;
    for tree in ["lib/modules", "init"] {
        Program::new("diff")
            .arg("-r")
            .arg(plain.join(tree))
            .arg(packed.join(tree))
            .run()?;
    }
    ensure!(modules_in(&packed)?.len() == 5, "modules are missing");
    // The image is cut in the middle.
    let found = Program::new("find")
        .arg(&small.root)
        .args(["-name", "*.ko.xz"])
        .run()?;
    let bytes = fs::read(found.trim())?;
    fs::write(found.trim(), &bytes[..bytes.len() / 2])?;
    let err = small.error("stage1", &[])?;
    ensure!(err.contains(".ko.xz: cannot be decompressed"), "{err}");
    Ok(())
}

#[test]
fn firmware_comes_from_where_the_kernel_looks_and_missing_firmware_is_a_note() -> Result<()> {
    let small = Small::new(&FEW)?;
    let firmware = small.root.join("lib/firmware");
    let release = kernel::release(&small.root)?;
    for dir in [String::new(), format!("updates/{release}/")] {
        let dir = firmware.join(dir).join("tigon");
        fs::create_dir_all(&dir)?;
        fs::write(dir.join("tg3.bin"), dir.display().to_string())?;
    }
    fs::write(firmware.join("tigon/tg3_tso.bin"), "packed")?;
    Program::new("xz")
        .args(["-C", "crc32"])
        .arg(firmware.join("tigon/tg3_tso.bin"))
        .run()?;
    let out = small.scratch.path().join("out");
    let said = small.command("stage1", &out, &[]).run()?;
    let unpacked = small
        .unpack(&fs::read(out.join("stage1.img"))?, "unpacked")?
        .join("lib/firmware/tigon");
    ensure!(
        fs::read_to_string(unpacked.join("tg3.bin"))?.contains("updates"),
        "not the update"
    );
    ensure!(
        fs::read(unpacked.join("tg3_tso.bin"))? == b"packed",
        "still packed"
    );
    ensure!(!unpacked.join("tg3_tso5.bin").exists(), "made of nothing");
    let note = said.lines().find(|line| line.starts_with("note: no firmware"));
    ensure!(
        note.is_some_and(|note| note.contains("tg3") && note.contains("r8169")),
        "{said}"
    );
    Ok(())
}

#[test]
fn tools_of_stage2_run_with_nothing_but_stage2() -> Result<()> {
    let scratch = Scratch::new("stage2")?;
    let root = scratch.dir("root")?;
    debian::unpack(&debian::bootable()?, &root)?;
    let image = scratch.path().join("stage2.img");
    let file_systems = "ext2,ext3,ext4,xfs,vfat,jfs,reiserfs,f2fs,swap";
    let made = initrd().args(["stage2", "--fs", file_systems, "-o"]).arg(&image);
    made.arg("--root").arg(&root).run()?;
    let node = unpack(&scratch, &fs::read(&image)?, "node")?;
    expect_complete(&node, &root)?;
    let have = modules_in(&node)?;
    for name in
        "ahci nvme virtio_blk virtio_scsi sd_mod ata_piix mptspi megaraid_sas mpt3sas raid1 dm_mod ext4 xfs \
        btrfs jfs reiserfs f2fs vfat nls_cp437 nls_ascii efivarfs crc32c_generic crc32c_intel"
            .split_whitespace()
    {
        ensure!(have.contains(name), "{name} is missing");
    }
    let (_, dep) = index_lines(&node)?;
    ensure!(
        dep.contains("/e1000e.ko:"),
        "stage1's modules are not in stage2's modules.dep"
    );

    // The tools really make file systems: they find their libraries, their configuration and each other. On a
    // node these two are mounted; some tools read the list of mounts there.
    fs::create_dir_all(node.join("tmp"))?;
    fs::create_dir_all(node.join("proc/self"))?;
    fs::write(node.join("proc/self/mounts"), "")?;
    let makers: [&[&str]; 9] = [
        &["mke2fs", "-q", "-F", "-t", "ext4"],
        &["mkfs.ext2", "-q", "-F"],
        &["mkfs.ext3", "-q", "-F"],
        &["mkfs.xfs", "-q", "-f"],
        &["mkfs.vfat"],
        &["mkfs.jfs", "-q"],
        &["mkfs.reiserfs", "-q", "-ff"],
        &["mkfs.f2fs", "-q", "-f"],
        &["mkswap"],
    ];
    for (maker, kind) in makers.iter().zip([
        "ext4", "ext2", "ext3", "xfs", "vfat", "jfs", "reiserfs", "f2fs", "swap",
    ]) {
        fs::File::create(node.join("tmp/disk"))?.set_len(512 << 20)?;
        let inside = |words: &[&str]| Program::new("chroot").arg(&node).args(words).run();
        inside(&[maker, &["/tmp/disk"][..]].concat()).with_context(|| format!("making {kind}"))?;
        let found = inside(&["blkid", "-p", "-s", "TYPE", "-o", "value", "/tmp/disk"])?;
        ensure!(found.trim() == kind, "{kind} is found as {found}");
    }
    let programs = Program::new("sh")
        .args(["-c", "ls \"$0/usr/sbin\" \"$0/usr/bin\" | grep -v :"])
        .arg(&node)
        .run()?;
    for name in programs.split_whitespace() {
        // A missing library is exit code 127, however a program treats --version.
        let ended = Program::new("chroot")
            .arg(&node)
            .args([name, "--version"])
            .finish()?;
        let loader = "error while loading shared libraries";
        ensure!(
            ended.code != Some(127) && !ended.stderr.contains(loader),
            "{name}: {}",
            ended.stderr
        );
    }
    ensure!(
        programs.contains("efibootmgr") && programs.contains("e2fsck"),
        "{programs}"
    );
    Ok(())
}

/// Adds a program that needs a library by `$ORIGIN`, which needs one that only `ld.so.conf` names.
fn add_far_tool(small: &Small) -> Result<()> {
    let dirs = [
        "opt/tool/bin",
        "opt/tool/lib",
        "opt/far",
        "etc/ld.so.conf.d",
        "usr/sbin",
    ];
    let [bin, lib, far, conf, sbin] = dirs.map(|dir| small.root.join(dir));
    for dir in [&bin, &lib, &far, &conf, &sbin] {
        fs::create_dir_all(dir)?;
    }
    compile(
        &far.join("libfar.so.1.2"),
        "int far(void) { return 40; }",
        &["-shared", "-fPIC", "-Wl,-soname,libfar.so.1"],
    )?;
    symlink("libfar.so.1.2", far.join("libfar.so.1"))?;
    let near = "int far(void); int near(void) { return far() + 2; }";
    let linked = [far.join("libfar.so.1.2"), lib.join("libnear.so")].map(|path| path.display().to_string());
    compile(
        &lib.join("libnear.so"),
        near,
        &[
            "-shared",
            "-fPIC",
            "-Wl,-soname,libnear.so",
            "-x",
            "none",
            &linked[0],
        ],
    )?;
    let program = "int near(void); int main(void) { return near(); }";
    let flags = [
        "-Wl,-rpath,$ORIGIN/../lib,--enable-new-dtags,--allow-shlib-undefined",
        "-x",
        "none",
        &linked[1],
    ];
    compile(&bin.join("efibootmgr"), program, &flags)?;
    symlink("/opt/tool/bin/efibootmgr", sbin.join("efibootmgr"))?;
    fs::write(
        small.root.join("etc/ld.so.conf"),
        "include /etc/ld.so.conf.d/*.conf\n",
    )?;
    fs::write(conf.join("far.conf"), "# of the far tool\n/opt/far\n")?;
    Ok(())
}

#[test]
fn libraries_are_found_where_the_loader_would_find_them_on_merged_and_split_roots() -> Result<()> {
    for merged in [true, false] {
        let small = Small::new(&FEW[..5])?;
        if merged {
            fs::create_dir_all(small.root.join("usr"))?;
            fs::rename(small.root.join("lib"), small.root.join("usr/lib"))?;
            for name in ["lib", "lib64", "sbin", "bin"] {
                fs::create_dir_all(small.root.join("usr").join(name))?;
                symlink(format!("usr/{name}"), small.root.join(name))?;
            }
        }
        small.add_host_tools(&["sh", "blkid"])?;
        add_far_tool(&small)?;
        let node = small.unpack(&small.stage2(&[])?.0, "node")?;
        let ended = Program::new("chroot").arg(&node).arg("efibootmgr").finish()?;
        ensure!(
            ended.code == Some(42),
            "merged {merged}: {} {}",
            ended.how(),
            ended.stderr
        );
        ensure!(
            fs::read_link(node.join("lib"))? == Path::new("usr/lib"),
            "not merged"
        );

        // An optional tool without its library is left out, with a note; for a required one it is an error.
        fs::remove_file(small.root.join("opt/far/libfar.so.1"))?;
        let (image, said) = small.stage2(&[])?;
        ensure!(said.contains("efibootmgr (its libfar.so.1 is missing)"), "{said}");
        ensure!(
            !small
                .unpack(&image, "without")?
                .join("usr/sbin/efibootmgr")
                .exists(),
            "half a tool"
        );
        fs::rename(
            small.root.join("opt/tool/bin/efibootmgr"),
            small.root.join("usr/bin/blkid"),
        )?;
        let err = small.error("stage2", &[])?;
        ensure!(err.contains("usr/bin/blkid needs libnear.so"), "{err}");
    }
    Ok(())
}

#[test]
fn an_image_is_listed_with_all_archives_in_it() -> Result<()> {
    let small = Small::new(&FEW[..5])?;
    let join = small.scratch.path().join("join");
    fs::write(&join, "KA1-SOME-CODE\n")?;
    let image = small.stage1(&["--join-file", &join.display().to_string()])?;
    let path = small.scratch.path().join("out/stage1.img");
    ensure!(
        fs::metadata(&path)?.permissions().mode() & 0o777 == 0o600,
        "a secret for everybody"
    );
    // The image has early microcode in front, as boot loaders add it, and the whole is packed in three ways
    // behind.
    let early = "mkdir -p \"$0/k/x86\" && cd \"$0/k\" && echo code > x86/ucode && find . | sort | cpio -o -H newc --quiet > ../early";
    Program::new("sh")
        .args(["-c", early])
        .arg(small.scratch.path())
        .run()?;
    let early = fs::read(small.scratch.path().join("early"))?;
    let mut all = [&early[..], &image[..]].concat();
    for tool in ["xz", "gzip"] {
        let packed = small.scratch.path().join(tool);
        let line = "\"$0\" -c < \"$1/early\" > \"$2\"";
        Program::new("sh")
            .args(["-c", line, tool])
            .arg(small.scratch.path())
            .arg(&packed)
            .run()?;
        all.extend(fs::read(packed)?);
    }
    let file = small.scratch.path().join("all");
    fs::write(&file, &all)?;
    let said = initrd().arg("list").arg(&file).run()?;
    let heads: Vec<&str> = said.lines().filter(|line| line.starts_with("archive ")).collect();
    let packings: Vec<&str> = heads
        .iter()
        .filter_map(|line| line.split([':', ',']).nth(1))
        .collect();
    ensure!(
        packings == [" cpio", " zstd", " cpio", " xz", " gzip"],
        "{heads:?}"
    );
    for line in [
        "-rwxr-xr-x 0/0 ",
        "-rw------- 0/0           14 etc/ka/join",
        "crw------- 0/0          5,1 dev/console",
        "lrwxrwxrwx 0/0            7 lib -> usr/lib",
        "drwxrwxrwt 0/0            0 tmp",
        "5 x86/ucode",
    ] {
        ensure!(said.contains(line), "{line:?} is not in\n{said}");
    }
    // A cut anywhere leads to one clear line, never to a panic.
    for length in [0, 5, 200, early.len() + 7, early.len() + 1000, all.len() - 3] {
        fs::write(&file, &all[..length])?;
        error_line(&initrd().arg("list").arg(&file).finish()?).with_context(|| format!("cut at {length}"))?;
    }
    Ok(())
}

#[test]
fn what_is_missing_is_named_with_what_to_do() -> Result<()> {
    let small = Small::new(&FEW[..5])?;
    let release = kernel::release(&small.root)?;
    let expect = |what: &str, args: &[&str], words: &[&str]| -> Result<()> {
        let err = small.error(what, args)?;
        for word in words {
            ensure!(err.contains(word), "{err:?} lacks {word:?}");
        }
        Ok(())
    };
    expect(
        "stage1",
        &["--kernel", "1.2.3"],
        &["no kernel 1.2.3", "there are: ", &release],
    )?;
    expect(
        "stage1",
        &["--drivers", "virtio_net,e9999"],
        &["no driver e9999", &release],
    )?;
    expect("stage2", &["--fs", "zfs"], &["zfs", "ext4, xfs"])?;
    expect(
        "stage2",
        &[],
        &["every node needs blkid", "apt-get install util-linux"],
    )?;
    small.add_host_tools(&["sh", "blkid"])?;
    expect(
        "stage2",
        &["--fs", "ext4,f2fs"],
        &["file system ext4 needs mke2fs", "apt-get install e2fsprogs"],
    )?;
    let join = small.scratch.path().join("join");
    fs::write(&join, "two words")?;
    expect(
        "stage1",
        &["--join-file", &join.display().to_string()],
        &["join: expected one line"],
    )?;

    let dynamic = Small {
        client: PathBuf::from("/bin/true"),
        ..small
    };
    let err = dynamic.error("stage1", &[])?;
    ensure!(
        err.contains("/bin/true is no static program") && err.contains("cargo xtask static"),
        "{err}"
    );
    let dep = dynamic
        .root
        .join("lib/modules")
        .join(&release)
        .join("modules.dep");
    fs::write(&dep, "kernel/a.ko: kernel/b.ko\n")?;
    let damaged = Small {
        client: dynamic.scratch.path().join("client"),
        ..dynamic
    };
    let err = damaged.error("stage1", &[])?;
    ensure!(err.contains("modules.dep:1: kernel/b.ko has no line"), "{err}");
    fs::remove_file(&dep)?;
    let err = damaged.error("stage1", &[])?;
    ensure!(err.contains("no kernel with its modules"), "{err}");
    Ok(())
}

/// Ctrl-C, `kill` and `kill -9` come while an image is made or written: then there is the whole file, or
/// none.
#[test]
fn an_image_that_is_cut_off_is_whole_or_not_there() -> Result<()> {
    let small = Small::new(&FEW)?;
    // This kernel takes a moment to be written.
    let boot = small.root.join("boot");
    for entry in fs::read_dir(&boot)? {
        let path = entry?.path();
        let is_kernel = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz"));
        if is_kernel {
            fs::write(&path, tree::noise(60_000_000, 3))?;
        }
    }
    let whole = small.scratch.path().join("whole");
    let began = Instant::now();
    small.command("stage1", &whole, &[]).run()?;
    let took = began.elapsed();
    let signals = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGKILL];
    let mut cut = 0;
    for (moment, signal) in (0..16).zip(signals.into_iter().cycle()) {
        let out = small.scratch.path().join(format!("cut{moment}"));
        let mut run = small.command("stage1", &out, &[]).spawn()?;
        thread::sleep(took.mul_f64(f64::from(moment) / 16.0));
        if !run.has_ended()? {
            run.signal(signal)?;
        }
        cut += u32::from(run.wait()?.code != Some(0));
        let Ok(entries) = fs::read_dir(&out) else { continue };
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().context("a name")?.to_owned();
            let (found, wanted) = (fs::read(&path)?, fs::read(whole.join(&name)).unwrap_or_default());
            ensure!(
                found == wanted,
                "{signal} after {moment}/16 left {} with {} of {} bytes",
                path.display(),
                found.len(),
                wanted.len()
            );
        }
    }
    ensure!(cut > 4, "only {cut} were cut off");
    Ok(())
}
