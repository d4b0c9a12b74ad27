//! The search for programs.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Searched after `PATH`: Debian's and others' ordinary users, and sudo configurations, have no `sbin` in it.
const SBIN_DIRECTORIES: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Finds the path of an executable: in `PATH`, then in `/usr/local/sbin`, `/usr/sbin`, `/sbin`.
///
/// A name with a slash is taken as it is. `None` when there is no executable file of that name.
#[must_use]
pub fn find(program: impl AsRef<OsStr>) -> Option<PathBuf> {
    let program = program.as_ref();
    if program.as_encoded_bytes().contains(&b'/') {
        return is_executable(Path::new(program)).then(|| PathBuf::from(program));
    }
    env::split_paths(&search_path())
        .map(|dir| dir.join(program))
        .find(|path| is_executable(path))
}

/// Returns `PATH` with the sbin directories at its end, for children.
pub(crate) fn search_path() -> OsString {
    let own = env::var_os("PATH").unwrap_or_default();
    let mut dirs: Vec<PathBuf> = env::split_paths(&own).filter(|dir| dir.is_absolute()).collect();
    for dir in ["/usr/local/bin", "/usr/bin", "/bin"]
        .iter()
        .chain(&SBIN_DIRECTORIES)
    {
        if !dirs.iter().any(|known| known == Path::new(dir)) {
            dirs.push(PathBuf::from(dir));
        }
    }
    env::join_paths(dirs).unwrap_or(own)
}

fn is_executable(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn finds_a_program_in_path_and_in_sbin() {
        assert!(find("sh").is_some());
        assert!(find("blkid").is_some());
        assert!(find("/bin/sh").is_some());
    }

    #[test]
    fn finds_nothing_under_a_name_that_is_not_there() {
        assert_eq!(find("ka-no-such-program"), None);
        assert_eq!(find("/etc/passwd"), None);
    }
}
