//! The static `ka-client` that becomes `/init`.

use std::env;
use std::path::{Path, PathBuf};

use crate::elf::Elf;
use crate::{InitrdError, root};

/// Environment variable that names a static client. The option has precedence.
const VARIABLE: &str = "KA_STATIC_CLIENT";
/// Name of the client beside our other programs, where `cargo xtask static` puts it.
const BESIDE: &str = "ka-client-static";
/// Path of the client from a package.
const INSTALLED: &str = "/usr/lib/ka/ka-client-static";
/// Path of cargo's output, relative to the directory of another of our programs.
const BUILT: &str = "../x86_64-unknown-linux-gnu/release/ka-client";

/// Finds the client for an image. It tries the named file, `KA_STATIC_CLIENT`, `ka-client-static` beside this
/// program, `/usr/lib/ka/ka-client-static`, and cargo's output for the target with static libraries, in this
/// order.
///
/// # Errors
/// Fails if there is none, or if the file found is not static. The error tells how to build one.
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

/// Reads the client, which must be static, and its ELF header.
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
