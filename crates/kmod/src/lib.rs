//! Kernel modules as depmod(8) describes them. The crate knows dependencies, aliases, soft dependencies and
//! built-in modules, finds the modules for a machine's hardware (modalias), and reads module files, plain or
//! compressed.
//!
//! It only reads, below a given `lib/modules/RELEASE` directory (and `/sys` for [`hardware_modaliases`]).
//! Other crates load modules (`ka_host`), choose modules for an image (`ka-initrd`), and configure a clone
//! (`ka_postinstall`).

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
