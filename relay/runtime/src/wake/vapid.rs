//! Vapid: by which key a push service knows this relay (RFC 8292).
//! Owns: the key, made once and kept in the data folder, and the words signed with it.
//! Never: the key that proves who the relay is to nodes and relays.

use std::path::Path;

use anyhow::Context as _;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;
use web_push_native::p256::elliptic_curve::sec1::ToEncodedPoint as _;
use web_push_native::p256::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _};
use web_push_native::p256::{NonZeroScalar, SecretKey};
use whimbrel_protocol::id::Domain;
use whimbrel_protocol::limits;
use zeroize::Zeroizing;

use crate::{clock, identity};

const FILE: &str = "wake.key.der";

/// A relay's key for push services.
pub(crate) struct Vapid {
    signing: EncodingKey,
    /// As it is told with every word: uncompressed, base64url.
    public: String,
    contact: String,
}

/// What a word says (RFC 8292 §2).
#[derive(Serialize)]
struct Claims<'w> {
    aud: String,
    exp: u64,
    sub: &'w str,
}

impl Vapid {
    /// Reads the key, or makes it.
    ///
    /// # Errors
    /// The file cannot be read or written, or is no such key.
    pub(crate) fn load(data_dir: &Path, domain: &Domain, contact: Option<&str>) -> anyhow::Result<Self> {
        let file = data_dir.join(FILE);
        let der = match std::fs::read(&file) {
            Ok(bytes) => Zeroizing::new(bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let der = fresh()?.to_pkcs8_der().context("a key that has no form")?;
                identity::write_new(&file, der.as_bytes())?;
                identity::sync_dir(data_dir)?;
                Zeroizing::new(der.as_bytes().to_vec())
            }
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
        };
        let key = SecretKey::from_pkcs8_der(&der).with_context(|| format!("{}: not a P-256 key", file.display()))?;
        Ok(Self {
            signing: EncodingKey::from_ec_der(&der),
            public: BASE64_URL_SAFE_NO_PAD.encode(key.public_key().to_encoded_point(false)),
            contact: contact.map_or_else(|| format!("https://{domain}"), str::to_owned),
        })
    }

    /// The word for one push service, as the header wants it; none if it cannot be signed.
    pub(super) fn word_to(&self, authority: &str) -> Option<String> {
        let exp = clock::wall().as_secs().saturating_add(limits::WAKE_TOKEN_AGE.as_secs());
        let claims = Claims { aud: format!("https://{authority}"), exp, sub: &self.contact };
        match jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &self.signing) {
            Ok(token) => Some(format!("vapid t={token}, k={}", self.public)),
            Err(error) => {
                tracing::error!(%error, "a word to a push service could not be signed");
                None
            }
        }
    }
}

fn fresh() -> anyhow::Result<SecretKey> {
    let mut secret = Zeroizing::new([0; 32]);
    loop {
        getrandom::fill(&mut secret[..]).context("no randomness from the operating system")?;
        // All but one in 2^32 are below the order of the group.
        if let Some(scalar) = Option::<NonZeroScalar>::from(NonZeroScalar::from_repr((*secret).into())) {
            return Ok(SecretKey::from(scalar));
        }
    }
}
