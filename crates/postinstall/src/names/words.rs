//! Words of kernel command lines in all places: in quotes behind a variable, in a boot entry, alone in a
//! file.
//!
//! Words that name a device follow it. Words about a layer that the clone does not have (LVM, LUKS, md) are
//! taken out, because an initramfs waits for these devices (dracut.cmdline(7), kernel-command-line(7),
//! mkinitcpio's and genkernel's hooks).

use super::layers::Layers;
use super::{Manner, Meaning, Names, options, spelling};

/// Words whose value is a device that is mounted or read at boot.
const DEVICE_KEYS: [&str; 17] = [
    "resume",
    "resume2",
    "real_resume",
    "mount.usr",
    "usr",
    "boot",
    "swap",
    "swapdev",
    "overlayroot",
    "rd.boot",
    "systemd.swap-extra",
    "rd.systemd.swap-extra",
    "systemd.mount-extra",
    "rd.systemd.mount-extra",
    "live-media",
    "bootfrom",
    "home",
];
/// Words whose value is the root file system's device.
const ROOT_KEYS: [&str; 4] = ["root", "real_root", "rootdev", "kdump_root"];
/// Families of words that name parts of a layer, unless their value is a switch or a number.
const LUKS: [&str; 4] = ["rd.luks.", "luks.", "rd_luks_", "systemd.verity"];
const LVM: [&str; 2] = ["rd.lvm.", "rd_lvm_"];
const MD: [&str; 2] = ["rd.md.", "rd_md_"];
const DM: [&str; 6] = [
    "rd.dm.",
    "rd_dm_",
    "dm-mod.",
    "dm_mod.",
    "rd.stratis.",
    "stratis.rootfs.",
];
/// Single words of the same kind: those of mkinitcpio, Alpine, Debian, genkernel.
const LUKS_WORDS: [&str; 19] = [
    "cryptdevice",
    "cryptkey",
    "cryptroot",
    "cryptdm",
    "cryptheader",
    "cryptoffset",
    "cryptdiscards",
    "cryptopts",
    "crypto",
    "crypt_root",
    "crypt_roots",
    "crypt_swap",
    "crypt_swaps",
    "root_key",
    "root_keydev",
    "swap_key",
    "swap_keydev",
    "roothash",
    "usrhash",
];
const LVM_WORDS: [&str; 4] = ["dolvm", "dolvm2", "lvmwait", "lvm"];
const MD_WORDS: [&str; 3] = ["domdadm", "md", "rd.md"];
const DM_WORDS: [&str; 3] = ["dodmraid", "domultipath", "rd.dm"];

/// The notes about a line's words.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct WordNotes {
    /// Words that were taken out or could not be followed, with why.
    pub(crate) warnings: Vec<String>,
}

/// The treatment of a word.
enum Fate {
    Keep,
    Replace(String),
    /// Taken out, because.
    Out(String),
    /// The word is kept, because its purpose is unknown.
    Unknown(String),
}

/// Returns the line with every word that means the clone's.
pub(crate) fn rewrite(line: &str, names: &Names<'_>, manner: Manner, said: &mut WordNotes) -> String {
    let offset = Offset::of(line, names);
    let mut new = String::with_capacity(line.len() + 64);
    let mut rest = line;
    let mut trims = false;
    while !rest.is_empty() {
        let gap = rest.find(|c: char| !is_gap(c)).unwrap_or(rest.len());
        let (space, from) = rest.split_at(gap);
        new.push_str(if trims {
            space.trim_start_matches([' ', '\t'])
        } else {
            space
        });
        trims = false;
        let (word, after) = from.split_at(word_len(from));
        rest = after;
        if word.is_empty() {
            continue;
        }
        let (prefix, inner) = split_prefix(word);
        match fate(inner, names, manner, &offset) {
            Fate::Keep => new.push_str(word),
            Fate::Replace(by) => {
                new.push_str(prefix);
                new.push_str(&by);
            }
            Fate::Unknown(why) => {
                said.warnings.push(why);
                new.push_str(word);
            }
            Fate::Out(why) => {
                said.warnings.push(why);
                new.push_str(prefix);
                if prefix.is_empty() && new.ends_with([' ', '\t']) && !new.trim().is_empty() {
                    let len = new.trim_end_matches([' ', '\t']).len();
                    // The space stays if it separates the key of the line from the rest of its value.
                    new.truncate(len);
                } else {
                    trims = true;
                }
            }
        }
    }
    new
}

