//! The contents of an EFI system partition: vendor directories, the boot programs in them, the fallback path.

use ka_disk::spec::Loader;
use ka_distro::efi::{self, Arch, Role};

use crate::files::{Files, text};

/// A boot program outside the fallback path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    /// Its directory: `/boot/efi/EFI/debian`.
    pub(crate) dir: String,
    /// Its name there.
    pub(crate) name: String,
    /// Its role.
    pub(crate) role: Role,
}

impl Program {
    /// Returns its path in the system.
    pub(crate) fn path(&self) -> String {
        format!("{}/{}", self.dir, self.name)
    }

    /// Returns its path on the partition that is mounted at `esp`: `/EFI/debian/shimx64.efi`.
    pub(crate) fn place(&self, esp: &str) -> String {
        let path = self.path();
        path.strip_prefix(esp).unwrap_or(&path).to_owned()
    }

    /// Returns the vendor directory's name.
    pub(crate) fn vendor(&self) -> &str {
        last(&self.dir)
    }
}

/// FAT keeps the case that a name was made with, and the kernel takes any: a copy on another file system does
/// not.
pub(crate) fn efi_root(files: &dyn Files, esp: &str) -> Option<String> {
    let names = files.names(esp).into_iter();
    let name = names.into_iter().find(|name| name.eq_ignore_ascii_case("efi"))?;
    Some(format!("{esp}/{name}"))
}

/// Returns the directories below `EFI`, as they stand there.
pub(crate) fn directories(files: &dyn Files, esp: &str) -> Vec<String> {
    let Some(efi) = efi_root(files, esp) else {
        return Vec::new();
    };
    let names = files.names(&efi).into_iter();
    names.map(|name| format!("{efi}/{name}")).collect()
}

/// Returns the boot programs in vendor directories, for this machine's processor. Those of one directory
/// stand together.
pub(crate) fn programs(files: &dyn Files, esp: &str) -> Vec<Program> {
    let vendors = directories(files, esp).into_iter();
    let vendors = vendors.filter(|dir| !efi::is_fallback_dir(last(dir)));
    let in_dir = |dir: String| {
        let names = files.names(&dir).into_iter();
        let found = names.filter_map(move |name| {
            let role = efi::role(&name, Arch::HERE).or_else(|| limine_in_its_directory(&dir, &name))?;
            Some(Program {
                dir: dir.clone(),
                name,
                role,
            })
        });
        found.collect::<Vec<_>>()
    };
    vendors.flat_map(in_dir).collect()
}

/// Limine's manual has its program keep the fallback's name in a directory of its own.
fn limine_in_its_directory(dir: &str, name: &str) -> Option<Role> {
    let is_own = last(dir).eq_ignore_ascii_case("limine") && efi::fallback_arch(name) == Some(Arch::HERE);
    is_own.then_some(Role::Limine)
}

/// Returns the directory in which a shim is, but for the fallback one.
pub(crate) fn shim_directory(files: &dyn Files, esp: &str) -> Option<String> {
    let programs = programs(files, esp).into_iter();
    let mut shims = programs.filter(|program| program.role == Role::Shim);
    shims.next().map(|program| program.dir)
}

/// Returns the program at the fallback path, which firmware starts that knows no boot entry.
pub(crate) fn fallback(files: &dyn Files, esp: &str) -> Option<String> {
    let dirs = directories(files, esp).into_iter();
    let dir = dirs.into_iter().find(|dir| efi::is_fallback_dir(last(dir)))?;
    let names = files.names(&dir).into_iter();
    let name = names
        .into_iter()
        .find(|name| name.eq_ignore_ascii_case(Arch::HERE.fallback()))?;
    Some(format!("{dir}/{name}"))
}

/// The file system that GRUB goes on from, by the `grub.cfg` beside a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leads {
    /// It looks for one of ours.
    Here,
    /// It looks for file systems, and none of them is one of ours.
    Elsewhere,
    /// There is none, or it looks for none.
    Unknown,
}

/// Returns the file system to which the `grub.cfg` in a vendor directory leads, of a system with file systems
/// of these UUIDs.
pub(crate) fn leads(files: &dyn Files, dir: &str, own: &[&str]) -> Leads {
    let config = text(files, &format!("{dir}/grub.cfg"))
        .ok()
        .flatten()
        .unwrap_or_default();
    let wanted = searched(&config);
    let is_own = |id: &&str| own.iter().any(|own| own.eq_ignore_ascii_case(id));
    match (wanted.is_empty(), wanted.iter().any(|id| is_own(&id.as_str()))) {
        (true, _) => Leads::Unknown,
        (_, true) => Leads::Here,
        (_, false) => Leads::Elsewhere,
    }
}

/// Returns the UUIDs of file systems that GRUB's `search` looks for (GRUB manual, section "search").
fn searched(config: &str) -> Vec<String> {
    let lines = config
        .lines()
        .map(str::trim_start)
        .filter(|line| line.starts_with("search"));
    let words =
        lines.flat_map(|line| line.split(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '=' | ';')));
    words
        .filter(|word| is_fs_uuid(word))
        .map(ToOwned::to_owned)
        .collect()
}

