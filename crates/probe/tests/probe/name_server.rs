//! A name server that answers as a test has it, and remembers what it was asked.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aviary_probe::{Dns, Host, Prober, SystemClock};
use hickory_resolver::proto::{
    op::{Message, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata::SRV},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, UdpSocket},
    task::JoinSet,
};

use crate::rig::ANY;

/// A question that nobody answers is repeated after a little more.
pub(crate) const REPEATED_US: u32 = 280_000;

/// How often a port of UDP is looked for that is free for TCP too.
const PORT_TRIES: usize = 16;

/// What a query gets.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// Those of these addresses that are of the type asked for.
    Addresses(Vec<IpAddr>),
    /// SRV records with these hosts and ports, where that is asked for; one more life in seconds for each.
    Hosts(Vec<(&'static str, u16)>),
    /// A failure.
    Code(ResponseCode),
    /// Nothing.
    Silence,
    /// That the answer is too long for a datagram.
    Truncated,
    /// A reply, so much later.
    After(Duration, Box<Self>),
}

/// A name server, stopped when dropped.
pub(crate) struct NameServer {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<(String, RecordType)>>>,
    task: JoinSet<()>,
}

impl NameServer {
    /// A name server that replies to its queries, counted from 0, as `script` has it.
    pub(crate) async fn start(script: impl Fn(usize, RecordType) -> Reply + Send + 'static) -> Self {
        Self::start_at(ANY, move |index, _, kind| script(index, kind)).await
    }

    /// The same at `address`, and the script is told the name too.
    pub(crate) async fn start_at(
        address: SocketAddr,
        script: impl Fn(usize, &str, RecordType) -> Reply + Send + 'static,
    ) -> Self {
        let socket = Arc::new(UdpSocket::bind(address).await.expect("a free port"));
        let address = socket.local_addr().expect("bound");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let mut task = JoinSet::new();
        task.spawn(serve(socket, Arc::clone(&asked), script));
        Self { address, asked, task }
    }

    /// A name server that has these addresses for every name.
    pub(crate) async fn of<const N: usize>(addresses: [&str; N]) -> Self {
        let addresses = addresses.map(|address| address.parse().expect("an address")).to_vec();
        Self::start(move |_, _| Reply::Addresses(addresses.clone())).await
    }

    /// A name server that has these addresses for every name, and tells them over TCP only.
    pub(crate) async fn over_tcp<const N: usize>(addresses: [&str; N]) -> Self {
        let addresses = addresses.map(|address| address.parse().expect("an address")).to_vec();
        for _ in 0..PORT_TRIES {
            let mut server = Self::start(|_, _| Reply::Truncated).await;
            if let Ok(listener) = TcpListener::bind(server.address).await {
                server.task.spawn(serve_over_tcp(listener, Reply::Addresses(addresses)));
                return server;
            }
        }
        panic!("few use the same port of TCP");
    }

    /// The types of what was asked, in order.
    pub(crate) fn asked(&self) -> Vec<RecordType> {
        self.questions().into_iter().map(|(_, kind)| kind).collect()
    }

    /// What was asked, in order.
    pub(crate) fn questions(&self) -> Vec<(String, RecordType)> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lookups that ask this server only.
    pub(crate) fn dns(&self) -> Dns {
        Dns::with_servers(&[self.address]).expect("a hosts file")
    }

    /// A prober that asks this server only.
    pub(crate) fn prober(&self) -> Prober<Host, SystemClock> {
        prober_asking(self.address)
    }
}

pub(crate) fn prober_asking(server: SocketAddr) -> Prober<Host, SystemClock> {
    Prober::new(Host::new(Dns::with_servers(&[server]).expect("a hosts file")), SystemClock)
}

async fn serve_over_tcp(listener: TcpListener, always: Reply) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let serve = async {
            let mut query = vec![0; stream.read_u16().await?.into()];
            stream.read_exact(&mut query).await?;
            let query = Message::from_vec(&query).expect("a query");
            let answer = answer(&query, always.clone()).expect("not silent");
            stream.write_u16(answer.len() as u16).await?;
            stream.write_all(&answer).await
        };
        // Who asked may have gone.
        serve.await.ok();
    }
}

async fn serve(
    socket: Arc<UdpSocket>,
    asked: Arc<Mutex<Vec<(String, RecordType)>>>,
    script: impl Fn(usize, &str, RecordType) -> Reply,
) {
    let mut late = JoinSet::new();
    let mut buffer = [0; 2048];
    for index in 0.. {
        let (bytes, from) = socket.recv_from(&mut buffer).await.expect("unconnected");
        let query = Message::from_vec(&buffer[..bytes]).expect("a query");
        let kind = query.queries[0].query_type();
        let name = query.queries[0].name().to_ascii();
        let name = name.trim_end_matches('.');
        asked.lock().unwrap_or_else(PoisonError::into_inner).push((name.to_owned(), kind));
        let (reply, after) = match script(index, name, kind) {
            Reply::After(after, reply) => (*reply, after),
            reply => (reply, Duration::ZERO),
        };
        let Some(answer) = answer(&query, reply) else { continue };
        let socket = Arc::clone(&socket);
        late.spawn(async move {
            tokio::time::sleep(after).await;
            // Who asked may have gone.
            socket.send_to(&answer, from).await.ok();
        });
    }
}

fn answer(query: &Message, reply: Reply) -> Option<Vec<u8>> {
    let asked = query.queries[0].clone();
    let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
    match reply {
        Reply::Addresses(addresses) => {
            let records = addresses
                .into_iter()
                .map(RData::from)
                .filter(|data| data.record_type() == asked.query_type());
            answer.add_answers(records.map(|data| Record::from_rdata(asked.name().clone(), 60, data)));
        }
        Reply::Hosts(hosts) => {
            let records = hosts.into_iter().zip(20..).map(|((host, port), ttl)| {
                let target = Name::from_ascii(host).expect("a name");
                let record = RData::SRV(SRV::new(10, 5, port, target));
                Record::from_rdata(asked.name().clone(), ttl, record)
            });
            answer.add_answers(records.filter(|it| it.record_type() == asked.query_type()));
        }
        Reply::Truncated => answer.metadata.truncation = true,
        Reply::Code(code) => answer.metadata.response_code = code,
        Reply::Silence | Reply::After(..) => return None,
    }
    answer.metadata.recursion_desired = true;
    answer.metadata.recursion_available = true;
    answer.add_query(asked);
    Some(answer.to_vec().expect("an answer that fits"))
}
