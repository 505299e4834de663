//! Identity: the relay's keys and certificates as files.
//! Owns: their names, form (PKCS#8 and X.509, DER), permissions, and that none is ever half written.
//! Never: keeps the offline key where the relay runs, beyond `init` and `renew`.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use anyhow::Context as _;
use whimbrel_crypto::certificate::pkcs8;
use whimbrel_crypto::{Chance, KeyPair, RelayIdentity, Seed};
use zeroize::Zeroizing;

use crate::failure::{Exit, Failure};

/// Signs online certificates; to be kept elsewhere.
pub(crate) const OFFLINE_KEY: &str = "offline.key.der";
const OFFLINE_CERTIFICATE: &str = "offline.cert.der";
const ONLINE_KEY: &str = "online.key.der";
const ONLINE_CERTIFICATE: &str = "online.cert.der";
/// `pkcs8` and its secret.
const KEY_BYTES: usize = 48;
const SECRET_BYTES: usize = 32;

/// A key from the operating system's randomness.
pub(crate) fn fresh_key() -> anyhow::Result<KeyPair> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(&mut seed[..]).context("no randomness from the operating system")?;
    Ok(KeyPair::generate(&mut Chance::from_seed(Seed::from_bytes(*seed))))
}

/// Reads a relay's working identity.
///
/// # Errors
/// A file is missing or unreadable, or the files do not belong together.
pub fn load(dir: &Path) -> Result<RelayIdentity, Failure> {
    let key = load_key(&dir.join(ONLINE_KEY))?;
    let (offline, online) = (read(&dir.join(OFFLINE_CERTIFICATE))?, read(&dir.join(ONLINE_CERTIFICATE))?);
    RelayIdentity::from_parts(offline, online, &key).map_err(|error| {
        Failure::new(Exit::Trust, "identity", format!("{}: {error}", dir.display()))
            .hint("key and certificates must come from one `init` or `renew`; put them back from a copy")
    })
}

/// Reads a private key.
pub(crate) fn load_key(file: &Path) -> Result<KeyPair, Failure> {
    let bytes = Zeroizing::new(read(file)?);
    let not_a_key =
        || Failure::new(Exit::Trust, "identity", format!("{}: not an ed25519 key (PKCS#8)", file.display()));
    let mut secret = Zeroizing::new([0; SECRET_BYTES]);
    let tail = bytes.len().checked_sub(SECRET_BYTES).and_then(|at| bytes.get(at..)).ok_or_else(not_a_key)?;
    secret.copy_from_slice(tail);
    let key = KeyPair::from_seed_bytes(*secret);
    // The one form we write: what comes out again the same was such a key.
    if bytes.len() == KEY_BYTES && *pkcs8(&key) == *bytes { Ok(key) } else { Err(not_a_key()) }
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(file).map_err(|error| {
        let message = format!("{}: {error}", file.display());
        match error.kind() {
            io::ErrorKind::NotFound => Failure::new(Exit::NotFound, "identity_not_found", message).hint(
                "the identity lies in the data folder, and in `identity.old` if a renewal was interrupted; without it \
                 this relay cannot be who it was",
            ),
            io::ErrorKind::PermissionDenied => Failure::new(Exit::Locked, "identity_unreadable", message),
            _ => Failure::new(Exit::Internal, "identity_unreadable", message),
        }
    })
}

/// Writes a working identity into a folder, which is made if need be.
pub(crate) fn write(dir: &Path, identity: &RelayIdentity) -> anyhow::Result<()> {
    make_dir(dir)?;
    let [online, offline] = identity.chain();
    write_new(&dir.join(OFFLINE_CERTIFICATE), &offline)?;
    write_new(&dir.join(ONLINE_CERTIFICATE), &online)?;
    write_key(&dir.join(ONLINE_KEY), identity.online_key())?;
    sync_dir(dir)
}

pub(crate) fn write_key(file: &Path, key: &KeyPair) -> anyhow::Result<()> {
    write_new(file, &pkcs8(key))
}

/// A new file that only its owner can read, on the disk when this returns.
pub(crate) fn write_new(file: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(file).and_then(|mut new| {
        new.write_all(bytes)?;
        new.sync_all()
    });
    written.with_context(|| format!("cannot write {}", file.display()))
}

/// A folder that only its owner can enter.
pub(crate) fn make_dir(dir: &Path) -> anyhow::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir).with_context(|| format!("cannot make {}", dir.display()))
}

/// Makes the names in a folder durable.
pub(crate) fn sync_dir(dir: &Path) -> anyhow::Result<()> {
    // Elsewhere a folder cannot be opened as a file, and the file system orders names by itself.
    if cfg!(unix) {
        fs::File::open(dir).and_then(|dir| dir.sync_all()).with_context(|| format!("cannot sync {}", dir.display()))?;
    }
    Ok(())
}

/// Whether others than the owner can read the online key.
pub(crate) fn is_exposed(dir: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::metadata(dir.join(ONLINE_KEY)).is_ok_and(|key| key.permissions().mode() & 0o077 != 0)
    }
    #[cfg(not(unix))]
    {
        let _ = dir;
        false
    }
}
