//! The ports that boot programs know.

/// UDP port of TFTP (RFC 1350). ROMs know no other.
pub const TFTP_PORT: u16 = 69;
/// TCP port of HTTP. GRUB's `http` module and some UEFI firmware know no other.
pub const HTTP_PORT: u16 = 80;
