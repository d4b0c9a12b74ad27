//! TLS 1.3 with raw public keys (RFC 7250) both ways: no certificate authority, no names, no dates.
//!
//! The node pins the server's key by the fingerprint in its join code. The server takes any key of a node in
//! TLS; a node shows that it may join by a proof bound to this very connection ([`exported_secret`]), see
//! [`crate::control`]. Nothing else is offered: no TLS 1.2, no resumption, no early data.

use std::sync::Arc;

use ka_proto::auth::Exporter;
use ka_proto::operator::OPERATOR_ALPN;
use ka_proto::via::VIA_ALPN;
use rustls::client::AlwaysResolvesClientRawPublicKeys;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::verify_tls13_signature_with_raw_key;
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error,
    PeerIncompatible, ServerConfig, SignatureScheme,
};

use crate::code::FINGERPRINT_LEN;
use crate::error::TransportError;
use crate::key::{ServerKey, fingerprint_of};

/// Configuration of the server's side of control connections: any key of a node. An operator says so by name
/// ([`VIA_ALPN`]), and [`shown_fingerprint`] is then what lets them in.
pub(crate) fn server_config(key: &ServerKey) -> Result<Arc<ServerConfig>, TransportError> {
    let mut config = accepting(key, PeerKey::any())?;
    config.alpn_protocols = vec![VIA_ALPN.to_vec()];
    Ok(Arc::new(config))
}

/// Configuration of an operator at the server: both ends show the same key, and take no other.
pub(crate) fn via_config(key: &ServerKey) -> Result<Arc<ClientConfig>, TransportError> {
    let mut config = connecting(key, PeerKey::pinned(key.fingerprint()))?;
    config.alpn_protocols = vec![VIA_ALPN.to_vec()];
    Ok(Arc::new(config))
}

/// Returns the key that the peer has shown, and proved to have.
pub(crate) fn shown_fingerprint<Data>(
    connection: &rustls::ConnectionCommon<Data>,
) -> Option<[u8; FINGERPRINT_LEN]> {
    let shown = connection.peer_certificates()?.first()?;
    Some(fingerprint_of(shown))
}

/// Configuration of a node's side: only the key with `fingerprint` is a server.
pub(crate) fn client_config(
    fingerprint: [u8; FINGERPRINT_LEN],
    own: &ServerKey,
) -> Result<Arc<ClientConfig>, TransportError> {
    connecting(own, PeerKey::pinned(fingerprint)).map(Arc::new)
}

/// Configuration of a node that answers its operator: only the key with `fingerprint` gets in.
pub(crate) fn operator_listener_config(
    fingerprint: [u8; FINGERPRINT_LEN],
    own: &ServerKey,
) -> Result<Arc<ServerConfig>, TransportError> {
    let mut config = accepting(own, PeerKey::pinned(fingerprint))?;
    config.alpn_protocols = vec![OPERATOR_ALPN.to_vec()];
    Ok(Arc::new(config))
}

/// Returns the configuration of an operator, the holder of the server's key. The node proves itself after the
/// handshake.
pub(crate) fn operator_config(key: &ServerKey) -> Result<Arc<ClientConfig>, TransportError> {
    let mut config = connecting(key, PeerKey::any())?;
    config.alpn_protocols = vec![OPERATOR_ALPN.to_vec()];
    Ok(Arc::new(config))
}

fn accepting(own: &ServerKey, peer: PeerKey) -> Result<ServerConfig, TransportError> {
    let mut config =
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(Arc::new(peer))
            .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(own.certified())));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn connecting(own: &ServerKey, peer: PeerKey) -> Result<ClientConfig, TransportError> {
    let mut config =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(peer))
            .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(own.certified())));
    config.resumption = rustls::client::Resumption::disabled();
    config.enable_sni = false;
    Ok(config)
}

/// 32 bytes that only the two ends of this TLS connection know, and that no other connection shares.
pub(crate) fn exported_secret<Data>(
    connection: &rustls::ConnectionCommon<Data>,
    label: &[u8],
) -> Result<Exporter, TransportError> {
    Ok(connection.export_keying_material([0; 32], label, None)?)
}

/// True when `error` says that the peer showed another key than the pinned one.
pub(crate) fn is_wrong_key(error: &std::io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    matches!(
        inner,
        Some(Error::InvalidCertificate(
            CertificateError::ApplicationVerificationFailure
        ))
    )
}

/// True when `error` says that the peer has turned down the key that we showed.
pub(crate) fn refuses_our_key(error: &std::io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    matches!(inner, Some(Error::AlertReceived(AlertDescription::AccessDenied)))
}

/// The rule for the key that a peer shows, for rustls on either side; the peer must hold the private part in
/// every case.
#[derive(Debug)]
struct PeerKey {
    /// BLAKE3 of the one key that is accepted. `None` accepts any key: the peer's later proof decides about
    /// its rights.
    pinned: Option<[u8; FINGERPRINT_LEN]>,
}

impl PeerKey {
    const fn any() -> Self {
        Self { pinned: None }
    }

    const fn pinned(fingerprint: [u8; FINGERPRINT_LEN]) -> Self {
        Self {
            pinned: Some(fingerprint),
        }
    }

    fn check(&self, key: &CertificateDer<'_>) -> Result<(), Error> {
        match self.pinned {
            Some(pinned) if fingerprint_of(key) != pinned => {
                Err(CertificateError::ApplicationVerificationFailure.into())
            }
            _ => Ok(()),
        }
    }
}

/// The methods about signatures that rustls asks of both its verifiers: TLS 1.3, with the raw Ed25519 key
/// that was shown.
macro_rules! raw_key_signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            _message: &[u8],
            _key: &CertificateDer<'_>,
            _dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Err(PeerIncompatible::Tls12NotOffered.into())
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            key: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let key = SubjectPublicKeyInfoDer::from(key.as_ref());
            let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
            verify_tls13_signature_with_raw_key(message, &key, dss, &algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            vec![SignatureScheme::ED25519]
        }

        fn requires_raw_public_keys(&self) -> bool {
            true
        }
    };
}

impl ServerCertVerifier for PeerKey {
    raw_key_signatures!();

    fn verify_server_cert(
        &self,
        key: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(key).map(|()| ServerCertVerified::assertion())
    }
}

impl ClientCertVerifier for PeerKey {
    raw_key_signatures!();

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        key: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(key).map(|()| ClientCertVerified::assertion())
    }
}
