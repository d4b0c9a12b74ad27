//! MAC addresses in a text.

use std::ops::Range;

/// `52:54:00:12:34:56`, bytes.
const LEN: usize = 17;

/// Returns the places of MAC addresses in a text: six pairs of hexadecimal digits, with colons or with
/// hyphens between them. A type in front (`01-52-54-…`, as DHCP and PXELINUX write it) is not part of it. A
/// longer sequence (an IPv6 address, InfiniBand) is none.
pub(crate) fn addresses(text: &str) -> Vec<Range<usize>> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at + LEN <= bytes.len() {
        if is_address(&bytes[at..at + LEN]) && begins(bytes, at) && ends(bytes, at + LEN) {
            found.push(at..at + LEN);
            at += LEN;
        } else {
            at += 1;
        }
    }
    found
}

/// Returns the same address in small letters with colons, for comparing.
pub(crate) fn plain(address: &str) -> String {
    address.replace('-', ":").to_ascii_lowercase()
}

/// `address` written as `like` is: its separator, and capital letters where it has some.
pub(crate) fn written_like(address: &str, like: &str) -> String {
    let mut text = plain(address);
    if like.contains('-') {
        text = text.replace(':', "-");
    }
    if like.bytes().any(|byte| byte.is_ascii_uppercase()) {
        text = text.to_ascii_uppercase();
    }
    text
}

/// Returns true for an address that no card has: all zeros, broadcast.
pub(crate) fn is_nobodys(address: &str) -> bool {
    matches!(plain(address).as_str(), "00:00:00:00:00:00" | "ff:ff:ff:ff:ff:ff")
}

fn is_address(bytes: &[u8]) -> bool {
    let separator = bytes[2];
    matches!(separator, b':' | b'-')
        && bytes.iter().enumerate().all(|(index, byte)| match index % 3 {
            2 => *byte == separator,
            _ => byte.is_ascii_hexdigit(),
        })
}

fn begins(bytes: &[u8], at: usize) -> bool {
    let before = &bytes[..at];
    match before.last() {
        None => true,
        Some(byte) if byte.is_ascii_alphanumeric() => false,
        Some(b':' | b'-') => {
            let word = before[..before.len() - 1]
                .rsplit(|byte| !byte.is_ascii_alphanumeric())
                .next()
                .unwrap_or_default();
            matches!(word, b"01" | b"1") || word.is_empty() || !word.iter().all(u8::is_ascii_hexdigit)
        }
        Some(_) => true,
    }
}

fn ends(bytes: &[u8], at: usize) -> bool {
    match &bytes[at..] {
        [] => true,
        [next, ..] if next.is_ascii_alphanumeric() => false,
        [b':' | b'-', after, ..] => !after.is_ascii_hexdigit(),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_from_words() {
        let found = |text: &str| -> Vec<String> {
            addresses(text)
                .into_iter()
                .map(|range| text[range].to_owned())
                .collect()
        };
        for text in [
            "=52:54:00:12:34:56",
            "mac:52:54:00:12:34:56",
            "01:52:54:00:12:34:56,",
            "{macaddress: '52:54:00:12:34:56'}",
            "ifname=lan0:52:54:00:12:34:56",
        ] {
            assert_eq!(found(text), ["52:54:00:12:34:56"], "{text}");
        }
        assert_eq!(found(" ether 52-54-00-ab-cd-ef;"), ["52-54-00-ab-cd-ef"]);
        assert_eq!(found("52:54:00:12:34:56 52:54:00:12:34:57").len(), 2);
        for text in [
            "=stable",
            "=preserve 1:2:3:4:5:6",
            "fe80:52:54:00:12:34:56",
            "52:54:00:12:34:56:78",
            "52:54-00:12:34:56",
        ] {
            assert_eq!(found(text), Vec::<String>::new(), "{text}");
        }
        assert_eq!(
            written_like("52:54:00:ab:cd:ef", "AA-BB-CC-DD-EE-0F"),
            "52-54-00-AB-CD-EF"
        );
    }
}
