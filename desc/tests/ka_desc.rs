//! The `ka-desc` program, as an operator runs it.

#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test fails by panicking, as the test does"
)]

#[path = "../../crates/disk/tests/layouts/any_desc.rs"]
mod any_desc;
#[path = "../../crates/disk/tests/layouts/disks.rs"]
mod disks;

use std::fs;

use ka_disk::desc::{Desc, MIB};
use ka_disk::layout::{Geometry, PartitionPlan, Source, plan};
use ka_disk::table::{Partition, TableKind};
use ka_host::mount::MountGuard;
use ka_host::run::{Tool, ToolOutput};
use ka_host::{blkpg, system};
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use serde_json::Value;
use uuid::Uuid;

use any_desc::any_case;
use disks::Disk;

fn ka_desc(args: &[&str]) -> ToolOutput {
    Tool::new(env!("CARGO_BIN_EXE_ka-desc"))
        .args(args)
        .accept(1)
        .accept(2)
        .run()
        .unwrap()
}

fn planned(text: &str, geometry: Geometry) -> Option<PartitionPlan> {
    let desc = Desc::parse(text, "desc").ok()?;
    plan(
        &Source::Desc(desc),
        &geometry,
        TableKind::Mbr,
        false,
        &mut Uuid::new_v4,
    )
    .ok()
}

fn gib(gib: u64) -> Geometry {
    Geometry {
        disk_bytes: gib << 30,
        sector_size: 512,
    }
}