/// Returns the first word of a command line that decides about the boot and would differ in the clone, in a
/// place that cannot be rewritten.
pub(crate) fn foreign<'l>(line: &'l str, names: &Names<'_>) -> Option<&'l str> {
    let new = rewrite(line, names, Manner::ForKernel, &mut WordNotes::default());
    let kept: Vec<&str> = new.split_whitespace().collect();
    let mut words = line.split_whitespace();
    words.find(|word| {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        // A hook may have named a disk of the clone by the kernel's name.
        let is_own = || {
            let facts = names.facts();
            let mut own = facts.partitions.iter().map(|device| &device.path);
            own.any(|path| path == value.trim_matches(['"', '\'']))
        };
        // A wrong place of a swap file wakes nothing up, and harms nothing.
        key != "resume_offset" && !kept.contains(word) && !is_own()
    })
}

fn is_gap(c: char) -> bool {
    c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '(' | ')')
}

/// A word ends at white space and quotes, but not at those around its own value (`root="UUID=…"`).
fn word_len(text: &str) -> usize {
    let end = text.find(is_gap).unwrap_or(text.len());
    let quote = text[end..].chars().next().filter(|c| matches!(c, '"' | '\''));
    if let Some(quote) = quote
        && let Some(key) = text[..end].strip_suffix('=')
        && is_known(key.rsplit('=').next().unwrap_or(key))
        && let Some(close) = text[end + 1..].find(quote).filter(|len| *len > 0)
    {
        return end + 1 + close + 1;
    }
    // Quotes within quotes: `GRUB_CMDLINE_LINUX="root=\"LABEL=my root\""`.
    if let Some(quote) = quote
        && let Some(key) = text[..end].strip_suffix("=\\")
        && is_known(key.rsplit('=').next().unwrap_or(key))
        && let Some(close) = text[end + 1..].find(&format!("\\{quote}"))
    {
        return end + 1 + close + 2;
    }
    // The quotes of a tag: `root=UUID="…"`.
    if quote.is_some()
        && let Some(at) = spelling::next_name(&text[..end])
        && text[..end].ends_with('=')
    {
        return at + spelling::name_len(&text[at..]);
    }
    end
}

fn takes_device(key: &str) -> bool {
    let key = key.rsplit('=').next().unwrap_or(key).to_ascii_lowercase();
    ROOT_KEYS.contains(&key.as_str()) || DEVICE_KEYS.contains(&key.as_str())
}

/// Returns a variable in front of the first word: `kernelopts=root=…`, `GRUB_CMDLINE_LINUX=rd.lvm.lv=…`,
/// `cmdline:root=…`.
fn split_prefix(word: &str) -> (&str, &str) {
    let Some(at) = word.find('=') else {
        return ("", word);
    };
    let (key, value) = (&word[..at], &word[at + 1..]);
    let is_name = !key.is_empty()
        && key
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '+');
    let known = is_known(key);
    let has_inner = value.find('=').is_some_and(|at| is_known(&value[..at])) || is_known(value);
    if is_name && !known && has_inner {
        (&word[..=at], value)
    } else {
        ("", word)
    }
}

fn is_known(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let key = key.as_str();
    takes_device(key)
        || [LUKS.as_slice(), &LVM, &MD, &DM]
            .concat()
            .iter()
            .any(|start| key.starts_with(start))
        || [LUKS_WORDS.as_slice(), &LVM_WORDS, &MD_WORDS, &DM_WORDS]
            .concat()
            .contains(&key)
        || matches!(
            key,
            "rootflags" | "rootfstype" | "resume_offset" | "rd.auto" | "rd_auto" | "mount.usrflags"
        )
}

