//! The name server, against a client that speaks DNS by hand.

use std::{io, net::IpAddr, time::Duration};

use aviary_sink::{DECOY, NameMisbehaviour, NameServer};
use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RecordType},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, UdpSocket},
    time::timeout,
};

use crate::client::{A_WHILE, SOON};

const ID: u16 = 4711;

async fn server(how: NameMisbehaviour) -> NameServer {
    let addresses = ["127.0.0.1", "127.0.0.2", "::1"].map(|address| address.parse().unwrap());
    NameServer::start("127.0.0.1:0".parse().unwrap(), addresses.to_vec(), how).await.unwrap()
}

fn question(kind: RecordType) -> Vec<u8> {
    let mut message = Message::new(ID, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii("sink.test.").unwrap(), kind));
    message.to_vec().unwrap()
}

/// Asks over UDP; returns what comes first, and from where.
async fn ask(server: &NameServer, kind: RecordType) -> (UdpSocket, io::Result<Vec<u8>>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(server.address()).await.unwrap();
    socket.send(&question(kind)).await.unwrap();
    let heard = hear(&socket).await;
    (socket, heard)
}

async fn hear(socket: &UdpSocket) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; 2048];
    let bytes = timeout(SOON, socket.recv(&mut buffer)).await.expect("an answer")?;
    buffer.truncate(bytes);
    Ok(buffer)
}

async fn message(how: NameMisbehaviour, kind: RecordType) -> Message {
    Message::from_vec(&ask(&server(how).await, kind).await.1.unwrap()).unwrap()
}

fn addresses(message: &Message) -> Vec<IpAddr> {
    message.answers.iter().filter_map(|record| record.data.ip_addr()).collect()
}

#[tokio::test]
async fn it_answers_what_was_asked_for() {
    for (kind, expected) in [
        (RecordType::A, ["127.0.0.1", "127.0.0.2"].as_slice()),
        (RecordType::AAAA, &["::1"]),
        (RecordType::TXT, &[]),
    ] {
        let answer = message(NameMisbehaviour::None, kind).await;
        let expected: Vec<IpAddr> = expected.iter().map(|address| address.parse().unwrap()).collect();
        assert_eq!((answer.metadata.id, addresses(&answer)), (ID, expected), "{kind}");
        assert_eq!(answer.queries[0].query_type(), kind);
    }
}

#[tokio::test]
async fn failures_are_answered_at_once() {
    for (how, code) in [
        (NameMisbehaviour::NoSuchName, ResponseCode::NXDomain),
        (NameMisbehaviour::Fails, ResponseCode::ServFail),
        (NameMisbehaviour::Refuses, ResponseCode::Refused),
        (NameMisbehaviour::NoAddress, ResponseCode::NoError),
    ] {
        let answer = message(how, RecordType::A).await;
        assert_eq!((answer.metadata.response_code, addresses(&answer).len()), (code, 0), "{how}");
    }
}

#[tokio::test]
async fn a_lie_about_the_family_is_one() {
    let answer = message(NameMisbehaviour::WrongFamily, RecordType::A).await;
    assert_eq!(answer.answers[0].record_type(), RecordType::AAAA);
    let answer = message(NameMisbehaviour::WrongFamily, RecordType::AAAA).await;
    assert_eq!(answer.answers[0].record_type(), RecordType::A);
}

#[tokio::test]
async fn garbage_is_no_message() {
    let (_, heard) = ask(&server(NameMisbehaviour::Garbage).await, RecordType::A).await;
    let heard = heard.unwrap();
    assert!(heard.starts_with(&ID.to_be_bytes()), "what is wrong is not the number");
    assert!(Message::from_vec(&heard).is_err());
}

#[tokio::test]
async fn a_forged_number_comes_before_the_true_answer() {
    let server = server(NameMisbehaviour::WrongId).await;
    let (socket, first) = ask(&server, RecordType::A).await;
    let first = Message::from_vec(&first.unwrap()).unwrap();
    assert_eq!((first.metadata.id, addresses(&first)), (ID + 1, vec![DECOY.into()]));
    let second = Message::from_vec(&hear(&socket).await.unwrap()).unwrap();
    assert_eq!((second.metadata.id, addresses(&second).len()), (ID, 2));
}

#[tokio::test]
async fn a_forged_source_comes_before_the_true_answer() {
    let server = server(NameMisbehaviour::WrongSource).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(&question(RecordType::A), server.address()).await.unwrap();
    let mut heard = Vec::new();
    for _ in 0..2 {
        let mut buffer = vec![0; 2048];
        let (bytes, from) = timeout(SOON, socket.recv_from(&mut buffer)).await.unwrap().unwrap();
        heard.push((from == server.address(), addresses(&Message::from_vec(&buffer[..bytes]).unwrap())));
    }
    assert_eq!(heard[0], (false, vec![DECOY.into()]));
    assert_eq!((heard[1].0, heard[1].1.len()), (true, 2));
}

#[tokio::test]
async fn what_was_cut_is_whole_over_tcp() {
    let server = server(NameMisbehaviour::Truncated).await;
    let cut = Message::from_vec(&ask(&server, RecordType::A).await.1.unwrap()).unwrap();
    assert!(cut.metadata.truncation && cut.answers.is_empty());

    let mut stream = TcpSocket::new_v4().unwrap().connect(server.address()).await.unwrap();
    let asked = question(RecordType::A);
    stream.write_u16(asked.len() as u16).await.unwrap();
    stream.write_all(&asked).await.unwrap();
    let mut whole = vec![0; usize::from(timeout(SOON, stream.read_u16()).await.unwrap().unwrap())];
    stream.read_exact(&mut whole).await.unwrap();
    let whole = Message::from_vec(&whole).unwrap();
    assert!(!whole.metadata.truncation);
    assert_eq!(addresses(&whole).len(), 2);
}

#[tokio::test]
async fn silence_and_lateness() {
    for how in [NameMisbehaviour::Silent, NameMisbehaviour::Slow { by: 2 * A_WHILE }] {
        let server = server(how).await;
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(server.address()).await.unwrap();
        socket.send(&question(RecordType::A)).await.unwrap();
        assert!(timeout(A_WHILE, socket.recv(&mut [0; 9])).await.is_err(), "{how}");
        if how != NameMisbehaviour::Silent {
            hear(&socket).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_closed_one_is_refused_and_keeps_its_port() {
    let server = server(NameMisbehaviour::Closed).await;
    let (_, heard) = ask(&server, RecordType::A).await;
    assert_eq!(heard.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    let refused = TcpSocket::new_v4().unwrap().connect(server.address()).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    assert!(std::net::UdpSocket::bind(server.address()).is_err(), "nobody else gets the port");
}

/// What is no question harms nobody else's.
#[tokio::test]
async fn what_is_no_question_is_left_out() {
    let server = server(NameMisbehaviour::None).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(server.address()).await.unwrap();
    for bytes in [b"".as_slice(), b"?", &[0xff; 600], &[0; 12]] {
        socket.send(bytes).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(
        addresses(&Message::from_vec(&ask(&server, RecordType::A).await.1.unwrap()).unwrap()).len(),
        2
    );
}
