//! Loading of modules into the running kernel (init_module(2)). `ka_kmod` decides which ones, and in which
//! order.

use std::ffi::CStr;

use nix::errno::Errno;

use crate::HostError;

/// The result of giving a module to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// The module runs now.
    Loaded,
    /// The module ran already, or is built into the kernel.
    WasThere,
    /// The module is sound but finds no hardware to drive on this machine (`ENODEV`): this is no error.
    NothingToDrive,
}

/// Gives `image`, the plain ELF file of module `name`, to the kernel. Its signature, if any, is at its end;
/// the kernel checks it if it requires one.
///
/// # Errors
/// [`HostError`] naming the module: refused (`EKEYREJECTED`: its signature; `ENOEXEC`: of another kernel;
/// `ENOENT`: a module that it needs is not loaded).
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
