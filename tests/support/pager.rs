//! Whoever is paged by webhook: takes all that comes, and keeps it.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use serde_json::Value;

/// Takes webhooks until the test's process ends.
#[derive(Clone, Default)]
pub(crate) struct Pager(Arc<Mutex<Vec<Value>>>);

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
        let (mut line, mut length) = (String::new(), 0);
        while reader.read_line(&mut line)? > 2 {
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse::<usize>().map_err(io::Error::other)?;
            }
            line.clear();
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        self.0.lock().unwrap().push(serde_json::from_slice(&body)?);
        let answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
        reader.get_mut().write_all(answer)
    }

    /// The bodies of all that came, in their order.
    pub(crate) fn told(&self) -> Vec<Value> {
        self.0.lock().unwrap().clone()
    }

    /// Their types.
    pub(crate) fn types(&self) -> Vec<String> {
        self.told().iter().map(|told| told["type"].as_str().unwrap().to_owned()).collect()
    }
}
