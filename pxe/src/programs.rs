//! Boot programs: their names, their places on this system, and the one that each machine gets.
//!
//! They come from `--boot-files DIR` or the distribution's packages, where they are signed, and never from
//! this project. Two programs load the next one under a name of their own choice (shim: `grubx64.efi`;
//! pxelinux: `ldlinux.c32`), so each is served under the name that is asked for, whatever the package calls
//! it. `docs/firmware-quirks.md` tells how firmware uses them.

use std::fs;
use std::path::{Path, PathBuf};

use crate::dhcp::DhcpMode;
use crate::error::PxeError;
use crate::machine::{Arch, Machine};
use crate::menu::Origin;
use crate::served::{Served, Source};

/// Largest number of files taken from `--boot-files`, and largest depth. GRUB's module directory has about
/// 300.
const MAX_FILES: usize = 4096;
const MAX_DEPTH: usize = 8;

/// Name under which shim loads GRUB.
const GRUB_X64: &str = "grubx64.efi";

/// A boot program.
struct Program {
    /// Name that machines ask for.
    served: &'static str,
    /// Kind of machine that it is for.
    arch: Arch,
    /// True if that kind of machine cannot boot without it.
    needed: bool,
    /// Paths in packages, best first. In `--boot-files` it may have the served name or that of any of these.
    paths: &'static [&'static str],
    /// Debian and Ubuntu package of the first path.
    package: &'static str,
}

const PROGRAMS: [Program; 12] = [
    Program {
        served: "pxelinux.0",
        arch: Arch::Bios,
        needed: true,
        paths: &[
            "/usr/lib/PXELINUX/pxelinux.0",
            "/usr/share/syslinux/pxelinux.0",
            "/usr/lib/syslinux/bios/pxelinux.0",
        ],
        package: "pxelinux",
    },
    Program {
        served: "ldlinux.c32",
        arch: Arch::Bios,
        needed: true,
        paths: &[
            "/usr/lib/syslinux/modules/bios/ldlinux.c32",
            "/usr/share/syslinux/ldlinux.c32",
            "/usr/lib/syslinux/bios/ldlinux.c32",
        ],
        package: "syslinux-common",
    },
    Program {
        served: "lpxelinux.0",
        arch: Arch::Bios,
        needed: false,
        paths: &["/usr/lib/PXELINUX/lpxelinux.0", "/usr/share/syslinux/lpxelinux.0"],
        package: "pxelinux",
    },
    Program {
        served: "undionly.kpxe",
        arch: Arch::Bios,
        needed: false,
        paths: &["/usr/lib/ipxe/undionly.kpxe", "/usr/share/ipxe/undionly.kpxe"],
        package: "ipxe",
    },
    Program {
        served: "bootx64.efi",
        arch: Arch::EfiX64,
        needed: true,
        paths: &[
            "/usr/lib/shim/shimx64.efi.signed",
            "/boot/efi/EFI/fedora/shimx64.efi",
            "/usr/lib/grub/x86_64-efi/monolithic/grubnetx64.efi",
        ],
        package: "shim-signed",
    },
    Program {
        served: GRUB_X64,
        arch: Arch::EfiX64,
        needed: true,
        paths: &[
            "/usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed",
            "/usr/lib/grub/x86_64-efi/monolithic/grubnetx64.efi",
        ],
        package: "grub-efi-amd64-signed",
    },
    Program {
        served: "mmx64.efi",
        arch: Arch::EfiX64,
        needed: false,
        paths: &["/usr/lib/shim/mmx64.efi.signed", "/usr/lib/shim/mmx64.efi"],
        package: "shim-signed",
    },
    Program {
        served: "snponly.efi",
        arch: Arch::EfiX64,
        needed: false,
        paths: &[
            "/usr/lib/ipxe/snponly.efi",
            "/usr/share/ipxe/ipxe-snponly-x86_64.efi",
        ],
        package: "ipxe",
    },
    Program {
        served: "bootia32.efi",
        arch: Arch::EfiIa32,
        needed: true,
        paths: &["/usr/lib/grub/i386-efi/monolithic/grubnetia32.efi"],
        package: "grub-efi-ia32-bin",
    },
    Program {
        served: "bootaa64.efi",
        arch: Arch::EfiArm64,
        needed: true,
        paths: &[
            "/usr/lib/shim/shimaa64.efi.signed",
            "/usr/lib/grub/arm64-efi/monolithic/grubnetaa64.efi",
        ],
        package: "grub-efi-arm64-bin",
    },
    Program {
        served: "grubaa64.efi",
        arch: Arch::EfiArm64,
        needed: false,
        paths: &[
            "/usr/lib/grub/arm64-efi-signed/grubnetaa64.efi.signed",
            "/usr/lib/grub/arm64-efi/monolithic/grubnetaa64.efi",
        ],
        package: "grub-efi-arm64-bin",
    },
    Program {
        served: "mmaa64.efi",
        arch: Arch::EfiArm64,
        needed: false,
        paths: &["/usr/lib/shim/mmaa64.efi.signed"],
        package: "shim-signed",
    },
];

