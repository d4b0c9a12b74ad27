//! The menu as PXELINUX reads it: `pxelinux.cfg/…`. Words: <https://wiki.syslinux.org/wiki/index.php?title=Config>.

use crate::menu::Menu;

/// Everything by TFTP: `pxelinux.0` knows nothing else. `IPAPPEND 2` adds `BOOTIF=01-aa-bb-…`.
///
/// `TOTALTIMEOUT` lets a machine go on where a stray key (a KVM switch, a serial console's noise) stopped the timeout.
pub(super) fn write(menu: &Menu) -> String {
    let tenths = menu.timeout_secs() * 10;
    let initrds = menu.initrds.join(",");
    let initrd = if initrds.is_empty() {
        String::new()
    } else {
        format!("  INITRD {initrds}\n")
    };
    format!(
        "\
# ka-pxe: {title}
DEFAULT {default}
PROMPT 1
TIMEOUT {tenths}
TOTALTIMEOUT {total}
SAY local: boot from this machine's disk
SAY kamethod: ERASE this machine's disks and clone the golden node onto them
SAY {default} boots by itself in {secs} seconds.

LABEL local
  LOCALBOOT 0

LABEL kamethod
  KERNEL {kernel}
{initrd}  APPEND {append}
  IPAPPEND 2
",
        title = menu.title,
        default = menu.default,
        total = tenths * 12,
        secs = menu.timeout_secs(),
        kernel = menu.kernel,
        append = menu.append,
    )
}
