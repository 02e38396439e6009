//! A collector that only counts what it is sent.

use std::{
    io::{self, Read as _},
    sync::{Arc, Mutex, PoisonError},
};

use aviary_wire::report::Report;
use flate2::read::GzDecoder;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

/// What reports cost; the first of an agent, with the roster, stands apart.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) reports: u64,
    pub(crate) slots: u64,
    /// Bodies as they were sent.
    pub(crate) sent: u64,
    /// The same bodies uncompressed.
    pub(crate) plain: u64,
    /// The report with the roster, as it was sent.
    pub(crate) roster: u64,
}

/// Starts a recorder on the runtime of the caller; returns its base URL and what it counts.
pub(crate) async fn start() -> io::Result<(String, Arc<Mutex<Tally>>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let tally = Arc::<Mutex<Tally>>::default();
    let counted = Arc::clone(&tally);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let counted = Arc::clone(&counted);
            tokio::spawn(async move {
                if let Err(error) = serve(stream, &counted).await {
                    tracing::error!("The recorder cannot read a report: {error}");
                }
            });
        }
    });
    Ok((url, tally))
}

/// Takes the requests of one connection, until the other end has enough of it.
async fn serve(stream: TcpStream, tally: &Mutex<Tally>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut length, mut is_compressed) = (0, false);
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let line = line.trim_end().to_ascii_lowercase();
            match line.split_once(": ") {
                _ if line.is_empty() => break,
                Some(("content-length", value)) => length = value.parse().map_err(io::Error::other)?,
                Some(("content-encoding", value)) => is_compressed = value == "gzip",
                _ => {}
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        let slots = count(&body, is_compressed, tally)?;
        let answer = format!(r#"{{"slots":{slots},"too_old":0,"ahead":0}}"#);
        let length = answer.len();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json";
        stream.write_all(format!("{head}\r\ncontent-length: {length}\r\n\r\n{answer}").as_bytes()).await?;
    }
}

fn count(body: &[u8], is_compressed: bool, tally: &Mutex<Tally>) -> io::Result<u64> {
    let plain = if is_compressed {
        let mut plain = Vec::new();
        GzDecoder::new(body).read_to_end(&mut plain)?;
        plain
    } else {
        body.to_vec()
    };
    let report = Report::decode(&plain).map_err(io::Error::other)?;
    let skipped: u64 = report.gaps.iter().map(|gap| u64::from(gap.count) * gap.span.seconds()).sum();
    let slots = report.slots.len() as u64 + skipped;
    // Sums of whole numbers: a panic elsewhere spoils none.
    let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
    if report.roster.is_some() {
        tally.roster += body.len() as u64;
    } else {
        tally.reports += 1;
        tally.slots += slots;
        tally.sent += body.len() as u64;
        tally.plain += plain.len() as u64;
    }
    Ok(slots)
}
