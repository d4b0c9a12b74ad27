//! Netascii (RFC 764): the encoding for clients that ask for text.

/// Encodes a text: a line end becomes CR LF, a carriage return becomes CR NUL. A CR LF in the file thus
/// becomes CR NUL CR LF, as RFC 1350 wants it, and the client turns it back.
pub(super) fn encode(bytes: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(bytes.len() + bytes.len() / 16);
    for byte in bytes {
        match byte {
            b'\n' => encoded.extend(b"\r\n"),
            b'\r' => encoded.extend(b"\r\0"),
            other => encoded.push(*other),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_and_carriage_returns_are_doubled() {
        assert_eq!(encode(b"a\nb\r\n\r"), b"a\r\nb\r\0\r\n\r\0");
    }
}
