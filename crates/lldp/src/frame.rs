//! The fields of an LLDP frame that say where a line ends: an LLDPDU is a list of TLVs, each with 7 bits of type
//! and 9 bits of length (IEEE 802.1AB-2016, clause 8).

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ka_mac::MacAddr;
use ka_proto::PlaceName;
use ka_proto::wiring::Wiring;

/// Most TLVs of a frame that are read. A frame of 1500 bytes has 40 at most in practice.
const MAX_TLVS: usize = 256;

const END: u16 = 0;
const CHASSIS_ID: u16 = 1;
const PORT_ID: u16 = 2;
const TTL: u16 = 3;
const PORT_DESCRIPTION: u16 = 4;
const SYSTEM_NAME: u16 = 5;
const CAPABILITIES: u16 = 7;
const ORGANIZATION: u16 = 127;

/// Port VLAN ID of IEEE 802.1 (802.1Q-2018, annex D): organization and subtype.
const PORT_VLAN: [u8; 4] = [0x00, 0x80, 0xc2, 1];
/// The last VLAN; 4095 is reserved.
const LAST_VLAN: u16 = 4094;

/// Capabilities of a device that forwards between lines (802.1AB-2016, table 8-4): MAC bridge, WLAN access
/// point, router, C-VLAN and S-VLAN component, two-port MAC relay.
const FORWARDS: u16 = 1 << 2 | 1 << 3 | 1 << 4 | 1 << 8 | 1 << 9 | 1 << 10;

/// A fault of a frame. Such a frame is ignored as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The frame ends inside a TLV.
    #[error("it ends inside a field")]
    CutOff,
    /// The frame does not begin with Chassis ID, Port ID and TTL.
    #[error("it does not begin with chassis, port and time to live")]
    Order,
    /// A mandatory field is malformed.
    #[error("its {0} is malformed")]
    Malformed(&'static str),
    /// The frame has more TLVs than any device sends.
    #[error("it has more than {MAX_TLVS} fields")]
    TooMany,
}

/// A frame's word about the port that sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertisement {
    /// Switch and port. The speed is not in it.
    pub wiring: Wiring,
    /// Time for which this holds. Zero: the port goes down, and nothing holds any more.
    pub lasts: Duration,
    /// True unless the device says that it forwards nothing between lines: another machine behind a switch
    /// without LLDP.
    pub is_switch: bool,
}

/// Parses an LLDPDU, which is the payload of the Ethernet frame. Padding behind its end is ignored.
///
/// # Errors
/// [`FrameError`] if it is malformed.
pub fn parse(lldpdu: &[u8]) -> Result<Advertisement, FrameError> {
    let mut tlvs = Tlvs(lldpdu);
    let mut mandatory = |kind| match tlvs.next().transpose()? {
        Some((found, value)) if found == kind => Ok(value),
        _ => Err(FrameError::Order),
    };
    let chassis = identifier(mandatory(CHASSIS_ID)?, 4, 5).ok_or(FrameError::Malformed("chassis"))?;
    let port_value = mandatory(PORT_ID)?;
    let port = identifier(port_value, 3, 4).ok_or(FrameError::Malformed("port"))?;
    let lasts = number(mandatory(TTL)?).ok_or(FrameError::Malformed("time to live"))?;
    let mut optional = Optional::default();
    for (count, tlv) in tlvs.enumerate() {
        let (kind, value) = tlv?;
        if kind == END {
            break;
        }
        if count >= MAX_TLVS {
            return Err(FrameError::TooMany);
        }
        optional.take(kind, value);
    }
    // A port that is known by a MAC address alone has a better name in its description, as `eth0`.
    let is_mac = port_value.first() == Some(&3);
    let described = optional.description.filter(|_| is_mac);
    Ok(Advertisement {
        wiring: Wiring {
            chassis,
            system_name: optional.system_name,
            port: described.unwrap_or(port),
            vlan: optional.vlan,
            speed_mbit: None,
        },
        lasts: Duration::from_secs(lasts.into()),
        is_switch: optional
            .capabilities
            .is_none_or(|enabled| enabled & FORWARDS != 0),
    })
}

/// The fields that a frame may have. A malformed one counts as absent.
#[derive(Default)]
struct Optional {
    system_name: Option<PlaceName>,
    description: Option<PlaceName>,
    vlan: Option<u16>,
    /// Enabled capabilities.
    capabilities: Option<u16>,
}

