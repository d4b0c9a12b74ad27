//! Kernel modules as depmod(8) describes them: dependencies, aliases, soft dependencies, built-in ones; which of them
//! a machine's hardware asks for (modalias); their files, plain or compressed.
//!
//! Pure but for reading below a given `lib/modules/RELEASE` directory (and `/sys` for [`hardware_modaliases`]). Not
//! here: loading a module (`ka_host`), what goes into an image (`ka-initrd`), what a clone is configured with
//! (`ka_postinstall`). Issue 3 §2, §3.

mod closure;
mod error;
mod file;
mod hardware;
mod index;
mod name;
mod parse;
mod pattern;
mod subset;

pub use error::KmodError;
pub use file::{MAX_MODULE_BYTES, decompress, read_module};
pub use hardware::hardware_modaliases;
pub use index::{Index, Module};
pub use name::ModuleName;
pub use pattern::matches;