/// Program for UEFI machines where GRUB could not go on: iPXE, through the firmware's own network driver.
const IPXE_X64: &str = "snponly.efi";

/// The file that a machine is told to boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootFile {
    /// A TFTP name, or an HTTP URL.
    pub name: String,
}

/// The boot programs that exist on this system.
#[derive(Debug, Clone)]
pub struct Programs {
    found: Vec<(&'static str, PathBuf)>,
    /// Kinds of machines that cannot boot, each with the reason in one line.
    missing: Vec<(Arch, String)>,
    extra: Vec<(String, PathBuf)>,
    addresses: Addresses,
}

/// Server that gives machines their addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Addresses {
    /// This server, or another one that names this server as next-server.
    Ours,
    /// Another server, which does not name this one.
    Others,
}

impl Programs {
    /// Looks for boot programs in `boot_files` and in the places of the packages.
    ///
    /// # Errors
    /// Fails if no kind of machine can boot, or if `boot_files` cannot be read.
    pub fn find(boot_files: Option<&Path>) -> Result<Self, PxeError> {
        let extra = match boot_files {
            Some(dir) => walk(dir)?,
            None => Vec::new(),
        };
        let lookup = |program: &Program| {
            let own = extra.iter().find(|(name, _)| is_named(program, name));
            let package = || {
                program
                    .paths
                    .iter()
                    .map(PathBuf::from)
                    .find(|path| path.is_file())
            };
            own.map(|(_, path)| path.clone()).or_else(package)
        };
        let found: Vec<(&'static str, PathBuf)> = PROGRAMS
            .iter()
            .filter_map(|program| lookup(program).map(|path| (program.served, path)))
            .collect();
        let mut programs = Self {
            found,
            missing: Vec::new(),
            extra,
            addresses: Addresses::Ours,
        };
        for arch in [Arch::Bios, Arch::EfiX64, Arch::EfiIa32, Arch::EfiArm64] {
            programs.note_missing(arch);
        }
        if programs.missing.len() == 4 {
            let lines: Vec<&str> = programs.missing.iter().map(|(_, text)| text.as_str()).collect();
            return Err(PxeError::NoBootPrograms {
                missing: lines.join("; "),
            });
        }
        Ok(programs)
    }

    /// Adapts the choice of programs to the DHCP mode. Beside another address server, GRUB before 2.12
    /// ignores the proxy. It takes the server that acknowledged the address for its file server, and asks
    /// there for its menu until it gives up. iPXE knows better.
    #[must_use]
    pub fn under(mut self, dhcp: &DhcpMode) -> Self {
        self.addresses = match dhcp {
            DhcpMode::Proxy => Addresses::Others,
            DhcpMode::Full(_) | DhcpMode::Off => Addresses::Ours,
        };
        self
    }

    /// One line of advice for the operator before the first machine asks, if there is any. A machine's
    /// request does not tell whether Secure Boot is on.
    #[must_use]
    pub fn advice(&self) -> Option<String> {
        if self.addresses == Addresses::Ours || !self.has("bootx64.efi") {
            return None;
        }
        let what = match self.has(IPXE_X64) {
            true => "get iPXE, which Secure Boot refuses",
            false => "get GRUB, which asks that server for its menu (package ipxe)",
        };
        Some(format!(
            "beside another address server UEFI machines {what}: with Secure Boot they need --dhcp full, or --dhcp off and \
             our address as next-server at that server (docs/first-clone.md)"
        ))
    }

    /// Kinds of machines that cannot boot, each with the missing package.
    pub fn missing(&self) -> impl Iterator<Item = (Arch, &str)> {
        self.missing.iter().map(|(arch, text)| (*arch, text.as_str()))
    }

    /// Returns one line about all kinds of machines that cannot boot, if there are some.
    #[must_use]
    pub fn missing_line(&self) -> Option<String> {
        let needs: Vec<&str> = self.missing().map(|(_, text)| text).collect();
        (!needs.is_empty()).then(|| format!("{}: such machines get no boot program", needs.join("; ")))
    }

    /// Returns the file that this machine is told to boot. `None` if there is no program for its kind.
    ///
    /// iPXE gets its script, with its MAC in the name. HTTP boot gets the URL of its first program: iPXE, or
    /// shim, which fetches the next program from the same place.
    #[must_use]
    pub fn for_machine(&self, machine: &Machine, origin: Origin) -> Option<BootFile> {
        let url = origin.url();
        if machine.ipxe {
            let name = format!("{url}/ipxe/{}.ipxe", machine.mac.dashed());
            return Some(BootFile { name });
        }
        let first = match machine.arch {
            Arch::Bios => "pxelinux.0",
            Arch::EfiX64 if self.grub_is_lost(machine) && self.has(IPXE_X64) => IPXE_X64,
            Arch::EfiX64 => "bootx64.efi",
            Arch::EfiIa32 => "bootia32.efi",
            Arch::EfiArm64 => "bootaa64.efi",
            Arch::Other(_) => return None,
        };
        if self.missing.iter().any(|(arch, _)| *arch == machine.arch) {
            return None;
        }
        let name = match (machine.http, machine.arch) {
            // No BIOS boots pxelinux by HTTP. A BIOS that speaks HTTP loads iPXE.
            (true, Arch::Bios) => format!("{url}/undionly.kpxe"),
            (true, _) => format!("{url}/{first}"),
            (false, _) => first.to_owned(),
        };
        Some(BootFile { name })
    }

    /// True if GRUB would not find its menu: beside another address server (see [`Programs::under`]), or
    /// started by HTTP boot, after which it knows no network (2.06) or reads empty files (2.12 of Debian 13).
    fn grub_is_lost(&self, machine: &Machine) -> bool {
        machine.http || self.addresses == Addresses::Others
    }

    fn has(&self, served: &str) -> bool {
        self.found.iter().any(|(name, _)| *name == served)
    }

    /// All programs that exist, as the files that machines may fetch.
    pub(crate) fn served(&self) -> impl Iterator<Item = Served> {
        let extra = self.extra.iter().map(|(name, path)| (name.clone(), path));
        let found = self.found.iter().map(|(name, path)| ((*name).to_owned(), path));
        extra.chain(found).map(|(name, path)| Served {
            name,
            source: Source::Path(path.clone()),
        })
    }

    fn note_missing(&mut self, arch: Arch) {
        let lacks = |program: &&Program| {
            program.arch == arch
                && program.needed
                && !self.found.iter().any(|(name, _)| *name == program.served)
        };
        let lacking: Vec<String> = PROGRAMS
            .iter()
            .filter(lacks)
            .map(|program| format!("{} (package {})", program.served, program.package))
            .collect();
        if !lacking.is_empty() {
            let text = format!("{arch} needs {}", lacking.join(" and "));
            self.missing.push((arch, text));
        }
    }
}

fn is_named(program: &Program, name: &str) -> bool {
    let base = |path: &'static str| path.rsplit('/').next();
    name == program.served || program.paths.iter().any(|path| base(path) == Some(name))
}

/// The regular files below a directory, by their relative names. A link is followed only if its target is
/// inside the directory.
fn walk(dir: &Path) -> Result<Vec<(String, PathBuf)>, PxeError> {
    let failed = |path: &Path, source| PxeError::File {
        doing: "reading --boot-files",
        path: path.to_owned(),
        source,
    };
    let top = fs::canonicalize(dir).map_err(|err| failed(dir, err))?;
    let mut files = Vec::new();
    let mut dirs = vec![(top.clone(), 0)];
    while let Some((dir, depth)) = dirs.pop() {
        let mut listed = Vec::new();
        for entry in fs::read_dir(&dir).map_err(|err| failed(&dir, err))? {
            listed.push(entry.map_err(|err| failed(&dir, err))?.path());
        }
        listed.sort();
        for path in listed {
            let Some(real) = fs::canonicalize(&path).ok().filter(|real| real.starts_with(&top)) else {
                continue;
            };
            if real.is_dir() && !path.is_symlink() && depth < MAX_DEPTH {
                dirs.push((path, depth + 1));
            } else if real.is_file() {
                let name = path
                    .strip_prefix(&top)
                    .unwrap_or(&path)
                    .to_string_lossy()
                    .to_lowercase();
                files.push((name, path));
            }
        }
        if files.len() > MAX_FILES {
            let text = format!("more than {MAX_FILES} files: name the directory that has boot programs only");
            return Err(failed(&top, std::io::Error::other(text)));
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use ka_mac::MacAddr;

    use super::*;
    use crate::config::HTTP_PORT;

    const ORIGIN: Origin = Origin {
        addr: Ipv4Addr::new(10, 0, 0, 1),
        http_port: HTTP_PORT,
    };

    fn machine(arch: Arch) -> Machine {
        Machine {
            mac: MacAddr([0x52, 0x54, 0, 0, 0, 1]),
            uuid: None,
            arch,
            ipxe: false,
            http: false,
            vendor_class: None,
        }
    }

    /// A directory with all needed programs, under the packages' names or the served ones.
    fn full_dir() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "pxelinux.0",
            "ldlinux.c32",
            "shimx64.efi.signed",
            "grubnetx64.efi.signed",
            "snponly.efi",
            "bootia32.efi",
            "bootaa64.efi",
        ] {
            fs::write(dir.path().join(name), name).unwrap();
        }
        dir
    }

    #[test]
    fn each_kind_of_machine_gets_its_own_program() {
        let dir = full_dir();
        let programs = Programs::find(Some(dir.path())).unwrap();
        let name = |machine: &Machine| programs.for_machine(machine, ORIGIN).map(|file| file.name);
        for (arch, tftp, http) in [
            (Arch::Bios, "pxelinux.0", "http://10.0.0.1/undionly.kpxe"),
            (Arch::EfiX64, "bootx64.efi", "http://10.0.0.1/snponly.efi"),
            (Arch::EfiIa32, "bootia32.efi", "http://10.0.0.1/bootia32.efi"),
            (Arch::EfiArm64, "bootaa64.efi", "http://10.0.0.1/bootaa64.efi"),
        ] {
            let mut asks = machine(arch);
            assert_eq!(name(&asks).as_deref(), Some(tftp));
            asks.http = true;
            assert_eq!(name(&asks).as_deref(), Some(http));
            asks.ipxe = true;
            let script = "http://10.0.0.1/ipxe/52-54-00-00-00-01.ipxe";
            assert_eq!(name(&asks).as_deref(), Some(script));
        }
        assert_eq!(name(&machine(Arch::Other(31))), None);
    }

    #[test]
    fn uefi_gets_ipxe_beside_another_address_server_and_the_operator_is_told_of_secure_boot() {
        let dir = full_dir();
        let programs = Programs::find(Some(dir.path())).unwrap();
        assert_eq!(programs.advice(), None);
        let programs = programs.under(&DhcpMode::Proxy);
        let name = |arch| {
            let file = programs.for_machine(&machine(arch), ORIGIN);
            file.map(|file| file.name)
        };
        assert_eq!(name(Arch::EfiX64).as_deref(), Some("snponly.efi"));
        assert_eq!(name(Arch::Bios).as_deref(), Some("pxelinux.0"));
        let advice = programs.advice().unwrap();
        assert!(advice.contains("get iPXE, which Secure Boot refuses"), "{advice}");
    }

    #[test]
    fn a_link_out_of_the_boot_files_is_not_followed() {
        let dir = full_dir();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("passwd")).unwrap();
        std::os::unix::fs::symlink("pxelinux.0", dir.path().join("inside.0")).unwrap();
        let programs = Programs::find(Some(dir.path())).unwrap();
        let names: Vec<&str> = programs.extra.iter().map(|(name, _)| name.as_str()).collect();
        assert!(
            names.contains(&"inside.0") && !names.contains(&"passwd"),
            "{names:?}"
        );
    }

    #[test]
    fn what_is_missing_is_named_with_its_package() {
        let mut none = Programs {
            found: vec![("pxelinux.0", PathBuf::new())],
            missing: Vec::new(),
            extra: Vec::new(),
            addresses: Addresses::Ours,
        };
        none.note_missing(Arch::Bios);
        none.note_missing(Arch::EfiX64);
        let lines: Vec<_> = none.missing().map(|(_, text)| text).collect();
        assert_eq!(
            lines,
            [
                "BIOS needs ldlinux.c32 (package syslinux-common)",
                "UEFI x64 needs bootx64.efi (package shim-signed) and grubx64.efi (package grub-efi-amd64-signed)",
            ]
        );
        let line = none.missing_line().unwrap();
        assert!(
            line.starts_with(lines[0]) && line.contains(lines[1]) && line.ends_with("get no boot program"),
            "{line}"
        );
        assert_eq!(none.for_machine(&machine(Arch::Bios), ORIGIN), None);
    }
}
