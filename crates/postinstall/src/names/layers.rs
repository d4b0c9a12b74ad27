//! Layers between partitions and file systems: LVM, LUKS, md. A clone's file systems lie on plain partitions;
//! a layer is there only inside a partition that was copied raw (`-D`).

use crate::facts::Facts;

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
        // A raw copy has the golden node's own contents: the same UUID, and no type of ours.
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

    /// True if the encrypted device that `value` names by UUID is in the clone.
    pub(crate) fn has_luks(&self, value: &str) -> bool {
        let value = digits(value);
        self.luks.iter().any(|uuid| value.contains(uuid))
    }

    /// True if the array that `value` names by UUID, in whatever groups, is in the clone.
    pub(crate) fn has_md(&self, value: &str) -> bool {
        let value = digits(value);
        self.md.iter().any(|uuid| value.contains(uuid))
    }
}

/// Returns the digits of a UUID. mdadm writes UUIDs in groups of eight, and blkid in the usual form.
fn digits(text: &str) -> String {
    text.chars()
        .filter(char::is_ascii_alphanumeric)
        .collect::<String>()
        .to_ascii_lowercase()
}
