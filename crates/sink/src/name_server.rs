//! A name server that knows one set of addresses for every name, and misbehaves on request.
//!
//! It exists to be asked by a prober under test: what a resolver makes of a server that is silent, late, wrong or not
//! the one that was asked is as much a part of an attempt as the connection.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{RData, Record, RecordType},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    task::JoinSet,
    time::timeout,
};

use crate::{
    listener::{PAUSE, report_panic},
    stream::PATIENCE,
};

/// The address in answers that must not be believed: another one of this host's own, where nobody listens.
pub const DECOY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);

/// How long after a forged answer the true one comes.
const AFTER_FORGERY: Duration = Duration::from_millis(50);

/// How many questions may wait for late answers, and how many connections are held; what comes beyond is dropped.
const WAITING_MAX: usize = 256;

/// How often a port is looked for that is free for datagrams and for connections.
const PORT_TRIES: usize = 16;

/// The time for which an answer may be kept, in seconds.
const TTL: u32 = 60;

/// Behind a number it is the header of an answer with 65,535 records of each kind, none of which is there.
const NOISE: &[u8] = &[0xff; 40];

/// What a name server does wrong with every question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NameMisbehaviour {
    /// Nothing.
    #[default]
    None,
    /// Nobody listens: datagrams are answered with ICMP, connections refused. The port stays reserved.
    Closed,
    /// Questions are taken and never answered.
    Silent,
    /// Answers come this much later.
    Slow {
        /// How much.
        by: Duration,
    },
    /// The name does not exist: `NXDOMAIN`.
    NoSuchName,
    /// The server failed: `SERVFAIL`.
    Fails,
    /// The server does not want to: `REFUSED`.
    Refuses,
    /// The name exists and has no address.
    NoAddress,
    /// A question for IPv4 addresses is answered with records of IPv6 addresses, and the other way round.
    WrongFamily,
    /// Answers have the right transaction's number, and noise behind it.
    Garbage,
    /// Answers in datagrams are empty and say that they were cut; over TCP they are whole.
    Truncated,
    /// Before the true answer comes one with another transaction's number, saying [`DECOY`].
    WrongId,
    /// Before the true answer comes one from another port, saying [`DECOY`].
    WrongSource,
}

impl fmt::Display for NameMisbehaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Closed => "closed",
            Self::Silent => "silent",
            Self::Slow { by } => return write!(f, "slow={}ms", by.as_millis()),
            Self::NoSuchName => "no_such_name",
            Self::Fails => "fails",
            Self::Refuses => "refuses",
            Self::NoAddress => "no_address",
            Self::WrongFamily => "wrong_family",
            Self::Garbage => "garbage",
            Self::Truncated => "truncated",
            Self::WrongId => "wrong_id",
            Self::WrongSource => "wrong_source",
        })
    }
}

/// A name server without sockets.
#[derive(Debug, thiserror::Error)]
#[error("the name server cannot have {address}, for datagrams and for connections: {source}")]
pub struct NameServerError {
    /// The address it was to have.
    address: SocketAddr,
    /// What the operating system said.
    source: io::Error,
}

/// A running name server, over UDP and TCP. Dropped, it stops.
#[derive(Debug)]
pub struct NameServer {
    address: SocketAddr,
    /// The socket that keeps a closed port ours.
    _reserved: Option<UdpSocket>,
    _tasks: JoinSet<()>,
}

impl NameServer {
    /// Listens at `address`, where port 0 asks for any that is free, and answers every question for IPv4 or IPv6
    /// addresses with those of `addresses`, as `how` has it.
    pub async fn start(
        address: SocketAddr,
        addresses: Vec<IpAddr>,
        how: NameMisbehaviour,
    ) -> Result<Self, NameServerError> {
        let failed = |source| NameServerError { address, source };
        let (datagrams, connections) = open(address).await.map_err(failed)?;
        let address = datagrams.local_addr().map_err(failed)?;
        let mut tasks = JoinSet::new();
        if how == NameMisbehaviour::Closed {
            // Connected to itself it takes datagrams from nobody else.
            datagrams.connect(address).await.map_err(failed)?;
            return Ok(Self { address, _reserved: Some(datagrams), _tasks: tasks });
        }
        let names = Arc::new(Names { addresses, how });
        let elsewhere = UdpSocket::bind((address.ip(), 0)).await.map_err(failed)?;
        tasks.spawn(serve_datagrams(datagrams.into(), elsewhere.into(), Arc::clone(&names)));
        tasks.spawn(serve_connections(connections, names));
        Ok(Self { address, _reserved: None, _tasks: tasks })
    }

