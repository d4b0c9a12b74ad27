//! Checks of the lines of a desc file together, before any disk is looked at.

use super::{Desc, DescEntry, MAX_PARTITIONS, Percent, Problem, Size};
use crate::table::TableKind;

/// Primary partitions that an MBR holds; the first logical partition has the next number.
const MBR_PRIMARIES: u32 = 4;

/// A problem and the line it is in.
type AtLine<T> = Result<T, (u32, Problem)>;

/// Checks everything that holds for both kinds of table.
pub(super) fn together(entries: &[DescEntry]) -> AtLine<()> {
    if let Some(entry) = entries.get(MAX_PARTITIONS as usize) {
        return Err((entry.line, Problem::TooMany));
    }
    extended_and_logical(entries)?;
    for logical in [false, true] {
        one_level(entries.iter().filter(|entry| entry.logical == logical))?;
    }
    mounts(entries)?;
    numbers(entries)
}

fn extended_and_logical(entries: &[DescEntry]) -> AtLine<()> {
    let mut extended = None;
    for entry in entries {
        let problem = match (entry.logical, entry.kind.is_extended(), extended) {
            (true, true, _) => Problem::LogicalExtended,
            (true, false, None) => Problem::LogicalWithoutExtended,
            (true, false, Some(_)) if entry.number.is_some() => Problem::NumberedLogical,
            (false, true, Some(first)) => Problem::SecondExtended(first),
            (false, true, None) => {
                extended = Some(entry.line);
                continue;
            }
            _ => continue,
        };
        return Err((entry.line, problem));
    }
    Ok(())
}

/// Checks the fills and percentages of the partitions of one level.
fn one_level<'a>(entries: impl Iterator<Item = &'a DescEntry>) -> AtLine<()> {
    let mut fill = None;
    let mut whole = None;
    let mut hundredths = 0;
    for entry in entries {
        match (entry.size, fill) {
            (Size::Fill, Some(first)) => return Err((entry.line, Problem::SecondFill(first))),
            (Size::Fill, None) => fill = Some(entry.line),
            (Size::Percent(percent), _) => hundredths += u64::from(percent.hundredths),
            _ => {}
        }
        if hundredths == u64::from(Percent::WHOLE) && whole.is_none() {
            whole = Some(entry.line);
        }
        if hundredths > u64::from(Percent::WHOLE) {
            return Err((entry.line, Problem::PercentSum(hundredths.div_ceil(100))));
        }
    }
    match (fill, whole) {
        (Some(fill), Some(_)) => Err((fill, Problem::NothingToFill)),
        _ => Ok(()),
    }
}

fn mounts(entries: &[DescEntry]) -> AtLine<()> {
    for (index, entry) in entries.iter().enumerate() {
        let Some(mount) = &entry.mount else { continue };
        if let Some(first) = entries[..index]
            .iter()
            .find(|other| other.mount.as_ref() == Some(mount))
        {
            return Err((
                entry.line,
                Problem::SecondMount {
                    mount: mount.clone(),
                    first: first.line,
                },
            ));
        }
    }
    Ok(())
}

fn numbers(entries: &[DescEntry]) -> AtLine<()> {
    let numbered = numbered(entries);
    for (index, (number, entry)) in numbered.iter().enumerate() {
        if *number > MAX_PARTITIONS {
            return Err((entry.line, Problem::TooMany));
        }
        if let Some((_, first)) = numbered[..index].iter().find(|(other, _)| other == number) {
            // The numbers that KA gives never clash, so one of the two lines has number=.
            let (at, other) = if entry.number.is_some() {
                (entry, first)
            } else {
                (first, entry)
            };
            return Err((
                at.line,
                Problem::NumberClash {
                    number: *number,
                    first: other.line,
                },
            ));
        }
    }
    Ok(())
}

/// Gives every line its number: `number=`, or from 5 for logical ones, or the lowest that is free.
pub(super) fn numbered(entries: &[DescEntry]) -> Vec<(u32, &DescEntry)> {
    let logicals = entries.iter().filter(|entry| entry.logical).count();
    let logical_numbers = (MBR_PRIMARIES + 1..).take(logicals);
    let mut taken: Vec<u32> = entries
        .iter()
        .filter_map(|entry| entry.number)
        .chain(logical_numbers)
        .collect();
    let mut next_logical = MBR_PRIMARIES + 1;
    let mut number_of = |entry: &DescEntry| {
        if entry.logical {
            next_logical += 1;
            return next_logical - 1;
        }
        entry.number.unwrap_or_else(|| {
            let free = (1..).find(|number| !taken.contains(number)).unwrap_or(u32::MAX);
            taken.push(free);
            free
        })
    };
    entries.iter().map(|entry| (number_of(entry), entry)).collect()
}

/// Checks the rules of one kind of table.
pub(super) fn on_table(desc: &Desc, kind: TableKind) -> AtLine<()> {
    match kind {
        TableKind::Mbr => on_mbr(desc),
        TableKind::Gpt => on_gpt(desc),
    }
}

fn on_mbr(desc: &Desc) -> AtLine<()> {
    let mut boot = None;
    let mut primaries = 0;
    for (number, entry) in desc.numbered() {
        let refuse = |problem| Err((entry.line, problem));
        primaries += u32::from(!entry.logical);
        if primaries > MBR_PRIMARIES {
            return refuse(Problem::FifthPrimary);
        }
        if !entry.logical && number > MBR_PRIMARIES {
            return refuse(Problem::MbrNumber(number));
        }
        if entry.kind.resolve(TableKind::Mbr).is_none() {
            return refuse(Problem::NotOnMbr(entry.kind.to_string()));
        }
        if entry.name.is_some() {
            return refuse(Problem::GptOnly("partition names (name=)"));
        }
        if entry.attrs != 0 {
            return refuse(Problem::GptOnly("attributes (attrs=)"));
        }
        match (entry.boot, boot) {
            (true, Some(first)) => return refuse(Problem::SecondBoot(first)),
            (true, None) => boot = Some(entry.line),
            (false, _) => {}
        }
    }
    Ok(())
}

fn on_gpt(desc: &Desc) -> AtLine<()> {
    // An extended partition is only the frame of its logical ones here and needs no type.
    let mut real = desc.entries.iter().filter(|entry| !entry.kind.is_extended());
    match real.find(|entry| entry.kind.resolve(TableKind::Gpt).is_none()) {
        Some(entry) => Err((entry.line, Problem::NotOnGpt(entry.kind.to_string()))),
        None => Ok(()),
    }
}
