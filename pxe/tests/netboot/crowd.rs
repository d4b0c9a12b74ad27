//! 64 machines at once on one line of 1 Gbit/s.

use anyhow::{Context as _, Result, ensure};
use ka_lab::netns::GOLDEN_ADDRESS;
use ka_lab::process::Program;

use crate::boot_network::{BootNetwork, bytes, expect_file};

const MACHINES: usize = 64;
const GBIT: u64 = 1_000_000_000;

/// Address of a machine. Each machine has a card of its own behind the one line, because only a card takes a
/// place for its machine.
fn address(machine: usize) -> String {
    format!("10.77.0.{}", 130 + machine)
}

/// Each machine fetches its boot program, menu and kernel by TFTP and its initrd by HTTP.
#[test]
fn of_64_machines_that_boot_at_once_none_fails() -> Result<()> {
    let net = BootNetwork::new("crowd", Some(GBIT))?;
    let program = net.put("pxelinux.0", 9, 150_000)?;
    let (kernel, initrd) = (bytes(1, 1_000_000), bytes(2, 3_000_001));
    let server = net.serve(&["--arm", "all", "-n", "60"])?;
    // Each card answers ARP for its own address only (Documentation/networking/ip-sysctl).
    for setting in ["arp_ignore=1", "arp_announce=2"] {
        net.node()
            .run(&format!("sysctl -q -w net.ipv4.conf.all.{setting}"))?;
    }
    for machine in 0..MACHINES {
        let mac = mac(machine).replace('-', ":");
        for line in [
            format!("link add m{machine} link eth0 address {mac} type macvlan mode bridge"),
            format!("addr add {}/24 dev m{machine}", address(machine)),
            format!("link set m{machine} up"),
        ] {
            net.node().ip(&line)?;
        }
    }
    let begun: Vec<_> = (0..MACHINES)
        .map(|machine| boot(&net, machine).spawn())
        .collect::<Result<_>>()?;
    for (machine, run) in begun.into_iter().enumerate() {
        let ended = run.wait()?;
        ended.expect(0).with_context(|| format!("machine {machine}"))?;
        for (name, content) in [("program", &program), ("kernel", &kernel), ("initrd", &initrd)] {
            let path = net.path(&format!("{machine}.{name}"));
            expect_file(&path, content)?;
            std::fs::remove_file(path)?;
        }
    }
    let armed = (0..MACHINES).filter(|machine| menu_of(&net, *machine).contains("DEFAULT kamethod"));
    ensure!(armed.count() == 60, "--arm all -n 60 armed another number");
    ensure!(!server.said().contains("warning"), "{}", server.said());
    Ok(())
}

fn boot(net: &BootNetwork, machine: usize) -> Program {
    let to = |name: &str| net.path(&format!("{machine}.{name}")).display().to_string();
    let script = format!(
        "set -e
        tftp() {{ curl -sS --interface m{machine} --tftp-blksize 1468 -o \"$2\" tftp://{GOLDEN_ADDRESS}/$1; }}
        tftp pxelinux.0 '{}'
        tftp pxelinux.cfg/01-{} '{}'
        tftp vmlinuz '{}'
        curl -sS --interface m{machine} -o '{}' http://{GOLDEN_ADDRESS}/initrd.img",
        to("program"),
        mac(machine),
        to("menu"),
        to("kernel"),
        to("initrd"),
    );
    net.on_node("sh").args(["-c", &script])
}

/// MAC address of a machine, in the spelling of its menu's name.
fn mac(machine: usize) -> String {
    format!("52-54-00-00-01-{machine:02x}")
}

fn menu_of(net: &BootNetwork, machine: usize) -> String {
    std::fs::read_to_string(net.path(&format!("{machine}.menu"))).unwrap_or_default()
}