/// A UUID, or the serial number of a FAT.
fn is_fs_uuid(word: &str) -> bool {
    let dashes: &[usize] = match word.len() {
        36 => &[8, 13, 18, 23],
        9 => &[4],
        _ => return false,
    };
    word.bytes().enumerate().all(|(at, byte)| {
        (byte == b'-') == dashes.contains(&at) && (byte == b'-' || byte.is_ascii_hexdigit())
    })
}

fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// Returns the role of a loader's program; none for loaders that have none of their own.
pub(crate) fn role_of(loader: Loader, shim: bool) -> Option<Role> {
    match loader {
        Loader::Grub if shim => Some(Role::Shim),
        Loader::Grub => Some(Role::Grub),
        Loader::SystemdBoot => Some(Role::SystemdBoot),
        Loader::Refind => Some(Role::Refind),
        Loader::Limine => Some(Role::Limine),
        Loader::Extlinux | Loader::Lilo | Loader::Uki => None,
    }
}

/// Returns the one of several programs that starts a system with file systems of these UUIDs.
///
/// # Errors
/// The candidates, none of which can be told from the others; empty where there is none.
pub(crate) fn pick<'a>(
    files: &dyn Files,
    programs: impl Iterator<Item = &'a Program>,
    own: &[&str],
) -> Result<&'a Program, Vec<String>> {
    let judged: Vec<(&Program, Leads)> = programs
        .map(|program| (program, leads(files, &program.dir, own)))
        .collect();
    let all = || judged.iter().map(|(program, _)| program.path()).collect();
    if let Some((program, _)) = judged.iter().find(|(_, leads)| *leads == Leads::Here) {
        return Ok(program);
    }
    let alive: Vec<&Program> = judged
        .iter()
        .filter(|(_, leads)| *leads == Leads::Unknown)
        .map(|(program, _)| *program)
        .collect();
    let ids = os_ids(files);
    let of_system = alive
        .iter()
        .find(|program| ids.iter().any(|id| efi::is_vendor_of(program.vendor(), id)));
    match (of_system, alive.as_slice()) {
        (Some(program), _) | (None, [program]) => Ok(program),
        _ => Err(all()),
    }
}

/// `ID` of os-release, then `ID_LIKE`.
fn os_ids(files: &dyn Files) -> Vec<String> {
    let paths = ["/etc/os-release", "/usr/lib/os-release"];
    let release = paths.iter().find_map(|path| text(files, path).ok().flatten());
    let release = release.unwrap_or_default();
    let value = |key: &str| {
        let mut lines = release.lines();
        let line = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_default().trim_matches(['"', '\'']).to_owned()
    };
    let (id, like) = (value("ID"), value("ID_LIKE"));
    let words = id.split_whitespace().chain(like.split_whitespace());
    words.map(ToOwned::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::fixture::Texts;

    #[test]
    fn the_programs_of_a_suse_are_found_under_their_names() {
        let files = Texts::new(&[
            ("/boot/efi/EFI/opensuse/shim.efi", "MZ"),
            ("/boot/efi/EFI/opensuse/grub.efi", "MZ"),
            ("/boot/efi/EFI/opensuse/MokManager.efi", "MZ"),
            ("/boot/efi/EFI/boot/bootx64.efi", "MZ"),
            ("/boot/efi/EFI/boot/fallback.efi", "MZ"),
        ]);
        let found: Vec<(String, Role)> = programs(&files, "/boot/efi")
            .into_iter()
            .map(|program| (program.place("/boot/efi"), program.role))
            .collect();
        let at = |name: &str| format!("/EFI/opensuse/{name}");
        assert_eq!(
            found,
            [(at("grub.efi"), Role::Grub), (at("shim.efi"), Role::Shim)]
        );
        assert_eq!(
            shim_directory(&files, "/boot/efi").unwrap(),
            "/boot/efi/EFI/opensuse"
        );
        assert_eq!(
            fallback(&files, "/boot/efi").unwrap(),
            "/boot/efi/EFI/boot/bootx64.efi"
        );
    }

    #[test]
    fn a_configuration_leads_here_when_it_looks_for_a_file_system_of_ours() {
        let own = "aaaaaaaa-0003-4000-8000-000000000003";
        let with = |text: &str| leads(&Texts::new(&[("/e/EFI/x/grub.cfg", text)]), "/e/EFI/x", &[own]);
        assert_eq!(
            with(&format!(
                "search.fs_uuid {own} root hd0,gpt2\nset prefix=($root)'/boot/grub'\n"
            )),
            Leads::Here
        );
        assert_eq!(
            with(&format!(
                "search --no-floppy --fs-uuid --set=dev {}\n",
                own.to_uppercase()
            )),
            Leads::Here
        );
        assert_eq!(
            with("search.fs_uuid 11111111-2222-3333-4444-555555555555 root\n"),
            Leads::Elsewhere
        );
        assert_eq!(with("search --file --set=root /boot/vmlinuz\n"), Leads::Unknown);
        assert_eq!(leads(&Texts::default(), "/e/EFI/x", &[own]), Leads::Unknown);
    }
}
