//! Names of systemd's units for devices: the path of the device or mount point in systemd's escapes
//! (systemd.unit(5)).

use ka_disk::fstab::TaggedName;

use super::{Manner, Meaning, Names, spelling};

const DEVICE_UNITS: [&str; 4] = [".device", ".swap", ".mount", ".automount"];

/// Returns a word that names a unit, or a path that is one, for the clone; `None` when it is of a device, a
/// volume or a mount point that the clone does not have.
pub(crate) fn word(word: &str, names: &Names<'_>, left_out: &[String]) -> Option<String> {
    if word.starts_with('/') || TaggedName::parse(word).is_some() {
        return match names.meaning(word) {
            Some(_) => path_of(word, names),
            None => (!left_out.iter().any(|point| point == word)).then(|| word.to_owned()),
        };
    }
    let (before, name, suffix) = parts(word)?;
    if name.is_empty() {
        return Some(word.to_owned());
    }
    let path = spelling::unit_unescaped(name);
    match names.meaning(&path) {
        None if left_out.contains(&path) && matches!(suffix, ".mount" | ".automount") => None,
        None => {
            let opens = before == "systemd-cryptsetup@";
            let volume = path.trim_start_matches('/').replace('/', "-");
            let is_gone = opens
                && !matches!(
                    names.meaning(&format!("/dev/mapper/{volume}")),
                    Some(Meaning::Own)
                );
            (!is_gone).then(|| word.to_owned())
        }
        Some(_) => {
            let new = path_of(&path, names)?;
            Some(if new == path {
                word.to_owned()
            } else {
                format!("{before}{}{suffix}", spelling::unit_escaped(&new))
            })
        }
    }
}

/// Returns the text before an escaped path in the name of a unit, that path, and the kind. An empty path: the
/// name holds none.
fn parts(word: &str) -> Option<(&str, &str, &str)> {
    let Some(dot) = word.rfind('.') else {
        return Some((word, "", ""));
    };
    let (stem, suffix) = word.split_at(dot);
    if let Some(at) = stem.find('@') {
        return Some((&word[..=at], &stem[at + 1..], suffix));
    }
    if DEVICE_UNITS.contains(&suffix) {
        return Some(("", stem, suffix));
    }
    Some((word, "", ""))
}

/// Returns the clone's device by a path: units of devices have no other names.
pub(super) fn path_of(name: &str, names: &Names<'_>) -> Option<String> {
    let new = names.replacement(name, Manner::Usual)?;
    let Some(tagged) = TaggedName::parse(&new) else {
        return Some(new);
    };
    // A tag (`What=UUID=…`) stays a tag.
    let was_tag = TaggedName::parse(name).is_some_and(|name| !name.is_link);
    Some(
        TaggedName {
            is_link: !was_tag,
            ..tagged
        }
        .to_string(),
    )
}
