//! Layers between partitions and file systems: LVM, LUKS, md. A clone's file systems lie on plain partitions; a layer is
//! there only inside a partition that was copied raw (`-D`).

use super::text::{self, Rewritten, is_comment};
use super::{Names, crypttab, words};
use crate::facts::Facts;
use crate::files::Files;
use crate::plan::PostError;

/// The layers of one clone.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    luks: Vec<String>,
    md: Vec<String>,
    lvm: bool,
}

impl Layers {
    pub(crate) fn of(facts: &Facts) -> Self {
        let mut layers = Self::default();
        // What is on a raw copy is the golden node's own: the same UUID, and no type of ours.
        let raw = facts.devices.iter().filter(|map| map.clone.fstype.is_none());
        for uuid in raw.filter_map(|map| map.golden.uuid.as_deref()) {
            let content = facts
                .known
                .iter()
                .find(|known| known.device.uuid.as_deref() == Some(uuid));
            match content.and_then(|known| known.content.as_deref()) {
                Some("LVM2_member") => layers.lvm = true,
                Some("linux_raid_member") => layers.md.push(digits(uuid)),
                Some("crypto_LUKS") => layers.luks.push(digits(uuid)),
                _ => {}
            }
        }
        layers
    }

    pub(crate) fn any(&self) -> bool {
        self.lvm || !self.luks.is_empty() || !self.md.is_empty()
    }

    pub(crate) fn has_lvm(&self) -> bool {
        self.lvm
    }

    /// Whether the encrypted device that `value` names by UUID is in the clone.
    pub(crate) fn has_luks(&self, value: &str) -> bool {
        let value = digits(value);
        self.luks.iter().any(|uuid| value.contains(uuid))
    }

    /// Whether the array that `value` names by UUID, in whatever groups, is in the clone.
    pub(crate) fn has_md(&self, value: &str) -> bool {
        let value = digits(value);
        self.md.iter().any(|uuid| value.contains(uuid))
    }
}

/// mdadm writes UUIDs in groups of eight, blkid as everybody else.
fn digits(text: &str) -> String {
    text.chars()
        .filter(char::is_ascii_alphanumeric)
        .collect::<String>()
        .to_ascii_lowercase()
}

/// The mapped devices that the clone opens by itself.
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
                    super::Manner::Usual,
                    &mut words::Said::default(),
                ),
            );
        }
    }
    new
}

/// mdadm.conf(5): arrays that the clone does not have are taken out; `mdadm` would wait for them in the initramfs.
/// Lines that begin with white space continue the one before.
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
                    super::Manner::Usual,
                    &mut words::Said::default(),
                ),
            );
        }
    }
    new
}

fn names_gone(line: &str, names: &Names<'_>) -> bool {
    line.split_whitespace()
        .any(|word| names.meaning(word).is_some() && names.replacement(word, super::Manner::Usual).is_none())
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
