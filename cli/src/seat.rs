//! Seat: where a command finds its node: in the daemon that runs, else in this process.
//! Owns: the choice, and asking alike in both. Never: decides what a request means (`desk`).

use tokio::sync::mpsc;
use whimbrel_node_runtime::DirectOptions;

use crate::config::Settings;
use crate::desk::{self, LINES_MAX};
use crate::failure::Failure;
use crate::local::Local;
use crate::output::Screen;
use crate::signal;
use crate::socket::Client;
use crate::words::{Ask, Item, Line, Request, SOCKET_VERSION};

/// A node to ask.
pub(crate) enum Seat {
    /// The daemon's.
    Daemon(Client),
    /// Our own, for the length of a command.
    Here(Box<Local>),
}

/// Takes a seat, does `work` with it, and leaves it in order, also when interrupted.
pub(crate) async fn seated<T>(
    settings: &Settings,
    work: impl AsyncFnOnce(&mut Seat) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut seat = match Client::connect(settings).await? {
        Some(client) => Seat::Daemon(client),
        None => Seat::Here(Box::new(Local::open(settings, DirectOptions::Off).await?)),
    };
    let result = tokio::select! {
        result = work(&mut seat) => result,
        () = signal::stop() => Err(Failure::interrupted()),
    };
    let left = match seat {
        Seat::Daemon(_) => Ok(()),
        Seat::Here(local) => local.close().await,
    };
    result.and_then(|value| left.map(|()| value))
}

impl Seat {
    /// Asks, and hands every result to `take`.
    pub(crate) async fn ask(
        &mut self,
        settings: &Settings,
        request: Request,
        mut take: impl FnMut(Item) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let screen = Screen { json: settings.json, quiet: settings.quiet };
        let timeout_ms = u64::try_from(settings.timeout.as_millis()).unwrap_or(u64::MAX);
        let ask = Ask { v: SOCKET_VERSION, home: settings.home.clone(), timeout_ms, request };
        let mut each = |line| match line {
            Line::Item(item) => take(item).map(|()| None),
            Line::Hint(text) => {
                screen.hint(&text);
                Ok(None)
            }
            Line::End(failure) => Ok(Some(failure)),
        };
        let end = match self {
            Self::Daemon(client) => {
                client.ask(&ask).await?;
                loop {
                    if let Some(end) = each(client.line().await?)? {
                        break end;
                    }
                }
            }
            Self::Here(local) => {
                let (sender, mut lines) = mpsc::channel(LINES_MAX);
                let work = desk::carry_out(local, false, ask, &sender);
                tokio::pin!(work);
                let mut working = true;
                loop {
                    tokio::select! {
                        () = &mut work, if working => working = false,
                        line = lines.recv() => match line {
                            Some(line) => if let Some(end) = each(line)? { break end },
                            None => break Some(Failure::internal("the answer has no end")),
                        },
                    }
                }
            }
        };
        end.map_or(Ok(()), Err)
    }
}