impl Optional {
    fn take(&mut self, kind: u16, value: &[u8]) {
        match kind {
            SYSTEM_NAME => self.system_name = text(value),
            PORT_DESCRIPTION => self.description = text(value),
            CAPABILITIES => self.capabilities = value.get(2..).and_then(number),
            ORGANIZATION => {
                if let Some(rest) = value.strip_prefix(&PORT_VLAN) {
                    self.vlan = number(rest).filter(|vlan| (1..=LAST_VLAN).contains(vlan));
                }
            }
            _ => {}
        }
    }
}

/// The TLVs of a frame, each with its type and value.
struct Tlvs<'a>(&'a [u8]);

impl<'a> Iterator for Tlvs<'a> {
    type Item = Result<(u16, &'a [u8]), FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let whole = self.0;
        let tlv = whole.split_first_chunk::<2>().and_then(|(header, rest)| {
            let header = u16::from_be_bytes(*header);
            let (value, rest) = rest.split_at_checked(usize::from(header & 0x1ff))?;
            self.0 = rest;
            Some((header >> 9, value))
        });
        if tlv.is_none() {
            self.0 = &[];
        }
        Some(tlv.ok_or(FrameError::CutOff))
    }
}

/// Returns the name of a chassis or port: one byte with its kind, then 1 to 255 bytes. `mac` and `network` are
/// the kinds for addresses (802.1AB-2016, tables 8-2 and 8-3); all others are texts.
fn identifier(value: &[u8], mac: u8, network: u8) -> Option<PlaceName> {
    let (kind, id) = value.split_first()?;
    if id.is_empty() || id.len() > 255 {
        return None;
    }
    if *kind == mac {
        return PlaceName::nearest(&MacAddr(id.try_into().ok()?).to_string());
    }
    if *kind == network {
        return PlaceName::nearest(&network_address(id));
    }
    text(id)
}

