//! Layouts planned from desc files.

use ka_disk::desc::{Desc, MIB};
use ka_disk::layout::{LayoutError, PartitionPlan, Source, plan};
use ka_disk::table::TableKind;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use uuid::Uuid;

use crate::any_desc::{Case, any_case};
use crate::oracles;

/// Returns the number of layouts of each kind of table and sector size.
pub(crate) fn cases() -> u32 {
    std::env::var("KA_LAYOUT_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(500)
}

#[test]
fn sfdisk_agrees_with_every_mbr_of_512_byte_sectors() {
    check_many(TableKind::Mbr, 512);
}

#[test]
fn sfdisk_agrees_with_every_mbr_of_4096_byte_sectors() {
    check_many(TableKind::Mbr, 4096);
}

#[test]
fn sfdisk_and_sgdisk_agree_with_every_gpt_of_512_byte_sectors() {
    check_many(TableKind::Gpt, 512);
}

#[test]
fn sfdisk_and_sgdisk_agree_with_every_gpt_of_4096_byte_sectors() {
    check_many(TableKind::Gpt, 4096);
}

fn check_many(kind: TableKind, sector_size: u32) {
    // Layouts that do not fit are drawn again; too many of them would test nothing, and fail.
    let config = Config {
        cases: cases(),
        max_global_rejects: cases(),
        failure_persistence: None,
        ..Config::default()
    };
    let outcome = TestRunner::new(config).run(&any_case(kind, sector_size), |case| {
        let (desc, plan) = plan_case(&case)?;
        let checked = is_what_the_lines_say(&desc, &plan).and_then(|()| oracles::agree_with(&plan));
        checked.map_err(|error| TestCaseError::fail(format!("{}{error}", case.text)))
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}

/// Plans a case; a case that rightly does not fit is rejected.
fn plan_case(case: &Case) -> Result<(Desc, PartitionPlan), TestCaseError> {
    let refuse = |message: String, expected: &[&str]| {
        let rightly = expected.iter().any(|words| message.contains(words));
        if rightly {
            TestCaseError::reject(message)
        } else {
            TestCaseError::fail(message)
        }
    };
    let desc = Desc::parse(&case.text, "desc")
        .map_err(|error| refuse(error.to_string(), &["percentages add up"]))?;
    let source = Source::Desc(desc.clone());
    let plan = plan(&source, &case.geometry, TableKind::Mbr, false, &mut Uuid::new_v4).map_err(|error| {
        let expected = ["does not fit", "nothing is left", "ends at", "too small"];
        refuse(
            error.to_string(),
            if matches!(error, LayoutError::Desc(_)) {
                &expected
            } else {
                &[]
            },
        )
    })?;
    Ok((desc, plan))
}

/// Checks that everything lies on whole MiB, and that a line with a size gets exactly that size.
fn is_what_the_lines_say(desc: &Desc, plan: &PartitionPlan) -> Result<(), String> {
    for (number, entry) in desc.numbered() {
        let Some(part) = plan.find(number) else {
            let frame = entry.kind.is_extended() && plan.table.kind == TableKind::Gpt;
            if frame {
                continue;
            }
            return Err(format!("no partition {number}"));
        };
        let aligned = part.start_bytes.is_multiple_of(MIB) && part.len_bytes.is_multiple_of(MIB);
        let wanted = entry
            .size
            .fixed_mib()
            .is_none_or(|mib| part.len_bytes == mib * MIB);
        if !aligned || !wanted || Some(part.kind) != entry.kind.resolve(plan.table.kind) {
            return Err(format!("`{entry}` became {part:?}"));
        }
    }
    Ok(())
}
