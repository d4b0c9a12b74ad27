//! The menus, letter by letter: their text must change only on purpose.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Result;
use ka_lab::process::Program;
use ka_pxe::{Entry, Form, Menu, Origin};

fn menu(default: Entry) -> Menu {
    Menu {
        default,
        timeout: Duration::from_secs(5),
        title: "node1 (52:54:00:00:00:01)".to_owned(),
        origin: Origin {
            addr: Ipv4Addr::new(10, 0, 0, 1),
            http_port: 80,
        },
        kernel: "vmlinuz".to_owned(),
        initrds: vec!["initrd.img".to_owned(), "join.img".to_owned()],
        append: "kamethod ka.server=10.0.0.1 console=ttyS0,115200 ka.name=node1".to_owned(),
        loaders: vec!["/EFI/rocky/shimx64.efi".to_owned()],
    }
}

const PXELINUX: &str = "\
# ka-pxe: node1 (52:54:00:00:00:01)
DEFAULT kamethod
PROMPT 1
TIMEOUT 50
TOTALTIMEOUT 600
SAY local: boot from this machine's disk
SAY kamethod: ERASE this machine's disks and clone the golden node onto them
SAY kamethod boots by itself in 5 seconds.

LABEL local
  LOCALBOOT 0

INCLUDE http://10.0.0.1/pxelinux.cfg/http

LABEL kamethod
  KERNEL vmlinuz
  INITRD initrd.img,join.img
  APPEND kamethod ka.server=10.0.0.1 console=ttyS0,115200 ka.name=node1
  IPAPPEND 2
";

const IPXE: &str = "\
#!ipxe
# ka-pxe: node1 (52:54:00:00:00:01)
menu node1 (52:54:00:00:00:01)
item local local: boot from this machine's disk
item kamethod kamethod: ERASE this machine's disks and clone the golden node onto them
choose --default kamethod --timeout 5000 entry || set entry kamethod
goto ${entry}

:local
iseq ${platform} efi && exit 1 ||
sanboot --no-describe --drive 0x80 || exit 1

:kamethod
imgfree
kernel --name vmlinuz http://10.0.0.1/vmlinuz kamethod ka.server=10.0.0.1 console=ttyS0,115200 ka.name=node1 \
BOOTIF=01-${netX/mac:hexhyp} initrd=initrd.img initrd=join.img || goto failed
initrd --name initrd.img http://10.0.0.1/initrd.img || goto failed
initrd --name join.img http://10.0.0.1/join.img || goto failed
boot || goto failed

:failed
imgfree
iseq ${platform} efi && chain tftp://10.0.0.1/bootx64.efi ||
echo kamethod cannot be booted; trying again in 10 seconds
sleep 10
reboot
";

const GRUB: &str = "\
# ka-pxe: node1 (52:54:00:00:00:01)
set default=kamethod
set timeout=5
set files=(tftp,10.0.0.1)
set ka_http=(http,10.0.0.1)
insmod http
source $ka_http/ka-http

