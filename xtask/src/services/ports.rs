//! Free ports on the loopback address. They lie below the range from which the kernel takes ports for outgoing
//! connections, and each is reserved among all runs on this machine by an abstract unix socket of its number,
//! which goes away with its process: two runs that start side by side never choose the same one.

use super::secret;
use anyhow::{Result, ensure};
use std::{
    net::TcpListener,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener},
    },
};

const FIRST: u16 = 15_000;
const LAST: u16 = 31_999;

/// Ports that nobody else takes while this is alive.
#[derive(Debug)]
pub struct Ports {
    /// Their numbers.
    pub numbers: Vec<u16>,
    locks: Vec<UnixListener>,
}

impl Ports {
    /// Reserves `count` free ports.
    pub fn reserve(count: usize) -> Result<Ports> {
        let span = u64::from(LAST - FIRST) + 1;
        let start = secret::number() % span;
        let mut ports = Ports { numbers: vec![], locks: vec![] };
        for port in (0..span).filter_map(|i| u16::try_from((start + i) % span).ok()).map(|offset| FIRST + offset) {
            if ports.numbers.len() == count {
                break;
            }
            if let Some(lock) = lock(port).filter(|_| is_free(port)) {
                ports.numbers.push(port);
                ports.locks.push(lock);
            }
        }
        ensure!(ports.numbers.len() == count, "no {count} free ports between {FIRST} and {LAST}");
        Ok(ports)
    }
}

fn lock(port: u16) -> Option<UnixListener> {
    let address = SocketAddr::from_abstract_name(format!("longshore-port-{port}")).ok()?;
    UnixListener::bind_addr(&address).ok()
}

/// Free on all addresses: some servers take more than we tell them to.
fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok() && TcpListener::bind(("0.0.0.0", port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn reservations_that_live_at_the_same_time_share_no_port() {
        let all: Vec<Ports> = (0..20).map(|_| Ports::reserve(8).unwrap()).collect();
        let distinct: HashSet<u16> = all.iter().flat_map(|p| p.numbers.clone()).collect();
        assert_eq!(distinct.len(), 160);
    }

    #[test]
    fn a_port_in_use_is_not_chosen_and_a_dropped_reservation_can_be_had_again() {
        let port = Ports::reserve(1).unwrap().numbers[0];
        let held = lock(port).expect("given back");
        assert!(lock(port).is_none());
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        assert!(!is_free(port));
        drop((held, listener));
    }
}