fn fate(word: &str, names: &Names<'_>, manner: Manner, offset: &Offset) -> Fate {
    let (key, value) = word.split_once('=').unwrap_or((word, ""));
    let lower = key.to_ascii_lowercase();
    let kernel = if manner == Manner::Usual {
        Manner::ForKernel
    } else {
        manner
    };
    if ROOT_KEYS.contains(&lower.as_str()) {
        return root(key, value, names, kernel);
    }
    match lower.as_str() {
        "rootflags" | "mount.usrflags" => return flags(key, value, names),
        "rootfstype" => return root_type(key, value, names),
        "resume_offset" => return offset.fate(key, value),
        "rd.auto" | "rd_auto" if !matches!(value, "0" | "no") => {
            let has_none = !Layers::of(names.facts()).any();
            return if has_none {
                Fate::Out(format!("{word} would assemble volumes of other disks: taken out"))
            } else {
                Fate::Keep
            };
        }
        _ => {}
    }
    if let Some(layer) = layer(&lower, value) {
        return of_layer(word, value, layer, names);
    }
    if DEVICE_KEYS.contains(&lower.as_str()) {
        return device(key, value, names, kernel, offset);
    }
    other(word, names, manner)
}

/// Returns the layer that a word is about; none for switches and numbers (`rd.luks.timeout=5`, `rd.md=0`),
/// which name nothing.
fn layer(key: &str, value: &str) -> Option<Layer> {
    // A UUID may be given by its beginning (dracut.cmdline(7)): it may be all digits.
    let names_one = ["uuid", "name", "lv", "vg", "serial", "device", "root"]
        .iter()
        .any(|end| key.ends_with(end));
    let is_switch = !names_one && is_switch(value);
    let families = [
        (Layer::Luks, LUKS.as_slice()),
        (Layer::Lvm, &LVM),
        (Layer::Md, &MD),
        (Layer::Dm, &DM),
    ];
    let words = [
        (Layer::Luks, LUKS_WORDS.as_slice()),
        (Layer::Lvm, &LVM_WORDS),
        (Layer::Md, &MD_WORDS),
        (Layer::Dm, &DM_WORDS),
    ];
    let of_family = families
        .iter()
        .find(|(_, starts)| starts.iter().any(|start| key.starts_with(start)));
    let found = of_family
        .map(|(layer, _)| *layer)
        .filter(|_| !is_switch && !value.is_empty());
    found.or_else(|| {
        let bare = matches!(
            key,
            "dolvm" | "dolvm2" | "domdadm" | "dodmraid" | "domultipath" | "cryptdiscards"
        );
        let of_word = words.iter().find(|(_, words)| words.contains(&key));
        of_word
            .map(|(layer, _)| *layer)
            .filter(|_| if value.is_empty() { bare } else { !is_switch })
    })
}

fn is_switch(value: &str) -> bool {
    matches!(value, "no" | "yes" | "0" | "1" | "on" | "off" | "true" | "false")
        || !value.is_empty() && value.chars().all(|c| c.is_ascii_digit())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layer {
    Luks,
    Lvm,
    Md,
    Dm,
}

fn of_layer(word: &str, value: &str, layer: Layer, names: &Names<'_>) -> Fate {
    let layers = Layers::of(names.facts());
    let stays = match layer {
        Layer::Luks => layers.has_luks(value),
        Layer::Lvm => layers.has_lvm(),
        Layer::Md => layers.has_md(value),
        Layer::Dm => false,
    };
    if stays {
        return match other(word, names, Manner::Usual) {
            Fate::Unknown(_) => Fate::Keep,
            fate => fate,
        };
    }
    let what = match layer {
        Layer::Luks => "an encrypted device",
        Layer::Lvm => "a volume group",
        Layer::Md => "an array",
        Layer::Dm => "a mapped device",
    };
    Fate::Out(format!(
        "{word} is about {what} that the clone does not have: taken out"
    ))
}

fn root(key: &str, value: &str, names: &Names<'_>, manner: Manner) -> Fate {
    let plain = value.trim_matches(['"', '\'', '\\']);
    let (block, name) = plain
        .strip_prefix("block:")
        .map_or(("", plain), |name| ("block:", name));
    // `PARTUUID=…/PARTNROFF=1`: the partition after that one (kernel, block/early-lookup.c).
    let meaning = if name.contains("/PARTNROFF=") {
        Some(Meaning::Gone)
    } else {
        names.meaning(name)
    };
    let is_number = || {
        let hex = name.trim_start_matches("0x");
        matches!(hex.len(), 3..=4) && hex.chars().all(|c| c.is_ascii_hexdigit())
            || name.split_once(':').is_some_and(|(major, minor)| {
                [major, minor]
                    .iter()
                    .all(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit()))
            })
    };
    let quote = |new: String| match value.chars().next().filter(|c| matches!(c, '"' | '\'')) {
        Some(quote) => format!("{key}={quote}{block}{new}{quote}"),
        None => format!("{key}={block}{new}"),
    };
    match meaning {
        Some(Meaning::Gone | Meaning::Bare(_)) => {}
        None if is_number() => {}
        None => return Fate::Keep,
        Some(_) => {
            return match names.replacement(name, manner).filter(|new| new != name) {
                Some(new) => Fate::Replace(quote(new)),
                None => Fate::Keep,
            };
        }
    }
    match names.root() {
        Some(own) => Fate::Replace(quote(own)),
        None => Fate::Unknown(format!("{key}={value} names no disk of the clone")),
    }
}

