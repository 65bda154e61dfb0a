//! TLS on both sides: certificates of listeners, and what an outgoing connection demands.
//!
//! rustls with aws-lc-rs only. Peers of opportunistic TLS are not authenticated (RFC 7435):
//! most MX hosts present certificates that no public authority vouches for, and an encrypted
//! session with an unknown peer still beats plaintext.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use smtp::Domain;
use thiserror::Error;

/// Sets of names whose configurations are kept. Plugins may name any; over this all are forgotten,
/// which costs full handshakes.
const VERIFIED_MAX: usize = 256;

/// Why a certificate or key cannot be used.
#[derive(Debug, Error)]
pub enum TlsSetupError {
    /// A PEM file cannot be read.
    #[error("cannot read {path}: {source}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: rustls_pki_types::pem::Error,
    },
    /// Certificate and key do not fit, or are of an unknown kind.
    #[error("certificate {path}: {source}")]
    Certificate {
        /// The certificate's file.
        path: PathBuf,
        /// What rustls says.
        source: rustls::Error,
    },
}

fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(aws_lc_rs::default_provider())))
}

/// The listeners' TLS configuration from PEM files.
///
/// # Errors
/// When a file cannot be read, or certificate and key do not fit.
pub(crate) fn server_config(
    certificate: &Path,
    key: &Path,
) -> Result<Arc<ServerConfig>, TlsSetupError> {
    let pem = |path: &Path| {
        let path = path.to_owned();
        move |source| TlsSetupError::Pem { path, source }
    };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(pem(certificate))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(pem(key))?;
    let fault = |source| TlsSetupError::Certificate {
        path: certificate.to_owned(),
        source,
    };
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(fault)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(fault)?;
    Ok(Arc::new(config))
}

/// The configuration for a hop whose certificate is not checked.
#[must_use]
pub(crate) fn unauthenticated_client() -> Arc<ClientConfig> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    Arc::clone(CONFIG.get_or_init(|| client_config(Arc::new(Unauthenticated(provider())))))
}

/// The configuration for a hop whose certificate must be valid for one of `names`, or for the
/// hop's own name where there are none.
///
/// The same names give the same configuration, and with it the sessions that may be resumed: no
/// session goes from one set of names to another.
///
/// # Errors
/// When the system has no usable root certificates or a name is no host name.
pub(crate) fn verifying_client(names: &[Domain]) -> io::Result<Arc<ClientConfig>> {
    static BY_NAMES: Mutex<BTreeMap<Vec<Domain>, Arc<ClientConfig>>> = Mutex::new(BTreeMap::new());
    let mut known = BY_NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(config) = known.get(names) {
        return Ok(Arc::clone(config));
    }
    let verified = names
        .iter()
        .map(|name| ServerName::try_from(name.to_string()).map_err(io::Error::other))
        .collect::<io::Result<Vec<_>>>()?;
    let inner = WebPkiServerVerifier::builder_with_provider(system_roots()?, provider())
        .build()
        .map_err(io::Error::other)?;
    let config = client_config(Arc::new(AnyOf {
        inner,
        names: verified,
    }));
    if known.len() >= VERIFIED_MAX {
        known.clear();
    }
    known.insert(names.to_vec(), Arc::clone(&config));
    Ok(config)
}

fn client_config(verifier: Arc<dyn ServerCertVerifier>) -> Arc<ClientConfig> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("aws-lc-rs supports the default versions")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Arc::new(config)
}

fn system_roots() -> io::Result<Arc<RootCertStore>> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    if let Some(roots) = ROOTS.get() {
        return Ok(Arc::clone(roots));
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(io::Error::other(
            "the system has no root certificates (package ca-certificates)",
        ));
    }
    Ok(Arc::clone(ROOTS.get_or_init(|| Arc::new(roots))))
}

/// Accepts any certificate, and still checks that the peer holds its key.
#[derive(Debug)]
struct Unauthenticated(Arc<CryptoProvider>);

impl ServerCertVerifier for Unauthenticated {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A valid chain for any one of several names.
#[derive(Debug)]
struct AnyOf {
    inner: Arc<WebPkiServerVerifier>,
    names: Vec<ServerName<'static>>,
}

impl ServerCertVerifier for AnyOf {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let check = |name: &ServerName<'_>| {
            self.inner
                .verify_server_cert(end_entity, intermediates, name, ocsp_response, now)
        };
        let mut last = None;
        for name in &self.names {
            match check(name) {
                Ok(verified) => return Ok(verified),
                Err(error) => last = Some(error),
            }
        }
        last.map_or_else(|| check(server_name), Err)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
