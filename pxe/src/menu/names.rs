//! Names by which boot programs ask for their menu, and the machine that each name identifies.
//!
//! | program | names it asks for, in this order |
//! |---|---|
//! | PXELINUX | `pxelinux.cfg/UUID`, `…/01-MAC`, `…/0A4D0065` and each shorter prefix, `…/default`; included by our menu: `…/http` |
//! | GRUB | `grub/x86_64-efi/grub.cfg` (Debian's image), `grub/grub.cfg-01-MAC`, `…-0A4D0065` and shorter, `grub/grub.cfg` |
//! | iPXE | the name from DHCP, which has the MAC in ours; `autoexec.ipxe` by itself |
//!
//! Names come in lower case and with plain slashes (`crate::names`). Directories in front are ignored,
//! because programs derive them from their own path.

use std::net::Ipv4Addr;

use ka_mac::MacAddr;

use crate::menu::{Form, pxelinux};

/// Prefix of a MAC: the hardware type of Ethernet.
const ETHERNET: &str = "01-";

/// A request for a menu.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// Requested form.
    pub form: Form,
    /// Machine that the name identifies.
    pub who: Who,
}

/// Identity that a requested name carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// MAC address of the machine's card.
    Mac(MacAddr),
    /// SMBIOS UUID. Several machines may share it, so it identifies none.
    Uuid,
    /// No identity, or only the address of the sender.
    Peer,
}

/// Parses the name of a menu. Returns `None` if the name is not that of a menu. `peer` is the address of the
/// sender.
#[must_use]
pub fn asked(name: &str, peer: Ipv4Addr) -> Option<Asked> {
    let (form, who) = if name == pxelinux::HTTP_ENTRIES {
        (Form::PxelinuxHttp, Who::Peer)
    } else if let Some((_, rest)) = split_dir(name, "pxelinux.cfg") {
        (Form::Pxelinux, who(rest, "default", peer)?)
    } else if let Some((_, rest)) = split_dir(name, "ipxe") {
        (Form::Ipxe, Who::Mac(rest.strip_suffix(".ipxe")?.parse().ok()?))
    } else {
        match name.rsplit('/').next()? {
            "grub.cfg" => (Form::Grub, Who::Peer),
            "boot.ipxe" | "autoexec.ipxe" => (Form::Ipxe, Who::Peer),
            base => (Form::Grub, who(base.strip_prefix("grub.cfg-")?, "", peer)?),
        }
    };
    Some(Asked { form, who })
}

fn who(text: &str, default: &str, peer: Ipv4Addr) -> Option<Who> {
    if text.is_empty() {
        return None;
    }
    if let Ok(mac) = text.strip_prefix(ETHERNET).unwrap_or(text).parse() {
        return Some(Who::Mac(mac));
    }
    if is_uuid(text) {
        return Some(Who::Uuid);
    }
    let address = format!("{:08x}", peer.to_bits());
    (text == default || address.starts_with(text)).then_some(Who::Peer)
}

/// True for 8-4-4-4-12 hex digits: `52540000-1234-…`.
fn is_uuid(text: &str) -> bool {
    const LENGTHS: [usize; 5] = [8, 4, 4, 4, 12];
    let groups: Vec<&str> = text.split('-').collect();
    groups.iter().map(|group| group.len()).eq(LENGTHS)
        && groups.concat().bytes().all(|b| b.is_ascii_hexdigit())
}

/// Splits `…/dir/rest`, where `rest` has no slash.
fn split_dir<'a>(name: &'a str, dir: &str) -> Option<(&'a str, &'a str)> {
    let (path, rest) = name.rsplit_once('/')?;
    let front = path.strip_suffix(dir)?;
    (front.is_empty() || front.ends_with('/')).then_some((front, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 101);

    fn of(name: &str) -> Option<(Form, Who)> {
        asked(name, PEER).map(|asked| (asked.form, asked.who))
    }

    #[test]
    fn every_name_of_every_boot_program_is_understood() {
        let mac = Who::Mac(MacAddr([0x52, 0x54, 0, 0, 0, 1]));
        let uuid = Who::Uuid;
        for (name, form, who) in [
            ("pxelinux.cfg/default", Form::Pxelinux, Who::Peer),
            ("pxelinux.cfg/http", Form::PxelinuxHttp, Who::Peer),
            ("boot/pxelinux.cfg/01-52-54-00-00-00-01", Form::Pxelinux, mac),
            (
                "pxelinux.cfg/52540000-1234-5678-9abc-def012345678",
                Form::Pxelinux,
                uuid,
            ),
            ("pxelinux.cfg/0a4d0065", Form::Pxelinux, Who::Peer),
            ("pxelinux.cfg/0a4d00", Form::Pxelinux, Who::Peer),
            ("grub/grub.cfg", Form::Grub, Who::Peer),
            ("grub/x86_64-efi/grub.cfg", Form::Grub, Who::Peer),
            ("grub.cfg-01-52-54-00-00-00-01", Form::Grub, mac),
            ("grub/grub.cfg-52:54:00:00:00:01", Form::Grub, mac),
            ("grub/grub.cfg-0a4d0", Form::Grub, Who::Peer),
            (
                "grub/grub.cfg-52540000-1234-5678-9abc-def012345678",
                Form::Grub,
                uuid,
            ),
            ("ipxe/52-54-00-00-00-01.ipxe", Form::Ipxe, mac),
            ("boot.ipxe", Form::Ipxe, Who::Peer),
            ("autoexec.ipxe", Form::Ipxe, Who::Peer),
        ] {
            assert_eq!(of(name), Some((form, who)), "{name}");
        }
    }

    #[test]
    fn what_names_no_machine_of_ours_is_no_menu() {
        for name in [
            "",
            "vmlinuz",
            "pxelinux.cfg",
            "pxelinux.cfg/",
            "xpxelinux.cfg/default",
            "pxelinux.cfg/0b",
            "pxelinux.cfg/0a4d00651",
            "pxelinux.cfg/20-52-54-00-00-00-01",
            "pxelinux.cfg/ä2540000-1234-5678-9abc-def01234567",
            "grub.cfg-",
            "grub/grub.cfg-0a4d0066",
            "ipxe/52-54-00-00-00.ipxe",
            "ipxe/default",
        ] {
            assert_eq!(of(name), None, "{name}");
        }
    }
}
