//! `dflock break`: an administrator ends the holds of a key by force. Invariant: a break that may have been carried out is
//! never reported as one that was not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use dflockd::client::Error;
use dflockd::command::Refusal;

use super::name;
use super::talk::ask_one;
use crate::failure::{Failure, NO_PERMISSION, PROTOCOL, UNAVAILABLE};
use crate::options::{Options, Output};
use crate::print::print;

/// Ends the holds of the key, all or the one with this fence, and prints how many that were. Status 1 if there were none.
pub fn break_holds(options: &Options, key: &[u8], fence: Option<u64>) -> Result<u8, Failure> {
    let server = options.home(key);
    let asked = Arc::new(AtomicBool::new(false));
    let (all, is_asked, host) = (options.clone(), Arc::clone(&asked), server.clone());
    let bytes = key.to_vec();
    let broken = ask_one(options, &server, move |talk| {
        let key = name(&all, &bytes)?;
        is_asked.store(true, Relaxed);
        let broken = talk.client().break_holds(&key, fence);
        broken.map_err(|e| match e {
            Error::Refused(Refusal::Auth) => no_administrator(&host, all.secret.is_some()),
            Error::Refused(Refusal::Error) => {
                let text = format!("{host} knows no break: it is an older version");
                Failure::new(PROTOCOL, text)
            }
            e => talk.failure(e),
        })
    });
    let holds = broken.map_err(|failure| match failure.text {
        Some(text) if failure.status == UNAVAILABLE && asked.load(Relaxed) => {
            // Another break would end the hold of the next in line.
            let hint = "the holds may be ended: look with 'dflock stat' before you break again";
            Failure::new(UNAVAILABLE, format!("{text}; {hint}"))
        }
        _ => failure,
    })?;
    print(&match options.output {
        Output::Plain => format!("{holds}\n"),
        Output::Sh => format!("DFLOCK_BROKEN={holds}\n"),
        Output::Json => format!("{{\"broken\":{holds}}}\n"),
    })?;
    Ok(u8::from(holds == 0))
}

/// Only an administrator may do that, and this client is none.
fn no_administrator(server: &str, has_secret: bool) -> Failure {
    let how = match has_secret {
        true => "the token in --token-file is not that of its --admin-token",
        false => {
            "the token of its --admin-token goes into --token-file (a server without tokens takes a break from its own host)"
        }
    };
    let text = format!("{server} lets only an administrator break locks: {how}");
    Failure::new(NO_PERMISSION, text)
}
