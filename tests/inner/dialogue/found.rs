//! What the simulations found: each failed once.

use super::*;

#[test]
fn a_renewal_whose_end_is_here_comes_before_the_end_of_its_lease() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    let token = d.takes(a, "k");
    d.says(b, "l\nk\n100\n", "");
    d.says(a, "n\nk\n", "");
    d.0.now += 40 * SECOND;
    d.0.send_only(a, format!("{token}\n").as_bytes());
    d.0.settle();
    d.hears(a, "ok 33\n");
    d.hears(b, "");
}

#[test]
fn a_holder_that_begins_an_endless_line_must_end_it_in_time() {
    let mut d = Dialogue::new();
    let a = d.connect();
    d.send(a, "l\nk\n0 1000\n");
    d.is_granted(a, 1000);
    d.at(50_000);
    d.says(a, [b'x'; 300], "");
    d.at(72_999);
    d.is_open(a);
    d.at(73_000);
    d.hears(a, "error\n");
}

#[test]
fn a_line_over_its_cap_has_its_own_deadline() {
    let mut d = Dialogue::new();
    let a = d.connect();
    d.at(22_000);
    d.says(a, format!("l\n{}", "k".repeat(300)), "");
    d.at(44_999);
    d.is_open(a);
    d.at(45_000);
    d.hears(a, "error\n");
}
