//! Putting modules into the running kernel (init_module(2)). Which ones, and in which order: `ka_kmod`.

use std::ffi::CStr;

use nix::errno::Errno;

use crate::HostError;

/// What became of a module that was handed to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// It runs now.
    Loaded,
    /// It ran already, or is built into the kernel.
    WasThere,
    /// It is fine, but says that this machine has nothing for it (`ENODEV`): no fault of anybody's.
    NothingToDrive,
}

/// Gives `image`, the plain ELF file of module `name`, to the kernel. Its signature, if any, is at its end and is checked
/// by the kernel where it wants one.
///
/// # Errors
/// [`HostError`] naming the module: refused (`EKEYREJECTED`: its signature; `ENOEXEC`: of another kernel; `ENOENT`: a
/// module that it needs is not loaded).
pub fn insert(name: &str, image: &[u8]) -> Result<Inserted, HostError> {
    const NO_PARAMETERS: &CStr = c"";
    match nix::kmod::init_module(image, NO_PARAMETERS) {
        Ok(()) => Ok(Inserted::Loaded),
        Err(Errno::EEXIST) => Ok(Inserted::WasThere),
        Err(Errno::ENODEV | Errno::ENXIO) => Ok(Inserted::NothingToDrive),
        Err(errno) => Err(HostError::new(format!("loading module {name}"), errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_module_is_refused_by_name() {
        let error = insert("ka-nonsense", b"not an ELF file").unwrap_err();
        assert!(
            error.to_string().starts_with("loading module ka-nonsense: "),
            "{error}"
        );
    }
}
