//! When a service is ready: when it speaks its protocol, not when its port is open.

use serde::{Deserialize, Serialize};
use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

/// What to ask, and on which port of the loopback address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Probe {
    /// It takes connections.
    Tcp {
        /// The port.
        port: u16,
    },
    /// It answers the protocol's header with `connection.start` (AMQP 0-9-1, section 4.2.2).
    Amqp {
        /// The port.
        port: u16,
    },
    /// It tells about version 3 of its interface.
    Keystone {
        /// The port.
        port: u16,
    },
    /// It asks for a password. While it starts or recovers it answers with an error instead.
    Postgres {
        /// The port.
        port: u16,
    },
    /// It asks anonymous callers for credentials, and has room for an object. The S3 port opens before that.
    S3 {
        /// The port of the S3 interface.
        port: u16,
        /// The port of SeaweedFS's master.
        master: u16,
    },
    /// One of its proxies is well. All of its servers listen by then.
    Swift {
        /// The proxy's port.
        port: u16,
    },
}

impl Probe {
    /// Whether the service is ready now.
    pub fn answers(self) -> bool {
        self.ask().unwrap_or(false)
    }

    /// Where clients connect.
    pub fn port(self) -> u16 {
        match self {
            Probe::Tcp { port } | Probe::Amqp { port } | Probe::Keystone { port } | Probe::Postgres { port } => port,
            Probe::S3 { port, .. } | Probe::Swift { port } => port,
        }
    }

    fn ask(self) -> io::Result<bool> {
        match self {
            Probe::Tcp { port } => connect(port).map(|_| true),
            Probe::Amqp { port } => {
                let mut answer = [0; 11];
                exchange(port, b"AMQP\0\0\x09\x01", &mut answer)?;
                Ok(answer[0] == 1 && answer[7..] == [0, 10, 0, 10])
            }
            // It speaks HTTP/1.0.
            Probe::Keystone { port } => Ok(get(port, "/v3")?.split(' ').nth(1) == Some("200")),
            Probe::Postgres { port } => {
                let mut answer = [0; 1];
                exchange(port, &startup(), &mut answer)?;
                Ok(answer == *b"R")
            }
            Probe::S3 { port, master } => {
                Ok(get(port, "/")?.starts_with("HTTP/1.1 403") && get(master, "/dir/assign")?.contains("\"fid\""))
            }
            Probe::Swift { port } => Ok(get(port, "/healthcheck")?.starts_with("HTTP/1.1 200")),
        }
    }
}

/// PostgreSQL's start-up message, protocol 3.0, for the user `postgres`.
fn startup() -> Vec<u8> {
    let parameters = b"user\0postgres\0database\0postgres\0\0";
    let length = u32::try_from(8 + parameters.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes()[..], &196_608_u32.to_be_bytes(), parameters].concat()
}

fn connect(port: u16) -> io::Result<TcpStream> {
    let limit = Duration::from_secs(5);
    let stream = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    Ok(stream)
}

fn exchange(port: u16, question: &[u8], answer: &mut [u8]) -> io::Result<()> {
    let mut stream = connect(port)?;
    stream.write_all(question)?;
    stream.read_exact(answer)
}

fn get(port: u16, path: &str) -> io::Result<String> {
    let mut stream = connect(port)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n")?;
    let mut answer = vec![];
    stream.take(64 * 1024).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{net::TcpListener, thread};

    /// A server that takes one connection, reads something and sends `answer`.
    fn answering(answer: &'static [u8]) -> (u16, thread::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            assert!(stream.read(&mut [0; 100]).unwrap() > 0);
            stream.write_all(answer).unwrap();
        });
        (port, server)
    }

    #[test]
    fn a_closed_port_is_not_ready() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        for probe in [
            Probe::Tcp { port },
            Probe::Amqp { port },
            Probe::Keystone { port },
            Probe::Postgres { port },
            Probe::S3 { port, master: port },
            Probe::Swift { port },
        ] {
            assert!(!probe.answers(), "{probe:?}");
        }
    }

    #[test]
    fn a_database_that_still_starts_is_not_ready() {
        let (port, server) = answering(b"E\0\0\0\x50SFATAL\0");
        assert!(!Probe::Postgres { port }.answers());
        server.join().unwrap();
        let (port, server) = answering(b"R\0\0\0\x17");
        assert!(Probe::Postgres { port }.answers());
        server.join().unwrap();
    }

    #[test]
    fn a_service_that_answers_with_an_error_is_not_ready() {
        for (answer, ready) in [(&b"HTTP/1.0 500 NO\r\n\r\n"[..], false), (b"HTTP/1.0 200 OK\r\n\r\n", true)] {
            let (port, server) = answering(answer);
            assert_eq!(Probe::Keystone { port }.answers(), ready);
            server.join().unwrap();
        }
        for (answer, ready) in [(&b"HTTP/1.1 503 NO\r\n\r\n"[..], false), (b"HTTP/1.1 200 OK\r\n\r\n", true)] {
            let (port, server) = answering(answer);
            assert_eq!(Probe::Swift { port }.answers(), ready);
            server.join().unwrap();
        }
    }

    #[test]
    fn another_protocol_on_the_broker_s_port_is_not_ready() {
        let (port, server) = answering(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        assert!(!Probe::Amqp { port }.answers());
        server.join().unwrap();
        let (port, server) = answering(b"\x01\0\0\0\0\x01\xfc\0\x0a\0\x0a\0\x09");
        assert!(Probe::Amqp { port }.answers());
        server.join().unwrap();
    }
}
