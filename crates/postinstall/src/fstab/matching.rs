//! Which cloned device an fstab field means, and what the clone writes in its stead.

use ka_disk::fstab::{Tag, TaggedName};

use super::{CloneDevice, DeviceMap};

/// The cloned device that `spec` (escapes undone) means; `None` for everything foreign.
pub(crate) fn find<'a>(spec: &str, devices: &'a [DeviceMap]) -> Option<&'a DeviceMap> {
    // What the survey saw under this very name comes first: two file systems may share a label.
    let by_alias = devices
        .iter()
        .find(|map| map.golden.aliases.iter().any(|alias| alias == spec));
    by_alias.or_else(|| devices.iter().find(|map| is_meant(spec, map)))
}

/// What stands in for `spec`, in the same manner where the clone has such a name, else by the most lasting one.
pub(crate) fn replacement(spec: &str, clone: &CloneDevice) -> Option<String> {
    let Some(name) = TaggedName::parse(spec) else {
        // A plain name stays a plain name. Links by hardware (by-id, by-path) and mapped devices do not exist in
        // the clone: a UUID lasts longer than the name that its disk happens to have now.
        let plain = spec
            .strip_prefix("/dev/")
            .is_some_and(|name| !name.contains('/') && !name.starts_with("dm-"));
        let path = Some(clone.path.clone()).filter(|path| !path.is_empty());
        let lasting = || tagged(Tag::Uuid, false, clone);
        return if plain {
            path.or_else(lasting)
        } else {
            lasting().or(path)
        };
    };
    let others = match name.tag {
        Tag::Uuid => [Tag::PartUuid, Tag::Label],
        Tag::PartUuid | Tag::Label => [Tag::Uuid, Tag::PartUuid],
        Tag::PartLabel => [Tag::PartUuid, Tag::Uuid],
    };
    let same = tagged(name.tag, name.is_link, clone);
    same.or_else(|| others.iter().find_map(|tag| tagged(*tag, false, clone)))
}

/// Whether both name the same thing: then the field stays as it is, quotes and letter case included.
pub(crate) fn same_name(a: &str, b: &str) -> bool {
    match (TaggedName::parse(a), TaggedName::parse(b)) {
        (Some(a), Some(b)) => a.tag == b.tag && a.is(Some(&b.value)),
        _ => a == b,
    }
}

fn is_meant(spec: &str, map: &DeviceMap) -> bool {
    let golden = &map.golden;
    let Some(name) = TaggedName::parse(spec) else {
        return !golden.path.is_empty() && spec == golden.path;
    };
    let have = match name.tag {
        Tag::Uuid => &golden.uuid,
        Tag::PartUuid => &golden.partuuid,
        Tag::Label => &golden.label,
        Tag::PartLabel => &golden.partlabel,
    };
    name.is(have.as_deref())
}

fn tagged(tag: Tag, is_link: bool, clone: &CloneDevice) -> Option<String> {
    let value = match tag {
        Tag::Uuid => &clone.uuid,
        Tag::PartUuid => &clone.partuuid,
        Tag::Label => &clone.label,
        Tag::PartLabel => &clone.partlabel,
    };
    let value = value.clone().filter(|value| !value.is_empty())?;
    Some(TaggedName { tag, is_link, value }.to_string())
}
