//! Provider: the one implementation of TLS's cryptography for the whole process.
//! Owns: which it is, and its order of key exchanges. Handed over explicitly everywhere: with two providers linked
//! into one program, a library that must guess one panics.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};

/// aws-lc-rs, hybrid key exchange (X25519MLKEM768) before classical X25519, TLS 1.3 cipher suites only.
pub fn provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = vec![aws_lc_rs::kx_group::X25519MLKEM768, aws_lc_rs::kx_group::X25519];
    provider.cipher_suites.retain(|suite| suite.tls13().is_some());
    Arc::new(provider)
}

/// Makes [`provider`] the process's default, for libraries that take the default. A second call changes nothing.
pub fn install() {
    if Arc::unwrap_or_clone(provider()).install_default().is_err() {
        tracing::debug!("a TLS provider was installed before");
    }
}
