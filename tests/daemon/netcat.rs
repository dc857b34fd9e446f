//! The stand-in for nc(1) of OpenBSD, `nc [-N] HOST PORT`: a command that joins its input and output to a connection.
//! The test program plays it when it is started with `NETCAT` in its environment. Invariant: stdout belongs to the
//! test harness, so the bytes of the server come on stderr.

use std::env;
use std::io;
use std::net::{Shutdown, TcpStream};
use std::process;
use std::thread;

/// No claim, but the command itself.
#[test]
fn netcat() {
    let Ok(args) = env::var("NETCAT") else {
        return;
    };
    let mut args: Vec<&str> = args.split(' ').collect();
    let ends = args[0] == "-N";
    args.drain(..usize::from(ends));
    let [host, port] = args[..] else {
        panic!("want [-N] HOST PORT")
    };
    let port: u16 = port.parse().expect("a port");
    let Ok(mut server) = TcpStream::connect((host, port)) else {
        process::exit(1);
    };
    let mut to = server.try_clone().expect("it can be cloned");
    let keyboard = thread::spawn(move || {
        // The end of either side is all that there is to know of it.
        let _ = io::copy(&mut io::stdin().lock(), &mut to);
        if ends {
            let _ = to.shutdown(Shutdown::Write);
        }
    });
    let answers = io::copy(&mut server, &mut io::stderr());
    // Like the original: when the server has ended, it goes on to the end of its input.
    keyboard.join().expect("it does not panic");
    process::exit(i32::from(answers.is_err()));
}