#[test]
fn the_desc_file_of_a_disk_makes_the_same_disk_again() {
    let config = Config {
        cases: 60,
        max_global_rejects: 200,
        failure_persistence: None,
        ..Config::default()
    };
    for kind in [TableKind::Mbr, TableKind::Gpt] {
        let outcome = TestRunner::new(config.clone()).run(&any_case(kind, 512), |case| {
            let Some(first) = planned(&case.text, case.geometry) else {
                return Err(TestCaseError::reject("does not fit"));
            };
            let disk = Disk::with(&first);
            let made = ka_desc(&[disk.path().to_str().unwrap()]);
            if first.partitions().is_empty() {
                return Ok(());
            }
            let again = planned(&made.text(), case.geometry)
                .ok_or_else(|| TestCaseError::fail(format!("{}made of\n{}", made.text(), case.text)))?;
            // The unused space of an extended line is a gap on a GPT, and gaps are not made again.
            let gaps =
                kind == TableKind::Gpt && (case.text.contains("type0f") || case.text.contains("extended"));
            let start = |part: &Partition| if gaps { 0 } else { part.start_bytes };
            let facts = |part: &Partition| {
                (
                    part.number,
                    start(part),
                    part.kind.known(),
                    part.name.clone(),
                    part.attrs,
                )
            };
            for (first, again) in first.partitions().iter().zip(again.partitions()) {
                // The last partition is `fill` if it reaches the end within a MiB. It takes gaps, too.
                let shrunk = again.len_bytes + MIB < first.len_bytes;
                let grown = again.len_bytes > first.len_bytes + MIB && !gaps;
                if facts(first) != facts(again) || shrunk || grown {
                    return Err(TestCaseError::fail(format!(
                        "{first:?}\n{again:?}\n{}",
                        made.text()
                    )));
                }
            }
            Ok(())
        });
        outcome.unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn a_disk_is_described_with_what_is_on_it() {
    let plan = planned(
        "linux 100\nextended fill\nlogical swap 200\nlogical linux fill boot\n",
        gib(1),
    )
    .unwrap();
    let disk = Disk::with(&plan);
    let offset = format!("offset={}", plan.find(1).unwrap().start_bytes);
    let mkfs = ["-q", "-F", "-t", "ext4", "-L", "the root", "-E", &offset];
    Tool::new("mke2fs")
        .args(mkfs)
        .arg(disk.path())
        .arg("100M")
        .run()
        .unwrap();
    let name = disk.path().file_name().unwrap().to_string_lossy().into_owned();
    let text = ka_desc(&[disk.path().to_str().unwrap()]).text();
    let separator = if name.ends_with(|c: char| c.is_ascii_digit()) {
        "p"
    } else {
        ""
    };
    assert!(
        text.contains(&format!("# {name}{separator}1: ext4 \"the root\"\nlinux 100\n")),
        "{text}"
    );
    assert!(
        text.contains("logical partitions; 923 MiB, up to the end\nextended fill\n"),
        "{text}"
    );
    assert!(
        text.contains("no file system found\nlogical swap 200\n"),
        "{text}"
    );
    assert!(text.contains("\nlogical linux fill boot\n"), "{text}");
}

#[test]
fn a_device_is_found_by_its_name_and_its_mounts_are_told() {
    assert!(system::is_root(), "mounting needs root: run `cargo xtask test`");
    let plan = planned("table gpt\nlinux 100 name=root\nlinux fill\n", gib(1)).unwrap();
    let disk = Disk::on_loop(&gib(1));
    let file = disk.open();
    plan.write(&file, None).unwrap();
    let part = plan.find(1).unwrap();
    blkpg::add(&file, 1, part.start_bytes, part.len_bytes).unwrap();
    let node = blkpg::node_of(&disk.path(), 1).unwrap();
    Tool::new("mke2fs")
        .args(["-q", "-F", "-t", "ext4"])
        .arg(&node)
        .run()
        .unwrap();
    let target = tempfile::tempdir().unwrap();
    let mounted = MountGuard::mount(&node, target.path(), "ext4", "ro").unwrap();
    let name = disk.path().file_name().unwrap().to_string_lossy().into_owned();
    let text = ka_desc(&[&name]).text();
    mounted.unmount().unwrap();
    let expected = format!(
        "# {name}p1: ext4, mounted on {}\nlinux 100 name=root\n",
        target.path().display()
    );
    assert!(text.contains(&expected), "{text}");
}

#[test]
fn partitions_that_are_no_whole_mib_are_rounded_up_and_gaps_are_told() {
    let disk = Disk::new(&gib(1));
    let script = tempfile::NamedTempFile::new().unwrap();
    fs::write(script.path(), "start=63,size=100001\nstart=616448,size=40960\n").unwrap();
    let command = format!(
        "sfdisk -q -X dos {} < {}",
        disk.path().display(),
        script.path().display()
    );
    Tool::new("sh").args(["-c", &command]).run().unwrap();
    let text = ka_desc(&[disk.path().to_str().unwrap()]).text();
    assert!(
        text.contains("rounded up from 51200512 bytes\nlinux 49\n"),
        "{text}"
    );
    assert!(text.contains("# 252 MiB unused here\n"), "{text}");
    assert!(
        text.ends_with("linux 20\n# 703 MiB unused at the end\n"),
        "{text}"
    );
}

#[test]
fn json_holds_the_same_and_more() {
    let plan = planned("table gpt\nesp 100M name=\"EFI System\"\nlinux fill\n", gib(1)).unwrap();
    let disk = Disk::with(&plan);
    let made = ka_desc(&["--json", disk.path().to_str().unwrap()]);
    let value: Value = serde_json::from_str(&made.text()).unwrap();
    assert_eq!(
        value["desc"],
        "table gpt\nesp 100 name=\"EFI System\"\nlinux fill\n"
    );
    assert_eq!(value["partitions"][0]["partition"]["len_bytes"], 100 * MIB);
}

fn check(text: &str, args: &[&str]) -> ToolOutput {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    ka_desc(&[&["--check", file.path().to_str().unwrap()], args].concat())
}

#[test]
fn check_tells_what_each_line_becomes() {
    let text = "swap 500\nextended fill\nlogical linux fill mount=/home fs=xfs\n";
    let told = check(text, &["--disk-size", "4G"]);
    assert_eq!(told.code, 0);
    let told = told.text();
    assert!(told.contains("mbr table on a disk of 4096 MiB"), "{told}");
    assert!(
        told.contains("3   5  linux           502      3594  fill   logical, xfs, for /home\n"),
        "{told}"
    );
    assert!(told.contains("It needs a disk of at least 503 MiB."), "{told}");
    let gpt = check(
        text,
        &["--disk-size", "4G", "--table", "gpt", "--sector-size", "4096"],
    )
    .text();
    assert!(
        gpt.contains("not written: gpt needs no extended partition"),
        "{gpt}"
    );
    let json: Value = serde_json::from_str(&check(text, &["--json"]).text()).unwrap();
    assert_eq!(json["minimum_bytes"], 503 * MIB);
    assert_eq!(json["lines"][2]["partition"]["number"], 5);
}

#[test]
fn check_names_the_line_of_every_kind_of_mistake() {
    for (text, args, place) in [
        (
            "linux 500\n\nlinus 500\n",
            &[][..],
            ":3: unknown partition type `linus`",
        ),
        (
            "linux 500\nlinux 600\n",
            &["--disk-size", "1000"],
            ":2: does not fit",
        ),
        (
            "linux 1\nlinux 1\nlinux 1\nlinux 1\nlinux 1\nextended 1\n",
            &["--table", "mbr"],
            ":5: a fifth primary",
        ),
        ("linux 100%\nlinux 5\n", &[], ":2: does not fit"),
        (
            "linux 100%\nswap fill\n",
            &[],
            ":2: 100% leaves nothing for this `fill`",
        ),
    ] {
        let told = check(text, args);
        assert_eq!(told.code, 1, "{text}");
        assert!(told.stderr_tail.contains(place), "{}", told.stderr_tail);
        assert_eq!(told.stderr_tail.trim_end().lines().count(), 1);
        let told = check(text, &[args, &["--json"]].concat());
        let value: Value = serde_json::from_str(&told.text()).unwrap();
        assert!(
            value["error"].as_str().is_some_and(|error| error.contains(place)),
            "{value}"
        );
    }
}

#[test]
fn wrong_usage_ends_with_2_and_an_unreadable_disk_with_1() {
    assert_eq!(ka_desc(&[]).code, 2);
    assert_eq!(ka_desc(&["--disk-size", "4G", "sda"]).code, 2);
    assert_eq!(ka_desc(&["--check", "x", "--disk-size", "fill"]).code, 2);
    assert_eq!(ka_desc(&["--check", "x", "--sector-size", "1024"]).code, 2);
    let missing = ka_desc(&["no-such-disk"]);
    assert_eq!(missing.code, 1);
    assert!(
        missing.stderr_tail.contains("/dev/no-such-disk"),
        "{}",
        missing.stderr_tail
    );
    let blank = Disk::new(&gib(1));
    let told = ka_desc(&[blank.path().to_str().unwrap()]);
    assert_eq!(told.code, 1);
    assert!(
        told.stderr_tail.contains("has no partition table"),
        "{}",
        told.stderr_tail
    );
}

#[test]
fn what_is_no_disk_is_named_with_what_it_is() {
    for (path, part) in [
        ("/etc", "/etc is a directory"),
        ("/dev/null", "/dev/null is no disk"),
    ] {
        let told = ka_desc(&[path]);
        assert_eq!(told.code, 1);
        assert!(
            told.stderr_tail.contains(part) && told.stderr_tail.contains("name a disk or an image file"),
            "{}",
            told.stderr_tail
        );
    }
    let missing = ka_desc(&["--check", "/no/such/desc"]);
    assert_eq!(missing.stderr_tail.matches("No such file").count(), 1);
    assert!(
        !missing.stderr_tail.contains("os error"),
        "{}",
        missing.stderr_tail
    );
}

/// Writes bytes into a disk of a test.
fn write_at(disk: &Disk, at: u64, bytes: &[u8]) {
    use std::os::unix::fs::FileExt;
    disk.open().write_all_at(bytes, at).unwrap();
}

fn refusal(disk: &Disk) -> String {
    let told = ka_desc(&[disk.path().to_str().unwrap()]);
    assert_eq!(told.code, 1);
    told.stderr_tail
}

#[test]
fn a_disk_without_a_table_is_named_with_what_it_holds() {
    let blank = Disk::new(&gib(1));
    assert!(refusal(&blank).contains("nothing else on it"));
    Tool::new("mke2fs")
        .args(["-q", "-F", "-t", "ext4", "-L", "data"])
        .arg(blank.path())
        .run()
        .unwrap();
    let said = refusal(&blank);
    assert!(
        said.contains("it holds ext4 \"data\"") && said.contains("mount="),
        "{said}"
    );
    assert!(!said.contains("not a partition"), "{said}");
    let member = Disk::new(&gib(1));
    write_at(&member, 512, b"LABELONE");
    write_at(&member, 512 + 24, b"LVM2 001");
    let said = refusal(&member);
    assert!(
        said.contains("a part of LVM") && said.contains("from-lvm.desc"),
        "{said}"
    );
    let bsd = Disk::new(&gib(1));
    write_at(&bsd, 512, &[0x57, 0x45, 0x56, 0x82]);
    assert!(refusal(&bsd).contains("a BSD disklabel"));
}

#[test]
fn a_member_gets_a_line_that_says_what_to_write_in_its_place() {
    let plan = planned("table gpt\nlinux 100\nlvm fill\n", gib(1)).unwrap();
    let disk = Disk::with(&plan);
    let start = plan.find(2).unwrap().start_bytes;
    write_at(&disk, start + 512, b"LABELONE");
    write_at(&disk, start + 512 + 24, b"LVM2 001");
    let text = ka_desc(&[disk.path().to_str().unwrap()]).text();
    assert!(
        text.contains("2: a part of LVM") && text.contains("with mount= for each mount point"),
        "{text}"
    );
    assert!(text.contains("from-lvm.desc"), "{text}");
}

#[test]
fn labels_of_fat_are_shown_as_they_are() {
    let plan = planned("table gpt\nesp 100\nlinux fill\n", gib(1)).unwrap();
    let disk = Disk::with(&plan);
    let path = disk.path();
    let fat = tempfile::NamedTempFile::new().unwrap();
    fat.as_file().set_len(100 * MIB).unwrap();
    Tool::new("mkfs.vfat")
        .args(["-n", "ESP"])
        .arg(fat.path())
        .run()
        .unwrap();
    write_at(
        &disk,
        plan.find(1).unwrap().start_bytes,
        &fs::read(fat.path()).unwrap(),
    );
    let text = ka_desc(&[path.to_str().unwrap()]).text();
    assert!(text.contains("1: vfat \"ESP\"\nesp 100\n"), "{text}");
}

#[test]
fn what_is_unusual_about_a_gpt_is_told() {
    let make = || Disk::with(&planned("table gpt\nlinux 100\nlinux 200\n", gib(1)).unwrap());
    let text = |disk: &Disk| ka_desc(&[disk.path().to_str().unwrap()]).text();
    assert!(!text(&make()).contains("warning"));
    let damaged = make();
    write_at(&damaged, 512 + 16, &[1, 2, 3, 4]);
    assert!(
        text(&damaged).contains("# warning: the primary GPT is damaged"),
        "{}",
        text(&damaged)
    );
    let backup = make();
    write_at(&backup, (1 << 30) - 512, &[0; 16]);
    assert!(
        text(&backup).contains("# warning: the backup GPT is damaged"),
        "{}",
        text(&backup)
    );
    let hybrid = make();
    write_at(
        &hybrid,
        446 + 16,
        &[0x80, 0, 2, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 0, 8, 0, 0],
    );
    assert!(
        text(&hybrid).contains("# warning: hybrid MBR"),
        "{}",
        text(&hybrid)
    );
    let grown = make();
    grown.open().set_len(2 << 30).unwrap();
    let told = text(&grown);
    assert!(told.contains("1024 MiB behind it are unused"), "{told}");
    assert!(told.ends_with("MiB unused at the end\n"), "{told}");
}

#[test]
fn the_active_flag_of_a_protective_mbr_is_described_and_kept() {
    let plan = planned("table gpt pmbr_boot\nlinux 100\nlinux fill\n", gib(1)).unwrap();
    let disk = Disk::with(&plan);
    let text = ka_desc(&[disk.path().to_str().unwrap()]).text();
    assert!(text.contains("\ntable gpt pmbr_boot\n"), "{text}");
    let read = ka_disk::table::read(&disk.open(), 512).unwrap().unwrap();
    assert!(read.pmbr_boot);
    let copy = ka_disk::layout::plan(
        &Source::AsIs(read),
        &gib(1),
        TableKind::Gpt,
        false,
        &mut Uuid::new_v4,
    )
    .unwrap();
    let clone = Disk::with(&copy);
    let mut flag = [0; 1];
    std::os::unix::fs::FileExt::read_exact_at(&clone.open(), &mut flag, 446).unwrap();
    assert_eq!(flag, [0x80]);
    assert!(Desc::parse("table mbr pmbr_boot\nlinux fill\n", "desc").is_err());
    assert!(
        !copy.provisional().table.pmbr_boot,
        "nothing boots before the end"
    );
}

#[test]
fn an_assumed_gpt_is_told_with_its_line() {
    let told = check("linux 100\nmsr 16\nlinux fill\n", &[]).text();
    assert!(
        told.contains("a golden drive with a gpt is assumed: line 2"),
        "{told}"
    );
    let told = check("table gpt\nlinux 100\nmsr 16\nlinux fill\n", &[]).text();
    assert!(!told.contains("assumed"), "{told}");
}

#[test]
fn check_says_when_a_file_does_not_fit_an_mbr() {
    let five = "linux 1\nlinux 1\nlinux 1\nlinux 1\nlinux fill\n";
    let told = check(five, &["--table", "gpt"]).text();
    assert!(
        told.contains("It does not fit an mbr: line 5: a fifth primary partition"),
        "{told}"
    );
    let json: Value = serde_json::from_str(&check(five, &["--table", "gpt", "--json"]).text()).unwrap();
    assert_eq!(json["not_on_mbr"]["line"], 5);
    // The reason is shown once, if a GPT was assumed because of it.
    let told = check(five, &[]).text();
    assert_eq!(told.matches("a fifth primary").count(), 1, "{told}");
    for (text, args) in [
        ("linux 1\nlinux fill\n", &["--table", "gpt"][..]),
        ("table gpt\nlinux 1\nlinux 1\nlinux 1\nlinux 1\nlinux fill\n", &[]),
        // There a GPT is made, whatever table the golden drive has.
        ("linux 500\nlinux fill\n", &["--disk-size", "3T"]),
    ] {
        let told = check(text, args);
        assert_eq!(told.code, 0, "{}", told.stderr_tail);
        assert!(!told.text().contains("mbr:"), "{}", told.text());
    }
    let large = check("linux 500\nlinux fill\n", &["--disk-size", "3T"]).text();
    assert!(large.contains("a disk of 3145728 MiB (3.0 TiB) with"), "{large}");
}

#[test]
fn a_golden_node_on_a_whole_disk_is_described_by_its_mount_points() {
    assert!(system::is_root(), "mounting needs root: run `cargo xtask test`");
    let disk = Disk::on_loop(&gib(1));
    Tool::new("mke2fs")
        .args(["-q", "-F", "-t", "ext4"])
        .arg(disk.path())
        .run()
        .unwrap();
    let target = tempfile::tempdir().unwrap();
    let mounted = MountGuard::mount(&disk.path(), target.path(), "ext4", "").unwrap();
    for dir in ["etc", "usr"] {
        fs::create_dir(target.path().join(dir)).unwrap();
    }
    let line = format!("{} / ext4 defaults 0 1\n", disk.path().display());
    fs::write(target.path().join("etc/fstab"), line).unwrap();
    let root = target.path().to_str().unwrap();
    let told = ka_desc(&["--golden", "--root", root]);
    let json = ka_desc(&["--golden", "--root", root, "--json"]);
    mounted.unmount().unwrap();
    assert_eq!(told.code, 0, "{}", told.stderr_tail);
    let text = told.text();
    let name = disk.path().file_name().unwrap().to_string_lossy().into_owned();
    assert!(text.contains(&format!("ka-server -p {name} FILE")), "{text}");
    assert!(text.ends_with("\nlinux fill fs=ext4 mount=/\n"), "{text}");
    assert!(text.contains("# / (/dev/loop"), "{text}");
    assert_eq!(check(&text, &[]).code, 0);
    let json: Value = serde_json::from_str(&json.text()).unwrap();
    assert_eq!(json["desc"], "linux fill fs=ext4 mount=/\n");
    assert_eq!(json["drive"], name.as_str());
    for (args, part) in [
        (&["--golden", "sda"][..], "--golden"),
        (&["--golden", "--check", "x"], "--golden"),
        (&["--root", "/x", "sda"], "--root"),
        (&["--golden", "--disk-size", "4G"], "--disk-size"),
    ] {
        let told = ka_desc(args);
        assert_eq!(told.code, 2, "{args:?}");
        assert!(told.stderr_tail.contains(part), "{args:?}: {}", told.stderr_tail);
    }
}
