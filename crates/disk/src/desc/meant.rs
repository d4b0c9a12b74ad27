//! Words of other tools and slips of the hand in a desc file, with what is written here in their place.

use crate::fs_type::FsType;
use crate::table::{KnownType, PartType};

use super::keys::KEYS;

/// Longest part of a file that a message repeats, characters.
const MAX_SHOWN: usize = 40;

/// A word of the file as a message repeats it: the beginning of a long one.
pub(super) fn short(word: &str) -> String {
    match word.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}…", &word[..end]),
        None => word.to_owned(),
    }
}

/// Returns the right word in place of one that is no partition type.
pub(super) fn of_type(word: &str) -> String {
    let lower = word.to_ascii_lowercase();
    if let Some(comment) = comment(word) {
        return comment.to_owned();
    }
    if is_of_a_script(&lower) {
        return "this is a script of another tool (sfdisk, sgdisk or parted): `ka-desc DISK` writes the desc file of a disk, one \
                line `TYPE SIZE` for each partition"
            .to_owned();
    }
    match type_like(&lower) {
        Some(line) => format!("did you mean `{line}`?"),
        None => format!(
            "write linux, swap, extended, typeXX (hexadecimal), {} or a GPT type GUID",
            type_names()
        ),
    }
}

/// Returns the right word in place of one that is no size.
pub(super) fn of_size(word: &str) -> String {
    comment(word).map_or_else(
        || "write whole MiB, a number with K, M, G or T (1024 each), a percentage, or `fill`".to_owned(),
        str::to_owned,
    )
}

/// Returns the right words in place of one that is no key and value.
pub(super) fn of_rest(word: &str) -> String {
    let bare = word.trim_matches('=');
    if let Some(comment) = comment(word) {
        return comment.to_owned();
    }
    if !word.is_empty() && bare.is_empty() || KEYS.contains(&bare) {
        return "write key=value without blanks around the =".to_owned();
    }
    let is_unit = !word.starts_with(|c: char| c.is_ascii_digit());
    if is_unit && ka_units::size(&format!("1{word}"), 1).is_ok() {
        return "write the size with its unit as one word, as in 5G".to_owned();
    }
    if word.parse::<FsType>().is_ok() {
        return format!("did you mean fs={word}?");
    }
    if word.starts_with('/') {
        return format!("did you mean mount={word}?");
    }
    format!(
        "after TYPE and SIZE come only key=value ({}) and `boot`",
        KEYS.join(", ")
    )
}

/// A comment in the style of another language, or one that is stuck to the word before it.
fn comment(word: &str) -> Option<&'static str> {
    let begins = |marks: &[&str]| marks.iter().any(|mark| word.starts_with(mark));
    if begins(&["//", ";", "/*", "--"]) {
        return Some("comments begin with #");
    }
    word.contains('#')
        .then_some("put a blank before the # of a comment")
}

fn is_of_a_script(word: &str) -> bool {
    // sfdisk(8) and parted(8).
    let headers = [
        "label:",
        "label-id:",
        "device:",
        "unit:",
        "first-lba:",
        "last-lba:",
        "sector-size:",
        "grain:",
        "table-length:",
        "mklabel",
        "mkpart",
        "mktable",
        "unit",
        "select",
        "sgdisk",
        "sfdisk",
        "parted",
        "start=",
        "size=",
        "type=",
        "bootable",
        "part",
        "clearpart",
    ];
    headers.contains(&word)
        || ["start=", "size=", "/dev/"]
            .iter()
            .any(|mark| word.starts_with(mark))
}

/// The line of a desc file that says what a word of another tool does.
fn type_like(word: &str) -> Option<String> {
    let inner = word.trim_matches(['{', '}']);
    if inner != word && inner.parse::<PartType>().is_ok() {
        return Some(inner.to_owned());
    }
    let named = match word {
        "efi" | "uefi" | "efi-system" | "system" => "esp",
        "ntfs" | "exfat" | "windows" | "basic" => "msdata",
        "fat" | "fat16" | "fat32" | "vfat" | "msdos" => "msdata SIZE fs=vfat",
        "linux-swap" | "swapspace" => "swap",
        "bios-boot" | "biosboot" | "bios_grub" | "grub" => "bios",
        "pv" | "linux-lvm" => "lvm",
        "md" | "mdraid" | "linux-raid" => "raid",
        "ext" | "extended:" => "extended",
        "root" | "home" | "data" | "filesystem" => "linux",
        _ => return of_number(word).or_else(|| of_file_system(word)),
    };
    Some(named.to_owned())
}

