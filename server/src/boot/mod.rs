//! Booting nodes: the boot server inside a run (`--pxe`), the images that it serves, the tools that nodes get first, and
//! the wait for the clones' first boot. The services themselves are `ka_pxe`'s, the images `ka_initrd`'s.

mod check;
mod images;
mod machines;
mod options;
mod plan;
mod serving;
mod tools;

pub(crate) use check::check;
pub(crate) use images::{Images, Stage1, make};
pub(crate) use options::{BOOT_CLONE_ONLY, BootOptions};
pub(crate) use plan::{BootJson, BootSettings, PxePlan};
pub(crate) use serving::{Contact, Opened, Serving, check_session};
pub(crate) use tools::send as send_tools;
