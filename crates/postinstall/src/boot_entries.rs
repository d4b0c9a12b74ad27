//! Boot entries as systemd-boot reads them (UAPI.1 Boot Loader Specification). There is one file for each
//! kernel below `loader/entries` on the EFI system partition or `/boot`. Kernel and initramfs are in a
//! directory beside it that is named for the installation (kernel-install(8): machine-id, or the contents of
//! `/etc/kernel/entry-token`).
//!
//! This module finds the entries and checks that they can boot. [`crate::references`] rewrites their command
//! lines, and [`crate::machine_id`] their machine-id.

use ka_distro::config::ESP_PLACES;
use ka_distro::efi;

use crate::bootloader::pe;
use crate::error::PostError;
use crate::esp;
use crate::facts::Facts;
use crate::files::{Files, text_or_empty};
use crate::names::ids::expect_own;
use crate::names::{self, words};

const ENTRIES: &str = "loader/entries";
/// PE headers with their table of sections; systemd's stub has half a KiB of them. Bytes.
const HEAD_LEN: usize = 4096;
/// The kernel takes 2048 bytes on x86, 4096 elsewhere (`COMMAND_LINE_SIZE`).
const MAX_COMMAND_LINE: u64 = 4096;

/// Returns the files with entries.
pub(crate) fn files_with_entries(files: &dyn Files) -> Vec<String> {
    let in_place = |place: &str| {
        let dir = format!("{place}/{ENTRIES}");
        let names = files.names(&dir).into_iter();
        let names: Vec<String> = names.filter(|name| name.ends_with(".conf")).collect();
        names.into_iter().map(move |name| format!("{dir}/{name}"))
    };
    ESP_PLACES.into_iter().flat_map(in_place).collect()
}

/// Returns the unified kernel images: kernel, initramfs and command line in one EFI program. These are the
/// ones of `EFI/Linux` (Boot Loader Specification, type 2), and any program on the EFI system partition with
/// a kernel inside. The firmware's own entries and GRUB's `chainloader` find them in any directory.
pub(crate) fn unified(files: &dyn Files) -> Vec<String> {
    let dirs = ESP_PLACES
        .into_iter()
        .flat_map(|place| esp::directories(files, place));
    let in_dir = |dir: String| {
        let names = files.names(&dir).into_iter().filter(|name| efi::is_program(name));
        let paths: Vec<String> = names.map(|name| format!("{dir}/{name}")).collect();
        let is_linux = dir.to_ascii_lowercase().ends_with("/linux");
        paths
            .into_iter()
            .filter(move |path| is_linux || has_kernel(files, path))
    };
    dirs.flat_map(in_dir).collect()
}

fn has_kernel(files: &dyn Files, path: &str) -> bool {
    let head = files.read_part(path, 0, HEAD_LEN).ok().flatten();
    head.is_some_and(|head| pe::section(&head, *b".linux\0\0").is_some())
}

/// Returns the unified kernel images with their command lines, for those that have one.
///
/// # Errors
/// An image cannot be read.
pub(crate) fn unified_command_lines(files: &dyn Files) -> Result<Vec<(String, String)>, PostError> {
    let mut found = Vec::new();
    for path in unified(files) {
        let part = |offset, len| {
            let read = files.read_part(&path, offset, len);
            read.map(Option::unwrap_or_default)
                .map_err(PostError::reading(&path))
        };
        let Some(place) = pe::section(&part(0, HEAD_LEN)?, *b".cmdline") else {
            continue;
        };
        let len = (place.end - place.start).min(MAX_COMMAND_LINE);
        let line = part(place.start, usize::try_from(len).unwrap_or_default())?;
        let line = String::from_utf8_lossy(&line).trim_end_matches('\0').to_owned();
        found.push((path, line));
    }
    Ok(found)
}

/// Insists on unified kernel images whose command lines need no rewriting for this clone, because only a hook
/// makes those anew.
///
/// # Errors
/// The first word that names a thing which this clone does not have.
pub(crate) fn check_unified(files: &dyn Files, facts: &Facts) -> Result<(), PostError> {
    let names = names::read(files, facts)?;
    for (path, line) in unified_command_lines(files)? {
        expect_own(&path, &line, facts)?;
        if let Some(word) = words::foreign(&line, &names) {
            return Err(PostError::Wrong(format!(
                "{path} is a unified kernel image whose command line says {word}, which means nothing in the clone, or another \
                 disk"
            )));
        }
    }
    Ok(())
}

/// Insists on something to boot, with kernel and initramfs in their places, and on entries that name no
/// golden disk.
///
/// # Errors
/// There is nothing to boot, or an entry names what this clone does not have.
pub(crate) fn check(files: &dyn Files, facts: &Facts) -> Result<(), PostError> {
    check_names(files, facts)?;
    let mut missing = None;
    let mut whole = !unified(files).is_empty();
    for path in files_with_entries(files) {
        match first_missing(files, &path, &text_or_empty(files, &path)?) {
            None => whole = true,
            Some(what) => missing = Some(format!("{path} boots {what}, which is not there")),
        }
    }
    if whole {
        return Ok(());
    }
    Err(PostError::Wrong(missing.unwrap_or_else(|| {
        "systemd-boot has no entry to boot: make one on the golden node (kernel-install add)".to_owned()
    })))
}