    /// Where it is asked.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Sockets for datagrams and connections on one port.
async fn open(address: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
    let mut tries = 1..=PORT_TRIES;
    loop {
        let datagrams = UdpSocket::bind(address).await?;
        match TcpListener::bind(datagrams.local_addr()?).await {
            Ok(connections) => return Ok((datagrams, connections)),
            Err(error) if address.port() != 0 || tries.next().is_none() => return Err(error),
            Err(_) => {}
        }
    }
}

/// What is answered.
struct Names {
    addresses: Vec<IpAddr>,
    how: NameMisbehaviour,
}

async fn serve_datagrams(socket: Arc<UdpSocket>, elsewhere: Arc<UdpSocket>, names: Arc<Names>) {
    let mut waiting = JoinSet::new();
    let mut buffer = [0; 4096];
    loop {
        tokio::select! {
            Some(ended) = waiting.join_next() => report_panic(ended),
            received = socket.recv_from(&mut buffer) => {
                // Some send and go; what came back for an earlier answer concerns nobody.
                let Ok((bytes, from)) = received else { continue };
                let Ok(question) = Message::from_vec(&buffer[..bytes]) else { continue };
                if waiting.len() < WAITING_MAX {
                    let sockets = (Arc::clone(&socket), Arc::clone(&elsewhere));
                    waiting.spawn(answer_datagram(sockets, from, question, Arc::clone(&names)));
                }
            }
        }
    }
}

/// Whether an answer arrives is for who asked to see.
async fn answer_datagram(
    (socket, elsewhere): (Arc<UdpSocket>, Arc<UdpSocket>),
    from: SocketAddr,
    question: Message,
    names: Arc<Names>,
) {
    let forger = match names.how {
        NameMisbehaviour::WrongId => Some((&socket, question.metadata.id.wrapping_add(1))),
        NameMisbehaviour::WrongSource => Some((&elsewhere, question.metadata.id)),
        _ => None,
    };
    if let Some((socket, id)) = forger {
        if let Some(forged) = encode(&answer_with(&question, id, &[DECOY.into()])) {
            socket.send_to(&forged, from).await.ok();
        }
        tokio::time::sleep(AFTER_FORGERY).await;
    }
    let answer = match names.how {
        NameMisbehaviour::Truncated => {
            let mut cut = answer_with(&question, question.metadata.id, &[]);
            cut.metadata.truncation = true;
            encode(&cut)
        }
        _ => names.answer(&question).await,
    };
    if let Some(answer) = answer {
        socket.send_to(&answer, from).await.ok();
    }
}

async fn serve_connections(listener: TcpListener, names: Arc<Names>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(ended) = connections.join_next() => report_panic(ended),
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) if connections.len() < WAITING_MAX => {
                    let names = Arc::clone(&names);
                    connections.spawn(async move {
                        timeout(PATIENCE, answer_connection(stream, &names)).await.ok();
                    });
                }
                Ok(_) => {}
                // For want of files, which are no more at once.
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }
}

/// Each message behind its length (RFC 1035, 4.2.2), until the peer closes.
async fn answer_connection(mut stream: TcpStream, names: &Names) -> io::Result<()> {
    loop {
        let mut question = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut question).await?;
        let question = Message::from_vec(&question).map_err(io::Error::other)?;
        let Some(answer) = names.answer(&question).await else { continue };
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes(), answer.as_slice()].concat()).await?;
    }
}

impl Names {
    /// The answer, once it is time for it; `None` where there is none.
    async fn answer(&self, question: &Message) -> Option<Vec<u8>> {
        let id = question.metadata.id;
        let coded = |code| {
            let mut answer = answer_with(question, id, &[]);
            answer.metadata.response_code = code;
            encode(&answer)
        };
        match self.how {
            NameMisbehaviour::Closed | NameMisbehaviour::Silent => None,
            NameMisbehaviour::NoSuchName => coded(ResponseCode::NXDomain),
            NameMisbehaviour::Fails => coded(ResponseCode::ServFail),
            NameMisbehaviour::Refuses => coded(ResponseCode::Refused),
            NameMisbehaviour::NoAddress => coded(ResponseCode::NoError),
            NameMisbehaviour::Garbage => Some([&id.to_be_bytes(), NOISE].concat()),
            NameMisbehaviour::WrongFamily => {
                let mut answer = answer_with(question, id, &[]);
                let other: IpAddr = match question.queries.first()?.query_type() {
                    RecordType::A => Ipv6Addr::LOCALHOST.into(),
                    _ => Ipv4Addr::LOCALHOST.into(),
                };
                answer.add_answers(records(question, &[other]));
                encode(&answer)
            }
            NameMisbehaviour::Slow { by } => {
                tokio::time::sleep(by).await;
                encode(&answer_with(question, id, &self.addresses))
            }
            NameMisbehaviour::None
            | NameMisbehaviour::Truncated
            | NameMisbehaviour::WrongId
            | NameMisbehaviour::WrongSource => encode(&answer_with(question, id, &self.addresses)),
        }
    }
}

/// An answer with those of `addresses` that are of the type asked for.
fn answer_with(question: &Message, id: u16, addresses: &[IpAddr]) -> Message {
    let mut answer = Message::response(id, question.metadata.op_code);
    answer.metadata.recursion_desired = question.metadata.recursion_desired;
    answer.metadata.recursion_available = true;
    let asked = question.queries.first().map(|query| query.query_type());
    let fits = |record: &Record| Some(record.record_type()) == asked;
    answer.add_answers(records(question, addresses).into_iter().filter(fits));
    if let Some(query) = question.queries.first() {
        answer.add_query(query.clone());
    }
    answer
}

fn records(question: &Message, addresses: &[IpAddr]) -> Vec<Record> {
    let Some(query) = question.queries.first() else { return Vec::new() };
    let record = |address: &IpAddr| Record::from_rdata(query.name().clone(), TTL, RData::from(*address));
    addresses.iter().map(record).collect()
}

/// The message as bytes. What does not fit into one is not sent, which no answer of ours is long enough for.
fn encode(message: &Message) -> Option<Vec<u8>> {
    message.to_vec().ok()
}
