//! Names of a machine's disks, and texts with placeholders for them.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};

use super::Shape;
use crate::disk::Disk;
use crate::golden;

/// The values of placeholders for one machine.
#[derive(Debug)]
pub(super) struct Names {
    values: BTreeMap<String, String>,
}

impl Names {
    /// Reads the names from the disk. `host` is the machine's name, `mac` its card's address in lower case.
    pub(super) fn of(shape: &Shape, disk: &Disk, host: &str, mac: &str) -> Result<Self> {
        let mut values = BTreeMap::new();
        let mut add = |key: String, value: String| values.insert(key, value);
        for (name, volume) in shape.volumes.iter().zip(&shape.plan.volumes) {
            let device = disk.partition(volume.partition);
            let (uuid, partuuid) = (golden::tag(&device, "UUID")?, golden::tag(&device, "PARTUUID")?);
            ensure!(!partuuid.is_empty(), "{} has no PARTUUID", device.display());
            add(format!("{name}.UUID"), uuid.to_uppercase());
            add(format!("{name}.escaped"), uuid.replace('-', "\\x2d"));
            add(format!("{name}.uuid"), uuid);
            add(format!("{name}.PARTUUID"), partuuid.to_uppercase());
            add(format!("{name}.partuuid"), partuuid);
            add(format!("{name}.device"), device.display().to_string());
        }
        add("disk".to_owned(), disk.device().display().to_string());
        add("host".to_owned(), host.to_owned());
        add("mac".to_owned(), mac.to_owned());
        add("MAC".to_owned(), mac.to_uppercase());
        Ok(Self { values })
    }

    /// Returns the text with each `{{name}}` filled in; `{{byte fc}}` is that byte.
    pub(super) fn fill(&self, text: &str) -> Result<Vec<u8>> {
        let mut filled = Vec::with_capacity(text.len() + 256);
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            filled.extend(before.as_bytes());
            let Some((key, after)) = after.split_once("}}") else {
                anyhow::bail!("a placeholder without end in {text:?}");
            };
            match (key.strip_prefix("byte "), self.values.get(key)) {
                (Some(byte), _) => filled.push(u8::from_str_radix(byte, 16)?),
                (None, Some(value)) => filled.extend(value.as_bytes()),
                (None, None) => anyhow::bail!("no placeholder is called {key:?}"),
            }
            rest = after;
        }
        filled.extend(rest.as_bytes());
        Ok(filled)
    }

    /// Fills in a text that must be UTF-8.
    pub(super) fn text(&self, text: &str) -> Result<String> {
        Ok(String::from_utf8(self.fill(text)?)?)
    }

    /// Returns the words that no text of another machine may hold, in lower case.
    pub(super) fn forbidden(&self) -> Vec<String> {
        let kinds = [".uuid", ".partuuid", ".escaped", ".device"];
        let of_disk =
            |key: &str| kinds.iter().any(|kind| key.ends_with(kind)) || key == "disk" || key == "mac";
        let values = self
            .values
            .iter()
            .filter(|(key, value)| of_disk(key) && !value.is_empty());
        values.map(|(_, value)| value.to_lowercase()).collect()
    }
}
