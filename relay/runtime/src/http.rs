//! Http: connections that carry requests, with TLS or without.
//! Owns: accepting them, and every bound on what a slow or silent one may cost.
//! Never: knows what is asked (`watch`, `poll`).
//! Limits: `limits::HTTP_*`, `limits::AUTHENTICATION_TIME_MAX`.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

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

/// Where a request comes from; for rates alone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Remote(pub(crate) SocketAddr);

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
    let (mut connections, stopped) = (JoinSet::new(), stop.clone());
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < limits::HTTP_CONNECTIONS_MAX => match accepted {
                Ok((stream, remote)) => {
                    let router = router.clone().layer(axum::Extension(Remote(remote)));
                    connections.spawn(connection(stream, tls.clone(), router, stopped.clone()));
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
