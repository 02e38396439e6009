//! A server that plays a receiver: it keeps what it was asked, and answers as it was told to.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use aviary_notify::Url;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader},
    net::TcpListener,
    sync::mpsc,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

/// What a server was asked.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Request {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// How a server answers.
pub(crate) enum Reply {
    /// With a status line, header lines and a body.
    Answer { status: &'static str, headers: &'static str, body: String },
    /// With a success that never ends.
    Flood,
    /// Not at all.
    Silence,
    /// By closing the connection.
    Close,
}

/// A success with `body`.
pub(crate) fn ok(body: &str) -> Reply {
    answer("200 OK", body)
}

pub(crate) fn answer(status: &'static str, body: &str) -> Reply {
    Reply::Answer { status, headers: "", body: body.to_owned() }
}

/// A server on loopback, stopped on drop.
pub(crate) struct Server {
    address: SocketAddr,
    scheme: &'static str,
    requests: mpsc::Receiver<Request>,
    task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(reply: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_with(None, reply).await
    }

    pub(crate) async fn start_with(
        tls: Option<TlsAcceptor>,
        reply: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let (tell, requests) = mpsc::channel(100);
        let reply = Arc::new(reply);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, tell, reply) = (tls.clone(), tell.clone(), Arc::clone(&reply));
                tokio::spawn(async move {
                    match tls {
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => serve(stream, &tell, &*reply).await,
                            Err(_) => None,
                        },
                        None => serve(stream, &tell, &*reply).await,
                    }
                });
            }
        });
        Self { address, scheme, requests, task }
    }

    pub(crate) fn url(&self, path: &str) -> Url {
        format!("{}://{}{path}", self.scheme, self.address).parse().unwrap()
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// The next request.
    pub(crate) async fn asked(&mut self) -> Request {
        self.requests.recv().await.unwrap()
    }

    /// How many requests there were that nobody has looked at.
    pub(crate) fn unseen(&mut self) -> usize {
        std::iter::from_fn(|| self.requests.try_recv().ok()).count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Takes one request. What cannot be read or written any more is the peer's decision.
async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    tell: &mpsc::Sender<Request>,
    reply: &(impl Fn(&Request) -> Reply + Sync),
) -> Option<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut headers = BTreeMap::new();
    loop {
        line.clear();
        stream.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let mut body = vec![0; headers.get("content-length").map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).await.ok()?;
    let request = Request { path, headers, body: String::from_utf8(body).unwrap() };
    let reply = reply(&request);
    tell.send(request).await.ok()?;
    match reply {
        Reply::Answer { status, headers, body } => {
            let length = body.len();
            let answer = format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}");
            stream.write_all(answer.as_bytes()).await.ok()?;
        }
        Reply::Flood => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.ok()?;
            let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
            for _ in 0..1_600 {
                stream.write_all(chunk.as_bytes()).await.ok()?;
            }
        }
        Reply::Silence => std::future::pending().await,
        Reply::Close => {}
    }
    stream.shutdown().await.ok()
}
