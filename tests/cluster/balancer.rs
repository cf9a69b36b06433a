//! One address for several workers, as a balancer gives them: connections go to whichever worker takes them.

use std::io::copy;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Listens on a free port for as long as the test program runs, and returns the address.
pub fn balance(workers: Vec<SocketAddr>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port of this machine");
    let address = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        let turn = AtomicUsize::new(0);
        for from in listener.incoming().map_while(Result::ok) {
            let first = turn.fetch_add(1, Ordering::Relaxed);
            let order = (0..workers.len()).map(|n| workers[(first + n) % workers.len()]);
            // A connection that no worker takes is closed, and Restate tries again.
            let Some(to) = order.map(TcpStream::connect).find_map(Result::ok) else { continue };
            let (Ok(from_again), Ok(to_again)) = (from.try_clone(), to.try_clone()) else { continue };
            std::thread::spawn(move || pass_on(from, to));
            std::thread::spawn(move || pass_on(to_again, from_again));
        }
    });
    address
}

fn pass_on(mut from: TcpStream, mut to: TcpStream) {
    // Either side may be killed in the middle; the other is told by its end.
    let _ = copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
