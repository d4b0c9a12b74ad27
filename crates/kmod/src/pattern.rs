//! Alias patterns, matched as by fnmatch(3) without flags: `*`, `?`, `[abc]`, `[a-z]`, `[!abc]`, `\x`.
//!
//! Outside of sets `-` and `_` are equal: depmod writes `_`, the kernel requests either. Time is at most
//! pattern × text, because only the last `*` is ever tried again.

/// True if a pattern of `modules.alias` matches the alias that the kernel or a device requests.
#[must_use]
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Position to resume at after a mismatch behind the last star: behind the star, one byte further in the
    // text.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            retry = Some((p, t));
            continue;
        }
        if p == pattern.len() && t == text.len() {
            return true;
        }
        if let Some(next) = text.get(t).and_then(|byte| one(pattern, p, *byte)) {
            p = next;
            t += 1;
            continue;
        }
        match retry {
            Some((behind_star, at)) if at < text.len() => {
                p = behind_star;
                t = at + 1;
                retry = Some((behind_star, t));
            }
            _ => return false,
        }
    }
}

/// Matches one byte against the pattern at `p`. Returns the position behind the matched part.
fn one(pattern: &[u8], p: usize, byte: u8) -> Option<usize> {
    match *pattern.get(p)? {
        b'?' => Some(p + 1),
        b'[' => match set(pattern, p + 1, byte) {
            Some((fits, next)) => fits.then_some(next),
            // A set without an end is a literal bracket.
            None => (byte == b'[').then_some(p + 1),
        },
        b'\\' => match pattern.get(p + 1) {
            Some(escaped) => (same(*escaped) == same(byte)).then_some(p + 2),
            None => (byte == b'\\').then_some(p + 1),
        },
        literal => (same(literal) == same(byte)).then_some(p + 1),
    }
}

/// Parses the set that begins at `p`. Returns true if it contains the byte, and the position behind the set.
fn set(pattern: &[u8], mut p: usize, byte: u8) -> Option<(bool, usize)> {
    let negated = matches!(pattern.get(p), Some(b'!' | b'^'));
    if negated {
        p += 1;
    }
    let first = p;
    let mut holds = false;
    loop {
        let mut low = *pattern.get(p)?;
        if low == b']' && p > first {
            return Some((holds != negated, p + 1));
        }
        if low == b'\\' {
            p += 1;
            low = *pattern.get(p)?;
        }
        p += 1;
        let mut high = low;
        if pattern.get(p) == Some(&b'-') && pattern.get(p + 1).is_some_and(|end| *end != b']') {
            p += 1;
            high = *pattern.get(p)?;
            if high == b'\\' {
                p += 1;
                high = *pattern.get(p)?;
            }
            p += 1;
        }
        holds |= (low..=high).contains(&byte);
    }
}

const fn same(byte: u8) -> u8 {
    if byte == b'-' { b'_' } else { byte }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn modaliases_of_real_devices_match_their_drivers() {
        let fits = [
            (
                "pci:v00008086d0000100Esv*sd*bc*sc*i*",
                "pci:v00008086d0000100Esv00001AF4sd00001100bc02sc00i00",
            ),
            (
                "usb:v13FDp3940d0[0-2]*dc*dsc*dp*ic*isc*ip*in*",
                "usb:v13FDp3940d0112dc00dsc00dp00ic08isc06ip50in00",
            ),
            ("virtio:d00000001v*", "virtio:d00000001v00001AF4"),
            ("xen:vif", "xen:vif"),
            ("dmi*:svnDell*:", "dmi:bvnX:svnDellInc.:"),
            ("crypto_crc32c", "crypto-crc32c"),
            ("*", ""),
            ("a*b*c", "a__b_bc_c"),
            ("[]a]", "]"),
            ("[!a]", "b"),
            ("[a-]", "-"),
            ("\\*", "*"),
            ("[\\]x]", "]"),
            ("a[b", "a[b"),
        ];
        for (pattern, text) in fits {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        let other = [
            ("pci:v00008086d0000100Esv*", "pci:v00008086d0000100Fsv0"),
            ("usb:v13FDp3940d0[0-2]*dc*", "usb:v13FDp3940d0312dc00"),
            ("abc", "ab"),
            ("ab", "abc"),
            ("?", ""),
            ("[!a]", "a"),
            ("\\*", "x"),
            ("[a_z]", "-"),
            ("", "a"),
        ];
        for (pattern, text) in other {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn a_pattern_made_to_take_for_ever_does_not() {
        let pattern = "*a".repeat(2000) + "b";
        let text = "a".repeat(20_000);
        assert!(!matches(&pattern, &text));
    }

    proptest! {
        #[test]
        fn it_agrees_with_the_plain_definition(pattern in "[ab*?_-]{0,12}", text in "[ab_-]{0,12}") {
            prop_assert_eq!(matches(&pattern, &text), plain(pattern.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn anything_is_taken_without_panic(pattern in ".{0,40}", text in ".{0,40}") {
            let _ = matches(&pattern, &text);
        }

        #[test]
        fn escaped_text_matches_itself(text in "[ -~]{0,40}") {
            let pattern: String = text.chars().flat_map(|c| ['\\', c]).collect();
            prop_assert!(matches(&pattern, &text));
        }
    }

    /// The definition of a match, in exponential time, for patterns without sets and escapes.
    fn plain(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) => (0..=text.len()).any(|n| plain(rest, &text[n..])),
            (Some((b'?', rest)), Some((_, tail))) => plain(rest, tail),
            (Some((p, rest)), Some((t, tail))) => same(*p) == same(*t) && plain(rest, tail),
            _ => false,
        }
    }
}
