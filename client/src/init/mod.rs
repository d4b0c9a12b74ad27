//! The node from power-on: what this program does when the kernel of the boot image starts it as `/init`.
//!
//! One binary, three roles, told apart by the name it is called by:
//! - `init`, the machine's first process ([`supervisor`]): mounts, starts the node, waits for whatever ends, restarts the
//!   machine. It does nothing that can fail in an interesting way, so that it never ends.
//! - `ka-node`, its child ([`node`]): drivers, network, server, tools, and then the clone as on any machine
//!   ([`crate::session`]). It may fail, panic or be killed: the supervisor sees to the rest.
//! - `modprobe` ([`modprobe`]): the kernel asks for modules by itself when something is mounted, and the boot image has no
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

/// Does what the name asks for under which this program was called; `None` when that is the ordinary `ka-client`.
pub(crate) fn run_as(called: Option<&OsStr>) -> Option<ExitCode> {
    let name = Path::new(called?).file_name()?;
    match name.to_str()? {
        "init" => Some(supervisor::run()),
        NODE_NAME => Some(node::run()),
        "modprobe" => Some(modprobe::run(std::env::args().skip(1))),
        _ => None,
    }
}
