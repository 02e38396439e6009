//! HAProxy's agent check: it connects, may send a line that names the service, and reads one line with what to do.
//!
//! | the node is | the line |
//! |---|---|
//! | in rotation | `100%` |
//! | out of it | `0%` |
//! | returning | `10%`, or whatever its weight is |
//!
//! HAProxy takes silence for "as before", so everybody is answered, also for a service that nobody knows and after an error. Weights
//! are all that is ever said: whoever says `drain` has to undo it with `ready`, which ends an operator's `drain` and `maint` as well
//! (HAProxy 2.6), and what somebody set by hand is to stand.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::serve::Listener as _;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
    time::timeout,
};

use super::{By, Node, Rotation};
use crate::bounded::Bounded;

/// How many connections may be open at once.
const OPEN_MAX: usize = 64;

/// How long one may take. HAProxy waits for two seconds by default.
const PATIENCE: Duration = Duration::from_secs(2);

/// Who sends a line does so at once; who has sent nothing for so long sends none.
const LINE_PATIENCE: Duration = Duration::from_millis(300);

/// Longer lines name no service.
const LINE_BYTES_MAX: usize = 512;

/// Within so long each HAProxy has asked twice, as it is configured by default.
pub(super) const ASKED_WITHIN: Duration = Duration::from_millis(4_500);

/// Answers whoever connects to `listener` for `node`.
pub(crate) async fn serve(listener: TcpListener, node: Arc<Node>) {
    node.has_begun().await;
    let mut listener = Bounded::new(listener, OPEN_MAX);
    let has_wondered = Arc::new(AtomicBool::new(false));
    loop {
        let (stream, peer) = listener.accept().await;
        let (node, has_wondered) = (Arc::clone(&node), Arc::clone(&has_wondered));
        // They are as many as connections may be open, and each ends by itself.
        tokio::spawn(async move {
            let Ok(Err(named)) = timeout(PATIENCE, answer(stream, &node)).await else { return };
            if !has_wondered.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    %peer,
                    named,
                    services = ?node.view.services(),
                    "Somebody's agent check names no service of this agent: it is answered that the node is in rotation. Write \
                     agent-send \"SERVICE\\n\"."
                );
            }
        });
    }
}

/// Reads what is sent, and answers it. What was named is given back where there is no such service.
async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, node: &Node) -> Result<(), String> {
    let mut line = Vec::new();
    while line.len() < LINE_BYTES_MAX && !line.contains(&b'\n') {
        match timeout(LINE_PATIENCE, stream.read_buf(&mut line)).await {
            Ok(Ok(1..)) => {}
            Ok(Ok(0) | Err(_)) | Err(_) => break,
        }
    }
    let named = String::from_utf8_lossy(&line);
    let named = named.lines().next().unwrap_or_default().trim();
    let answer = match (named, node.view.services().as_slice()) {
        ("", [only]) => node.answer(only),
        (named, _) => node.answer(named),
    };
    let (rotation, weight) =
        answer.as_ref().map_or((Rotation::In, 100), |answer| (answer.rotation, answer.weight));
    let said = format!("{weight}%\n");
    node.counted.answered(By::AgentCheck, rotation);
    // Whoever has gone asks again.
    _ = stream.write_all(said.as_bytes()).await;
    _ = stream.shutdown().await;
    answer.map(drop).ok_or_else(|| named.chars().take(64).collect())
}
