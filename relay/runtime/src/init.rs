//! Init and renew: a relay's folder, and a new online certificate for it.
//! Owns: the order of steps that leaves either everything or nothing behind.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use whimbrel_crypto::RelayIdentity;
use whimbrel_protocol::id::Domain;

use crate::failure::{Exit, Failure};
use crate::{Settings, clock, config, identity};

/// What `init` is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Init {
    pub(crate) domain: Domain,
    pub(crate) dir: PathBuf,
    pub(crate) listen: SocketAddr,
    pub(crate) advertise: Option<String>,
}

/// What `init` made.
pub(crate) struct Made {
    pub(crate) settings: Settings,
    pub(crate) identity: RelayIdentity,
    pub(crate) offline_key: PathBuf,
}

/// Makes keys, certificates and configuration in a folder of their own.
pub(crate) fn init(ask: &Init) -> Result<Made, Failure> {
    let Init { domain, dir, listen, advertise } = ask;
    let occupied = || {
        Failure::new(Exit::Usage, "exists", format!("{} exists and is not empty", dir.display()))
            .hint("nothing was changed; choose another --dir, or move the old one away")
    };
    let is_free = |dir: &Path| match fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    };
    if !is_free(dir) {
        return Err(occupied());
    }
    let offline = identity::fresh_key()?;
    let identity = RelayIdentity::create(&offline, &identity::fresh_key()?, domain, clock::wall())
        .context("cannot make the certificates")?;

    // Beside the folder, so that the last step is one renaming on one file system.
    let name = dir
        .file_name()
        .ok_or_else(|| Failure::new(Exit::Usage, "usage", format!("{} is no name for a folder", dir.display())))?;
    let parent = match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    fs::create_dir_all(&parent).with_context(|| format!("cannot make {}", parent.display()))?;
    let building = parent.join(format!(".{}.{}.new", name.to_string_lossy(), std::process::id()));
    let built = fill(&building, ask, &offline, &identity)
        .and_then(|()| fs::rename(&building, dir).with_context(|| format!("cannot put {} in place", dir.display())));
    if let Err(error) = built {
        // Whatever was built is of no use; if even this fails, the first error says more.
        let _left_behind = fs::remove_dir_all(&building);
        return Err(if is_free(dir) { error.into() } else { occupied() });
    }
    identity::sync_dir(&parent)?;

    let source = config::template(domain, *listen, advertise.as_deref());
    let settings = Settings::parse(&dir.join(config::FILE_NAME), &source)?;
    Ok(Made { settings, identity, offline_key: dir.join(identity::OFFLINE_KEY) })
}

fn fill(dir: &Path, ask: &Init, offline: &whimbrel_crypto::KeyPair, identity: &RelayIdentity) -> anyhow::Result<()> {
    identity::make_dir(dir)?;
    identity::write_key(&dir.join(identity::OFFLINE_KEY), offline)?;
    let data = dir.join("data");
    identity::write(&data.join("identity"), identity)?;
    identity::sync_dir(&data)?;
    let source = config::template(&ask.domain, ask.listen, ask.advertise.as_deref());
    identity::write_new(&dir.join(config::FILE_NAME), source.as_bytes())?;
    identity::sync_dir(dir)
}

/// Replaces the online key and certificate; the relay stays who it is. The old ones are kept beside the new.
pub(crate) fn renew(settings: &Settings, offline_key: &Path) -> Result<RelayIdentity, Failure> {
    let dir = settings.identity_dir();
    let mut identity = identity::load(&dir)?;
    let offline = identity::load_key(offline_key)?;
    identity.reissue_online(&offline, &identity::fresh_key()?, clock::wall()).map_err(|_| {
        Failure::new(Exit::Trust, "identity", format!("{} is not this relay's offline key", offline_key.display()))
    })?;
    // Key and certificate must change together, so the folder is built anew and exchanged as a whole.
    let (fresh, old) = (dir.with_extension("new"), dir.with_extension("old"));
    for leftover in [&fresh, &old] {
        if leftover.exists() {
            fs::remove_dir_all(leftover).with_context(|| format!("cannot remove {}", leftover.display()))?;
        }
    }
    identity::write(&fresh, &identity)?;
    fs::rename(&dir, &old).with_context(|| format!("cannot set {} aside", dir.display()))?;
    if let Err(error) = fs::rename(&fresh, &dir) {
        fs::rename(&old, &dir).with_context(|| format!("cannot put {} back from {}", dir.display(), old.display()))?;
        return Err(anyhow::Error::new(error).context(format!("cannot put {} in place", dir.display())).into());
    }
    identity::sync_dir(&settings.data_dir)?;
    Ok(identity)
}
