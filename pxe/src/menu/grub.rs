//! The menu as GRUB reads it: `grub.cfg`. Words: the GRUB manual, "Commands".

use std::fmt::Write as _;

use ka_distro::efi::{self, Arch};

use crate::menu::{Menu, Origin};

/// Fetched by HTTP and run; when that works, big files come by HTTP too.
pub(crate) const HTTP_PROBE: &str = "ka-http";
/// What it says.
pub(crate) const HTTP_PROBE_TEXT: &str = "set files=$ka_http\n";

/// Big files by HTTP where this GRUB can: it has the module, and reaches our port, which is seen by fetching a line that
/// says so (`[ -e … ]` is never true of a file on the net). By TFTP otherwise.
///
/// `local` looks for a boot loader on the disks itself: `exit` returns success to the firmware, and then UEFI firmware
/// that follows its specification (§3.1.1) shows its own menu instead of trying the next boot entry. The disk must be
/// `root`: Debian's GRUB tells the program it starts that it came from there, and shim looks for the next one beside itself.
/// On a BIOS the boot record of its first disk is started: `exit` is INT 18h there, at which many a BIOS stands still.
pub(super) fn write(menu: &Menu) -> String {
    let addr = menu.origin.addr;
    let http = menu.origin.url().replacen("http://", "http,", 1);
    let initrd = menu.initrds.iter().fold(String::new(), |mut words, name| {
        let _ = write!(words, " $files/{name}");
        words
    });
    let initrd = if initrd.is_empty() {
        String::new()
    } else {
        format!("  initrd{initrd}\n")
    };
    format!(
        "\
# ka-pxe: {title}
set default={default}
set timeout={secs}
set files=(tftp,{addr})
set ka_http=({http})
insmod http
source $ka_http/{HTTP_PROBE}

menuentry 'local: boot from the disk of this machine' --id local {{
  if [ \"$grub_platform\" = pc ]; then
    insmod biosdisk
    insmod chain
    set root=hd0
    if chainloader +1; then boot; fi
  elif [ \"$grub_cpu\" = arm64 ]; then
    for loader in {aa64}; do
      if search --no-floppy --file --set=root $loader; then
        if chainloader $loader; then boot; fi
      fi
    done
  elif [ \"$grub_cpu\" = i386 ]; then
    for loader in {ia32}; do
      if search --no-floppy --file --set=root $loader; then
        if chainloader $loader; then boot; fi
      fi
    done
  else
    for loader in {x64}; do
      if search --no-floppy --file --set=root $loader; then
        if chainloader $loader; then boot; fi
      fi
    done
  fi
  exit 1
}}

menuentry 'kamethod: ERASE the disks of this machine and clone the golden node onto them' --id kamethod {{
  linux $files/{kernel} {append} BOOTIF=$net_default_mac
{initrd}}}
",
        title = menu.title,
        default = menu.default,
        secs = menu.timeout_secs(),
        aa64 = loaders(menu, Arch::Aa64),
        ia32 = loaders(menu, Arch::Ia32),
        x64 = loaders(menu, Arch::X64),
        kernel = menu.kernel,
        append = quoted(&menu.append),
    )
}

/// The loaders to try on such a machine; those of the menu that GRUB's shell would change are left out.
fn loaders(menu: &Menu, arch: Arch) -> String {
    let own: Vec<String> = menu
        .loaders
        .iter()
        .filter(|path| is_plain(path))
        .cloned()
        .collect();
    efi::places(arch, &own).join(" ")
}

/// The file for a GRUB that asked by a name without its MAC: it asks again with it.
#[must_use]
pub fn bounce(origin: Origin) -> String {
    format!(
        "configfile (tftp,{})/grub/grub.cfg-$net_default_mac\n",
        origin.addr
    )
}

/// Each word that GRUB's shell would change stands in quotes.
fn quoted(append: &str) -> String {
    let words = append.split_whitespace().map(|word| match is_plain(word) {
        true => word.to_owned(),
        false => format!("'{word}'"),
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Whether GRUB's shell takes the word as it stands.
fn is_plain(word: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-.,:=/+@%".contains(&b) || b >= 0x80;
    word.bytes().all(plain)
}
