//! Https: TLS over TCP with the same identities as on QUIC, for whoever has no UDP.
//! Owns: what both ends ask of it. Never: knows what is said (HTTP is the runtimes').

use std::sync::Arc;

use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, ServerConfig};
use whimbrel_protocol::id::{Domain, RelayId};

use crate::config::Time;
use crate::verify::Pinned;
use crate::{Clock, Identity, IdentityError, provider};

const ALPN_HTTP: &[u8] = b"http/1.1";

/// A relay's side: its chain, and nobody is asked who they are.
///
/// # Errors
/// TLS does not take the identity.
pub fn https_server(identity: &Identity, clock: Clock) -> Result<Arc<ServerConfig>, IdentityError> {
    let mut tls = ServerConfig::builder_with_details(provider(), Arc::new(Time(clock)))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified.clone())));
    tls.alpn_protocols = vec![ALPN_HTTP.to_vec()];
    tls.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    tls.send_tls13_tickets = 0;
    tls.max_early_data_size = 0;
    Ok(Arc::new(tls))
}

/// A node's side: this relay, for this domain, or nobody. No certificate is shown, no name is sent.
///
/// # Errors
/// TLS refuses its own set-up; a fault of ours.
pub fn https_client(relay: RelayId, domain: Domain, clock: Clock) -> Result<Arc<ClientConfig>, IdentityError> {
    let provider = provider();
    let pinned = Pinned::new(relay, domain, clock, provider.signature_verification_algorithms);
    let mut tls = ClientConfig::builder_with_details(provider, Arc::new(Time(clock)))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(pinned)
        .with_no_client_auth();
    tls.alpn_protocols = vec![ALPN_HTTP.to_vec()];
    tls.resumption = rustls::client::Resumption::disabled();
    tls.enable_early_data = false;
    tls.enable_sni = false;
    Ok(Arc::new(tls))
}
