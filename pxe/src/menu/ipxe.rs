//! The menu as an iPXE script. Commands: <https://ipxe.org/cmd>.

use std::fmt::Write as _;

use crate::menu::{Menu, Origin};

/// Writes the menu. All files come by HTTP. `netX` is the card that iPXE opened last, the one it boots from;
/// `net0` would be the wrong card if the machine's second card is plugged in.
///
/// There is one `initrd=NAME` for each initrd: under UEFI the kernel's stub reads them by name from iPXE's
/// virtual file system; under BIOS the kernel ignores the words. If UEFI refuses the kernel, the script tries
/// shim and GRUB (under Secure Boot the firmware knows only shim's key).
pub(super) fn write(menu: &Menu) -> String {
    let url = menu.origin.url();
    let named: String = menu.initrds.iter().fold(String::new(), |mut words, name| {
        let _ = write!(words, " initrd={name}");
        words
    });
    let initrds: String = menu.initrds.iter().fold(String::new(), |mut lines, name| {
        let _ = writeln!(lines, "initrd --name {name} {url}/{name} || goto failed");
        lines
    });
    format!(
        "\
#!ipxe
# ka-pxe: {title}
menu {title}
item local local: boot from this machine's disk
item kamethod kamethod: ERASE this machine's disks and clone the golden node onto them
choose --default {default} --timeout {millis} entry || set entry {default}
goto ${{entry}}

:local
iseq ${{platform}} efi && exit 1 ||
sanboot --no-describe --drive 0x80 || exit 1

:kamethod
imgfree
kernel --name {kernel} {url}/{kernel} {append} BOOTIF=01-${{netX/mac:hexhyp}}{named} || goto failed
{initrds}boot || goto failed

:failed
imgfree
iseq ${{platform}} efi && chain tftp://{addr}/bootx64.efi ||
echo kamethod cannot be booted; trying again in 10 seconds
sleep 10
reboot
",
        title = menu.title,
        default = menu.default,
        millis = menu.timeout_secs() * 1000,
        kernel = menu.kernel,
        append = menu.append,
        addr = menu.origin.addr,
    )
}

/// The script for an iPXE that asked by a name without its MAC. It makes iPXE ask again by its MAC.
#[must_use]
pub fn bounce(origin: Origin) -> String {
    format!(
        "#!ipxe\nchain {url}/ipxe/${{netX/mac:hexhyp}}.ipxe || exit 1\n",
        url = origin.url()
    )
}
