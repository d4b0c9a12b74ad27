//! Mount options that name devices, units or subvolumes: of fstab lines, of `rootflags=`, of `.mount` units.

use super::{Manner, Names, spelling, unit_names};

/// Options with devices beside the mounted one (xfs(5), ext4(5), btrfs(5)). A clone's file systems have none.
const BESIDE: [&str; 6] = ["logdev", "rtdev", "journal_path", "journal_dev", "jdev", "device"];
/// Options that name a unit, or a device that is one (systemd.mount(5)).
const UNITS: [&str; 6] = [
    "x-systemd.requires",
    "x-systemd.after",
    "x-systemd.before",
    "x-systemd.wanted-by",
    "x-systemd.required-by",
    "x-systemd.wants",
];
/// Options that name a path below a mount point.
const PATHS: [&str; 2] = ["x-systemd.requires-mounts-for", "x-systemd.wants-mounts-for"];
const SUBVOLID: &str = "subvolid";

/// The mount to which the options belong.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct MountContext<'a> {
    /// The subvolume that the golden node has mounted there.
    pub(crate) subvol: Option<&'a str>,
    /// Mount points that the clone does not have.
    pub(crate) left_out: &'a [String],
    /// True for a file system that was not made for the clone. It keeps its devices beside it.
    pub(crate) keeps_beside: bool,
}

/// Options for the clone.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// The whole field; empty where nothing is left.
    pub(crate) text: String,
    /// Options that were taken out.
    pub(crate) dropped: Vec<String>,
    /// True if there is a number of a subvolume whose name is unknown.
    pub(crate) has_strange_subvolume: bool,
}

impl Options {
    /// Returns the field without the number of a subvolume whose name is unknown. In the clone it is another
    /// one's.
    pub(crate) fn without_strange_subvolume(self) -> String {
        if !self.has_strange_subvolume {
            return self.text;
        }
        let kept = self.text.split(',').filter(|option| {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            key != SUBVOLID || !is_number_of_its_own(value)
        });
        kept.collect::<Vec<_>>().join(",")
    }
}

/// Plans the options. Pure.
pub(crate) fn rewrite(text: &str, names: &Names<'_>, of: MountContext<'_>) -> Options {
    let mut new = Options {
        text: String::new(),
        dropped: Vec::new(),
        has_strange_subvolume: false,
    };
    let mut kept: Vec<String> = Vec::new();
    let has_subvol = text.split(',').any(|option| option.starts_with("subvol="));
    for option in text.split(',') {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        if key == SUBVOLID && is_number_of_its_own(value) {
            match of.subvol {
                Some(_) if has_subvol => {}
                Some(subvol) => kept.push(format!("subvol=/{subvol}")),
                None if has_subvol => {}
                None => {
                    new.has_strange_subvolume = true;
                    kept.push(option.to_owned());
                }
            }
            continue;
        }
        match value_for(key, value, names, of) {
            Some(value) if value.is_empty() => kept.push(option.to_owned()),
            Some(value) => kept.push(format!("{key}={value}")),
            None => new.dropped.push(option.to_owned()),
        }
    }
    new.text = kept.join(",");
    new
}

/// 0 and 5 are the top level on every btrfs.
fn is_number_of_its_own(value: &str) -> bool {
    let digits = value.trim_start_matches("0x").trim_start_matches('0');
    !matches!(digits, "" | "5")
}

/// Returns the option's value in the clone; `None` takes the option out.
fn value_for(key: &str, value: &str, names: &Names<'_>, of: MountContext<'_>) -> Option<String> {
    if value.is_empty() {
        return Some(String::new());
    }
    if BESIDE.contains(&key) {
        return of.keeps_beside.then(|| {
            names
                .replacement(value, Manner::Usual)
                .unwrap_or_else(|| value.to_owned())
        });
    }
    if UNITS.contains(&key) {
        return unit_names::word(value, names, of.left_out);
    }
    if PATHS.contains(&key) {
        let is_out = of
            .left_out
            .iter()
            .any(|point| std::path::Path::new(value).starts_with(point));
        return (!is_out).then(|| value.to_owned());
    }
    match spelling::next_name(value) {
        Some(0) if names.meaning(value).is_some() => names.replacement(value, Manner::Usual),
        _ => Some(value.to_owned()),
    }
}
