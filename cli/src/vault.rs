//! Vault: how a command comes by the key of a sealed store, and who keeps it between two commands.
//! Owns: asking for passphrases, the kernel's key store, `lock`, `unlock`, `passphrase`, and that no core file is written.
//! Never: keeps a passphrase, takes one from the command line, or shows one.
//!
//! In this order: the file that was named, the kernel's key store, a question when somebody sits at a terminal.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::Duration;

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use serde::Serialize;
use whimbrel_crypto::seal::wrap::{Cost, Passphrase, UnwrapError};
use whimbrel_crypto::{KeyId, SealKey};
use whimbrel_node_runtime::{self as runtime, SealError};
use whimbrel_protocol::limits;
use zeroize::Zeroizing;

use crate::args;
use crate::clock;
use crate::config::Settings;
use crate::failure::{Exit, Failure};
use crate::local::{self, blocking};
use crate::output::{Screen, Show};
use crate::socket::Client;

/// How long the kernel's key store may take. It answers at once; whatever stands in its place must not hold a command.
const KEPT_WAIT: Duration = Duration::from_secs(2);
/// Tries before a question is given up.
const TRIES: usize = 3;

/// What a command about the seal did.
#[derive(Serialize)]
struct Done {
    #[serde(rename = "type")]
    kind: &'static str,
    sealed: bool,
    /// Whether later commands find the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    unlocked: Option<bool>,
    /// Rows that were copied or read.
    rows: Option<u64>,
    #[serde(skip)]
    text: &'static str,
}

impl Show for Done {
    fn text(&self) -> String {
        self.text.to_owned()
    }
}

/// Whatever happens, what is in memory is not written to a file: no core files, and no process of the same user attaches.
pub(crate) fn no_core_files() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let limited = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    #[cfg(target_os = "linux")]
    let limited =
        limited.and_then(|()| rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable));
    if let Err(error) = limited {
        tracing::warn!(%error, "core files may be written");
    }
}

/// The key of the profile's store; none when it is not sealed.
pub(crate) async fn key(settings: &Settings) -> Result<Option<SealKey>, Failure> {
    let home = settings.home.clone();
    if !blocking(move || runtime::is_sealed(&home).map_err(failure)).await? {
        return Ok(None);
    }
    if settings.passphrase_file.is_none()
        && let Some(key) = kept(settings).await?
    {
        return Ok(Some(key));
    }
    opened(settings).await.map(Some)
}

/// A key for the store that is about to be made, when a passphrase is named; none: it will not be sealed.
pub(crate) async fn new_key(settings: &Settings) -> Result<Option<SealKey>, Failure> {
    let home = settings.home.clone();
    let sealed = blocking({
        let home = home.clone();
        move || runtime::is_sealed(&home).map_err(failure)
    })
    .await?;
    let Some(file) = settings.passphrase_file.clone() else {
        return if sealed { opened(settings).await.map(Some) } else { Ok(None) };
    };
    blocking(move || {
        let passphrase = from_file(&file)?;
        runtime::prepare(&home, &passphrase, Cost::default()).map(Some).map_err(failure)
    })
    .await
}

/// `unlock`
pub(crate) async fn unlock(settings: &Settings, screen: Screen, time: Option<Duration>) -> Result<(), Failure> {
    let key = opened(settings).await?;
    keep(key, time).await?;
    screen.show(&Done { kind: "unlock", sealed: true, unlocked: Some(true), rows: None, text: "unlocked" })
}

/// `lock`
pub(crate) async fn lock(settings: &Settings, screen: Screen) -> Result<(), Failure> {
    let home = settings.home.clone();
    let id = blocking(move || runtime::key_id(&home).map_err(failure)).await?;
    // Forgotten first: a daemon that a supervisor starts again finds it no more.
    let forgotten = within(move || keyring::forget(id)).await;
    if let Some(mut daemon) = Client::connect(settings).await? {
        let process = daemon.process().and_then(rustix::process::Pid::from_raw);
        let process = process.ok_or_else(|| Failure::internal("the daemon has no process"))?;
        rustix::process::kill_process(process, rustix::process::Signal::TERM).map_err(Failure::internal)?;
        let gone = tokio::time::timeout_at((clock::now() + settings.timeout).into(), daemon.gone()).await;
        gone.map_err(|_| Failure::new(Exit::Unreachable, "daemon_unreachable", "the daemon does not end"))?;
    }
    // Where nothing keeps keys none is kept; the daemon had its own.
    forgotten?;
    screen.show(&Done { kind: "lock", sealed: true, unlocked: Some(false), rows: None, text: "locked" })
}

