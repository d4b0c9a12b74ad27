//! Mount options of the clone that cannot be the golden ones.

/// Options that every file system takes, or that only mount(8) and systemd read (mount(8), fstab(5),
/// systemd.mount(5)).
const GENERIC: [&str; 33] = [
    "defaults",
    "async",
    "sync",
    "dirsync",
    "atime",
    "noatime",
    "diratime",
    "nodiratime",
    "relatime",
    "norelatime",
    "strictatime",
    "nostrictatime",
    "lazytime",
    "nolazytime",
    "auto",
    "noauto",
    "nofail",
    "dev",
    "nodev",
    "exec",
    "noexec",
    "suid",
    "nosuid",
    "ro",
    "rw",
    "user",
    "nouser",
    "users",
    "group",
    "owner",
    "_netdev",
    "comment",
    "discard",
];

/// Returns the options that any type of file system takes; `defaults` when none is left.
pub(super) fn generic_only(options: &str) -> String {
    let name = |option: &str| option.split('=').next().unwrap_or(option).to_owned();
    let kept: Vec<&str> = options
        .split(',')
        .filter(|option| GENERIC.contains(&name(option).as_str()) || option.starts_with("x-"))
        .collect();
    if kept.is_empty() {
        "defaults".to_owned()
    } else {
        kept.join(",")
    }
}

/// Returns the options of a desc line, with the golden `subvol=` if it has none.
pub(super) fn keeping_subvolume(ordered: &str, golden: &str) -> String {
    let subvol = |options: &str| {
        options
            .split(',')
            .find(|option| option.starts_with("subvol="))
            .map(str::to_owned)
    };
    match (subvol(ordered), subvol(golden)) {
        (None, Some(golden)) => format!("{ordered},{golden}"),
        _ => ordered.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_the_old_type_are_dropped_when_the_type_changes() {
        assert_eq!(
            generic_only("errors=remount-ro,noatime,x-systemd.device-timeout=5"),
            "noatime,x-systemd.device-timeout=5"
        );
        assert_eq!(generic_only("subvol=@,compress=zstd"), "defaults");
    }

    #[test]
    fn a_subvolume_is_kept_when_the_desc_line_gives_options() {
        assert_eq!(
            keeping_subvolume("noatime", "rw,subvol=@home"),
            "noatime,subvol=@home"
        );
        assert_eq!(keeping_subvolume("subvol=x", "subvol=@home"), "subvol=x");
    }
}
