//! Free ports of the loopback interface, for servers that keep theirs over a restart.

use std::{
    fs, io, iter,
    net::{Ipv4Addr, TcpListener},
};

/// Ports below are those of well-known services.
const LOWEST: u16 = 10_000;

/// The first port that Linux gives to connections, unless it says another one.
const FIRST_OF_CONNECTIONS: u16 = 32_768;

/// Ports between the places at which two processes with successive numbers begin to look.
const STRIDE: usize = 64;

/// Ports that are free now. Another program may take one before the server does.
///
/// The kernel gives none of them to a connection. A client that tries again to reach a server that is away may otherwise get that server's
/// port for its own end, is connected with itself, and keeps the port from the server.
pub(crate) fn free(count: usize) -> io::Result<Vec<u16>> {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let first = range.split_whitespace().next().and_then(|port| port.parse().ok()).unwrap_or(FIRST_OF_CONNECTIONS);
    let ports: Vec<u16> = (LOWEST..first).collect();
    let begin = (std::process::id() as usize).wrapping_mul(STRIDE) % ports.len().max(1);
    let ports = ports[begin..].iter().chain(&ports[..begin]).copied();
    // Without any left the kernel chooses.
    let ports = ports.chain(iter::repeat_n(0, count));
    // They are held until all are found, so that none is found twice.
    let held: Vec<TcpListener> =
        ports.filter_map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()).take(count).collect();
    if held.len() < count {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "no port is free"));
    }
    held.iter().map(|held| Ok(held.local_addr()?.port())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_free_and_different() {
        let mut ports = free(9).expect("ports");
        assert!(ports.iter().all(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()), "{ports:?}");
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 9);
    }
}