/// Returns a network address as text: the family (IANA address family numbers), then the address.
fn network_address(id: &[u8]) -> String {
    match (id.first(), &id[1..]) {
        (Some(1), &[a, b, c, d]) => Ipv4Addr::new(a, b, c, d).to_string(),
        (Some(2), rest) if rest.len() == 16 => {
            let octets: [u8; 16] = rest.try_into().unwrap_or_default();
            Ipv6Addr::from(octets).to_string()
        }
        _ => hexadecimal(id),
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns a stranger's text, safe to show. Bytes that are no text are shown as hexadecimal digits.
fn text(value: &[u8]) -> Option<PlaceName> {
    // Some devices count the zero behind a C string.
    let end = value
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1);
    let value = &value[..end];
    match std::str::from_utf8(value) {
        Ok(text) => PlaceName::nearest(text),
        Err(_) => PlaceName::nearest(&hexadecimal(value)),
    }
}

fn number(value: &[u8]) -> Option<u16> {
    value.first_chunk::<2>().map(|bytes| u16::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tlv(kind: u16, value: &[u8]) -> Vec<u8> {
        let header = kind << 9 | u16::try_from(value.len()).unwrap();
        [&header.to_be_bytes(), value].concat()
    }

    /// A frame as a switch of the lab sends it, with everything in it.
    fn frame() -> Vec<u8> {
        [
            tlv(1, &[4, 0x00, 0x1b, 0x21, 0xaa, 0xbb, 0xcc]),
            tlv(2, b"\x05Gi1/0/7"),
            tlv(3, &120u16.to_be_bytes()),
            tlv(4, b"desk 7"),
            tlv(5, b"core-1.lab\0"),
            tlv(6, b"an operating system"),
            tlv(7, &[0, 0x14, 0, 0x04]),
            tlv(127, &[0x00, 0x80, 0xc2, 1, 0, 20]),
            tlv(127, &[0x00, 0x12, 0x0f, 1, 3, 0, 0, 0, 30]),
            tlv(0, b""),
            vec![0xff; 20],
        ]
        .concat()
    }

    #[test]
    fn a_switchs_frame_says_switch_port_vlan_and_time() {
        let heard = parse(&frame()).unwrap();
        assert_eq!(
            heard.wiring.to_string(),
            "switch core-1.lab port Gi1/0/7, VLAN 20"
        );
        assert_eq!(heard.wiring.chassis.as_str(), "00:1b:21:aa:bb:cc");
        assert_eq!((heard.lasts, heard.is_switch), (Duration::from_secs(120), true));
    }

    #[test]
    fn a_machine_that_forwards_nothing_is_no_switch_and_a_silent_device_may_be_one() {
        let begin = [tlv(1, b"\x07pc"), tlv(2, &[3, 2, 0, 0, 0, 0, 9]), tlv(3, &[0, 0])].concat();
        let station = [&begin[..], &tlv(7, &[0, 0x84, 0, 0x80]), &tlv(4, b"eth0")].concat();
        let heard = parse(&station).unwrap();
        assert!(!heard.is_switch && heard.lasts.is_zero());
        assert_eq!(heard.wiring.port.as_str(), "eth0");
        let heard = parse(&begin).unwrap();
        assert!(heard.is_switch);
        assert_eq!(heard.wiring.port.as_str(), "02:00:00:00:00:09");
    }

    #[test]
    fn every_kind_of_identifier_has_a_name() {
        for (value, expected) in [
            (&b"\x07x\x1b[2J"[..], Some("x?[2J")),
            (&[5, 1, 10, 0, 0, 9], Some("10.0.0.9")),
            (&[5, 2, 1, 2], Some("020102")),
            (&[1, 0xff, 0xfe], Some("fffe")),
            (&[4, 1, 2, 3], None),
            (&[5, 0], Some("00")),
            (&[7], None),
            (&[7, 0, 0], None),
            (&[], None),
        ] {
            let name = identifier(value, 4, 5);
            assert_eq!(name.as_ref().map(PlaceName::as_str), expected, "{value:?}");
        }
        let long = [&[7][..], &[b'x'; 255]].concat();
        assert_eq!(identifier(&long, 4, 5).unwrap().as_str().len(), 64);
        assert_eq!(identifier(&[&long[..], b"x"].concat(), 4, 5), None);
    }

    #[test]
    fn a_frame_that_is_cut_anywhere_is_refused_or_lacks_only_optional_fields() {
        let whole = frame();
        let mandatory = tlv(1, &[0; 7]).len() + tlv(2, b"\x05Gi1/0/7").len() + 4;
        for end in 0..mandatory {
            assert!(parse(&whole[..end]).is_err(), "{end}");
        }
        assert!(parse(&whole[..mandatory]).is_ok());
        assert_eq!(parse(&whole[..mandatory + 3]), Err(FrameError::CutOff));
    }

    #[test]
    fn fields_in_another_order_or_without_end_are_refused() {
        let port_first = [tlv(2, b"\x05p"), tlv(1, b"\x07c"), tlv(3, &[0, 1])].concat();
        assert_eq!(parse(&port_first), Err(FrameError::Order));
        assert_eq!(parse(&[]), Err(FrameError::Order));
        let begin = [tlv(1, b"\x07c"), tlv(2, b"\x05p"), tlv(3, &[0, 1])].concat();
        let many = [begin.clone(), tlv(9, b"").repeat(MAX_TLVS + 1)].concat();
        assert_eq!(parse(&many), Err(FrameError::TooMany));
        let short = [tlv(1, b"\x07c"), tlv(2, b"\x05p"), tlv(3, &[1])].concat();
        assert_eq!(parse(&short), Err(FrameError::Malformed("time to live")));
        for vlan in [[0, 0], [0x0f, 0xff], [0xff, 0xff]] {
            let odd = [&begin[..], &tlv(127, &[&PORT_VLAN[..], &vlan].concat())].concat();
            assert_eq!(parse(&odd).unwrap().wiring.vlan, None);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_frame_or_a_fault(bytes in proptest::collection::vec(any::<u8>(), 0..1600)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn any_fields_behind_a_good_beginning_are_bounded_and_printable(
            values in proptest::collection::vec((0..128u16, proptest::collection::vec(any::<u8>(), 0..300)), 0..12),
        ) {
            let mut bytes = [tlv(1, b"\x07c"), tlv(2, &[3, 2, 0, 0, 0, 0, 9]), tlv(3, &[0, 1])].concat();
            for (kind, value) in &values {
                bytes.extend(tlv(*kind, value));
            }
            let wiring = parse(&bytes).unwrap().wiring;
            let shown = wiring.to_string();
            prop_assert!(shown.len() < 300 && !shown.chars().any(char::is_control), "{:?}", shown);
        }
    }
}
