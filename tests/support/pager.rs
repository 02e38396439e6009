//! Whoever is paged by webhook: takes all that comes, and keeps it.

use std::{
    collections::BTreeSet,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use serde_json::Value;

/// Takes webhooks until the test's process ends.
#[derive(Clone, Default)]
pub(crate) struct Pager(Arc<Mutex<Taken>>);

#[derive(Default)]
struct Taken {
    bodies: Vec<Value>,
    ids: BTreeSet<String>,
}

impl Pager {
    /// One at an address of its own.
    #[track_caller]
    pub(crate) fn start() -> (Self, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (pager, address) = (Self::default(), listener.local_addr().unwrap());
        let told = pager.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // Whoever hangs up half-way comes again.
                _ = told.take(stream);
            }
        });
        (pager, address)
    }

    fn take(&self, stream: TcpStream) -> io::Result<()> {
        let mut reader = BufReader::new(stream);
        let (mut line, mut length, mut id) = (String::new(), 0, None);
        while reader.read_line(&mut line)? > 2 {
            let (name, value) = line.split_once(':').unwrap_or_default();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse::<usize>().map_err(io::Error::other)?,
                "webhook-id" => id = Some(value.trim().to_owned()),
                _ => {}
            }
            line.clear();
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let mut taken = self.0.lock().unwrap();
        // Whoever had no answer in time tells it again, under the same id.
        if id.is_none_or(|id| taken.ids.insert(id)) {
            taken.bodies.push(serde_json::from_slice(&body)?);
        }
        drop(taken);
        let answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
        reader.get_mut().write_all(answer)
    }

    /// The bodies of all that came, in their order.
    pub(crate) fn told(&self) -> Vec<Value> {
        self.0.lock().unwrap().bodies.clone()
    }

    /// Their types.
    pub(crate) fn types(&self) -> Vec<String> {
        self.told().iter().map(|told| told["type"].as_str().unwrap().to_owned()).collect()
    }
}
