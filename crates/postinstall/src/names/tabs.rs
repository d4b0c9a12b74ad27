//! The files in which layers are configured: crypttab, mdadm.conf, LVM's list of devices, and tables of names
//! and devices.

use super::layers::Layers;
use super::text::{self, Rewritten, is_comment};
use super::{Manner, Names, crypttab, words};
use crate::error::PostError;
use crate::files::Files;

/// Returns the mapped devices that the clone opens by itself.
///
/// # Errors
/// A file cannot be read.
pub(crate) fn opened(files: &dyn Files, names: &Names<'_>) -> Result<Vec<String>, PostError> {
    let mut opened = Vec::new();
    for path in crypttab::FILES {
        let read = files.read(path).map_err(PostError::reading(path))?;
        opened.extend(
            read.map(|bytes| crypttab::plan(&bytes, names).opened)
                .unwrap_or_default(),
        );
    }
    Ok(opened)
}

/// Lines of a name and the devices it is made from: those of devices that the clone lacks are taken out.
pub(crate) fn tab(bytes: &[u8], names: &Names<'_>) -> Rewritten {
    let mut new = Rewritten::default();
    for (number, line) in (1..).zip(text::lines(bytes)) {
        let trimmed = line.text().trim();
        if !is_comment(trimmed) && names_gone(trimmed, names) {
            new.comment_out(
                &line,
                format!("line {number}: {trimmed:?} names what the clone does not have: commented out"),
            );
        } else if is_comment(trimmed) {
            new.push(&line, line.text());
        } else {
            new.push(
                &line,
                &words::rewrite_names(
                    line.text(),
                    names,
                    Manner::Usual,
                    &mut words::WordNotes::default(),
                ),
            );
        }
    }
    new
}

/// mdadm.conf(5): arrays that the clone does not have are taken out; `mdadm` would wait for them in the
/// initramfs. Lines that begin with white space continue the one before.
pub(crate) fn mdadm(bytes: &[u8], names: &Names<'_>) -> Rewritten {
    let layers = Layers::of(names.facts());
    let mut new = Rewritten::default();
    let mut takes_out = false;
    for line in text::lines(bytes) {
        let trimmed = line.text().trim();
        let continues = line.text().starts_with([' ', '\t']) && !trimmed.is_empty();
        if is_comment(trimmed) || (continues && !takes_out) {
            new.push(&line, line.text());
            continue;
        }
        if !continues {
            let word = trimmed
                .split_whitespace()
                .next()
                .unwrap_or_default()
                .to_ascii_lowercase();
            let is_array = word.len() >= 3 && "array".starts_with(&word);
            takes_out = is_array && !layers.has_md(trimmed)
                || word.len() >= 3 && "devices".starts_with(&word) && names_gone(trimmed, names);
            if takes_out {
                let why = format!("{trimmed:?} names what the clone does not have: commented out");
                new.comment_out(&line, why);
                continue;
            }
        }
        if takes_out {
            new.push(&line, &format!("{}{}", text::LEFT_OUT, line.text()));
        } else {
            new.push(
                &line,
                &words::rewrite(
                    line.text(),
                    names,
                    Manner::Usual,
                    &mut words::WordNotes::default(),
                ),
            );
        }
    }
    new
}

fn names_gone(line: &str, names: &Names<'_>) -> bool {
    line.split_whitespace()
        .any(|word| names.meaning(word).is_some() && names.replacement(word, Manner::Usual).is_none())
}

/// LVM's list of devices (lvmdevices(8)): lines of golden disks are taken out.
pub(crate) fn lvm_devices(bytes: &[u8], names: &Names<'_>) -> Rewritten {
    let has_lvm = Layers::of(names.facts()).has_lvm();
    let mut new = Rewritten::default();
    for line in text::lines(bytes) {
        let is_device = line.text().trim_start().starts_with("IDTYPE=");
        if is_device && !has_lvm {
            let why = format!(
                "{:?} names a disk of the golden node: commented out",
                line.text().trim()
            );
            new.comment_out(&line, why);
        } else {
            new.push(&line, line.text());
        }
    }
    new
}
