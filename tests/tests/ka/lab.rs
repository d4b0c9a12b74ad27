//! Tests of the lab itself, without our binaries: its faults must not be taken for theirs.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::Result;
use ka_tests::compare::{self, Allowed};
use ka_tests::disk::{Disk, GIB, MIB};
use ka_tests::golden::{self, By, Golden, MountedTree, Plan, Volume};
use ka_tests::netns::{Network, node_address};
use ka_tests::process::Program;
use ka_tests::scratch::Scratch;
use ka_tests::tree;

#[test]
fn namespaces_reach_each_other_until_the_plug_is_pulled() -> Result<()> {
    let network = Network::new(2, Some(200_000_000))?;
    let listener = network.node(2).enter(|| TcpListener::bind("0.0.0.0:4000"))??;
    let address: SocketAddr = format!("{}:4000", node_address(2)).parse()?;
    let reach = || {
        network
            .node(1)
            .enter(|| TcpStream::connect_timeout(&address, Duration::from_secs(1)))
    };
    assert_eq!(reach()??.peer_addr()?, address);
    assert_eq!(network.node(2).run("hostname")?.trim(), "n2");
    network.set_plugged(2, false)?;
    assert!(reach()?.is_err());
    drop(listener);
    Ok(())
}

#[test]
fn disks_have_the_asked_sector_size_and_show_partitions() -> Result<()> {
    let scratch = Scratch::new("disks")?;
    for sector_size in [512, 4096] {
        let disk = Disk::new(&scratch, &format!("d{sector_size}"), 64 * MIB, sector_size)?;
        assert!(!disk.looks_finished()?);
        disk.write_table("label: gpt\nsize=8MiB\nsize=16MiB\n")?;
        assert_eq!(disk.listed_partitions()?, 2);
        assert!(disk.looks_finished()?);
        let size = Program::new("blockdev").arg("--getss").arg(disk.device()).run()?;
        assert_eq!(size.trim(), sector_size.to_string());
    }
    Ok(())
}

/// rsync stands for a good clone: the comparison must find nothing, then exactly what is spoilt.
#[test]
fn the_comparison_accepts_a_faithful_copy_of_the_hostile_tree_and_sees_one_lost_attribute() -> Result<()> {
    let scratch = Scratch::new("compare")?;
    let plan = Plan {
        size: GIB,
        sector_size: 512,
        table: "label: dos\nsize=400MiB,type=83\nsize=400MiB,type=83\n",
        volumes: vec![
            Volume::new(1, "ext4", "/"),
            Volume::new(2, "ext4", "/home").by(By::Device),
        ],
        foreign_fstab: "# a comment\n",
    };
    let golden = Golden::new(&scratch, "golden", &plan)?;
    golden::fill(&golden)?;
    tree::hostile(&golden.root().join("home/hostile"))?;
    let copy = Golden::new(&scratch, "copy", &plan)?;
    Program::new("rsync")
        .args(["-aHAXS", "--numeric-ids", "--fileflags"])
        .arg(format!("{}/", golden.root().display()))
        .arg(copy.root())
        .finish()
        .map(drop)?;
    let tar = format!(
        "tar -C {} --xattrs --xattrs-include='*' --acls -Scf - . | tar -C {} --xattrs --xattrs-include='*' --acls -Sxpf -",
        golden.root().display(),
        copy.root().display()
    );
    Program::new("sh").args(["-c", &tar]).finish()?;
    let allowed = Allowed {
        other_filesystem: true,
        // tar has no sockets, and no paths beyond PATH_MAX.
        ignored: ["home/hostile/special/socket", "home/hostile/deep"]
            .map(Into::into)
            .to_vec(),
        ..Allowed::for_system()
    };
    let found = compare::trees(golden.root(), copy.root(), &allowed)?;
    eprintln!("{found}\n{:#?}", found.differences);
    let before = found.differences.len();
    Program::new("setfattr")
        .args(["-x", "trusted.secret"])
        .arg(copy.root().join("home/hostile/attributes/file"))
        .run()?;
    let found = compare::trees(golden.root(), copy.root(), &allowed)?;
    assert!(
        found
            .differences
            .iter()
            .any(|line| line.contains("trusted.secret")),
        "{before} {found:?}"
    );
    Ok(())
}

#[test]
fn a_golden_system_is_what_its_fstab_says() -> Result<()> {
    let scratch = Scratch::new("golden")?;
    let plan = Plan {
        size: 2 * GIB,
        sector_size: 4096,
        table: "label: gpt\nsize=512MiB\nsize=64MiB,type=swap\nsize=512MiB\nsize=400MiB\n",
        volumes: vec![
            Volume::new(1, "btrfs", "/").subvolume("@").label("system"),
            Volume::new(1, "btrfs", "/home")
                .subvolume("@home")
                .by(By::Label)
                .label("system"),
            Volume::new(3, "xfs", "/srv").by(By::PartUuid),
            Volume::new(4, "ext3", "/srv/deep").by(By::Device),
            Volume::new(2, "swap", "none"),
        ],
        foreign_fstab: "# keep me\ntmpfs /tmp tmpfs defaults 0 0\n",
    };
    let golden = Golden::new(&scratch, "golden", &plan)?;
    golden::fill(&golden)?;
    let text = fs::read_to_string(golden.root().join("etc/fstab"))?;
    assert!(text.starts_with("# keep me\ntmpfs"), "{text}");
    assert!(text.contains("LABEL=system\t/home  btrfs subvol=@home"), "{text}");
    assert!(
        text.contains("PARTUUID=") && text.contains("\t/srv  xfs"),
        "{text}"
    );
    let again = MountedTree::new(golden.disk(), &plan.volumes, &scratch.dir("again")?)?;
    compare::trees(golden.root(), again.root(), &Allowed::default())?.expect_same()?;
    Ok(())
}
