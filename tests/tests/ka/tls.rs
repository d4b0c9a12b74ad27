//! TLS as a peer of another release speaks it: 1.3, raw public keys (RFC 7250), frames with a length in
//! front.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::Ed25519KeyPair;
use rustls::client::AlwaysResolvesClientRawPublicKeys;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::verify_tls13_signature_with_raw_key;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::AlwaysResolvesServerRawPublicKeys;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, DistinguishedName, Error, ServerConfig,
    ServerConnection, SignatureScheme, StreamOwned,
};

/// Longest silence of a peer: a longer one is a hang.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A connection whose ends have made, or will make, their handshake.
pub(crate) type Tls = StreamOwned<ClientConnection, TcpStream>;

/// Connects; reads give up after [`PATIENCE`].
pub(crate) fn dial(host: &str, port: u16) -> Result<TcpStream> {
    let socket = TcpStream::connect_timeout(&format!("{host}:{port}").parse()?, PATIENCE)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// Connects with a fresh key of its own to the server with this fingerprint, or to any; offers `alpn`.
pub(crate) fn connect(socket: TcpStream, server: Option<[u8; 32]>, alpn: Option<&[u8]>) -> Result<Tls> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PeerKey(server)))
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(key()?)));
    config.alpn_protocols = alpn.map(<[u8]>::to_vec).into_iter().collect();
    let name = ServerName::try_from("ka").context("a name")?;
    Ok(StreamOwned::new(
        ClientConnection::new(Arc::new(config), name)?,
        socket,
    ))
}

/// Accepts any node with `key` as the server's key, as ours does in TLS.
pub(crate) fn accept(
    socket: TcpStream,
    key: Arc<CertifiedKey>,
) -> Result<StreamOwned<ServerConnection, TcpStream>> {
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(PeerKey(None)))
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(key)));
    Ok(StreamOwned::new(ServerConnection::new(Arc::new(config))?, socket))
}

pub(crate) fn frame(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    [&length.to_le_bytes(), body].concat()
}

pub(crate) fn read_frame(from: &mut impl Read) -> Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length).context("reading a frame's length")?;
    let length = u32::from_le_bytes(length) as usize;
    ensure!(length < 4096, "a frame of {length} bytes");
    let mut body = vec![0; length];
    from.read_exact(&mut body).context("reading a frame")?;
    Ok(body)
}

/// Returns everything that comes until the peer hangs up, or for `limit`.
pub(crate) fn heard(from: &mut impl Read, limit: Duration) -> Vec<u8> {
    let (mut all, mut bytes, began) = (Vec::new(), [0; 4096], Instant::now());
    while began.elapsed() < limit {
        match from.read(&mut bytes) {
            Ok(count) if count > 0 => all.extend_from_slice(&bytes[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // It hung up, in any way, or sent nothing for the time that the socket was given.
            Ok(_) | Err(_) => break,
        }
    }
    all
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Makes a key as RFC 7250 wants it.
pub(crate) fn key() -> Result<Arc<CertifiedKey>> {
    let pkcs8 =
        Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| anyhow!("no random bytes"))?;
    let key = rustls::crypto::aws_lc_rs::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from(pkcs8.as_ref()))?;
    let public = key.public_key().context("a key has a public part")?;
    let certificate = CertificateDer::from(public.as_ref().to_vec());
    Ok(Arc::new(CertifiedKey::new(vec![certificate], key)))
}

/// A verifier for either side: accepts the peer whose key has this fingerprint or, without one, any peer.
#[derive(Debug)]
struct PeerKey(Option<[u8; 32]>);

impl PeerKey {
    fn check(&self, key: &CertificateDer<'_>) -> Result<(), Error> {
        if self.0.is_none_or(|pinned| blake3::hash(key) == pinned) {
            return Ok(());
        }
        Err(Error::General("not the key of the join code".to_owned()))
    }
}

/// The methods about signatures that rustls asks of both its verifiers.
macro_rules! raw_key_signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            _message: &[u8],
            _key: &CertificateDer<'_>,
            _dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Err(Error::General("TLS 1.2 is not offered".to_owned()))
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            key: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let key = SubjectPublicKeyInfoDer::from(key.as_ref());
            let algorithms = provider().signature_verification_algorithms;
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
