//! Http: connections that carry requests, with TLS or without.
//! Owns: accepting them, and every bound on what a slow or silent one may cost.
//! Never: knows what is asked (`watch`, `poll`).
//! Limits: `limits::HTTP_*`, `limits::AUTHENTICATION_TIME_MAX`.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use whimbrel_protocol::limits;
use whimbrel_transport::BindError;

use crate::serve::source;

/// Where a request comes from; for rates alone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Remote(pub(crate) SocketAddr);

/// How many connections each network has.
#[derive(Debug, Default)]
struct Places(Mutex<BTreeMap<u64, usize>>);

impl Places {
    fn counts(&self) -> MutexGuard<'_, BTreeMap<u64, usize>> {
        // Nothing that could panic runs under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for one more of this network, if there is one.
    fn take(self: &Arc<Self>, network: u64) -> Option<Place> {
        let mut counts = self.counts();
        let count = counts.entry(network).or_default();
        if *count >= limits::HTTP_CONNECTIONS_OF_ONE_MAX {
            return None;
        }
        *count += 1;
        Some(Place { network, places: self.clone() })
    }
}

/// A connection's place, until it is dropped.
#[derive(Debug)]
struct Place {
    network: u64,
    places: Arc<Places>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.places.counts();
        if let Some(count) = counts.get_mut(&self.network) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(&self.network);
            }
        }
    }
}

/// A listening socket, before there is a runtime to wait on it.
///
/// # Errors
/// The address is taken, not ours, or not allowed.
pub(crate) fn bind(address: SocketAddr) -> Result<std::net::TcpListener, BindError> {
    let bound = std::net::TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    bound.map_err(|source| BindError::Socket { address, source })
}

/// The same socket for the runtime to wait on.
///
/// # Errors
/// No descriptor is left.
pub(crate) fn listener(bound: &std::net::TcpListener) -> io::Result<TcpListener> {
    TcpListener::from_std(bound.try_clone()?)
}

/// Serves until `stop` holds something, then lets requests that have begun be answered.
pub(crate) async fn serve<T: Send + Sync + 'static>(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    router: Router,
    mut stop: watch::Receiver<Option<T>>,
) {
    let tls = tls.map(TlsAcceptor::from);
    let (mut connections, stopped, places) = (JoinSet::new(), stop.clone(), Arc::new(Places::default()));
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < limits::HTTP_CONNECTIONS_MAX => match accepted {
                Ok((stream, remote)) => {
                    let Some(place) = places.take(source(remote.ip())) else {
                        tracing::debug!("a network has all the connections it may have");
                        continue;
                    };
                    let router = router.clone().layer(axum::Extension(Remote(remote)));
                    let served = connection(stream, tls.clone(), router, stopped.clone());
                    connections.spawn(async move {
                        served.await;
                        drop(place);
                    });
                }
                // One that ended before it was taken, or no descriptor left: later there may be.
                Err(error) => {
                    tracing::debug!(%error, "a connection was not accepted");
                    sleep(limits::HTTP_ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            () = told(&mut stop) => break,
        }
    }
    let ended = timeout(limits::LINK_CLOSE_TIME_MAX, async { while connections.join_next().await.is_some() {} });
    if ended.await.is_err() {
        connections.shutdown().await;
    }
}

/// Resolves when it is to end.
async fn told<T>(stop: &mut watch::Receiver<Option<T>>) {
    let _sender_gone = stop.wait_for(Option::is_some).await.map(drop);
}

async fn connection<T: Send + Sync>(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    router: Router,
    stop: watch::Receiver<Option<T>>,
) {
    // Small answers are whole answers.
    let _stays_slow = stream.set_nodelay(true);
    let served = match tls {
        None => requests(stream, router, stop).await,
        Some(tls) => match timeout(limits::AUTHENTICATION_TIME_MAX, tls.accept(stream)).await {
            Ok(Ok(stream)) => requests(stream, router, stop).await,
            Ok(Err(error)) => return tracing::debug!(%error, "no TLS"),
            Err(_) => return tracing::debug!("no TLS in time"),
        },
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended");
    }
}

async fn requests<T: Send + Sync>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    mut stop: watch::Receiver<Option<T>>,
) -> io::Result<()> {
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HTTP_HEADER_TIME_MAX)
        .max_buf_size(limits::HTTP_HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    tokio::select! {
        served = connection.as_mut() => return served.map_err(io::Error::other),
        () = told(&mut stop) => {}
        () = sleep(limits::HTTP_CONNECTION_AGE_MAX) => {}
    }
    // The request that is being served is answered; whoever does not read its answer loses it.
    connection.as_mut().graceful_shutdown();
    match timeout(limits::HTTP_HEADER_TIME_MAX, connection).await {
        Ok(served) => served.map_err(io::Error::other),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_so_many_places_and_another_its_own() {
        let places = Arc::new(Places::default());
        let mut taken: Vec<Place> = std::iter::from_fn(|| places.take(1)).collect();
        assert_eq!(taken.len(), limits::HTTP_CONNECTIONS_OF_ONE_MAX);
        let other = places.take(2);
        assert!(other.is_some());
        taken.pop();
        taken.extend(places.take(1));
        assert!(taken.len() == limits::HTTP_CONNECTIONS_OF_ONE_MAX && places.take(1).is_none());
        drop((taken, other));
        assert!(places.counts().is_empty(), "who is gone is not remembered");
    }
}
