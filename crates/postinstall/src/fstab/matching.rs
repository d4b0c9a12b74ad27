//! The cloned device that a name means, and the clone's name for it.

use ka_disk::fstab::{Tag, TaggedName};
use ka_disk::spec::GoldenDevice;

use super::{CloneDevice, DeviceMap};

/// Returns the cloned device that `spec` (escapes undone) means; `None` for everything foreign.
pub(crate) fn find<'a>(spec: &str, devices: &'a [DeviceMap]) -> Option<&'a DeviceMap> {
    // A match that the survey saw under this very name comes first, because two file systems may share a
    // label.
    let by_alias = devices
        .iter()
        .find(|map| map.golden.aliases.iter().any(|alias| alias == spec));
    by_alias.or_else(|| devices.iter().find(|map| is_meant(spec, &map.golden)))
}

/// Returns the clone's name for `spec`, in the same manner where the clone has such a name, else the most
/// lasting one. The kernel's name of a device lasts until the disks are found in another order: it becomes a
/// UUID, unless `kernel_names`.
pub(crate) fn replacement(spec: &str, clone: &CloneDevice, kernel_names: bool) -> Option<String> {
    let Some(name) = TaggedName::parse(spec) else {
        // Links by hardware (by-id, by-path) and mapped devices do not exist in the clone.
        let plain = spec
            .strip_prefix("/dev/")
            .is_some_and(|name| !name.contains('/') && !name.starts_with("dm-"));
        let path = Some(clone.path.clone()).filter(|path| !path.is_empty());
        return if plain && kernel_names {
            path.or_else(|| lasting(clone))
        } else {
            lasting(clone)
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

/// Returns the link of udev's for a tag: `/dev/disk/by-uuid/…` for `UUID=…`.
pub(crate) fn as_path(name: String) -> String {
    match TaggedName::parse(&name) {
        Some(tagged) => TaggedName {
            is_link: true,
            ..tagged
        }
        .to_string(),
        None => name,
    }
}

/// Returns the most lasting name: the UUID of the file system, that of the partition, the device node.
pub(crate) fn lasting(clone: &CloneDevice) -> Option<String> {
    let tags = [Tag::Uuid, Tag::PartUuid];
    let path = Some(clone.path.clone()).filter(|path| !path.is_empty());
    tags.iter().find_map(|tag| tagged(*tag, false, clone)).or(path)
}

/// Returns the most lasting name that a kernel without an initramfs finds its root by (kernel,
/// `Documentation/admin-guide/ kernel-parameters.txt`, `root=`): it knows no UUIDs of file systems.
pub(crate) fn for_bare_kernel(clone: &CloneDevice) -> Option<String> {
    tagged(Tag::PartUuid, false, clone).or_else(|| lasting(clone))
}

/// Returns a name for a partition that has no file system, or will have another one at each boot.
pub(crate) fn partition(clone: &CloneDevice, is_link: bool) -> Option<String> {
    let path = Some(clone.path.clone()).filter(|path| !path.is_empty());
    tagged(Tag::PartUuid, is_link, clone).or(path)
}

/// True if both name the same thing: then the field stays as it is, quotes and letter case included.
pub(crate) fn same_name(a: &str, b: &str) -> bool {
    match (TaggedName::parse(a), TaggedName::parse(b)) {
        (Some(a), Some(b)) => a.tag == b.tag && a.is_link == b.is_link && a.is(Some(&b.value)),
        _ => a == b,
    }
}

/// Returns the clone's own value for a tag.
pub(crate) fn value(tag: Tag, clone: &CloneDevice) -> Option<&str> {
    let value = match tag {
        Tag::Uuid => &clone.uuid,
        Tag::PartUuid => &clone.partuuid,
        Tag::Label => &clone.label,
        Tag::PartLabel => &clone.partlabel,
    };
    value.as_deref().filter(|value| !value.is_empty())
}

fn is_meant(spec: &str, golden: &GoldenDevice) -> bool {
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
    let value = value(tag, clone)?.to_owned();
    Some(TaggedName { tag, is_link, value }.to_string())
}
