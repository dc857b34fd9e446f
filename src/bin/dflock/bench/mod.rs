//! `dflock bench`: measures how fast lock servers are, and checks that they grant no lock wrongly. This file is the
//! flow: find the servers, run each scenario against each in turn, report. Invariant: servers are measured in turn, so
//! that anything that slows the machine down slows all of them; a wrong grant makes the exit status 1.

mod answer;
mod figures;
mod http;
mod lane;
mod load;
mod options;
mod page;
mod peer;
mod plan;
mod proto;
mod report;
mod watch;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, IsTerminal, Write};

use dflockd::sys;

use crate::failure::{Failure, OS_ERROR, USAGE, say};
use crate::options::Options;
use crate::print::print;
use figures::{Figures, Summary};
use options::{HELP, Scenario, Settings};
use proto::Target;

/// A scenario against a server; no summary if the protocol cannot do it.
struct Outcome {
    scenario: Scenario,
    /// The index of the server.
    server: usize,
    summary: Option<Summary>,
}

/// Measures, with the options behind `bench`.
pub fn bench(options: &Options, words: &[OsString]) -> Result<u8, Failure> {
    let mistake = |text| Failure::new(USAGE, format!("{text}\nTry 'dflock bench --help'."));
    let Some(settings) = options::parse(options, words).map_err(mistake)? else {
        return print(HELP);
    };
    if let Some(pid) = settings
        .pids
        .iter()
        .find(|&&pid| watch::cpu_time(pid).is_none())
    {
        let text = format!("--server-pid: there is no process {pid} that can be looked at");
        return Err(mistake(text));
    }
    let page = settings.report.as_ref().map(|path| Page::open(path));
    let page = page.transpose()?;
    sys::raise_file_limit()?;
    let made_ns = sys::unix_now_ns();
    let mut targets = Vec::new();
    for server in &settings.servers {
        let (secret, tls) = (settings.secret.as_deref(), settings.tls(server));
        targets.push(Target::reach(server, secret, tls)?);
    }
    let mut outcomes = Vec::new();
    for &scenario in &settings.scenarios {
        measure(&settings, &targets, scenario, &mut outcomes)?;
    }
    let report = report::Report {
        settings: &settings,
        targets: &targets,
        outcomes: &outcomes,
        made: report::date(made_ns),
    };
    let text = if settings.json {
        report.json()
    } else {
        report.text()
    };
    print(&text)?;
    if let Some(page) = page {
        page.write(&page::html(&report))?;
    }
    let is_good = |outcome: &Outcome| outcome.summary.as_ref().is_none_or(Summary::is_good);
    let status = u8::from(!outcomes.iter().all(is_good));
    for summary in outcomes
        .iter()
        .filter_map(|outcome| outcome.summary.as_ref())
    {
        summary.why.iter().for_each(|why| say(why));
    }
    Ok(status)
}

/// The file for the report. It is opened before the measurements, so that a path that cannot be written fails at once;
/// a former report stays until the new one is there.
struct Page<'a> {
    path: &'a OsStr,
    file: File,
}

impl Page<'_> {
    fn open(path: &OsStr) -> Result<Page<'_>, Failure> {
        let mut way = File::options();
        let file = way.write(true).create(true).truncate(false).open(path);
        let file = file.map_err(|e| Page::failure(path, &e))?;
        Ok(Page { path, file })
    }

    fn write(mut self, text: &str) -> Result<(), Failure> {
        let is_file = self.file.metadata().is_ok_and(|data| data.is_file());
        let emptied = if is_file {
            self.file.set_len(0)
        } else {
            Ok(())
        };
        let written = emptied.and_then(|()| self.file.write_all(text.as_bytes()));
        written.map_err(|e| Page::failure(self.path, &e))
    }

    fn failure(path: &OsStr, error: &io::Error) -> Failure {
        let text = format!("cannot write {}: {error}", path.to_string_lossy());
        Failure::new(OS_ERROR, text)
    }
}

/// Runs one scenario against all servers in turn, several times if so asked.
fn measure(
    settings: &Settings,
    targets: &[Target],
    scenario: Scenario,
    outcomes: &mut Vec<Outcome>,
) -> Result<(), Failure> {
    let mut runs: Vec<Vec<Figures>> = targets.iter().map(|_| Vec::new()).collect();
    for round in 1..=settings.repeat {
        for (server, target) in targets.iter().enumerate() {
            let Some(plan) = settings.plan(scenario, target.protocol) else {
                continue;
            };
            let title = format!(
                "{} {} {round}/{}",
                scenario.name(),
                target.name,
                settings.repeat
            );
            let pid = settings.pids.get(server).copied();
            let before = pid.and_then(|pid| Some((watch::cpu_time(pid)?, watch::memory(pid)?)));
            let is_held = scenario == Scenario::Held;
            let mut memory = None;
            let mut progress = |done| {
                tell(&format!("{title}: {done}"));
                // All keys are held at one of these times. A server gives memory back when they are released.
                let now = pid.filter(|_| is_held).and_then(watch::memory);
                memory = memory.max(now);
            };
            progress(0);
            let mut figures = load::run(&plan, target, &mut progress)?;
            if let (Some(pid), Some((cpu, before))) = (pid, before) {
                figures.server_cpu = watch::cpu_time(pid).map(|now| now.saturating_sub(cpu));
                figures.server_bytes = memory.map(|now| now.saturating_sub(before));
            }
            runs[server].push(figures);
        }
    }
    tell("");
    for (server, runs) in runs.iter().enumerate() {
        let summary = (!runs.is_empty()).then(|| Summary::of(runs));
        outcomes.push(Outcome {
            scenario,
            server,
            summary,
        });
    }
    Ok(())
}

/// Shows the progress on a line that the next call replaces, if stderr is a terminal.
fn tell(text: &str) {
    let mut stderr = io::stderr();
    if stderr.is_terminal() {
        // Progress that cannot be shown is no failure.
        let _ = write!(stderr, "\r\x1b[K{text}");
    }
}
