//! Socket: requests and answers between commands and the daemon, one JSON object per line.
//! Owns: framing and its bound, who may connect, whether somebody is there. Never: carries anything out.

use std::io;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::config::Settings;
use crate::failure::{Exit, Failure};
use crate::words::{Ask, Line};

/// A line, in bytes: the largest row of an export in hexadecimal (an account log), and what goes round it. The longest
/// text with every byte escaped (`\u0000`) is shorter.
const LINE_BYTES_MAX: u64 = 2 * whimbrel_protocol::limits::ACCOUNT_LOG_BYTES_MAX as u64 + 16 * 1024;
const _: () = assert!(LINE_BYTES_MAX > 6 * whimbrel_protocol::limits::TEXT_BYTES_MAX as u64 + 8 * 1024);

/// Reads one line; `None` when the other side is done.
pub(crate) async fn read_line<T: DeserializeOwned>(reader: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<T>> {
    let mut line = Vec::new();
    reader.take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await?;
    match line.last() {
        None => Ok(None),
        Some(b'\n') => serde_json::from_slice(&line).map(Some).map_err(io::Error::from),
        Some(_) => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Writes one line.
pub(crate) async fn write_line(writer: &mut OwnedWriteHalf, value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    writer.write_all(&line).await
}

/// A command's end of the socket.
pub(crate) struct Client {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

impl Client {
    /// Connects to the daemon, if one runs. A socket that nobody serves is what a killed daemon left, and no daemon.
    pub(crate) async fn connect(settings: &Settings) -> Result<Option<Self>, Failure> {
        if settings.check_socket().is_err() {
            // No daemon can have a socket there.
            return Ok(None);
        }
        match connect(&settings.socket).await {
            Ok(stream) => Ok(stream.map(|stream| {
                let (reader, writer) = stream.into_split();
                Self { reader: BufReader::new(reader), writer }
            })),
            Err(error) => Err(lost(&error)),
        }
    }

    /// The daemon's process, as the system knows it.
    pub(crate) fn process(&self) -> Option<i32> {
        self.reader.get_ref().as_ref().peer_cred().ok()?.pid()
    }

    /// Waits until the daemon has closed its end.
    pub(crate) async fn gone(&mut self) {
        while let Ok(Some(_)) = read_line::<serde_json::Value>(&mut self.reader).await {}
    }

    pub(crate) async fn ask(&mut self, ask: &Ask) -> Result<(), Failure> {
        write_line(&mut self.writer, ask).await.map_err(|error| lost(&error))
    }

    pub(crate) async fn line(&mut self) -> Result<Line, Failure> {
        match read_line(&mut self.reader).await {
            Ok(Some(line)) => Ok(line),
            Ok(None) => Err(lost(&io::ErrorKind::UnexpectedEof.into())),
            Err(error) => Err(lost(&error)),
        }
    }
}

/// A stream to whoever serves the socket.
pub(crate) async fn connect(socket: &Path) -> io::Result<Option<UnixStream>> {
    use io::ErrorKind as K;
    match UnixStream::connect(socket).await {
        Ok(stream) if is_ours(&stream)? => Ok(Some(stream)),
        Ok(_) => Err(K::PermissionDenied.into()),
        Err(error) if matches!(error.kind(), K::NotFound | K::ConnectionRefused | K::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the other side is the same user: both sides ask.
pub(crate) fn is_ours(stream: &UnixStream) -> io::Result<bool> {
    Ok(stream.peer_cred()?.uid() == rustix::process::geteuid().as_raw())
}

fn lost(error: &io::Error) -> Failure {
    Failure::new(Exit::Unreachable, "daemon_unreachable", format!("the daemon does not answer: {error}"))
        .hint("look at its log, or end it and run the command again")
}
