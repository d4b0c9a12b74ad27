//! TFTP packets: RFC 1350 with the options of RFC 2347, 2348, 2349 and 7440. Bytes in, values out; no socket.

/// Largest request accepted, in bytes: RFC 2347 §"Packet Formats" allows no larger one.
pub(crate) const MAX_REQUEST_BYTES: usize = 512;
/// Largest number of options read from one request. Four of them have a meaning.
const MAX_OPTIONS: usize = 16;
/// Block size without the option, and its bounds (RFC 2348).
pub(crate) const DEFAULT_BLOCK: u16 = 512;
const MIN_BLOCK: u16 = 8;
const MAX_BLOCK: u16 = 65464;
/// Largest retransmission time accepted from a client, in seconds. RFC 2349 allows 255; a dead client would
/// then hold its place for half an hour.
const MAX_TIMEOUT_SECS: u8 = 30;
/// Largest window granted, in blocks. 64 blocks of 1468 bytes fit the smallest NIC ring of a ROM and a switch
/// port's buffer without loss; RFC 7440 allows 65535.
const MAX_WINDOW: u16 = 64;

const RRQ: u16 = 1;
const WRQ: u16 = 2;
const DATA: u16 = 3;
const ACK: u16 = 4;
const ERROR: u16 = 5;
const OACK: u16 = 6;

/// Encoding of a file's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Binary: the bytes unchanged.
    Octet,
    /// Text: line ends as CR LF, a lone CR as CR NUL (RFC 764).
    Netascii,
}

/// First packet of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Opening {
    /// A request to read a file.
    Read(ReadRequest),
    /// A request to be answered with this error.
    Refused(ErrorCode, &'static str),
    /// A packet without an answer: data, acknowledgements and errors of an old transfer, or no TFTP at all.
    Stray,
}

/// A read request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReadRequest {
    /// Bytes of the name, as sent.
    pub(crate) name: Vec<u8>,
    /// Encoding that the client wants.
    pub(crate) mode: Mode,
    /// Options beyond RFC 1350.
    pub(crate) options: Options,
}

/// Options of a request that the server understands. A value out of bounds counts as not requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Options {
    /// Block size, in bytes.
    pub(crate) block: Option<u16>,
    /// Time between retransmissions, in seconds.
    pub(crate) timeout_secs: Option<u8>,
    /// True if the client wants the file's size.
    pub(crate) size: bool,
    /// Window: blocks sent before the server waits for an acknowledgement.
    pub(crate) window: Option<u16>,
}

/// Error codes of RFC 1350 that this server sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorCode {
    /// Not defined; the message tells the error.
    Undefined = 0,
    /// The table has no such file.
    NotFound = 1,
    /// The client wants to write. This server is read only.
    AccessViolation = 2,
    /// The packet is no request of RFC 1350.
    IllegalOperation = 4,
}

/// Packet of a client during a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply {
    /// The client has every block up to this number, modulo 65536.
    Ack(u16),
    /// The client ends the transfer.
    Error,
    /// A packet that does not belong to the transfer.
    Stray,
}

/// Parses the first packet of a client.
pub(crate) fn opening(packet: &[u8]) -> Opening {
    let Some((operation, rest)) = operation(packet) else {
        return Opening::Stray;
    };
    match operation {
        RRQ => read_request(rest).map_or(
            Opening::Refused(ErrorCode::IllegalOperation, "not a read request of RFC 1350"),
            Opening::Read,
        ),
        WRQ => Opening::Refused(ErrorCode::AccessViolation, "this server is read only"),
        _ => Opening::Stray,
    }
}

/// Parses a later packet.
pub(crate) fn reply(packet: &[u8]) -> Reply {
    match operation(packet) {
        Some((ACK, [high, low, ..])) => Reply::Ack(u16::from_be_bytes([*high, *low])),
        // The packet may be cut short, but its sender has ended the transfer in any case.
        Some((ERROR, _)) => Reply::Error,
        _ => Reply::Stray,
    }
}

/// Encodes a `DATA` packet with a block's number.
pub(crate) fn data(number: u64, payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::with_capacity(4 + payload.len());
    packet.extend(DATA.to_be_bytes());
    packet.extend(wire_number(number).to_be_bytes());
    packet.extend(payload);
    packet
}

/// Number of a block on the wire. It rolls over to 0 after 65535.
pub(crate) fn wire_number(number: u64) -> u16 {
    let [.., high, low] = number.to_be_bytes();
    u16::from_be_bytes([high, low])
}

/// Encodes an `ERROR` packet.
pub(crate) fn error(code: ErrorCode, message: &str) -> Vec<u8> {
    let mut packet = Vec::from(ERROR.to_be_bytes());
    packet.extend((code as u16).to_be_bytes());
    packet.extend(message.bytes());
    packet.push(0);
    packet
}

/// Encodes an `OACK` packet with the granted options.
pub(crate) fn oack(granted: &[(&str, u64)]) -> Vec<u8> {
    let mut packet = Vec::from(OACK.to_be_bytes());
    for (name, value) in granted {
        packet.extend(name.bytes());
        packet.push(0);
        packet.extend(value.to_string().bytes());
        packet.push(0);
    }
    packet
}

fn operation(packet: &[u8]) -> Option<(u16, &[u8])> {
    let (operation, rest) = packet.split_first_chunk::<2>()?;
    Some((u16::from_be_bytes(*operation), rest))
}