/// `passphrase`
pub(crate) async fn passphrase(settings: &Settings, screen: Screen, command: args::Passphrase) -> Result<(), Failure> {
    let (home, file) = (settings.home.clone(), settings.passphrase_file.clone());
    match command {
        args::Passphrase::Set => {
            let options = local::store_options(settings.store);
            let copied = blocking(move || {
                if runtime::is_sealed(&home).map_err(failure)? {
                    return Err(failure(SealError::Sealed));
                }
                let passphrase = new_passphrase(file.as_deref())?;
                runtime::seal_home(&home, &options, &passphrase, Cost::default()).map_err(failure)
            })
            .await?;
            screen.show(&Done {
                kind: "passphrase_set",
                sealed: true,
                unlocked: Some(false),
                rows: Some(copied.rows),
                text: "sealed",
            })
        }
        args::Passphrase::Change { new_passphrase_file } => {
            blocking(move || {
                let old = old_passphrase(file.as_deref())?;
                runtime::unlock(&home, &old).map_err(failure)?;
                let new = new_passphrase(new_passphrase_file.as_deref())?;
                runtime::change_passphrase(&home, &old, &new, Cost::default()).map_err(failure)
            })
            .await?;
            let text = "changed";
            screen.show(&Done { kind: "passphrase_change", sealed: true, unlocked: None, rows: None, text })
        }
        args::Passphrase::Check => {
            let access = local::access(settings).await?;
            if access.key.is_none() {
                return Err(failure(SealError::NotSealed));
            }
            let rows = blocking(move || {
                let store = runtime::open_store(&home, access).map_err(local::open_failure)?;
                let checked = store.check();
                store.close().map_err(|error| local::store_failure(&error))?;
                checked.map_err(|error| local::store_failure(&error))
            })
            .await?;
            screen.show(&Done {
                kind: "passphrase_check",
                sealed: true,
                unlocked: None,
                rows: Some(rows),
                text: "every row is as it was left",
            })
        }
    }
}

/// The store is sealed, and nobody said with what.
pub(crate) fn locked() -> Failure {
    Failure::new(Exit::Locked, "locked", "the store is sealed")
        .hint("whimbrel unlock, or name the file with its passphrase: --passphrase-file FILE")
}

pub(crate) fn failure(error: SealError) -> Failure {
    let message = error.to_string();
    match error {
        SealError::Sealed => Failure::new(Exit::Usage, "sealed", message).hint("whimbrel passphrase change"),
        SealError::NotSealed => Failure::new(Exit::Usage, "not_sealed", message).hint("whimbrel passphrase set"),
        SealError::Key(UnwrapError::Refused) => {
            Failure::new(Exit::Locked, "wrong_passphrase", message).hint("nothing was opened or changed; try again")
        }
        SealError::Key(_) => Failure::new(Exit::Internal, "key_file", message)
            .hint("put back a copy of the file `key` in the profile's folder: without it the store stays shut"),
        SealError::Open(error) => local::open_failure(error),
        SealError::Store(error) => local::store_failure(&error),
        _ => Failure::internal(message),
    }
}

/// The passphrase of something else than the store.
pub(crate) fn passphrase_of(file: Option<&Path>, new: bool) -> Result<Passphrase, Failure> {
    if new { new_passphrase(file) } else { old_passphrase(file) }
}

