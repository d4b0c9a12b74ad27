//! Fingerprints of SSH public keys, as `ssh-keygen -l` shows them: `SHA256:` and the base64 of the digest
//! (RFC 4648 without padding).

use aws_lc_rs::digest::{SHA256, digest};

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Longest key read, in bytes of text. An RSA key of 16384 bits has 2.8 KB.
const MAX_KEY_CHARS: usize = 16 << 10;

/// Returns the fingerprint of a line of a `.pub` file: type, key in base64, comment (sshd(8),
/// "AUTHORIZED_KEYS"). Returns `None` if the line holds no key.
#[must_use]
pub fn fingerprint(public_key_line: &str) -> Option<String> {
    let mut words = public_key_line.split_whitespace();
    let (kind, key) = (words.next()?, words.next()?);
    let blob = decode(key.trim_end_matches('='))?;
    // The blob begins with the type once more, behind its length (RFC 4253 §6.6).
    let named = blob.get(4..4 + kind.len())?;
    (named == kind.as_bytes()).then(|| format!("SHA256:{}", encode(digest(&SHA256, &blob).as_ref())))
}

fn decode(text: &str) -> Option<Vec<u8>> {
    if text.is_empty() || text.len() > MAX_KEY_CHARS {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    for group in text.as_bytes().chunks(4) {
        let mut bits = 0_u32;
        for byte in group {
            let digit = ALPHABET.iter().position(|letter| letter == byte)?;
            bits = bits << 6 | u32::try_from(digit).ok()?;
        }
        bits <<= 6 * (4 - group.len());
        bytes.extend_from_slice(bits.to_be_bytes().get(1..group.len())?);
    }
    Some(bytes)
}

fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 4 / 3 + 1);
    for group in bytes.chunks(3) {
        let mut three = [0; 4];
        three[1..=group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes(three);
        let digits = [18, 12, 6, 0].map(|shift| ALPHABET[(bits >> shift & 63) as usize]);
        text.extend(
            digits
                .iter()
                .take(group.len() + 1)
                .map(|letter| char::from(*letter)),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{decode, encode, fingerprint};

    /// Made and shown by OpenSSH 9.2: `ssh-keygen -lf`.
    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA+ay7SLEqSPPIelHwIH/JFy9iaaWTI/UagyhrevcJxh root@golden";
    const SHOWN: &str = "SHA256:qwDjFD/e6mw5rEKIVqs4e+wO2X7zU+d7SY8UO4sDbxU";

    #[test]
    fn a_fingerprint_is_what_ssh_keygen_shows() {
        assert_eq!(fingerprint(KEY).as_deref(), Some(SHOWN));
    }

    #[test]
    fn what_is_no_key_has_none() {
        let swapped = KEY.replace("ssh-ed25519", "ssh-rsa");
        for text in [
            "",
            "ssh-ed25519",
            "ssh-ed25519 !!!!",
            "ssh-ed25519 AAAA",
            &swapped,
        ] {
            assert_eq!(fingerprint(text), None, "{text}");
        }
    }

    #[test]
    fn base64_of_every_length_comes_back() {
        for len in 1..70_u8 {
            let bytes: Vec<u8> = (0..len).map(|byte| byte.wrapping_mul(37)).collect();
            assert_eq!(decode(&encode(&bytes)), Some(bytes));
        }
    }
}
