//! The option fields of a message, parsed by hand (RFC 2131 §4.1, RFC 2132, RFC 3396).
//!
//! An option that is cut off, or whose length is wrong for its kind, is left out. The other options are not
//! affected.

use std::collections::BTreeMap;
use std::ops::Range;

use dhcproto::Encoder;
use dhcproto::error::EncodeError;
use dhcproto::v4::encode_long_opt_bytes;

/// Number of bytes before the options: the BOOTP header and the magic.
pub(crate) const HEADER: usize = 240;
/// Positions of `sname` and `file` in the header.
const SNAME: Range<usize> = 44..108;
const FILE: Range<usize> = 108..236;
/// Longest data of an option in one piece, in bytes: its length field is one byte.
pub(crate) const MAX_PIECE: usize = 255;

/// Numbers of options that dhcproto has no type for, or whose type loses information.
pub(crate) const HOST_NAME: u8 = 12;
pub(crate) const CLIENT_FQDN: u8 = 81;
const OVERLOAD: u8 = 52;
pub(crate) const RELAY_AGENT: u8 = 82;
pub(crate) const ARCHITECTURES: u8 = 93;
pub(crate) const IPXE: u8 = 175;

const PAD: u8 = 0;
const END: u8 = 255;

/// All options of a message by number, with split options joined. The message must have a whole header.
pub(crate) fn options_of(bytes: &[u8]) -> BTreeMap<u8, Vec<u8>> {
    let mut options = BTreeMap::new();
    walk(&bytes[HEADER..], &mut options);
    // RFC 2131 §4.1: 1 means `file`, 2 means `sname`, 3 means both, `file` first.
    let overload = match options.get(&OVERLOAD).map(Vec::as_slice) {
        Some(&[fields]) => fields,
        _ => 0,
    };
    if overload & 1 != 0 {
        walk(&bytes[FILE], &mut options);
    }
    if overload & 2 != 0 {
        walk(&bytes[SNAME], &mut options);
    }
    options.retain(|code, data| can_be(*code, data));
    options
}

fn walk(mut field: &[u8], options: &mut BTreeMap<u8, Vec<u8>>) {
    while let [code, rest @ ..] = field {
        match *code {
            PAD => field = rest,
            END => return,
            code => {
                let Some((data, rest)) = counted(rest) else { return };
                options.entry(code).or_default().extend_from_slice(data);
                field = rest;
            }
        }
    }
}

/// Splits a field into counted data and the rest. The first byte is the length of the data.
fn counted(field: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = field.split_first()?;
    rest.split_at_checked(usize::from(*length))
}

/// Returns the first sub-option of this number in an encapsulating option (43, 82, 175). Returns `None` if it
/// is cut off.
#[must_use]
pub fn sub_option(mut data: &[u8], number: u8) -> Option<&[u8]> {
    while let [code, rest @ ..] = data {
        match *code {
            PAD => data = rest,
            END => return None,
            code => {
                let (value, rest) = counted(rest)?;
                if code == number {
                    return Some(value);
                }
                data = rest;
            }
        }
    }
    None
}

/// Joins the labels of a DNS name with dots (RFC 1035 §3.1, no compression).
pub(crate) fn labels(mut data: &[u8]) -> Option<Vec<u8>> {
    let mut name = Vec::new();
    while data.first().is_some_and(|length| *length > 0) {
        let (label, rest) = counted(data)?;
        if !name.is_empty() {
            name.push(b'.');
        }
        name.extend_from_slice(label);
        data = rest;
    }
    Some(name)
}

/// True for options that dhcproto decodes. All other options are kept from it.
pub(crate) fn is_typed(code: u8) -> bool {
    matches!(code, 43 | 50 | 53 | 54 | 55 | 57 | 60 | 61 | 77 | 97 | 118)
}

/// True if the length is valid for the option (RFC 2132, 3004, 3011, 3046 and 4578).
fn can_be(code: u8, data: &[u8]) -> bool {
    match code {
        50 | 54 | 118 => data.len() == 4,
        OVERLOAD | 53 => data.len() == 1,
        57 => data.len() == 2,
        // dhcproto splits longer data. A client identifier of one byte identifies nothing.
        61 => (2..=MAX_PIECE).contains(&data.len()),
        43 | 55 | 60 | 77 => (1..=MAX_PIECE).contains(&data.len()),
        ARCHITECTURES => !data.is_empty() && data.len().is_multiple_of(2),
        97 => data.len() == 17,
        _ => true,
    }
}

/// Writes an option, in several parts if it is too long for one (RFC 3396).
pub(crate) fn append(bytes: &mut Vec<u8>, code: u8, data: &[u8]) -> Result<(), EncodeError> {
    let mut tail = Vec::new();
    encode_long_opt_bytes(code.into(), data, &mut Encoder::new(&mut tail))?;
    bytes.extend_from_slice(&tail);
    Ok(())
}
