//! Daemon: the node of a profile, kept connected, and the socket other commands ask it through.
//! Owns: the socket's life, and one task per command that asks. Never: detaches; a supervisor or a shell does.

use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use tokio::io::{AsyncReadExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::config::Settings;
use crate::desk::{self, LINES_MAX};
use crate::failure::{Exit, Failure};
use crate::local::Local;
use crate::output::{Screen, Show};
use crate::signal;
use crate::socket;
use crate::words::{Ask, Line, SOCKET_VERSION};

/// Commands that are served at once; more wait to be accepted.
const CLIENTS_MAX: usize = 64;

/// What is printed when commands can be asked.
#[derive(Serialize)]
struct Ready {
    #[serde(rename = "type")]
    kind: &'static str,
    socket: String,
    pid: u32,
}

impl Show for Ready {
    fn text(&self) -> String {
        format!("ready at {}", self.socket)
    }
}

/// Runs until a signal comes or the store fails.
pub(crate) async fn run(settings: &Settings, screen: Screen) -> Result<(), Failure> {
    settings.check_socket()?;
    // Half a daemon is worse than none: whoever started it starts it again, and the store proves itself at the open.
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
    // Before the store: who asks for a second daemon is told of the first, not of a lock.
    if let Ok(Some(_)) = socket::connect(&settings.socket).await {
        return Err(Failure::new(Exit::Locked, "in_use", "a daemon runs already").hint("ask it: whimbrel status"));
    }
    let local = Arc::new(Local::open(settings, settings.direct.clone()).await?);
    let result = serve(settings, screen, &local).await;
    // Nobody connects to a daemon that is about to end; what a killed one leaves is replaced by the next.
    let removed = std::fs::remove_file(&settings.socket);
    if let Err(error) = removed
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, "the socket stays");
    }
    let closed = local.close().await;
    result.and(closed)
}

async fn serve(settings: &Settings, screen: Screen, local: &Arc<Local>) -> Result<(), Failure> {
    let listener = listen(&settings.socket)
        .map_err(|error| Failure::internal(format!("cannot listen on {}: {error}", settings.socket.display())))?;
    screen.show(&Ready { kind: "ready", socket: settings.socket.display().to_string(), pid: std::process::id() })?;
    let room = Arc::new(Semaphore::new(CLIENTS_MAX));
    let mut clients = JoinSet::new();
    let stopped = local.ended();
    tokio::pin!(stopped);
    let stop = signal::stop();
    tokio::pin!(stop);
    let result = loop {
        tokio::select! {
            () = &mut stop => break Ok(()),
            failure = &mut stopped => break Err(failure),
            Some(_) = clients.join_next() => {}
            accepted = accept(&listener, &room) => match accepted {
                Ok((stream, permit)) => {
                    let (local, home) = (Arc::clone(local), settings.home.clone());
                    clients.spawn(async move {
                        let _permit = permit;
                        if let Err(error) = talk(&local, &home, stream).await {
                            tracing::debug!(%error, "a command left");
                        }
                    });
                }
                Err(error) => tracing::warn!(%error, "a command could not connect"),
            },
        }
    };
    clients.shutdown().await;
    result
}

async fn accept(
    listener: &UnixListener,
    room: &Arc<Semaphore>,
) -> io::Result<(UnixStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(room).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    if !socket::is_ours(&stream)? {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    Ok((stream, permit))
}

/// The folder is for this user alone, so the socket never stands open, not even before its own mode is set.
fn listen(path: &Path) -> io::Result<UnixListener> {
    if let Some(dir) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves one command: its requests one after another, until it leaves.
async fn talk(local: &Local, home: &Path, stream: UnixStream) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    while let Some(ask) = socket::read_line::<Ask>(&mut reader).await? {
        if let Some(refusal) = refuse(&ask, home) {
            socket::write_line(&mut writer, &Line::End(Some(refusal))).await?;
            continue;
        }
        let (sender, mut lines) = mpsc::channel(LINES_MAX);
        let work = desk::carry_out(local, true, ask, &sender);
        tokio::pin!(work);
        let mut working = true;
        let mut ended = false;
        let mut byte = [0];
        while !ended {
            tokio::select! {
                () = &mut work, if working => working = false,
                line = lines.recv() => if let Some(line) = line {
                    ended = matches!(line, Line::End(_));
                    socket::write_line(&mut writer, &line).await?;
                },
                // Nothing is said while an answer runs: this is the command's end, and following would not see it.
                read = reader.read(&mut byte) => return read.map(drop),
            }
        }
    }
    Ok(())
}

fn refuse(ask: &Ask, home: &Path) -> Option<Failure> {
    if ask.v != SOCKET_VERSION {
        let failure = Failure::new(Exit::Unreachable, "version", "the daemon is of another version of whimbrel");
        return Some(failure.hint("end the daemon and start it again"));
    }
    let same = |path: &Path| path.canonicalize().ok();
    if same(&ask.home) != same(home) {
        return Some(Failure::new(Exit::Locked, "in_use", "the daemon on this socket serves another data folder"));
    }
    None
}
