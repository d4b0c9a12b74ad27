//! Files of records that programs take one by one: tables of jobs, maps of mounts, lists of disks. A record
//! for a thing that the clone does not have becomes a comment, if it could come to mean another disk. The
//! others follow.

use crate::names::text::{self, LEFT_OUT, Line, Rewritten, is_comment};
use crate::names::words::{self, WordNotes};
use crate::names::{Manner, Meaning, Names, spelling};

/// The form of records, and the treatment of one that names a disk which the clone does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Records {
    /// One a line, used when it is wanted (crontab(5), autofs(5)): it stays where it names its disk in a
    /// lasting way, which may be plugged in some day.
    OnDemand,
    /// One a line, used at boot or when a service starts (smartd.conf(5), kdump.conf(5)).
    AtStart,
    /// `NAME {`, lines, `}` (hdparm.conf(5)).
    Stanzas,
}

/// Plans the text. Pure.
pub(super) fn rewrite(bytes: &[u8], names: &Names<'_>, form: Records) -> Rewritten {
    let lines = text::lines(bytes);
    let mut new = Rewritten::default();
    // A script makes its records itself: a line taken out might be half of a command.
    let is_script = bytes.starts_with(b"#!");
    let mut rest = lines.as_slice();
    let mut number = 1;
    while !rest.is_empty() {
        let (record, after) = rest.split_at(record_len(rest, form));
        match record
            .iter()
            .find_map(|line| gone(line, names, form))
            .filter(|_| !is_script)
        {
            Some(name) => take_out(&mut new, record, number, name),
            None => follow(&mut new, record, number, names),
        }
        number += record.len();
        rest = after;
    }
    new
}

/// Lines that name devices in commands and settings of any kind: paths stay paths.
pub(super) fn names(bytes: &[u8], names: &Names<'_>) -> Rewritten {
    let mut new = Rewritten::default();
    follow(&mut new, &text::lines(bytes), 1, names);
    new
}

/// Lines of the disks of golden storage, by the ids that storage has for them (multipath's `bindings` and
/// `wwids`).
pub(super) fn storage_ids(bytes: &[u8], names: &Names<'_>) -> Rewritten {
    let ids = golden_ids(names);
    let mut new = Rewritten::default();
    for (number, line) in (1..).zip(text::lines(bytes)) {
        let found = ids.iter().find(|id| has_word(line.text(), id));
        match found.filter(|_| !is_comment(line.text())) {
            Some(id) => take_out(&mut new, std::slice::from_ref(&line), number, id),
            None => new.push(&line, line.text()),
        }
    }
    new
}

/// `3600508b400105e210000900000490000` of `/dev/disk/by-id/scsi-3600508b400105e210000900000490000`.
fn golden_ids<'a>(names: &Names<'a>) -> Vec<&'a str> {
    let known = names.facts().known.iter().flat_map(|known| &known.device.aliases);
    let ids = known.filter_map(|alias| {
        let link = alias.strip_prefix("/dev/disk/by-id/")?;
        let kinds = ["dm-uuid-mpath-", "scsi-", "wwn-0x", "nvme-"];
        kinds.iter().find_map(|kind| link.strip_prefix(kind))
    });
    ids.filter(|id| id.len() >= 16).collect()
}

fn has_word(text: &str, word: &str) -> bool {
    text.split(|c: char| c.is_whitespace() || c == '/')
        .any(|part| part.eq_ignore_ascii_case(word))
}

/// Returns the lines of the first record.
fn record_len(lines: &[Line], form: Records) -> usize {
    let opens = |line: &Line| !is_comment(line.text()) && line.text().trim_end().ends_with('{');
    let end = if form == Records::Stanzas && lines.first().is_some_and(opens) {
        lines.iter().position(|line| line.text().trim() == "}")
    } else {
        lines
            .iter()
            .position(|line| is_comment(line.text()) || !line.text().trim_end().ends_with('\\'))
    };
    end.map_or(lines.len(), |at| at + 1)
}

/// Returns a name in a line that the clone does not have, and that must not stay.
fn gone<'l>(line: &'l Line, names: &Names<'_>, form: Records) -> Option<&'l str> {
    let mut rest = line.text();
    if is_comment(rest) {
        return None;
    }
    while let Some(at) = spelling::next_name(rest) {
        let from = &rest[at..];
        let name = &from[..spelling::name_len(from).max(1)];
        let name = words::longest(name, names).map_or(name, |(name, _)| name);
        let is_gone = matches!(names.meaning(name), Some(Meaning::Gone | Meaning::Bare(_)));
        let may_stay = form == Records::OnDemand && spelling::is_lasting(name);
        if is_gone && !may_stay && !name.contains(['$', '`', '*']) {
            return Some(name);
        }
        rest = &from[name.len()..];
    }
    None
}

fn take_out(new: &mut Rewritten, record: &[Line], number: usize, name: &str) {
    for (index, line) in record.iter().enumerate() {
        let text = format!("{LEFT_OUT}{}", line.text());
        if index == 0 {
            let why = format!("line {number}: {name} names no disk of the clone: commented out");
            new.comment_out(line, why);
        } else {
            new.push(line, &text);
        }
    }
}

fn follow(new: &mut Rewritten, record: &[Line], number: usize, names: &Names<'_>) {
    for (number, line) in (number..).zip(record) {
        if is_comment(line.text()) {
            new.push(line, line.text());
            continue;
        }
        // The path of a program is not an id.
        let start = line.text().find(|c: char| !c.is_whitespace()).unwrap_or_default();
        let is_path = line.text()[start..].starts_with('/') && !line.text()[start..].starts_with("/dev/");
        let end = line.text()[start..]
            .find(char::is_whitespace)
            .map_or(line.text().len(), |len| start + len);
        let (head, tail) = line.text().split_at(if is_path { end } else { 0 });
        let mut said = WordNotes::default();
        let made = words::rewrite_names(tail, names, Manner::Path, &mut said);
        let told = said.warnings.into_iter();
        new.warnings
            .extend(told.map(|warning| format!("line {number}: {warning}")));
        new.push(line, &format!("{head}{made}"));
    }
}