/// Opens the key file with what a file holds or somebody types.
async fn opened(settings: &Settings) -> Result<SealKey, Failure> {
    let (home, file) = (settings.home.clone(), settings.passphrase_file.clone());
    blocking(move || {
        // Before anybody types anything.
        runtime::key_id(&home).map_err(failure)?;
        if file.is_none() && !at_terminal() {
            return Err(locked());
        }
        let mut tries = 0;
        loop {
            tries += 1;
            match runtime::unlock(&home, &old_passphrase(file.as_deref())?) {
                Err(SealError::Key(UnwrapError::Refused)) if file.is_none() && tries < TRIES => {
                    say("this is not it")?;
                }
                other => return other.map_err(failure),
            }
        }
    })
    .await
}

fn old_passphrase(file: Option<&Path>) -> Result<Passphrase, Failure> {
    match file {
        Some(file) => from_file(file),
        None => asked("Passphrase: "),
    }
}

fn new_passphrase(file: Option<&Path>) -> Result<Passphrase, Failure> {
    if let Some(file) = file {
        return from_file(file);
    }
    let (first, again) = (typed("New passphrase: ")?, typed("Again: ")?);
    if first != again {
        return Err(Failure::usage("these are two passphrases").hint("nothing was changed; try again"));
    }
    taken(first)
}

/// The first line of a file, without its end.
fn from_file(path: &Path) -> Result<Passphrase, Failure> {
    let failed = |error: io::Error| Failure::usage(format!("{}: {error}", path.display()));
    let bound = u64::try_from(limits::PASSPHRASE_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(3);
    let mut bytes = Zeroizing::new(Vec::with_capacity(limits::PASSPHRASE_BYTES_MAX + 3));
    File::open(path).and_then(|file| file.take(bound).read_to_end(&mut bytes)).map_err(failed)?;
    taken(first_line(&bytes))
}

fn first_line(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    Zeroizing::new(line.strip_suffix(b"\r").unwrap_or(line).to_vec())
}

fn taken(bytes: Zeroizing<Vec<u8>>) -> Result<Passphrase, Failure> {
    Passphrase::new(bytes.to_vec()).map_err(|error| Failure::usage(error.to_string()))
}

fn asked(question: &str) -> Result<Passphrase, Failure> {
    taken(typed(question)?)
}

fn at_terminal() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks at the terminal, without showing what is typed.
fn typed(question: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let stdin = io::stdin();
    if !at_terminal() {
        return Err(Failure::new(Exit::Locked, "no_terminal", "there is no terminal to ask for a passphrase at")
            .hint("name the file it is in; --help says by which option"));
    }
    let before = tcgetattr(stdin.as_fd()).map_err(Failure::internal)?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    say_part(question)?;
    tcsetattr(stdin.as_fd(), OptionalActions::Flush, &silent).map_err(Failure::internal)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(limits::PASSPHRASE_BYTES_MAX + 3));
    let mut byte = Zeroizing::new([0_u8; 1]);
    let mut read = Ok(());
    // Byte by byte: what a buffered reader holds would not be wiped.
    while bytes.len() <= limits::PASSPHRASE_BYTES_MAX {
        match rustix::io::read(stdin.as_fd(), &mut byte[..]) {
            Ok(0) => break,
            Ok(_) if byte[..] == *b"\n" => break,
            Ok(_) => bytes.extend_from_slice(&byte[..]),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                read = Err(Failure::internal(error));
                break;
            }
        }
    }
    tcsetattr(stdin.as_fd(), OptionalActions::Now, &before).map_err(Failure::internal)?;
    say("")?;
    read.map(|()| first_line(&bytes))
}

fn say(line: &str) -> Result<(), Failure> {
    say_part(&format!("{line}\n"))
}

fn say_part(text: &str) -> Result<(), Failure> {
    let mut out = io::stderr().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::internal)
}

/// What the kernel kept for this store.
async fn kept(settings: &Settings) -> Result<Option<SealKey>, Failure> {
    let home = settings.home.clone();
    let id = blocking(move || runtime::key_id(&home).map_err(failure)).await?;
    let found = match within(move || keyring::find(id)).await {
        Ok(found) => found,
        // There are other ways to the key.
        Err(error) => {
            tracing::info!(error = error.message, "the kernel keeps no keys");
            None
        }
    };
    // One that was put there under another's name.
    Ok(found.filter(|key| key.id() == id))
}

