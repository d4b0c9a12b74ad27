//! The menu in GRUB's form, `grub.cfg`. Commands: the GRUB manual, "Commands".

use std::fmt::Write as _;

use ka_distro::efi::{self, Arch};

use crate::menu::{Menu, Origin};

/// Name of a file that GRUB fetches by HTTP and runs. If that works, GRUB fetches the large files by HTTP
/// too.
pub(crate) const HTTP_PROBE: &str = "ka-http";
/// Content of that file.
pub(crate) const HTTP_PROBE_TEXT: &str = "set files=$ka_http\n";

/// Writes the menu. GRUB fetches large files by HTTP if it has the module and reaches the server's port, else
/// by TFTP. To find out, GRUB fetches and runs a one-line file, because `[ -e … ]` is never true of a file on
/// the net.
///
/// `local` looks for a boot loader on the disks itself. `exit` returns success to the firmware, and UEFI
/// firmware that follows its specification (§3.1.1) then shows its own menu instead of trying the next boot
/// entry. The disk must be `root`, because Debian's GRUB tells the next program that it came from there, and
/// shim looks for the next program beside itself. On a BIOS, GRUB starts the boot record of the first disk:
/// `exit` is INT 18h there, at which many a BIOS stands still.
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

/// Loaders to try on such a machine. Loaders of the menu that GRUB's shell would change are left out.
fn loaders(menu: &Menu, arch: Arch) -> String {
    let own: Vec<String> = menu
        .loaders
        .iter()
        .filter(|path| is_plain(path))
        .cloned()
        .collect();
    efi::places(arch, &own).join(" ")
}

/// The file for a GRUB that asked by a name without its MAC. It makes GRUB ask again by its MAC.
#[must_use]
pub fn bounce(origin: Origin) -> String {
    format!(
        "configfile (tftp,{})/grub/grub.cfg-$net_default_mac\n",
        origin.addr
    )
}

/// Quotes each word that GRUB's shell would change.
fn quoted(append: &str) -> String {
    let words = append.split_whitespace().map(|word| match is_plain(word) {
        true => word.to_owned(),
        false => format!("'{word}'"),
    });
    words.collect::<Vec<_>>().join(" ")
}

/// True if GRUB's shell does not change the word.
fn is_plain(word: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-.,:=/+@%".contains(&b) || b >= 0x80;
    word.bytes().all(plain)
}