fn device(key: &str, value: &str, names: &Names<'_>, manner: Manner, offset: &Offset) -> Fate {
    let plain = value.trim_matches(['"', '\'']);
    let Some(at) = spelling::next_name(plain) else {
        return Fate::Keep;
    };
    let (before, from) = plain.split_at(at);
    let (name, after) = from.split_at(spelling::name_len(from));
    let Some((name, tail)) = longest(name, names) else {
        return Fate::Keep;
    };
    let is_resume = key.to_ascii_lowercase().contains("resume");
    // The variable of initramfs-tools is read in the initramfs.
    let manner = if key == "RESUME" { Manner::Usual } else { manner };
    match names.replacement(name, manner) {
        _ if is_resume && offset.drops_resume() => Fate::Out(format!(
            "{key}={value} belongs to a swap file whose place is not known: taken out"
        )),
        Some(new) if new == name => Fate::Keep,
        Some(new) => Fate::Replace(format!("{key}={before}{new}{tail}{after}")),
        // initramfs-tools looks for a swap area by itself where the variable is missing.
        None if key == "RESUME" => Fate::Replace("RESUME=none".to_owned()),
        None => Fate::Out(format!("{key}={value} names no disk of the clone: taken out")),
    }
}

/// Returns the longest beginning of a word that is a device's name, and the rest. Colons end a name
/// (`cryptdevice=UUID=…:root`) unless they are part of it (`by-path/pci-0000:00:1f.2-ata-1`).
pub(crate) fn longest<'t>(word: &'t str, names: &Names<'_>) -> Option<(&'t str, &'t str)> {
    let ends: Vec<usize> = word
        .match_indices(':')
        .map(|(at, _)| at)
        .chain([word.len()])
        .collect();
    let known = |end: &&usize| {
        matches!(
            names.meaning(&word[..**end]),
            Some(Meaning::Clone(_) | Meaning::Bare(_) | Meaning::Disk(_) | Meaning::Own)
        )
    };
    let end = ends.iter().rev().find(known).or_else(|| {
        let gone = |end: &&usize| names.meaning(&word[..**end]).is_some();
        ends.iter().find(gone)
    });
    end.map(|end| word.split_at(*end))
}

fn flags(key: &str, value: &str, names: &Names<'_>) -> Fate {
    let point = if key.eq_ignore_ascii_case("rootflags") {
        "/"
    } else {
        "/usr"
    };
    let mount = names.facts().mounts.iter().find(|mount| mount.path == point);
    let Some(mount) = mount else {
        return Fate::Keep;
    };
    let plain = value.trim_matches(['"', '\'', '\\']);
    if mount.is_new_type {
        return Fate::Out(format!(
            "{key}={value} is for another type of file system: taken out"
        ));
    }
    let of = options::MountContext {
        subvol: mount.subvol.as_deref(),
        ..options::MountContext::default()
    };
    match options::rewrite(plain, names, of).without_strange_subvolume() {
        text if text == plain => Fate::Keep,
        text if text.is_empty() || text == "defaults" => {
            Fate::Out(format!("{key}={value} means nothing in the clone: taken out"))
        }
        text => {
            let (before, after) = value.split_once(plain).unwrap_or_default();
            Fate::Replace(format!("{key}={before}{text}{after}"))
        }
    }
}