async fn keep(key: SealKey, time: Option<Duration>) -> Result<(), Failure> {
    within(move || keyring::keep(&key, time)).await
}

async fn within<T: Send + 'static>(work: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Result<T, Failure> {
    let answered = tokio::time::timeout_at((clock::now() + KEPT_WAIT).into(), blocking(work)).await;
    answered.unwrap_or_else(|_| {
        Err(Failure::new(Exit::Unreachable, "keyring", "the key store of the system does not answer"))
    })
}

/// The kernel's key store (keyrings(7)): in memory only, this user's alone.
#[cfg(target_os = "linux")]
mod keyring {
    use linux_keyutils::{KeyError, KeyPermissionsBuilder, KeyRing, KeyRingIdentifier, Permission};

    use super::{Duration, Exit, Failure, KeyId, SealKey, Zeroizing};

    fn ring() -> Result<KeyRing, Failure> {
        KeyRing::from_special_id(KeyRingIdentifier::User, false).map_err(failed)
    }

    fn failed(error: KeyError) -> Failure {
        Failure::new(Exit::Internal, "keyring", format!("the kernel's key store: {error:?}"))
            .hint("name the file with the passphrase: --passphrase-file FILE")
    }

    fn name(id: KeyId) -> String {
        let id: String = id.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("whimbrel:{id}")
    }

    /// Absent, or no longer there.
    fn is_absent(error: KeyError) -> bool {
        matches!(error, KeyError::KeyDoesNotExist | KeyError::KeyExpired | KeyError::KeyRevoked)
    }

    pub(super) fn find(id: KeyId) -> Result<Option<SealKey>, Failure> {
        let key = match ring()?.search(&name(id)) {
            Ok(key) => key,
            Err(error) if is_absent(error) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mut bytes = Zeroizing::new([0; 32]);
        match key.read(&mut *bytes) {
            Ok(32) => Ok(Some(SealKey::from_bytes(*bytes))),
            Ok(_) => Ok(None),
            Err(error) if is_absent(error) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    pub(super) fn keep(key: &SealKey, time: Option<Duration>) -> Result<(), Failure> {
        let kept = ring()?.add_key(&name(key.id()), &key.secret_bytes()[..]).map_err(failed)?;
        // A later session of the same user has the key, too.
        let permissions = KeyPermissionsBuilder::builder().posessor(Permission::ALL).user(Permission::ALL).build();
        kept.set_perms(permissions).map_err(failed)?;
        match time {
            Some(time) => {
                // Zero would mean for ever.
                let seconds = usize::try_from(time.as_secs()).unwrap_or(usize::MAX).max(1);
                kept.set_timeout(seconds).map_err(failed)
            }
            None => Ok(()),
        }
    }

    pub(super) fn forget(id: KeyId) -> Result<(), Failure> {
        match ring()?.search(&name(id)) {
            Ok(key) => key.invalidate().map_err(failed),
            Err(error) if is_absent(error) => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }
}

/// Elsewhere nothing keeps the key between two commands but the daemon.
#[cfg(not(target_os = "linux"))]
mod keyring {
    use super::{Duration, Exit, Failure, KeyId, SealKey};

    pub(super) fn find(_: KeyId) -> Result<Option<SealKey>, Failure> {
        Ok(None)
    }

    pub(super) fn keep(_: &SealKey, _: Option<Duration>) -> Result<(), Failure> {
        Err(Failure::new(Exit::Usage, "keyring", "this system keeps no keys for a terminal")
            .hint("run the daemon: whimbrel --passphrase-file FILE daemon run"))
    }

    pub(super) fn forget(_: KeyId) -> Result<(), Failure> {
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_passphrase_is_the_first_line_of_its_file_whatever_ends_it() {
        for text in ["a heron", "a heron\n", "a heron\r\n", "a heron\nand more\n"] {
            assert_eq!(&first_line(text.as_bytes())[..], b"a heron");
        }
        assert!(taken(first_line(b"\nlate")).is_err());
    }

    #[test]
    fn a_file_without_end_is_no_passphrase() {
        let refused = from_file(Path::new("/dev/zero")).unwrap_err();
        assert_eq!(refused.exit, Exit::Usage);
    }
}
