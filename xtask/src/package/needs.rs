//! The libraries that the programs need, as `objdump` reads them, in the words of each kind of package.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail};
use ka_tests::process::Program;

use super::programs::Programs;

/// The libraries of C that come with glibc itself, and all have its version.
const GLIBC: [&str; 6] = [
    "libc.so.6",
    "libm.so.6",
    "libdl.so.2",
    "libpthread.so.0",
    "librt.so.1",
    "ld-linux-x86-64.so.2",
];
/// The unwinder of GCC.
const LIBGCC: &str = "libgcc_s.so.1";

/// One thing that a program needs: a library, or a version of its symbols.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Need {
    library: String,
    /// `GLIBC_2.34`; none for the library as such.
    version: Option<String>,
}

/// Everything that the programs of `/usr/bin` need.
///
/// # Errors
/// `objdump` fails.
pub(super) fn of(programs: &Programs) -> Result<BTreeSet<Need>> {
    let mut needs = BTreeSet::new();
    for name in Programs::names() {
        let said = Program::new("objdump").arg("-p").arg(programs.path(name)).run()?;
        needs.extend(parse(&said));
    }
    Ok(needs)
}

/// `Depends` of Debian.
///
/// # Errors
/// A library whose package is not known here.
pub(super) fn debian(needs: &BTreeSet<Need>) -> Result<Vec<String>> {
    let mut glibc = (0, 0);
    let mut depends = Vec::new();
    for need in needs {
        match need.library.as_str() {
            library if GLIBC.contains(&library) => {
                glibc = glibc.max(need.version.as_deref().map_or((0, 0), glibc_version));
            }
            LIBGCC if need.version.is_none() => depends.push("libgcc-s1 (>= 4.2)".to_owned()),
            LIBGCC => {}
            other => bail!(
                "the programs need {other}: say in xtask/src/package/needs.rs which Debian package has it"
            ),
        }
    }
    depends.insert(0, format!("libc6 (>= {}.{})", glibc.0, glibc.1));
    Ok(depends)
}

/// `Requires` of RPM, as its own generator writes them.
pub(super) fn rpm(needs: &BTreeSet<Need>) -> Vec<String> {
    let words = needs.iter().map(|need| {
        let version = need.version.as_deref().unwrap_or_default();
        format!("{}({version})(64bit)", need.library)
    });
    words.collect()
}

/// The sections `Dynamic Section` and `Version References`.
fn parse(said: &str) -> Vec<Need> {
    let mut needs = Vec::new();
    let mut library = None;
    for line in said.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["NEEDED", name] => needs.push(Need {
                library: (*name).to_owned(),
                version: None,
            }),
            ["required", "from", name] => library = Some(name.trim_end_matches(':')),
            [hash, _, _, version] if hash.starts_with("0x") => needs.extend(library.map(|library| Need {
                library: library.to_owned(),
                version: Some((*version).to_owned()),
            })),
            _ => library = None,
        }
    }
    needs
}

/// `GLIBC_2.34` as numbers; zero for names that are none, such as `GLIBC_ABI_DT_RELR`.
fn glibc_version(name: &str) -> (u32, u32) {
    let numbers = || -> Option<(u32, u32)> {
        let mut parts = name.strip_prefix("GLIBC_")?.split('.');
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    };
    numbers().unwrap_or((0, 0))
}

/// The version of this machine's glibc, which is linked into the static client: `2.36`.
///
/// # Errors
/// `getconf` fails.
pub(super) fn glibc_here() -> Result<String> {
    let said = Program::new("getconf").arg("GNU_LIBC_VERSION").run()?;
    let version = said.split_whitespace().nth(1);
    version
        .map(str::to_owned)
        .context("getconf names no version of glibc")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "\
Dynamic Section:
  NEEDED               libgcc_s.so.1
  NEEDED               libc.so.6
  INIT                 0x000000000002e000

Version References:
  required from libgcc_s.so.1:
    0x0b792650 0x00 12 GCC_3.0
  required from libc.so.6:
    0x06969194 0x00 11 GLIBC_2.14
    0x069691b4 0x00 05 GLIBC_2.34
    0x09691972 0x00 04 GLIBC_2.3.2
";

    #[test]
    fn the_newest_symbols_decide_what_debian_must_have() {
        let needs = parse(SAID).into_iter().collect();
        let depends = debian(&needs).unwrap();
        assert_eq!(depends, ["libc6 (>= 2.34)", "libgcc-s1 (>= 4.2)"]);
    }

    #[test]
    fn rpm_names_each_library_and_each_version() {
        let words = rpm(&parse(SAID).into_iter().collect());
        for word in [
            "libc.so.6()(64bit)",
            "libc.so.6(GLIBC_2.34)(64bit)",
            "libgcc_s.so.1(GCC_3.0)(64bit)",
        ] {
            assert!(words.iter().any(|one| one == word), "{word} is not in {words:?}");
        }
    }

    #[test]
    fn a_library_without_a_known_package_is_refused() {
        let needs = parse("  NEEDED  libfoo.so.1\n").into_iter().collect();
        assert!(debian(&needs).unwrap_err().to_string().contains("libfoo.so.1"));
    }
}
