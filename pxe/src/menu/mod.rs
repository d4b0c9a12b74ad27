//! The boot menu: one model, three forms, made anew for each machine that asks.
//!
//! The model knows what boots by default and what the entries do; [`pxelinux`], [`ipxe`] and [`grub`] write it in the
//! words of each boot program. Which machine asks under which name is [`names`]; who is armed is [`crate::arming`].

pub mod grub;
pub mod ipxe;
pub(crate) mod maker;
pub mod names;
pub mod pxelinux;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use crate::config::HTTP_PORT;

/// Longest kernel command line, in bytes, that every loader and an x86 kernel (2048 with its NUL) take whole, less what
/// the loaders add themselves (`BOOTIF=`, `initrd=`, `BOOT_IMAGE=`).
pub const MAX_COMMAND_LINE: usize = 1900;

/// What a machine boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entry {
    /// Its own disk.
    Local,
    /// The clone: it will erase the machine's disks.
    Kamethod,
}

impl Entry {
    /// Its name in every menu, the original's.
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
    /// `pxelinux.cfg/…`
    Pxelinux,
    /// `pxelinux.cfg/http`: the entries of a PXELINUX that fetched this by HTTP (`lpxelinux.0`), included in the other.
    PxelinuxHttp,
    /// A script.
    Ipxe,
    /// `grub.cfg`
    Grub,
}

/// The menu of one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Menu {
    /// What boots when nobody presses a key.
    pub default: Entry,
    /// How long it waits for one.
    pub timeout: Duration,
    /// Whom the menu is for: a node's name, or a MAC.
    pub title: String,
    /// Where the files are.
    pub origin: Origin,
    /// The kernel's name.
    pub kernel: String,
    /// The initrds' names, in order.
    pub initrds: Vec<String>,
    /// The kernel command line, without `BOOTIF=`.
    pub append: String,
    /// Boot loaders that `local` looks for before all others, as paths on an EFI system partition.
    pub loaders: Vec<String>,
}

/// Where files are fetched from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// Our address, as the machine reaches it.
    pub addr: Ipv4Addr,
    /// Our HTTP port.
    pub http_port: u16,
}

impl Origin {
    /// `http://ADDR` or `http://ADDR:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        match self.http_port {
            HTTP_PORT => format!("http://{}", self.addr),
            port => format!("http://{}", SocketAddrV4::new(self.addr, port)),
        }
    }
}

impl Menu {
    /// The menu in one form.
    #[must_use]
    pub fn write(&self, form: Form) -> String {
        match form {
            Form::Pxelinux => pxelinux::write(self),
            Form::PxelinuxHttp => pxelinux::write_http(self),
            Form::Ipxe => ipxe::write(self),
            Form::Grub => grub::write(self),
        }
    }

    /// The timeout in whole seconds, at least one: zero would mean "for ever" to pxelinux.
    fn timeout_secs(&self) -> u64 {
        self.timeout.as_secs().max(1)
    }
}

/// Says what is wrong with a kernel command line that a menu cannot carry in all three forms.
///
/// # Errors
/// Control characters, `${` (iPXE would expand it), quotes and backslashes (GRUB would eat them), or too long.
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
