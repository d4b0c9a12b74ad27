//! Desc files of any shape, with sizes that mostly fit their disk.

use std::fmt::Write;

use ka_disk::desc::MIB;
use ka_disk::layout::Geometry;
use ka_disk::table::TableKind;
use proptest::prelude::{Strategy, any, prop_oneof};

/// A desc file and the disk it is for.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) text: String,
    pub(crate) geometry: Geometry,
}

/// One partition before its size is known.
#[derive(Debug, Clone)]
struct Line {
    kind: &'static str,
    weight: u64,
    form: u8,
    boot: bool,
    tail: &'static str,
}

/// Generates any desc file for a `kind` table on any disk of this sector size.
pub(crate) fn any_case(kind: TableKind, sector_size: u32) -> impl Strategy<Value = Case> {
    let lines = proptest::collection::vec(any_line(kind), 1..=4);
    let logicals = proptest::collection::vec(any_line(kind), 0..=9);
    // The place of the extended line; 4 for none.
    (
        any_disk_bytes(kind, sector_size),
        lines,
        logicals,
        0_usize..=4,
        1_u64..=100,
    )
        .prop_map(move |(disk_bytes, lines, logicals, extended_at, share)| {
            let geometry = Geometry {
                disk_bytes,
                sector_size,
            };
            let budget = disk_bytes.min(addressable(kind, sector_size)) / MIB * share / 100;
            let text = write(kind, &lines, &logicals, extended_at, budget);
            Case { text, geometry }
        })
}

/// Generates small disks, disks of today, and those around 4 GiB and the end of what an MBR can address.
fn any_disk_bytes(kind: TableKind, sector_size: u32) -> impl Strategy<Value = u64> {
    let limit_mib = addressable(kind, sector_size) / MIB;
    let mib = prop_oneof![
        8_u64..512,
        512_u64..16 << 10,
        4000_u64..5000,
        16_u64 << 10..2 << 20,
        limit_mib - 4096..=limit_mib,
    ];
    // Real disks are not whole MiB.
    (mib, 0_u64..MIB / 4096).prop_map(move |(mib, rest)| (mib * MIB - rest * 4096).max(4 * MIB))
}

/// Returns the end of an MBR; for GPT a size that sparse files and loop devices still have.
fn addressable(kind: TableKind, sector_size: u32) -> u64 {
    match kind {
        TableKind::Mbr => (u64::from(sector_size) << 32).min(12 << 40),
        TableKind::Gpt => 12 << 40,
    }
}

fn any_line(kind: TableKind) -> impl Strategy<Value = Line> {
    let types = match kind {
        TableKind::Mbr => vec![
            "linux", "swap", "type83", "type0c", "type8e", "raid", "lvm", "esp", "home", "typea5",
        ],
        TableKind::Gpt => vec![
            "linux",
            "swap",
            "type83",
            "esp",
            "bios",
            "home",
            "root-x86-64",
            "raid",
            "lvm",
            "xbootldr",
            "msdata",
            "4f68bce3-e8cd-4db1-96e7-fbcaf984b709",
            "11111111-2222-3333-4444-555555555555",
        ],
    };
    let tails = match kind {
        TableKind::Mbr => vec![""],
        TableKind::Gpt => vec![
            "",
            "",
            " name=\"EFI System\"",
            " name=größe",
            " attrs=required,no-auto",
            " attrs=48,60,63",
        ],
    };
    let tail = proptest::sample::select(tails);
    (
        proptest::sample::select(types),
        1_u64..1000,
        any::<u8>(),
        any::<bool>(),
        tail,
    )
        .prop_map(|(kind, weight, form, boot, tail)| Line {
            kind,
            weight,
            form,
            boot,
            tail,
        })
}

/// Writes the text, with sizes that share `budget` MiB by weight.
fn write(kind: TableKind, lines: &[Line], logicals: &[Line], extended_at: usize, budget: u64) -> String {
    let extended = (extended_at < lines.len()).then_some(extended_at);
    let total: u64 = lines.iter().map(|line| line.weight).sum();
    let mut text = format!("# generated\ntable {kind}\n");
    let mut filled = false;
    for (index, line) in lines.iter().enumerate() {
        let mib = (budget * line.weight / total).max(1);
        if extended == Some(index) {
            let name = if line.boot { "extended" } else { "type0f" };
            let size = size(mib, line.form, &mut filled, 20);
            writeln!(text, "{name} {size}").unwrap();
            write_logicals(&mut text, logicals, mib);
            continue;
        }
        // An MBR has one active partition: the first that asks for it.
        let active = line.boot && (kind == TableKind::Gpt || !text.contains(" boot"));
        let size = size(mib, line.form, &mut filled, 5);
        writeln!(
            text,
            "{} {size}{}{}",
            line.kind,
            line.tail,
            if active { " boot" } else { "" }
        )
        .unwrap();
    }
    text
}

fn write_logicals(text: &mut String, logicals: &[Line], room: u64) {
    let total: u64 = logicals.iter().map(|line| line.weight).sum();
    let room = room.saturating_sub(logicals.len() as u64);
    let mut filled = false;
    for line in logicals {
        let mib = (room * line.weight / total.max(1)).max(1);
        // Percentages are of the whole disk: inside a small extended partition they would never fit.
        let form = if line.form % 5 == 3 { 0 } else { line.form };
        writeln!(
            text,
            "logical {} {}{}",
            line.kind,
            size(mib, form, &mut filled, 5),
            line.tail
        )
        .unwrap();
    }
}

/// Writes the size in one of the forms that a line may have.
fn size(mib: u64, form: u8, filled: &mut bool, forms: u8) -> String {
    match form % forms {
        0 => mib.to_string(),
        1 => format!("{mib}M"),
        2 => format!("{}K", mib * 1024 - 1),
        3 => format!("{}.{}%", form / 16, form % 10 + 1),
        _ if !std::mem::replace(filled, true) => "fill".to_owned(),
        _ => mib.to_string(),
    }
}