fn root_type(key: &str, value: &str, names: &Names<'_>) -> Fate {
    let mount = names
        .facts()
        .mounts
        .iter()
        .find(|mount| mount.path == "/" && mount.is_new_type);
    match mount {
        Some(mount) if !value.split(',').any(|kind| kind == mount.fstype) => {
            Fate::Replace(format!("{key}={}", mount.fstype))
        }
        _ => Fate::Keep,
    }
}

/// Returns the fate of a word of unknown use. Names in it that the clone has are followed, others are
/// reported.
fn other(word: &str, names: &Names<'_>, manner: Manner) -> Fate {
    let mut said = WordNotes::default();
    match rewrite_names(word, names, manner, &mut said) {
        new if new != word => Fate::Replace(new),
        _ => said.warnings.pop().map_or(Fate::Keep, Fate::Unknown),
    }
}

/// Returns the text with every name in it that the clone has; others are told. Bare ids, too (`search
/// --fs-uuid …`).
pub(crate) fn rewrite_names(text: &str, names: &Names<'_>, manner: Manner, said: &mut WordNotes) -> String {
    let known = |word| longest(word, names).map_or(word, |(name, _)| name);
    let new = with_each_name(text, known, |name, new| {
        match (names.meaning(name), names.replacement(name, manner)) {
            (_, Some(by)) => new.push_str(&by),
            (meaning, None) => {
                // A script's `UUID=${GRUB_DEVICE_UUID}` names a value that it finds itself.
                let is_literal = !name.contains(['$', '`', '*']);
                if is_literal && matches!(meaning, Some(Meaning::Gone | Meaning::Bare(_))) {
                    said.warnings.push(format!("{name} names no disk of the clone"));
                }
                new.push_str(name);
            }
        }
    });
    names.replace_ids(&new)
}

/// Returns the text with every name that the clone has, as a path if it was one, and without names that the
/// clone does not have.
pub(crate) fn without_gone(text: &str, names: &Names<'_>, said: &mut WordNotes) -> String {
    let whole = |word| word;
    let new = with_each_name(text, whole, |name, new| {
        match (names.meaning(name), names.replacement(name, Manner::Path)) {
            (_, Some(by)) => new.push_str(&by),
            (Some(_), None) => said
                .warnings
                .push(format!("{name} names no disk of the clone: taken out")),
            (None, None) => new.push_str(name),
        }
    });
    names.replace_ids(&new)
}

/// Returns the text with whatever `write` puts in the place of each name; `name_of` finds the name at the
/// beginning of a word.
fn with_each_name<'t>(
    text: &'t str,
    name_of: impl Fn(&'t str) -> &'t str,
    mut write: impl FnMut(&'t str, &mut String),
) -> String {
    let mut new = String::with_capacity(text.len() + 32);
    let mut rest = text;
    while let Some(at) = spelling::next_name(rest) {
        let (before, from) = rest.split_at(at);
        new.push_str(before);
        let name = name_of(&from[..spelling::name_len(from).max(1)]);
        write(name, &mut new);
        rest = &from[name.len()..];
    }
    new.push_str(rest);
    new
}

/// `resume_offset=`: where a swap file begins on its device, which is elsewhere in each clone.
enum Offset {
    /// The line has no command line, or one that does not belong to a file.
    None,
    /// The only swap file of the clone begins there, in pages.
    At(u64),
    /// Its place is unknown.
    Unknown,
}

impl Offset {
    fn of(line: &str, names: &Names<'_>) -> Self {
        let value = line.split("resume_offset=").nth(1);
        let digits = value.map(|value| value.chars().take_while(char::is_ascii_digit).collect::<String>());
        if digits.is_none_or(|digits| digits.chars().all(|c| c == '0')) {
            return Self::None;
        }
        match names.facts().swap_files.as_slice() {
            [only] => only.offset_pages.map_or(Self::Unknown, Self::At),
            _ => Self::Unknown,
        }
    }

    fn drops_resume(&self) -> bool {
        matches!(self, Self::Unknown)
    }

    fn fate(&self, key: &str, value: &str) -> Fate {
        match self {
            Self::None => Fate::Keep,
            Self::At(pages) if pages.to_string() == value => Fate::Keep,
            Self::At(pages) => Fate::Replace(format!("{key}={pages}")),
            Self::Unknown => Fate::Out(format!(
                "{key}={value} is a place on the golden node's disk: taken out"
            )),
        }
    }
}
