//! The menu in PXELINUX's form, `pxelinux.cfg/…`. Directives:
//! <https://wiki.syslinux.org/wiki/index.php?title=Config>.

use crate::menu::Menu;

/// Name of the file that the menu includes. A PXELINUX without HTTP does not find it.
pub(crate) const HTTP_ENTRIES: &str = "pxelinux.cfg/http";

/// Writes the menu. Large files come by TFTP, because `pxelinux.0` knows nothing else. `lpxelinux.0` has HTTP
/// and asks for the same menu. It finds its entry in the included file, and of two entries with one name
/// PXELINUX takes the first.
///
/// `TOTALTIMEOUT` lets a machine go on if a stray key stopped the timeout (a KVM switch, noise on a serial
/// console).
pub(super) fn write(menu: &Menu) -> String {
    let tenths = menu.timeout_secs() * 10;
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

INCLUDE {url}/{HTTP_ENTRIES}

{kamethod}",
        title = menu.title,
        default = menu.default,
        total = tenths * 12,
        secs = menu.timeout_secs(),
        url = menu.origin.url(),
        kamethod = kamethod(menu, ""),
    )
}

/// Writes the entry whose files come by HTTP. It has no default entry: the including menu decides that.
pub(super) fn write_http(menu: &Menu) -> String {
    kamethod(menu, &format!("{}/", menu.origin.url()))
}

/// Writes the entry that fetches its files from `place`. `IPAPPEND 2` adds `BOOTIF=01-aa-bb-…`.
fn kamethod(menu: &Menu, place: &str) -> String {
    let initrds: Vec<String> = menu.initrds.iter().map(|name| format!("{place}{name}")).collect();
    let initrd = match initrds.is_empty() {
        true => String::new(),
        false => format!("  INITRD {}\n", initrds.join(",")),
    };
    format!(
        "\
LABEL kamethod
  KERNEL {place}{kernel}
{initrd}  APPEND {append}
  IPAPPEND 2
",
        kernel = menu.kernel,
        append = menu.append,
    )
}
