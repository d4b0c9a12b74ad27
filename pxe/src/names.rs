//! Normalization of names that firmware sends. Names are only looked up in a table, and no path is made of
//! them.

/// Longest name accepted, in bytes. The longest of GRUB and UEFI stay below 200.
const MAX_NAME_BYTES: usize = 512;

/// Returns the name as the table has it: lower case, plain slashes, no slash in front.
///
/// - Windows loaders and some ROMs write backslashes; GRUB doubles slashes; shim and iPXE put one in front.
/// - Some ROMs pass on the bytes behind the name in the DHCP packet (Intel's boot agent sends 0xff, the end
///   option; others send NULs). The name is cut at the first byte that is no printable ASCII.
/// - Spaces around a name or one of its parts are padding: no name of ours has any there.
/// - Some firmware asks in capitals.
#[must_use]
pub(crate) fn plain(raw: &[u8]) -> Option<String> {
    let end = raw.iter().position(|b| !(b' '..=b'~').contains(b));
    let text = &raw[..end.unwrap_or(raw.len())];
    if text.len() > MAX_NAME_BYTES {
        return None;
    }
    let text = std::str::from_utf8(text).ok()?.to_ascii_lowercase();
    let parts = text
        .split(['/', '\\'])
        .map(str::trim)
        .filter(|part| !part.is_empty() && *part != ".");
    let name = parts.collect::<Vec<_>>().join("/");
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_read_as_roms_send_them() {
        for (raw, name) in [
            (&b"pxelinux.0"[..], "pxelinux.0"),
            (b"/pxelinux.0", "pxelinux.0"),
            (b"\\Boot\\BCD", "boot/bcd"),
            (b"//grub//x86_64-efi/./grub.cfg", "grub/x86_64-efi/grub.cfg"),
            (b"pxelinux.0\xff", "pxelinux.0"),
            (b"pxelinux.0\0\0\0", "pxelinux.0"),
            (b"PXELINUX.0 ", "pxelinux.0"),
            (b"\\ pxelinux.0", "pxelinux.0"),
            (b"grub / . / grub.cfg", "grub/grub.cfg"),
            (b"../../etc/passwd", "../../etc/passwd"),
        ] {
            assert_eq!(plain(raw).as_deref(), Some(name));
        }
        for raw in [&b""[..], b"\xff", b"///", b"\0name"] {
            assert_eq!(plain(raw), None);
        }
        assert_eq!(plain(&[b'a'; 600]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_make_a_plain_name_or_none(raw in proptest::collection::vec(any::<u8>(), 0..700)) {
            if let Some(name) = plain(&raw) {
                prop_assert!(!name.starts_with('/') && !name.contains('\\') && !name.contains("//"));
                prop_assert_eq!(plain(name.as_bytes()), Some(name));
            }
        }
    }
}