menuentry 'local: boot from the disk of this machine' --id local {
  if [ \"$grub_platform\" = pc ]; then
    insmod biosdisk
    insmod chain
    set root=hd0
    if chainloader +1; then boot; fi
  elif [ \"$grub_cpu\" = arm64 ]; then
    for loader in AA64; do
      if search --no-floppy --file --set=root $loader; then
        if chainloader $loader; then boot; fi
      fi
    done
  elif [ \"$grub_cpu\" = i386 ]; then
    for loader in IA32; do
      if search --no-floppy --file --set=root $loader; then
        if chainloader $loader; then boot; fi
      fi
    done
  else
    for loader in X64; do
      if search --no-floppy --file --set=root $loader; then
        if chainloader $loader; then boot; fi
      fi
    done
  fi
  exit 1
}

menuentry 'kamethod: ERASE the disks of this machine and clone the golden node onto them' --id kamethod {
  linux $files/vmlinuz kamethod ka.server=10.0.0.1 console=ttyS0,115200 ka.name=node1 BOOTIF=$net_default_mac
  initrd $files/initrd.img $files/join.img
}
";

/// The menu for GRUB with each list of loaders replaced by its processor's name, and the lists.
fn grub_form(menu: &Menu) -> (String, Vec<Vec<String>>) {
    let mut lists = Vec::new();
    let mut text = String::new();
    for line in menu.write(Form::Grub).split_inclusive('\n') {
        let words = line
            .trim()
            .strip_prefix("for loader in ")
            .and_then(|rest| rest.strip_suffix("; do"));
        match words {
            Some(words) => {
                lists.push(words.split(' ').map(ToOwned::to_owned).collect());
                text += &format!(
                    "    for loader in {}; do\n",
                    ["AA64", "IA32", "X64"][lists.len() - 1]
                );
            }
            None => text += line,
        }
    }
    (text, lists)
}

#[test]
fn local_tries_the_clones_own_loader_then_every_distributions_and_the_fallback_path_last() {
    let (_, lists) = grub_form(&menu(Entry::Local));
    for (list, shim, fallback) in [
        (&lists[0], "/EFI/debian/shimaa64.efi", "/EFI/BOOT/BOOTAA64.EFI"),
        (&lists[1], "/EFI/debian/shimia32.efi", "/EFI/BOOT/BOOTIA32.EFI"),
        (&lists[2], "/EFI/debian/shimx64.efi", "/EFI/BOOT/BOOTX64.EFI"),
    ] {
        assert_eq!(list[0], "/EFI/rocky/shimx64.efi");
        assert_eq!(list[1], shim);
        assert_eq!(list.last().unwrap(), fallback);
    }
    for path in [
        "/EFI/almalinux/shimx64.efi",
        "/EFI/ol/shimx64.efi",
        "/EFI/sles/shim.efi",
        "/EFI/arch/grubx64.efi",
    ] {
        assert!(lists[2].iter().any(|place| place == path), "{path}");
    }
    let mut odd = menu(Entry::Local);
    odd.loaders = vec!["/EFI/a b; reboot/x.efi".to_owned()];
    assert!(!odd.write(Form::Grub).contains("reboot"));
}

#[test]
fn an_armed_machine_gets_kamethod_in_three_forms() {
    let menu = menu(Entry::Kamethod);
    assert_eq!(menu.write(Form::Pxelinux), PXELINUX);
    assert_eq!(menu.write(Form::Ipxe), IPXE);
    assert_eq!(grub_form(&menu).0, GRUB);
}

#[test]
fn any_other_machine_gets_the_same_menu_with_another_default() {
    let menu = menu(Entry::Local);
    let pxelinux = PXELINUX
        .replace("DEFAULT kamethod", "DEFAULT local")
        .replace("SAY kamethod boots by", "SAY local boots by");
    assert_eq!(menu.write(Form::Pxelinux), pxelinux);
    let ipxe = IPXE.replace(
        "--default kamethod --timeout 5000 entry || set entry kamethod",
        "--default local --timeout 5000 entry || set entry local",
    );
    assert_eq!(menu.write(Form::Ipxe), ipxe);
    assert_eq!(
        grub_form(&menu).0,
        GRUB.replace("set default=kamethod", "set default=local")
    );
}

#[test]
fn another_http_port_and_no_initrd_are_written_as_loaders_read_them() {
    let mut menu = menu(Entry::Kamethod);
    menu.origin.http_port = 8080;
    menu.initrds.clear();
    menu.append = "kamethod x=a;b y=\"c d\"".to_owned();
    let ipxe = menu.write(Form::Ipxe);
    assert!(
        ipxe.contains("kernel --name vmlinuz http://10.0.0.1:8080/vmlinuz "),
        "{ipxe}"
    );
    assert!(!ipxe.contains("initrd"), "{ipxe}");
    let grub = menu.write(Form::Grub);
    assert!(grub.contains("set ka_http=(http,10.0.0.1:8080)\n"), "{grub}");
    assert!(!grub.contains("  initrd"), "{grub}");
    assert!(
        grub.contains("linux $files/vmlinuz kamethod 'x=a;b' 'y=\"c' 'd\"' BOOTIF"),
        "{grub}"
    );
    assert!(!menu.write(Form::Pxelinux).contains("INITRD"));
}

/// `lpxelinux.0` includes this file. It has no default entry, because the including menu decides that.
#[test]
fn a_pxelinux_with_http_gets_the_same_entry_by_http() {
    let mut menu = menu(Entry::Kamethod);
    let http = "\
LABEL kamethod
  KERNEL http://10.0.0.1/vmlinuz
  INITRD http://10.0.0.1/initrd.img,http://10.0.0.1/join.img
  APPEND kamethod ka.server=10.0.0.1 console=ttyS0,115200 ka.name=node1
  IPAPPEND 2
";
    assert_eq!(menu.write(Form::PxelinuxHttp), http);
    menu.origin.http_port = 8080;
    let pxelinux = menu.write(Form::Pxelinux);
    let included = "INCLUDE http://10.0.0.1:8080/pxelinux.cfg/http\n";
    // Of two entries with one name PXELINUX takes the first.
    assert!(
        pxelinux.find(included) < pxelinux.find("LABEL kamethod"),
        "{pxelinux}"
    );
    assert!(pxelinux.contains(included), "{pxelinux}");
}

#[test]
fn grub_understands_its_own_form() -> Result<()> {
    let text = menu(Entry::Local).write(Form::Grub);
    Program::new("grub-script-check").input(text).run().map(drop)
}
