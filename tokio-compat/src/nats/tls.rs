//! Encryption of connections to a NATS server, by rustls.

use std::path::Path;
use std::sync::Arc;

use async_nats::ConnectOptions;
use async_nats::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use async_nats::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use async_nats::rustls::pki_types::pem::PemObject;
use async_nats::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use async_nats::rustls::{self, ClientConfig, DigitallySignedStruct, SignatureScheme};

use crate::nats::config::Tls;
use crate::nats::error::Error;

/// Connections that are encrypted as `tls` says. Files are looked at here, so that one that will not do is named.
///
/// # Errors
/// [`Error::File`].
pub(crate) fn encrypted(options: ConnectOptions, tls: &Tls) -> Result<ConnectOptions, Error> {
    let mut options = options.require_tls(tls.is_required());
    let client = tls.client.as_ref().map(|(cert, key)| Ok((certificates(cert)?, private_key(key)?))).transpose()?;
    if tls.insecure {
        let provider = Arc::new(ring::default_provider());
        let anybody = Arc::new(Anybody(Arc::clone(&provider)));
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let refused = |path: &Path, error: rustls::Error| file("a certificate and its key", path, error);
        let path = tls.client.as_ref().map_or(Path::new(""), |(cert, _)| cert);
        let builder =
            builder.map_err(|error| refused(path, error))?.dangerous().with_custom_certificate_verifier(anybody);
        let config = match client {
            Some((cert, key)) => builder.with_client_auth_cert(cert, key).map_err(|error| refused(path, error))?,
            None => builder.with_no_client_auth(),
        };
        return Ok(options.tls_client_config(config));
    }
    if let Some(ca) = &tls.ca {
        certificates(ca)?;
        options = options.add_root_certificates(ca.clone());
    }
    if let Some((cert, key)) = &tls.client {
        options = options.add_client_certificate(cert.clone(), key.clone());
    }
    Ok(options)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    const WHAT: &str = "certificates (PEM)";
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let all = read.map_err(|error| file(WHAT, path, error))?;
    if all.is_empty() { Err(file(WHAT, path, "there is none in it")) } else { Ok(all) }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| file("a private key (PEM)", path, error))
}

fn file(what: &'static str, path: &Path, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::File { what, path: path.to_owned(), source: source.into() }
}

/// Takes any certificate, of whoever holds its key.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
