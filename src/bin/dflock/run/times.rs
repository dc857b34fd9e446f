//! The times at the end of a lease: by when the processes of the command get SIGTERM and SIGKILL, so that they are dead
//! before somebody else may have the lock. Invariant: KILL comes before the deadline, by more than a busy machine may
//! wake the guard late.

use dflockd::client::lease::Lease;
use dflockd::command::{SECOND, Us};

use crate::guard::Times;
use crate::options::{OnLost, Options};

/// The time between the command's death and the end of the lease: a twentieth of the lease, within these bounds. A busy
/// machine was seen to wake the guard 40 ms late.
const MARGINS: (Us, Us) = (SECOND * 3 / 10, SECOND);

/// When the command must be stopped, unless the lock is renewed before.
pub fn times(options: &Options, lease: &Lease) -> Times {
    let kill = lease.until().saturating_sub(margin(lease.span()));
    let term = kill.saturating_sub(grace(options, lease.span()));
    match options.on_lost {
        OnLost::Kill => Times { term, kill },
        OnLost::Term => Times {
            term,
            kill: Us::MAX,
        },
        OnLost::Ignore => Times {
            term: Us::MAX,
            kill: Us::MAX,
        },
    }
}

/// Before this time the command must start.
pub fn start_by(options: &Options, lease: &Lease) -> Us {
    let last = lease.until().saturating_sub(MARGINS.0);
    last.min(times(options, lease).term)
}

/// How long the end of the command takes at most, if its lock has a lease of `span`.
pub fn spare(options: &Options, span: Us) -> Us {
    match options.on_lost {
        OnLost::Kill | OnLost::Term => margin(span) + grace(options, span),
        OnLost::Ignore => 0,
    }
}

/// The time between SIGTERM and SIGKILL when the lock is lost.
pub fn grace(options: &Options, span: Us) -> Us {
    options.kill_after.min(span / 4)
}

/// The time between a KILL that dflock has ordered and the one that it sends itself, because its guard does not answer.
pub const SECOND_TRY: Us = MARGINS.0 / 3;

fn margin(span: Us) -> Us {
    (span / 20).clamp(MARGINS.0, MARGINS.1)
}
