//! The cipher that this machine encrypts with.

use ka_proto::block::Cipher;

/// Returns AES if the processor has instructions for it and for GCM's multiplication. Otherwise returns
/// ChaCha20, because AES in software that leaks no timing is several times slower. The server decides,
/// because it has the most work: each node opens one stream while the server also reads the golden disk.
pub(crate) fn fastest() -> Cipher {
    if has_aes() {
        Cipher::Aes256Gcm
    } else {
        Cipher::ChaCha20Poly1305
    }
}

#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
fn has_aes() -> bool {
    std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq")
}

#[cfg(target_arch = "aarch64")]
fn has_aes() -> bool {
    std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull")
}

#[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
const fn has_aes() -> bool {
    false
}
