//! The parser of a desc file's text.

use super::{Desc, DescEntry, DescError, Problem, check, keys, words};
use crate::table::{PartType, TableKind};

/// The word that may follow `table gpt`, as parted spells it.
const PMBR_BOOT: &str = "pmbr_boot";

/// Parses bytes; an error names the line with the first byte that is not UTF-8.
pub(super) fn parse_bytes(bytes: &[u8], origin: &str) -> Result<Desc, DescError> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        DescError {
            origin: origin.to_owned(),
            line: line_number(line),
            problem: Problem::NotUtf8,
        }
    })?;
    parse(text, origin)
}

pub(super) fn parse(text: &str, origin: &str) -> Result<Desc, DescError> {
    let mut desc = Desc {
        origin: origin.to_owned(),
        table: None,
        pmbr_boot: false,
        entries: Vec::new(),
    };
    // Editors on Windows put a byte order mark in front; it is not part of the first word.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut last_line = 1;
    for (index, line) in text.lines().enumerate() {
        last_line = line_number(index + 1);
        take_line(&mut desc, last_line, line).map_err(|problem| desc.error(last_line, problem))?;
    }
    if desc.entries.is_empty() {
        return Err(desc.error(last_line, Problem::Empty));
    }
    match desc.table {
        Some(kind) => desc.check_for(kind)?,
        None => check::together(&desc.entries).map_err(|(line, problem)| desc.error(line, problem))?,
    }
    Ok(desc)
}

fn line_number(line: usize) -> u32 {
    u32::try_from(line).unwrap_or(u32::MAX)
}

/// Adds one line to `desc`: nothing, the table's kind, or a partition.
fn take_line(desc: &mut Desc, number: u32, line: &str) -> Result<(), Problem> {
    let words = words::split(line)?;
    let mut words = words.iter().map(String::as_str);
    match words.next() {
        None => Ok(()),
        Some(word) if word.eq_ignore_ascii_case("table") => {
            if desc.table.is_some() || !desc.entries.is_empty() {
                return Err(Problem::LateTable);
            }
            let kind = words.next().unwrap_or_default();
            desc.table = Some(
                kind.to_ascii_lowercase()
                    .parse::<TableKind>()
                    .map_err(|_| Problem::UnknownTable(kind.to_owned()))?,
            );
            let more = words.next();
            desc.pmbr_boot = more == Some(PMBR_BOOT) && desc.table == Some(TableKind::Gpt);
            let rest = if desc.pmbr_boot { words.next() } else { more };
            rest.map_or(Ok(()), |word| Err(Problem::Trailing(word.to_owned())))
        }
        Some(first) => {
            desc.entries.push(parse_entry(number, first, words)?);
            Ok(())
        }
    }
}

fn parse_entry<'a>(
    line: u32,
    first: &str,
    mut words: impl Iterator<Item = &'a str>,
) -> Result<DescEntry, Problem> {
    let logical = first.eq_ignore_ascii_case("logical");
    let kind = if logical {
        words.next().ok_or(Problem::MissingType)?
    } else {
        first
    };
    let kind = parse_type(kind)?;
    let size = words.next().ok_or(Problem::MissingSize)?.parse()?;
    let mut entry = DescEntry {
        logical,
        ..DescEntry::new(line, kind, size)
    };
    words.try_for_each(|word| keys::apply(&mut entry, word))?;
    keys::check_line(&entry)?;
    Ok(entry)
}

fn parse_type(word: &str) -> Result<PartType, Problem> {
    let parsed = word.to_ascii_lowercase().parse();
    match parsed.map_err(|_| Problem::UnknownType(word.to_owned()))? {
        PartType::Mbr(0) => Err(Problem::EmptyType),
        PartType::Gpt(guid) if guid.is_nil() => Err(Problem::EmptyType),
        PartType::Mbr(0xee) => Err(Problem::ProtectiveType),
        kind => Ok(kind),
    }
}
