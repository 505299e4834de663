//! Verify: who may be at the other end, asked while the handshake runs.
//! Owns: the verdict over the certificates TLS received: a pinned relay for whoever dials; a node or a relay for
//! whoever accepts. Never: trusts a certificate authority or the name a connection was made with.

use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme};
use whimbrel_crypto::CertificateError;
use whimbrel_crypto::certificate::{node_key, verify_relay_chain};
use whimbrel_protocol::id::{Domain, RelayId};

use crate::{Clock, Peer};

/// Why the dialled relay is not the one we meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mistrust {
    Relay { found: RelayId },
    Domain { found: Domain },
    Certificate(CertificateError),
}

/// Who shows this chain: one certificate is a node's, two or three are a relay's.
pub(crate) fn peer_of(chain: &[CertificateDer<'_>], clock: Clock) -> Result<Peer, CertificateError> {
    match chain {
        [certificate] => Ok(Peer::Node { key: node_key(certificate)? }),
        chain => {
            let chain: Vec<&[u8]> = chain.iter().map(AsRef::as_ref).collect();
            let relay = verify_relay_chain(&chain, clock())?;
            Ok(Peer::Relay { relay: relay.id, domain: relay.domain })
        }
    }
}

fn whole<'c>(first: &CertificateDer<'c>, rest: &[CertificateDer<'c>]) -> Vec<CertificateDer<'c>> {
    std::iter::once(first).chain(rest).cloned().collect()
}

/// What TLS is told; the alert is all that the other side learns.
fn alert(error: &CertificateError) -> rustls::Error {
    rustls::Error::InvalidCertificate(match error {
        CertificateError::Dates => rustls::CertificateError::Expired,
        CertificateError::Signature => rustls::CertificateError::BadSignature,
        _ => rustls::CertificateError::BadEncoding,
    })
}

fn check_signature(
    algorithms: &WebPkiSupportedAlgorithms,
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    if signature.scheme != SignatureScheme::ED25519 {
        return Err(rustls::PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
    }
    verify_tls13_signature(message, certificate, signature, algorithms)
}

macro_rules! tls13_ed25519 {
    () => {
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Err(rustls::PeerIncompatible::Tls12NotOfferedOrEnabled.into())
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            check_signature(&self.algorithms, message, certificate, signature)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            vec![SignatureScheme::ED25519]
        }
    };
}

/// One dial's verdict: this relay, for this domain, or nobody.
#[derive(Debug)]
pub(crate) struct Pinned {
    relay: RelayId,
    domain: Domain,
    clock: Clock,
    algorithms: WebPkiSupportedAlgorithms,
    /// Why it was refused: TLS's own errors cannot say.
    mistrust: OnceLock<Mistrust>,
}

impl Pinned {
    pub(crate) fn new(
        relay: RelayId,
        domain: Domain,
        clock: Clock,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Arc<Self> {
        Arc::new(Self { relay, domain, clock, algorithms, mistrust: OnceLock::new() })
    }

    pub(crate) fn mistrust(&self) -> Option<&Mistrust> {
        self.mistrust.get()
    }

    fn judge(&self, chain: &[CertificateDer<'_>]) -> Result<(), Mistrust> {
        let chain: Vec<&[u8]> = chain.iter().map(AsRef::as_ref).collect();
        let found = verify_relay_chain(&chain, (self.clock)()).map_err(Mistrust::Certificate)?;
        if found.id != self.relay {
            Err(Mistrust::Relay { found: found.id })
        } else if found.domain != self.domain {
            Err(Mistrust::Domain { found: found.domain })
        } else {
            Ok(())
        }
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        first: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.judge(&whole(first, rest)).map(|()| ServerCertVerified::assertion()).map_err(|mistrust| {
            let error = match &mistrust {
                Mistrust::Certificate(error) => alert(error),
                Mistrust::Relay { .. } | Mistrust::Domain { .. } => {
                    rustls::CertificateError::ApplicationVerificationFailure.into()
                }
            };
            // One handshake asks once; a second verdict could only repeat the first.
            let _said_before = self.mistrust.set(mistrust);
            error
        })
    }

    tls13_ed25519!();
}

/// Whoever accepts: any node, any relay, but somebody. Which ALPN goes with which is checked once it is known.
#[derive(Debug)]
pub(crate) struct Anyone {
    pub(crate) clock: Clock,
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for Anyone {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        first: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        peer_of(&whole(first, rest), self.clock).map(|_| ClientCertVerified::assertion()).map_err(|error| alert(&error))
    }

    tls13_ed25519!();
}