/// Parses name, mode and options, each ended by a NUL. Some ROMs omit the last NUL, others append padding.
fn read_request(rest: &[u8]) -> Option<ReadRequest> {
    let mut fields = rest.split(|b| *b == 0);
    let name = fields.next()?.to_vec();
    let mode = match fields.next()? {
        mode if mode.eq_ignore_ascii_case(b"octet") || mode.eq_ignore_ascii_case(b"binary") => Mode::Octet,
        mode if mode.eq_ignore_ascii_case(b"netascii") => Mode::Netascii,
        _ => return None,
    };
    let mut options = Options::default();
    for _ in 0..MAX_OPTIONS {
        let (Some(option), Some(value)) = (fields.next(), fields.next()) else {
            break;
        };
        read_option(&mut options, option, value);
    }
    Some(ReadRequest { name, mode, options })
}

fn read_option(options: &mut Options, option: &[u8], value: &[u8]) {
    let value = std::str::from_utf8(value)
        .ok()
        .and_then(|text| text.trim().parse::<u64>().ok());
    let Some(value) = value else { return };
    let small = u16::try_from(value).unwrap_or(u16::MAX);
    if option.eq_ignore_ascii_case(b"blksize") && value >= u64::from(MIN_BLOCK) {
        options.block = Some(small.min(MAX_BLOCK));
    } else if option.eq_ignore_ascii_case(b"timeout") {
        let secs = u8::try_from(value).ok();
        options.timeout_secs = secs.filter(|secs| (1..=MAX_TIMEOUT_SECS).contains(secs));
    } else if option.eq_ignore_ascii_case(b"tsize") {
        options.size = true;
    } else if option.eq_ignore_ascii_case(b"windowsize") && value >= 1 {
        options.window = Some(small.min(MAX_WINDOW));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Replaces `|` by NUL.
    fn bytes(text: &str) -> Vec<u8> {
        text.bytes().map(|b| if b == b'|' { 0 } else { b }).collect()
    }

    fn request(text: &str) -> Opening {
        opening(&[vec![0, 1], bytes(text)].concat())
    }

    fn read(name: &str, mode: Mode, options: Options) -> Opening {
        Opening::Read(ReadRequest {
            name: name.into(),
            mode,
            options,
        })
    }

    #[test]
    fn requests_are_read_as_roms_send_them() {
        let none = Options::default();
        let all = Options {
            block: Some(1468),
            timeout_secs: Some(3),
            size: true,
            window: Some(16),
        };
        let large = Options {
            block: Some(65464),
            window: Some(64),
            ..none
        };
        for (text, opening) in [
            ("a|octet|", read("a", Mode::Octet, none)),
            ("a|OCTET", read("a", Mode::Octet, none)),
            ("a|netascii||||", read("a", Mode::Netascii, none)),
            (
                "a|octet|TSIZE|0|blksize|1468|timeout|3|windowsize|16|",
                read("a", Mode::Octet, all),
            ),
            (
                "a|octet|blksize|7|timeout|0|windowsize|0|",
                read("a", Mode::Octet, none),
            ),
            ("a|octet|timeout|255|multicast||", read("a", Mode::Octet, none)),
            ("a|octet|blksize", read("a", Mode::Octet, none)),
            (
                "a|octet|blksize|99999999|windowsize|65535|",
                read("a", Mode::Octet, large),
            ),
        ] {
            assert_eq!(request(text), opening, "{text}");
        }
    }

    #[test]
    fn what_is_no_read_request_is_refused_or_ignored() {
        for text in ["", "a", "a|mail|", "a|"] {
            assert!(
                matches!(request(text), Opening::Refused(ErrorCode::IllegalOperation, _)),
                "{text:?}"
            );
        }
        let write = opening(b"\0\x02a\0octet\0");
        assert!(matches!(write, Opening::Refused(ErrorCode::AccessViolation, _)));
        for stray in [
            &b""[..],
            b"\0",
            b"\0\x03\0\x01x",
            b"\0\x04\0\x01",
            b"\0\x05\0\0",
            b"\0\x06",
            b"xx",
        ] {
            assert_eq!(opening(stray), Opening::Stray);
        }
    }

    #[test]
    fn replies_are_read_and_packets_written_as_rfc_1350_has_them() {
        assert_eq!(reply(b"\0\x04\x01\x02"), Reply::Ack(0x102));
        assert_eq!(reply(b"\0\x04\x01\x02trailing"), Reply::Ack(0x102));
        assert_eq!(reply(b"\0\x04\x01"), Reply::Stray);
        assert_eq!(reply(b"\0\x05"), Reply::Error);
        assert_eq!(data(65537, b"xy"), b"\0\x03\0\x01xy");
        assert_eq!(data(65536, b""), b"\0\x03\0\0");
        assert_eq!(error(ErrorCode::NotFound, "no"), b"\0\x05\0\x01no\0");
        assert_eq!(
            oack(&[("tsize", 10), ("blksize", 8)]),
            [&b"\0\x06"[..], &bytes("tsize|10|blksize|8|")].concat()
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic_and_within_bounds(packet in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = reply(&packet);
            if let Opening::Read(request) = opening(&packet) {
                prop_assert!(request.name.len() <= packet.len());
            }
        }

        #[test]
        fn any_options_stay_within_bounds(values in proptest::array::uniform4(any::<u32>()), tail in ".{0,20}") {
            let [block, timeout, size, window] = values;
            let text = format!("n|octet|blksize|{block}|timeout|{timeout}|tsize|{size}|windowsize|{window}|{tail}");
            let Opening::Read(request) = request(&text) else { panic!("{text:?}") };
            let options = request.options;
            prop_assert!(options.block.is_none_or(|block| (MIN_BLOCK..=MAX_BLOCK).contains(&block)));
            prop_assert!(options.timeout_secs.is_none_or(|secs| (1..=MAX_TIMEOUT_SECS).contains(&secs)));
            prop_assert!(options.window.is_none_or(|window| (1..=MAX_WINDOW).contains(&window)));
            prop_assert!(options.size);
        }
    }
}
