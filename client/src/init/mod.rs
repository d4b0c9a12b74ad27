//! The node from power-on, when the kernel of the boot image starts this program as `/init`.
//!
//! One binary has three roles, told apart by the name under which it is called:
//! - `init`, the machine's first process ([`supervisor`]): it mounts, starts the node, waits for every
//!   process that ends, and restarts the machine. It avoids work that can fail, so that it never ends.
//! - `ka-node`, its child ([`node`]): drivers, network, server, tools, and then the clone as on any machine
//!   ([`crate::run`]). It may fail, panic or be killed; the supervisor handles that.
//! - `modprobe` ([`modprobe`]): the kernel asks for modules by itself at a mount, and the boot image has no
//!   kmod.
//!
//! The story step by step, with each message: docs/boot.md.

mod capture;
mod cmdline;
mod consoles;
mod drivers;
mod ending;
mod held;
mod modprobe;
mod mounts;
mod network;
mod node;
mod supervisor;
mod unpack;

use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;

pub(crate) use drivers::prepare_disks;
pub(crate) use held::HeldArchive;
pub(crate) use unpack::Limits;

/// Name by which the supervisor starts the node.
const NODE_NAME: &str = "ka-node";

/// Runs the program that the called name stands for. `None` for the ordinary `ka-client`.
pub(crate) fn run_as(called: Option<&OsStr>) -> Option<ExitCode> {
    let name = Path::new(called?).file_name()?;
    match name.to_str()? {
        "init" => Some(supervisor::run()),
        NODE_NAME => Some(node::run()),
        "modprobe" => Some(modprobe::run(std::env::args().skip(1))),
        _ => None,
    }
}
