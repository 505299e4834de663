//! Control: what a command asks of the relay that runs, which alone has the store open.
//! Owns: a socket in the data folder that its owner alone can open, one question and one answer per connection.
//! Never: a question from the network, or one that stops the relay from serving.
//! Limits: [`QUESTION_BYTES_MAX`], [`QUESTION_TIME_MAX`].

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use whimbrel_storage_runtime::DiskKv;
use whimbrel_transport::CloseCode;

use crate::RelayKv;
use crate::invites::{InviteAnswer, InviteQuestion};
use crate::stores::{self, copied_json};

/// The longest question: two paths fit.
const QUESTION_BYTES_MAX: u64 = 16 * 1024;

/// The longest a question may take to be asked.
const QUESTION_TIME_MAX: Duration = Duration::from_secs(2);

/// After a question could not be taken, for want of descriptors or memory, before the next is tried: no busy loop, and
/// no command that waits for long once there is room again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// What can be asked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Question {
    /// Copies the store into a folder.
    Export {
        /// Where to, absolute.
        into: PathBuf,
    },
    /// About invitations to register.
    Invite(InviteQuestion),
}

/// What was answered.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// Done: what the copy holds.
    Copied(serde_json::Value),
    /// About invitations to register.
    Invite(InviteAnswer),
    /// Not done, and why.
    Failed(String),
}

/// Where the socket is.
pub(crate) fn socket(data_dir: &Path) -> PathBuf {
    data_dir.join("control.sock")
}

/// Asks the relay that runs; none when there is none to ask.
pub(crate) fn ask(data_dir: &Path, question: &Question) -> io::Result<Option<Answer>> {
    let mut stream = match std::os::unix::net::UnixStream::connect(socket(data_dir)) {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    stream.write_all(serde_json::to_string(question)?.as_bytes())?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(Some(serde_json::from_str(&answer)?))
}

/// Binds the socket. Whoever holds the store's lock is the only one who may.
pub(crate) fn bind(data_dir: &Path) -> io::Result<UnixListener> {
    let path = socket(data_dir);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    Ok(listener)
}

/// Where questions come in.
pub(crate) trait Incoming {
    /// The next one that is asked.
    async fn next(&mut self) -> io::Result<UnixStream>;
}

impl Incoming for UnixListener {
    async fn next(&mut self) -> io::Result<UnixStream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

/// Answers one question after the other until the relay stops; an export that runs is ended then.
pub(crate) async fn serve(
    mut incoming: impl Incoming,
    store: Arc<RelayKv>,
    invites: impl AsyncFn(InviteQuestion) -> InviteAnswer,
    mut stopped: watch::Receiver<Option<CloseCode>>,
) {
    let mut failing = false;
    loop {
        let stream = tokio::select! {
            stream = incoming.next() => stream,
            () = end(&mut stopped) => return,
        };
        let stream = match stream {
            Ok(stream) => stream,
            Err(error) => {
                // Told once for a run of them.
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "the control socket takes no question for now");
                }
                tokio::select! {
                    () = tokio::time::sleep(ACCEPT_PAUSE) => continue,
                    () = end(&mut stopped) => return,
                }
            }
        };
        failing = false;
        let mut answer = std::pin::pin!(answer(stream, &store, &invites));
        let answered = tokio::select! {
            answered = &mut answer => answered,
            () = end(&mut stopped) => {
                store.disk().into_iter().for_each(DiskKv::end_export);
                answer.await
            }
        };
        if let Err(error) = answered {
            tracing::debug!(%error, "a question at the control socket was not answered");
        }
    }
}

/// Resolves when the relay stops.
async fn end(stopped: &mut watch::Receiver<Option<CloseCode>>) {
    let _sender_gone = stopped.wait_for(Option::is_some).await.map(drop);
}

async fn answer(
    mut stream: UnixStream,
    store: &Arc<RelayKv>,
    invites: &impl AsyncFn(InviteQuestion) -> InviteAnswer,
) -> io::Result<()> {
    let mut text = Vec::new();
    // Nobody keeps the socket, or the relay from stopping, by saying nothing.
    tokio::time::timeout(QUESTION_TIME_MAX, (&mut stream).take(QUESTION_BYTES_MAX).read_to_end(&mut text))
        .await
        .map_err(io::Error::other)??;
    let answer = match serde_json::from_slice::<Question>(&text) {
        Ok(Question::Invite(question)) => Answer::Invite(invites(question).await),
        Ok(Question::Export { into }) => {
            let store = Arc::clone(store);
            // It reads and writes the disk for as long as the store is large.
            tokio::task::spawn_blocking(move || copy(&store, &into)).await.map_err(io::Error::other)?
        }
        Err(error) => Answer::Failed(format!("no such question: {error}")),
    };
    stream.write_all(serde_json::to_string(&answer)?.as_bytes()).await
}

fn copy(store: &RelayKv, into: &Path) -> Answer {
    let Some(store) = store.disk() else { return Answer::Failed("the store is in memory alone".to_owned()) };
    match stores::copy_into(store, into) {
        Ok(copied) => {
            tracing::info!(rows = copied.rows, "the store was exported");
            Answer::Copied(copied_json(&copied))
        }
        Err(failure) => Answer::Failed(failure.message),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use tempfile::TempDir;
    use whimbrel_storage::MemoryKv;

    use super::*;

    /// A socket at which the first few questions cannot be taken, as when descriptors have run out.
    struct Failing {
        listener: UnixListener,
        failures: u32,
    }

    impl Incoming for Failing {
        async fn next(&mut self) -> io::Result<UnixStream> {
            if let Some(left) = self.failures.checked_sub(1) {
                self.failures = left;
                return Err(io::Error::from_raw_os_error(24));
            }
            self.listener.next().await
        }
    }

    #[tokio::test]
    async fn questions_are_answered_again_once_the_socket_can_take_them_and_no_core_is_kept_busy_meanwhile() {
        let dir = TempDir::new().unwrap();
        let incoming = Failing { listener: bind(dir.path()).unwrap(), failures: 3 };
        let (stop, stopped) = watch::channel(None);
        let store = Arc::new(RelayKv::Memory(MemoryKv::in_memory().unwrap()));
        let serving = tokio::spawn(serve(incoming, store, async |_| InviteAnswer::NotFound, stopped));
        let mut stream = UnixStream::connect(socket(dir.path())).await.unwrap();
        let question = serde_json::to_string(&Question::Export { into: "/nowhere".into() }).unwrap();
        stream.write_all(question.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        let early = tokio::time::timeout(ACCEPT_PAUSE * 2, stream.read_to_string(&mut answer)).await;
        assert!(early.is_err(), "three failures in less than two pauses");
        stream.read_to_string(&mut answer).await.unwrap();
        let Answer::Failed(why) = serde_json::from_str(&answer).unwrap() else { panic!("{answer}") };
        assert!(why.contains("memory"), "{why}");
        stop.send_replace(Some(CloseCode::Shutdown));
        serving.await.unwrap();
    }
}
