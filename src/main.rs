//! dflockd(8): flags and environment to a configuration, a configuration to a server, errors to an exit status:
//! 0 after a clean stop, 1 if it cannot start or run, 2 for a mistake in flags or environment.

use std::io::{self, Write};
use std::process::ExitCode;

use dflockd::config::{self, Auth, Config, NoSecret, Parsed};
use dflockd::log::Log;
use dflockd::server;

fn main() -> ExitCode {
    let args = std::env::args_os().skip(1);
    let names = std::env::vars_os().map(|(name, _)| name);
    let (config, warnings) = match config::parse(args, |name| std::env::var_os(name), names) {
        Ok(Parsed::Run { config, warnings }) => (config, warnings),
        Ok(Parsed::Help) => return print(&config::help()),
        Ok(Parsed::Version) => return print(&format!("{}\n", config::version())),
        Err(mistake) => return fail(2, &hinted(&mistake)),
    };
    let log = Log {
        debug: config.debug,
    };
    let secret = match secret(&config) {
        Ok(secret) => secret,
        Err((status, text)) => return fail(status, &text),
    };
    match server::run(&config, secret, &warnings, log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => fail(1, &e.to_string()),
    }
}

/// The secret that clients must say first, if there is one. With an error comes the exit status.
fn secret(config: &Config) -> Result<Option<Vec<u8>>, (u8, String)> {
    let Auth {
        token,
        file,
        file_from,
    } = &config.auth;
    match (token, file) {
        (Some(token), _) => Ok(Some(token.clone())),
        (None, None) => Ok(None),
        (None, Some(path)) => match config::secret_in(file_from, path.as_ref()) {
            Ok(secret) => Ok(Some(secret)),
            Err(NoSecret::Unread(text)) => Err((1, text)),
            Err(NoSecret::Bad(text)) => Err((2, hinted(&text))),
        },
    }
}

/// A mistake in flags or environment, and where to read what would be right.
fn hinted(mistake: &str) -> String {
    format!("{mistake}\nTry 'dflockd --help'.")
}

fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn fail(status: u8, text: &str) -> ExitCode {
    // If stderr is closed, the exit status still says it.
    let _ = writeln!(io::stderr(), "dflockd: {text}");
    ExitCode::from(status)
}
