//! A listener of any kind, served until it is stopped.

use std::{fmt, time::Duration};

use axum::{
    Router,
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use tokio::{sync::watch, task::JoinHandle};

use crate::Peer;

/// Any listener, as one of which axum can tell the [`Peer`].
struct Door<L>(L);

impl<L: Listener> Listener for Door<L> {
    type Io = L::Io;
    type Addr = L::Addr;

    fn accept(&mut self) -> impl Future<Output = (Self::Io, Self::Addr)> + Send {
        self.0.accept()
    }

    fn local_addr(&self) -> std::io::Result<L::Addr> {
        self.0.local_addr()
    }
}

impl<L: Listener> Connected<IncomingStream<'_, Door<L>>> for Peer
where
    L::Addr: Clone + Into<Self>,
{
    fn connect_info(stream: IncomingStream<'_, Door<L>>) -> Self {
        stream.remote_addr().clone().into()
    }
}

pub(crate) fn serve_until<L>(
    mut stopped: watch::Receiver<bool>,
    router: Router,
    listener: L,
) -> JoinHandle<()>
where
    L: Listener,
    L::Addr: Clone + fmt::Debug + Into<Peer>,
{
    let shutdown = async move {
        // The other end gone means stop as well.
        _ = stopped.wait_for(|stop| *stop).await;
    };
    tokio::spawn(async move {
        let service = router.into_make_service_with_connect_info::<Peer>();
        if let Err(error) = axum::serve(Door(listener), service).with_graceful_shutdown(shutdown).await {
            tracing::error!(%error, "The collector's listener failed; no more reports are taken.");
        }
    })
}

/// A collector that is being served.
pub struct Server {
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) http: JoinHandle<()>,
    pub(crate) own_work: Vec<JoinHandle<()>>,
}

impl Server {
    /// How long requests that are under way may take to end.
    const FAREWELL: Duration = Duration::from_secs(2);

    /// Takes no more requests, and ends when those under way are answered.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        let abort = self.http.abort_handle();
        if tokio::time::timeout(Self::FAREWELL, self.http).await.is_err() {
            abort.abort();
        }
        for work in self.own_work {
            // It ends at once and returns nothing.
            _ = work.await;
        }
    }
}
