//! The static `ka-client` that becomes `/init`.

use std::env;
use std::path::{Path, PathBuf};

use crate::elf::Elf;
use crate::{InitrdError, root};

/// Names a static client, where no option does.
const VARIABLE: &str = "KA_STATIC_CLIENT";
/// Its name beside our other programs: `cargo xtask static` puts it there.
const BESIDE: &str = "ka-client-static";
/// Where a package has it.
const INSTALLED: &str = "/usr/lib/ka/ka-client-static";
/// Where cargo leaves it, seen from the directory of another of our programs.
const BUILT: &str = "../x86_64-unknown-linux-gnu/release/ka-client";

/// Finds the client for an image: the one named, else `KA_STATIC_CLIENT`, else `ka-client-static` beside this program,
/// `/usr/lib/ka/ka-client-static`, or what cargo built for the target with static libraries.
///
/// # Errors
/// There is none, or the one named is not static: the error says how to build it.
pub fn find_static_client(explicit: Option<&Path>) -> Result<PathBuf, InitrdError> {
    if let Some(path) = explicit {
        return check(path).map(|()| path.to_owned());
    }
    if let Some(path) = env::var_os(VARIABLE).map(PathBuf::from) {
        return check(&path).map(|()| path);
    }
    let exe_dir = env::current_exe()
        .ok()
        .and_then(|exe| exe.parent().map(Path::to_owned));
    let beside = exe_dir.iter().flat_map(|dir| [dir.join(BESIDE), dir.join(BUILT)]);
    let mut looked: Vec<PathBuf> = beside.collect();
    looked.insert(looked.len().min(1), PathBuf::from(INSTALLED));
    let found = looked.iter().find(|path| path.is_file()).cloned();
    match found {
        Some(path) => check(&path).map(|()| path),
        None => Err(InitrdError::NoClient { looked }),
    }
}

/// Reads the client, which must be static and of the kernel's architecture.
pub(crate) fn read(path: &Path) -> Result<(Vec<u8>, Elf), InitrdError> {
    let bytes = root::read(path)?;
    let unfit = |what: &str| InitrdError::UnfitClient {
        path: path.to_owned(),
        what: what.to_owned(),
    };
    let elf = Elf::parse(path, &bytes).map_err(|_| unfit("it is no ELF file"))?;
    if let Some(interpreter) = &elf.interpreter {
        return Err(unfit(&format!("it is dynamically linked, by {interpreter}")));
    }
    if !elf.needed.is_empty() {
        return Err(unfit("it needs libraries"));
    }
    Ok((bytes, elf))
}

fn check(path: &Path) -> Result<(), InitrdError> {
    read(path).map(drop)
}
