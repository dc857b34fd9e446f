//! dflockd(8): flags and environment to a configuration, a configuration to a server, errors to an exit status:
//! 0 after a clean stop, 1 if it cannot start or run, 2 for a mistake in flags or environment, 75 if another server may
//! lead in its place.

use std::io::{self, Write};
use std::process::ExitCode;

use dflockd::config::{self, Config, Parsed, Secrets, Settings};
use dflockd::log::Log;
use dflockd::server::{self, End, Given};
use dflockd::sys;
use dflockd::sys::activation::Inherited;
use dflockd::wire::Face;

fn main() -> ExitCode {
    // One that comes before the server listens for it must not kill the process.
    sys::hold_back(libc::SIGHUP);
    let args = std::env::args_os().skip(1);
    let names = std::env::vars_os().map(|(name, _)| name);
    let get = |name: &str| std::env::var_os(name);
    let sockets = match sockets() {
        Ok(sockets) => sockets,
        Err(mistake) => return fail(2, &mistake),
    };
    let listening: Vec<_> = sockets
        .iter()
        .map(|(face, socket)| (*face, socket.addr))
        .collect();
    let (config, settings, mut warnings) = match config::parse(args, get, names, &listening) {
        Ok(Parsed::Run {
            config,
            settings,
            warnings,
        }) => (config, settings, warnings),
        Ok(Parsed::Help) => return print(&config::help()),
        Ok(Parsed::Version) => return print(&format!("{}\n", config::version())),
        Err(mistake) => return fail(2, &hinted(&mistake)),
    };
    let given = given(&config, sockets, &mut warnings);
    if config.check {
        return check(&config, &settings, &warnings, given.err());
    }
    let given = match given {
        Ok(given) => given,
        Err(mistakes) => {
            let Mistake { status, text } = &mistakes[0];
            return fail(*status, text);
        }
    };
    let log = Log::new(config.debug);
    match server::run(&config, given, &settings, &warnings, log) {
        Ok(End::Stopped) => ExitCode::SUCCESS,
        // EX_TEMPFAIL of sysexits(3): started again, it stands by.
        Ok(End::LostLead) => ExitCode::from(75),
        Err(e) => fail(1, &e.to_string()),
    }
}

/// The sockets that a service manager hands over, each with its face.
fn sockets() -> Result<Vec<(Face, Inherited)>, String> {
    let all = sys::activation::inherited(|name| std::env::var_os(name));
    let all = all.map_err(|e| e.to_string())?;
    let faced = all
        .into_iter()
        .map(|socket| Ok((config::face_of(&socket.name)?, socket)));
    faced.collect()
}

/// Something that keeps the server from starting.
struct Mistake {
    status: u8,
    text: String,
}

/// What the server is given; the files of tokens and of TLS are read. Otherwise all that is wrong with them, at least one
/// mistake.
fn given(
    config: &Config,
    sockets: Vec<(Face, Inherited)>,
    warnings: &mut Vec<String>,
) -> Result<Given, Vec<Mistake>> {
    let mut mistakes = Vec::new();
    let [auth, admin] = [&config.auth, &config.admin].map(|from| {
        from.secret(warnings).unwrap_or_else(|e| {
            let (status, text) = match e.is_unread {
                true => (1, e.to_string()),
                false => (2, hinted(&e.to_string())),
            };
            mistakes.push(Mistake { status, text });
            None
        })
    });
    let secrets = Secrets { auth, admin };
    if let Some(text) = secrets.mistake() {
        let text = hinted(text);
        mistakes.push(Mistake { status: 2, text });
    }
    let tls = server::Tls::read(&config.tls, warnings).unwrap_or_else(|e| {
        let text = hinted(&e.to_string());
        mistakes.push(Mistake { status: 2, text });
        None
    });
    let store = server::Store::read(&config.etcd, warnings).unwrap_or_else(|e| {
        let (status, text) = match e.is_unread() {
            true => (1, e.to_string()),
            false => (2, hinted(&e.to_string())),
        };
        mistakes.push(Mistake { status, text });
        None
    });
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    Ok(Given {
        secrets,
        sockets,
        tls,
        store,
    })
}

/// For `--check`: says all that is wrong, or what is set. Nothing is listened on.
fn check(
    config: &Config,
    settings: &Settings,
    warnings: &[String],
    mistakes: Option<Vec<Mistake>>,
) -> ExitCode {
    let mistakes = mistakes.unwrap_or_default().into_iter();
    let mut mistakes: Vec<String> = mistakes.map(|mistake| mistake.text).collect();
    mistakes.extend(server::unknown_hosts(config));
    for text in warnings {
        say("<4>", &format!("warning: {text}"));
    }
    for text in &mistakes {
        say("<3>", text);
    }
    if mistakes.is_empty() {
        print(&settings.list())
    } else {
        ExitCode::from(2)
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
    say("<3>", text);
    ExitCode::from(status)
}

/// Says something on stderr; in the journal each line of it has this priority.
fn say(mut priority: &str, text: &str) {
    if !sys::output::is_journal() {
        priority = "";
    }
    let text = text.replace('\n', &format!("\n{priority}"));
    // If stderr is closed, the exit status still says it.
    let _ = writeln!(io::stderr(), "{priority}dflockd: {text}");
}
