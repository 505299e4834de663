//! Signals: when somebody wants this process to end.

/// Returns at Ctrl-C, SIGTERM or SIGHUP.
pub(crate) async fn stop() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let listen = |kind| async move {
            match signal(kind) {
                Ok(mut signal) => drop(signal.recv().await),
                // Without a handler the signal ends the process by itself.
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            () = listen(SignalKind::interrupt()) => {}
            () = listen(SignalKind::terminate()) => {}
            () = listen(SignalKind::hangup()) => {}
        }
    }
    #[cfg(not(unix))]
    {
        let _ = tokio::signal::ctrl_c().await;
    }
}
