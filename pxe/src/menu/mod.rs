//! The boot menu: one model in three forms, made anew for each machine that asks.
//!
//! The model knows the default entry and the content of all entries. [`pxelinux`], [`ipxe`] and [`grub`]
//! write it in the language of each boot program. [`names`] maps requested names to machines;
//! [`crate::arming`] knows the armed machines.

pub mod grub;
pub mod ipxe;
pub mod names;
pub mod pxelinux;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use crate::ports::HTTP_PORT;

/// Longest kernel command line, in bytes, that every loader and an x86 kernel (2048 with its NUL) take whole.
/// The words that loaders add themselves are deducted (`BOOTIF=`, `initrd=`, `BOOT_IMAGE=`).
pub const MAX_COMMAND_LINE: usize = 1900;

/// An entry of the boot menu.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entry {
    /// Boots the machine's own disk.
    Local,
    /// Makes the machine a clone, which erases its disks.
    Kamethod,
}

impl Entry {
    /// Name of the entry in every menu. The names are those of the original's menu.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Kamethod => "kamethod",
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One form of the menu.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// PXELINUX: `pxelinux.cfg/…`.
    Pxelinux,
    /// PXELINUX by HTTP: `pxelinux.cfg/http`, the entries for a PXELINUX that can fetch them by HTTP
    /// (`lpxelinux.0`). The main form includes this one.
    PxelinuxHttp,
    /// iPXE: a script.
    Ipxe,
    /// GRUB: `grub.cfg`.
    Grub,
}

/// The menu of one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Menu {
    /// The entry that boots if nobody presses a key.
    pub default: Entry,
    /// Time that the menu waits for a key.
    pub timeout: Duration,
    /// Title: the node's name and MAC, the MAC alone, or the address of an unknown machine.
    pub title: String,
    /// Server of the files.
    pub origin: Origin,
    /// Served name of the kernel.
    pub kernel: String,
    /// Served names of the initrds, in order.
    pub initrds: Vec<String>,
    /// The kernel command line, without `BOOTIF=`.
    pub append: String,
    /// Boot loaders that `local` tries before all others, as paths on an EFI system partition.
    pub loaders: Vec<String>,
}

/// The server that files are fetched from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// IPv4 address of this server, as the machine reaches it.
    pub addr: Ipv4Addr,
    /// TCP port of HTTP.
    pub http_port: u16,
}

impl Origin {
    /// The URL without a path: `http://ADDR` or `http://ADDR:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        match self.http_port {
            HTTP_PORT => format!("http://{}", self.addr),
            port => format!("http://{}", SocketAddrV4::new(self.addr, port)),
        }
    }
}

impl Menu {
    /// Writes the menu in one form.
    #[must_use]
    pub fn write(&self, form: Form) -> String {
        match form {
            Form::Pxelinux => pxelinux::write(self),
            Form::PxelinuxHttp => pxelinux::write_http(self),
            Form::Ipxe => ipxe::write(self),
            Form::Grub => grub::write(self),
        }
    }

    /// The timeout in whole seconds, at least one: PXELINUX would take zero for "for ever".
    fn timeout_secs(&self) -> u64 {
        self.timeout.as_secs().max(1)
    }
}

/// Checks that a menu can carry the kernel command line in all three forms.
///
/// # Errors
/// Fails on control characters, `${` (iPXE would expand it), quotes and backslashes (GRUB would remove them),
/// and on a line longer than [`MAX_COMMAND_LINE`].
pub fn check_command_line(text: &str) -> Result<(), String> {
    if text.chars().any(char::is_control) {
        return Err("a line break or another control character".to_owned());
    }
    if let Some(bad) = ["${", "'", "\\"].into_iter().find(|bad| text.contains(bad)) {
        return Err(format!("`{bad}`, which boot loaders change on its way"));
    }
    if text.len() > MAX_COMMAND_LINE {
        return Err(format!(
            "{} bytes; at most {MAX_COMMAND_LINE} reach the kernel",
            text.len()
        ));
    }
    Ok(())
}
