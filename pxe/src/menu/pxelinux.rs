//! The menu as PXELINUX reads it: `pxelinux.cfg/…`. Words: <https://wiki.syslinux.org/wiki/index.php?title=Config>.

use crate::menu::Menu;

/// The file that a PXELINUX with HTTP includes, and one without does not find.
pub(crate) const HTTP_ENTRIES: &str = "pxelinux.cfg/http";

/// Big files by TFTP: `pxelinux.0` knows nothing else. `lpxelinux.0` has HTTP, and asks for its menu in the same words: it
/// finds its entry in what is included, and of two entries with one name PXELINUX takes the first.
///
/// `TOTALTIMEOUT` lets a machine go on where a stray key (a KVM switch, a serial console's noise) stopped the timeout.
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

/// The entry whose files come by HTTP. It boots nothing by itself: what does is said by the menu that includes it.
pub(super) fn write_http(menu: &Menu) -> String {
    kamethod(menu, &format!("{}/", menu.origin.url()))
}

/// The entry that fetches its files from this place; `IPAPPEND 2` adds `BOOTIF=01-aa-bb-…`.
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
