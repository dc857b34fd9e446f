//! dflockd(8): flags and environment to a configuration, a configuration to a server, errors to an exit status:
//! 0 after a clean stop, 1 if it cannot start or run, 2 for a mistake in flags or environment.

use std::fs::File;
use std::io::{self, Read, Write};
use std::process::ExitCode;

use dflockd::config::{self, Config, Parsed};
use dflockd::log::Log;
use dflockd::server;

/// More than a token file may have, blanks around the token included.
const SECRET_FILE_MAX: u64 = 128 * 1024;

fn main() -> ExitCode {
    let (config, warnings) =
        match config::parse(std::env::args_os().skip(1), |name| std::env::var_os(name)) {
            Ok(Parsed::Run { config, warnings }) => (config, warnings),
            Ok(Parsed::Help) => return print(&config::help()),
            Ok(Parsed::Version) => return print(&format!("{}\n", config::version())),
            Err(mistake) => return fail(2, &format!("{mistake}\nTry 'dflockd --help'.")),
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

/// What clients have to say first. A file that cannot be read is an error of the world, one that says nothing a
/// mistake.
fn secret(config: &Config) -> Result<Option<Vec<u8>>, (u8, String)> {
    if let Some(token) = &config.auth.token {
        return Ok(Some(token.clone()));
    }
    let Some(path) = &config.auth.file else {
        return Ok(None);
    };
    let mut text = Vec::new();
    let read = File::open(path).and_then(|file| file.take(SECRET_FILE_MAX).read_to_end(&mut text));
    read.map_err(|e| (1, format!("cannot read the token file {path:?}: {e}")))?;
    let secret =
        config::secret(&text).map_err(|want| (2, format!("token file {path:?}: want {want}")))?;
    Ok(Some(secret))
}

fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn fail(status: u8, text: &str) -> ExitCode {
    // Nobody is left to be told if stderr is closed; the status says it too.
    let _ = writeln!(io::stderr(), "dflockd: {text}");
    ExitCode::from(status)
}