/// Numbers of types: MBR's byte (`0x83`, `83`), and sgdisk's four digits, which are that byte and 00 for most types.
fn of_number(word: &str) -> Option<String> {
    let digits = word.strip_prefix("0x").unwrap_or(word);
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let known = match (digits, digits.len()) {
        (_, 2) => u8::from_str_radix(digits, 16).ok().map(PartType::Mbr),
        ("ef02", _) => Some(PartType::Named(KnownType::Bios)),
        ("0c01", _) => Some(PartType::Named(KnownType::Msr)),
        (_, 4) => u8::from_str_radix(&digits[..2], 16).ok().map(PartType::Mbr),
        _ => None,
    };
    match known? {
        PartType::Mbr(0) => None,
        PartType::Mbr(byte) if digits.len() == 4 => {
            PartType::Mbr(byte).known().map(|known| known.name().to_owned())
        }
        kind => Some(kind.to_string()),
    }
}

fn of_file_system(word: &str) -> Option<String> {
    let fs = word.parse::<FsType>().ok()?;
    Some(format!("linux SIZE fs={fs}"))
}

fn type_names() -> String {
    let others = KnownType::ALL.into_iter().map(KnownType::name);
    others
        .filter(|name| !matches!(*name, "linux" | "swap"))
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use crate::desc::Desc;

    /// The fault of a wrong desc file.
    fn said(text: &str) -> String {
        Desc::parse(text, "desc").unwrap_err().to_string()
    }

    #[test]
    fn words_of_other_tools_are_answered_with_the_right_one() {
        for (line, meant) in [
            ("0x83 5", "did you mean `type83`?"),
            ("83 5", "did you mean `type83`?"),
            ("8300 5", "did you mean `linux`?"),
            ("EF00 5", "did you mean `esp`?"),
            ("ef02 5", "did you mean `bios`?"),
            ("efi 5", "did you mean `esp`?"),
            ("ext4 5", "did you mean `linux SIZE fs=ext4`?"),
            ("ntfs 5", "did you mean `msdata`?"),
            ("fat32 5", "did you mean `msdata SIZE fs=vfat`?"),
            ("linux-swap 5", "did you mean `swap`?"),
            (
                "{0FC63DAF-8483-4772-8E79-3D69D8477DE4} 5",
                "did you mean `0fc63daf-8483-4772-8e79-3d69d8477de4`?",
            ),
            ("label: gpt", "a script of another tool"),
            ("mkpart primary ext4 1MiB 100%", "a script of another tool"),
            ("/dev/sda1 : start=2048", "a script of another tool"),
            ("frobnicate 5", "write linux, swap, extended"),
        ] {
            let said = said(line);
            assert!(said.contains(meant), "{line}: {said}");
        }
    }

    #[test]
    fn slips_of_the_hand_are_answered_with_what_to_write() {
        for (line, meant) in [
            ("linux fill# root", "put a blank before the #"),
            ("linux# 5", "put a blank before the #"),
            ("linux 5 G", "as one word, as in 5G"),
            ("linux fill fs = xfs", "without blanks around the ="),
            ("linux fill fs= xfs", "has no value"),
            ("linux fill =xfs", "unknown key"),
            ("swap 100 // x", "comments begin with #"),
            ("linux 5GB", "write 5G"),
            ("linux 1.5GB", "write 1.5G"),
            ("linux 5 ext4", "did you mean fs=ext4?"),
            ("linux 5 /home", "did you mean mount=/home?"),
            ("linux 5 trailing", "only key=value"),
        ] {
            let said = said(line);
            assert!(said.contains(meant), "{line}: {said}");
        }
    }

    #[test]
    fn capital_letters_do_not_matter_where_words_are_ours() {
        let desc = Desc::parse(
            "TABLE GPT\nESP 512m\nLinux 5g FS=XFS Mount=/Home LABEL=Up BOOT\nLINUX FILL\n",
            "desc",
        );
        let plain = Desc::parse(
            "table gpt\nesp 512M\nlinux 5G fs=xfs mount=/Home label=Up boot\nlinux fill\n",
            "desc",
        );
        assert_eq!(desc, plain);
        let logical = Desc::parse("Extended fill\nLogical Linux 5\n", "desc").unwrap();
        assert!(logical.entries[1].logical);
    }

    #[test]
    fn long_words_are_cut_in_messages() {
        let long = "x".repeat(5000);
        for text in [
            format!("{long} 5"),
            format!("linux {long}"),
            format!("linux 5 {long}"),
            format!("linux 5 {long}=1"),
            format!("linux 5 fs={long}"),
            format!("linux 5 mount={long}"),
            format!("linux 5 name={long}"),
            format!("linux 5 label={long}"),
            format!("linux 5 number={long}"),
            format!("linux 5 attrs={long}"),
            format!("table {long}"),
        ] {
            let said = said(&text);
            assert!(said.len() < 400, "{} bytes: {said}", said.len());
        }
    }
}
