//! Network boot of nodes. It has the boot server inside a run (`--pxe`), and the images that nodes get first.
//! The services themselves are in `ka_pxe`, the images in `ka_initrd`.

mod images;
mod machines;
mod serving;

pub(crate) use images::{Images, Stage1, make};
pub(crate) use serving::{Contact, Opened, Serving, SharedMachines};