/// Insists on entries that name no golden disk.
///
/// # Errors
/// The first that does.
pub(crate) fn check_names(files: &dyn Files, facts: &Facts) -> Result<(), PostError> {
    let entries = files_with_entries(files);
    entries
        .iter()
        .try_for_each(|path| expect_own(path, &text_or_empty(files, path)?, facts))
}

/// Returns the first file that an entry needs and does not find, or the kernel's line itself if there is
/// none.
fn first_missing(files: &dyn Files, path: &str, text: &str) -> Option<String> {
    let place = path.split(&format!("/{ENTRIES}")).next().unwrap_or_default();
    let value = |key: &'static str| {
        text.lines().filter_map(move |line| {
            let (name, value) = line.trim().split_once(char::is_whitespace)?;
            (name == key).then(|| value.trim())
        })
    };
    let programs = || value("linux").chain(value("efi"));
    if programs().next().is_none() {
        return Some("no kernel".to_owned());
    }
    programs()
        .chain(value("initrd"))
        .map(|file| format!("{place}/{}", file.trim_start_matches('/')))
        .find(|file| !files.exists(file))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::facts::tests::facts;
    use crate::files::fixture::Texts;

    /// Returns the files that `bootctl install` and `kernel-install add` of systemd 252 leave on Debian 12.
    fn debian() -> Texts {
        Texts::new(&[
            ("/boot/efi/EFI/systemd/systemd-bootx64.efi", "MZ"),
            ("/boot/efi/EFI/Linux/", ""),
            ("/boot/efi/0123abcd/6.1.0-10/linux", ""),
            ("/boot/efi/0123abcd/6.1.0-10/initrd.img-6.1.0-10", ""),
            (
                "/boot/efi/loader/entries/0123abcd-6.1.0-10.conf",
                "title      Debian\noptions    root=UUID=aaaaaaaa-0003-4000-8000-000000000003 ro\n\
                 linux      /0123abcd/6.1.0-10/linux\ninitrd     /0123abcd/6.1.0-10/initrd.img-6.1.0-10\n",
            ),
        ])
    }

    /// Returns a PE image whose second section is this command line, padded as ukify does.
    pub(crate) fn unified_image(command_line: &str) -> Vec<u8> {
        let mut image = vec![0; 1024];
        image[..2].copy_from_slice(b"MZ");
        image[0x3c] = 0x80;
        image[0x80..0x84].copy_from_slice(b"PE\0\0");
        image[0x86] = 2;
        image[0x94] = 112;
        let table = 0x98 + 112;
        image[table..table + 5].copy_from_slice(b".text");
        let entry = table + 40;
        image[entry..entry + 8].copy_from_slice(b".cmdline");
        let len = u32::try_from(command_line.len()).unwrap();
        image[entry + 8..entry + 12].copy_from_slice(&len.to_le_bytes());
        image[entry + 16..entry + 20].copy_from_slice(&512_u32.to_le_bytes());
        image[entry + 20..entry + 24].copy_from_slice(&1024_u32.to_le_bytes());
        image.extend(command_line.as_bytes());
        image.resize(1536, 0);
        image
    }

    fn refusal(files: &Texts) -> String {
        check(files, &facts()).unwrap_err().to_string()
    }

    #[test]
    fn an_entry_with_kernel_and_initramfs_boots_and_nothing_less_does() {
        check(&debian(), &facts()).unwrap();
        assert!(refusal(&Texts::default()).contains("has no entry"));
        let mut files = debian();
        files.0.remove("/boot/efi/0123abcd/6.1.0-10/initrd.img-6.1.0-10");
        assert!(refusal(&files).contains("initrd.img-6.1.0-10, which is not there"));
        let unified = Texts::new(&[("/efi/EFI/Linux/debian-6.1.efi", "MZ")]);
        check(&unified, &facts()).unwrap();
    }

    #[test]
    fn an_entry_that_names_a_golden_disk_fails_the_clone() {
        let path = "/boot/efi/loader/entries/other.conf";
        let golden = "options root=UUID=11111111-0003-4000-8000-000000000003\nlinux /linux\n";
        assert!(refusal(&debian().with(path, golden)).contains("still names the golden file system"));
        check(
            &debian().with(path, &golden.replace("options", "# options")),
            &facts(),
        )
        .unwrap();
    }

    #[test]
    fn a_unified_image_with_a_golden_root_fails_the_clone() {
        let with = |line: &str| {
            let mut files = Texts::default();
            files
                .0
                .insert("/efi/EFI/Linux/debian.efi".to_owned(), unified_image(line));
            check_unified(&files, &facts())
        };
        with("root=UUID=aaaaaaaa-0003-4000-8000-000000000003 ro").unwrap();
        let refusal = with("root=UUID=11111111-0003-4000-8000-000000000003 ro").unwrap_err();
        assert!(
            refusal
                .to_string()
                .contains("/efi/EFI/Linux/debian.efi still names"),
            "{refusal}"
        );
    }
}
