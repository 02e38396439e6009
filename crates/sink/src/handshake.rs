//! Handshakes that go wrong on request, byte by byte where a library would refuse to.

use std::{io, sync::Arc};

use rustls::ServerConnection;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    Misbehaviour,
    stream::{self, PATIENCE},
};

/// How a `ClientHello` is answered wrongly.
#[derive(Clone, Copy)]
pub(crate) enum Flaw {
    Cut,
    OldVersion,
    Alert,
    PlainText,
}

impl Flaw {
    /// The flaw that a misbehaviour asks for, if it is one of the handshake.
    pub(crate) const fn of(how: Misbehaviour) -> Option<Self> {
        match how {
            Misbehaviour::CutHandshake => Some(Self::Cut),
            Misbehaviour::OldVersion => Some(Self::OldVersion),
            Misbehaviour::TlsAlert => Some(Self::Alert),
            Misbehaviour::PlainText => Some(Self::PlainText),
            _ => None,
        }
    }
}

/// A fatal `handshake_failure` (RFC 5246, 7.2).
const ALERT: &[u8] = &[21, 3, 3, 0, 2, 2, 40];

const PLAIN_TEXT: &[u8] = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n";

/// TLS 1.1, as it stands on the wire.
const OLD_VERSION: [u8; 2] = [3, 2];

/// Answers a `ClientHello` as `flaw` has it, and ends the connection in an orderly way: what the peer makes of it is
/// to come from the answer and not from a reset.
pub(crate) async fn spoil(mut tcp: TcpStream, flaw: Flaw, tls: &TlsAcceptor) {
    let Ok(Ok(hello)) = timeout(PATIENCE, record(&mut tcp)).await else { return };
    let answer = match flaw {
        // Nothing is said by a connection that cannot be set up: the end comes earlier then.
        Flaw::Cut => half_an_answer(&hello, tls).unwrap_or_default(),
        Flaw::OldVersion => server_hello_of_old(),
        Flaw::Alert => ALERT.to_vec(),
        Flaw::PlainText => PLAIN_TEXT.to_vec(),
    };
    tcp.write_all(&answer).await.ok();
    stream::close(tcp).await;
}

/// One record, with its header; at most 64 KiB by its two bytes of length.
async fn record(tcp: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut record = vec![0; 5];
    tcp.read_exact(&mut record).await?;
    let length = usize::from(u16::from_be_bytes([record[3], record[4]]));
    record.resize(5 + length, 0);
    tcp.read_exact(&mut record[5..]).await?;
    Ok(record)
}

/// What a good server would answer, cut in the middle.
fn half_an_answer(mut hello: &[u8], tls: &TlsAcceptor) -> Option<Vec<u8>> {
    let mut server = ServerConnection::new(Arc::clone(tls.config())).ok()?;
    server.read_tls(&mut hello).ok()?;
    // What is wrong with the hello would be in the answer.
    server.process_new_packets().ok();
    let mut answer = Vec::new();
    while server.wants_write() {
        server.write_tls(&mut answer).ok()?;
    }
    answer.truncate(answer.len() / 2);
    Some(answer)
}

/// A `ServerHello` (RFC 4346, 7.4.1.3) of TLS 1.1 without extensions, with a cipher suite of its time.
fn server_hello_of_old() -> Vec<u8> {
    const ECDHE_RSA_WITH_AES_128_CBC_SHA: [u8; 2] = [0xc0, 0x13];
    const NO_SESSION: u8 = 0;
    const NO_COMPRESSION: u8 = 0;
    let mut body = Vec::from(OLD_VERSION);
    body.extend([0x5a; 32]);
    body.push(NO_SESSION);
    body.extend(ECDHE_RSA_WITH_AES_128_CBC_SHA);
    body.push(NO_COMPRESSION);
    // Both lengths are of these few bytes.
    let length = body.len() as u8;
    let mut record = vec![22, OLD_VERSION[0], OLD_VERSION[1], 0, length + 4, 2, 0, 0, length];
    record.extend(body);
    record
}
