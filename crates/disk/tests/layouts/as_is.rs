//! Golden tables copied as they are, onto disks of the same and of other sizes.

use ka_disk::desc::MIB;
use ka_disk::layout::{Geometry, Source, plan};
use ka_disk::table::{PartitionTable, TableKind};
use proptest::prelude::Strategy;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use uuid::Uuid;

use crate::any_table::{any_gpt, any_mbr};
use crate::disks::Disk;
use crate::from_desc::cases;
use crate::oracles;

#[test]
fn every_copied_mbr_is_found_sound_on_a_larger_disk() {
    check_many(any_mbr(512), 512);
}

#[test]
fn every_copied_gpt_is_found_sound_on_a_larger_disk() {
    check_many(any_gpt(512), 512);
}

#[test]
fn tables_of_4096_byte_sectors_are_copied_too() {
    check_many(any_gpt(4096), 4096);
    check_many(any_mbr(4096), 4096);
}

fn check_many(tables: impl Strategy<Value = PartitionTable>, sector_size: u32) {
    let config = Config {
        cases: cases() / 2,
        failure_persistence: None,
        ..Config::default()
    };
    let outcome = TestRunner::new(config).run(&(tables, 0_u64..64), |(golden, larger)| {
        let geometry = Geometry {
            disk_bytes: golden.disk_bytes + larger * MIB,
            sector_size,
        };
        let plan = plan(
            &Source::AsIs(golden.clone()),
            &geometry,
            TableKind::Mbr,
            true,
            &mut Uuid::new_v4,
        )
        .map_err(|error| TestCaseError::fail(format!("{error}\n{golden:#?}")))?;
        if plan.table.partitions != golden.partitions {
            return Err(TestCaseError::fail(format!("changed: {plan}")));
        }
        oracles::agree_with(&plan).map_err(TestCaseError::fail)
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}

/// The golden disk was made by `sfdisk`, not by KA.
#[test]
fn what_sfdisk_wrote_is_read_and_copied() {
    for (kind, script) in [
        (
            "dos",
            "size=100M,type=83,bootable\nsize=200M,type=5\nsize=50M,type=82\nsize=60M\nsize=20M\n",
        ),
        (
            "gpt",
            "size=100M,type=uefi,name=\"EFI System\"\nsize=200M,attrs=\"RequiredPartition GUID:60\"\n",
        ),
    ] {
        let geometry = Geometry {
            disk_bytes: 512 * MIB,
            sector_size: 512,
        };
        let disk = Disk::new(&geometry);
        let input = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(input.path(), script).unwrap();
        let command = format!(
            "sfdisk -q --label {kind} {} < {}",
            disk.path().display(),
            input.path().display()
        );
        ka_host::run::Tool::new("sh")
            .args(["-c", &command])
            .run()
            .unwrap();
        let golden = ka_disk::table::read(&disk.open(), 512).unwrap().unwrap();
        let larger = Geometry {
            disk_bytes: 700 * MIB,
            sector_size: 512,
        };
        let copy = plan(
            &Source::AsIs(golden),
            &larger,
            TableKind::Gpt,
            false,
            &mut Uuid::new_v4,
        )
        .unwrap();
        oracles::agree_with(&copy).unwrap();
    }
}
