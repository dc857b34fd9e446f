//! dflock(1): a command under a lock that spans hosts, after flock(1). This file turns arguments into a task and its
//! end into an exit status. `run` holds a lock, `guard` owns the command and ends it before the lease, `witness` tells
//! signals to dflock's group from those to dflock alone, `steps` are the tasks that hold nothing, `bench` measures
//! servers.

mod bench;
mod failure;
mod guard;
mod help;
mod names;
mod options;
mod print;
mod run;
mod steps;
mod tls;
mod values;
mod witness;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use dflockd::sys::process;
use failure::{Failure, NOT_FOUND, USAGE, say};
use help::HELP;
use options::Task;

fn main() -> ExitCode {
    let result = options::parse(std::env::args_os().skip(1), |name| std::env::var_os(name))
        .map_err(|text| Failure::new(USAGE, format!("{text}\nTry 'dflock --help'.")))
        .and_then(|options| match &options.task {
            Task::Run { key, command } => run::command(&options, key, command)
                .map_err(|failure| hinted(failure, key, &command[0])),
            Task::Hold { key } => run::hold(&options, key),
            Task::Listen { pattern } => steps::listen(&options, pattern),
            Task::Bench { words } => bench::bench(&options, words),
            Task::Help => print::print(HELP),
            Task::Version => print::print(concat!("dflock ", env!("CARGO_PKG_VERSION"), "\n")),
            _ => steps::step(&options),
        });
    let failure = match result {
        Ok(status) => return ExitCode::from(status),
        Err(failure) => failure,
    };
    if let Some(text) = failure.text {
        say(&text);
    }
    if let Some(signal) = failure.signal {
        process::die_of(signal);
    }
    ExitCode::from(failure.status)
}

/// A program that is not found and has a blank in its name, or another character that only a shell knows, was meant for
/// a shell; or a misspelt step was taken for the key: says so.
fn hinted(failure: Failure, key: &[u8], program: &OsStr) -> Failure {
    let is_shells = |byte: &u8| b" ;|&<>()$`=*?".contains(byte);
    let hint = match program.as_bytes().iter().any(is_shells) {
        true => "; -c runs a shell text".to_string(),
        false => options::meant(key),
    };
    match failure.text {
        Some(text) if failure.status == NOT_FOUND => Failure {
            text: Some(text + &hint),
            ..failure
        },
        _ => failure,
    }
}
