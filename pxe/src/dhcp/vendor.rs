//! Vendor options: the facts of a [`Machine`] that firmware sends, PXE's vendor classes, and option 43.

use ka_dhcp::{NODE_CLASS, Packet, sub_option};

use crate::machine::{Arch, Machine};

pub(crate) const PXE_CLASS: &str = "PXEClient";
pub(crate) const HTTP_CLASS: &str = "HTTPClient";

/// PXE sub-options of option 43: discovery control, boot item, end.
const DISCOVERY_CONTROL: u8 = 6;
const BOOT_ITEM: u8 = 71;
const END: u8 = 255;
/// Bit 3: load the named boot file at once; no menu, no prompt, no search for boot servers.
const LOAD_AT_ONCE: u8 = 8;

/// iPXE's encapsulated options, and the sub-option `no-pxedhcp`: do not wait for a proxy.
pub(crate) const IPXE_OPTIONS: u8 = 175;
pub(crate) const IPXE_NO_PROXY: [u8; 3] = [176, 1, 1];

/// Kind of a DHCP client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Client {
    /// Firmware, or iPXE.
    Boot(Machine),
    /// A node of ours.
    Node,
    /// An operating system, with its vendor class.
    System(Option<String>),
}

impl Client {
    pub(crate) fn of(request: &Packet) -> Self {
        let class = request.vendor_class();
        let starts_with = |prefix| class.as_deref().is_some_and(|text| text.starts_with(prefix));
        let (pxe, http) = (starts_with(PXE_CLASS), starts_with(HTTP_CLASS));
        if pxe || http || request.is_ipxe() {
            return Self::Boot(machine(request, http, class));
        }
        if class.as_deref() == Some(NODE_CLASS) {
            return Self::Node;
        }
        Self::System(class)
    }
}

fn machine(request: &Packet, http: bool, vendor_class: Option<String>) -> Machine {
    // A list (RFC 4578 §2.1) is in the firmware's order of preference. The first entry with a boot program is
    // used.
    let numbers = request.architectures();
    let known = numbers
        .iter()
        .map(|number| Arch::of_number(*number))
        .find(|(arch, _)| !matches!(arch, Arch::Other(_)));
    let first = numbers.first().map(|number| Arch::of_number(*number));
    // A ROM without option 93 is older than RFC 4578 and therefore a BIOS ROM, unless its class gives the
    // number.
    let from_class = || vendor_class.as_deref().and_then(arch_in_class);
    let (arch, http_arch) = known.or(first).or_else(from_class).unwrap_or((Arch::Bios, false));
    let uuid = request
        .machine_id()
        .and_then(|bytes| <[u8; 16]>::try_from(&bytes[1..]).ok());
    Machine {
        mac: request.mac(),
        uuid,
        arch,
        ipxe: request.is_ipxe(),
        http: http || http_arch,
        vendor_class,
    }
}

/// Reads the architecture from a class such as `PXEClient:Arch:00007:UNDI:003016`.
fn arch_in_class(class: &str) -> Option<(Arch, bool)> {
    let number = class.split_once(":Arch:")?.1.split(':').next()?;
    Some(Arch::of_number(number.parse().ok()?))
}

/// Option 43 of an answer: boot the named file at once. If the client asked for a boot item, the item is
/// repeated.
pub(crate) fn pxe_options(request: &Packet) -> Vec<u8> {
    let mut options = vec![DISCOVERY_CONTROL, 1, LOAD_AT_ONCE];
    let item = request
        .vendor_options()
        .and_then(|asked| sub_option(asked, BOOT_ITEM))
        .and_then(|item| <[u8; 4]>::try_from(item).ok());
    if let Some(item) = item {
        options.extend_from_slice(&[BOOT_ITEM, 4]);
        options.extend_from_slice(&item);
    }
    options.push(END);
    options
}
