//! Random input: nothing panics, and every option of every message can be read.

use ka_lab::dhcp::{Ask, RECORDED, recorded};
use proptest::prelude::*;

use crate::{MessageType, OptionCode, Outgoing, Packet, sub_option};

/// Feeds both decoders, calls every getter of the result, and encodes an answer to it.
fn feed(bytes: &[u8]) -> Result<(), TestCaseError> {
    for packet in [Packet::request(bytes), Packet::reply(bytes)]
        .into_iter()
        .flatten()
    {
        for code in (0..=u8::MAX).map(OptionCode::from) {
            let _ = (packet.address(code), packet.seconds(code), packet.text(code));
            let _ = packet.wants(code);
        }
        let _ = (packet.link(), packet.requested(), packet.server_id());
        let _ = (packet.architectures(), packet.machine_id(), packet.is_ipxe());
        for text in [packet.vendor_class(), packet.host_name()].into_iter().flatten() {
            prop_assert!(!text.contains(char::is_control), "{:?}", text);
        }
        let answer = Outgoing::answer(&packet, MessageType::Offer, [10, 0, 0, 1].into()).encode();
        prop_assert!((300..=1472).contains(&answer.len()));
        let answer = Packet::reply(&answer);
        prop_assert_eq!(answer.map(|answer| answer.xid()), Ok(packet.xid()));
    }
    Ok(())
}

proptest! {
    #[test]
    fn random_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..1500)) {
        feed(&bytes)?;
        let _ = sub_option(&bytes, 71);
    }

    #[test]
    fn random_options_behind_a_good_header_do_not_panic(
        kind in 0_u8..20,
        is_reply: bool,
        options in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..40)), 0..30),
        tail in prop::collection::vec(any::<u8>(), 0..400),
        header in prop::collection::vec((8_usize..28, any::<u8>()), 0..8),
    ) {
        let mut ask = if is_reply { Ask::reply(kind, 1, [10, 0, 0, 5]) } else { Ask::new(kind, 1) };
        for (at, value) in header {
            ask.header[at] = value;
        }
        for (code, data) in options {
            ask = ask.with(code, &data);
        }
        ask.options.extend_from_slice(&tail);
        feed(&ask.bytes())?;
    }

    #[test]
    fn recorded_messages_with_damage_do_not_panic(
        which in 0_usize..RECORDED.len(),
        damage in prop::collection::vec((0_usize..600, any::<u8>()), 1..12),
        cut in 0_usize..700,
    ) {
        let mut bytes = recorded(RECORDED[which]);
        for (at, value) in damage {
            let length = bytes.len();
            bytes[at % length] = value;
        }
        bytes.truncate(cut.max(1));
        feed(&bytes)?;
    }
}
