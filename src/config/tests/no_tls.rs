//! Tests of the options in a build without TLS.

use super::*;

#[test]
fn a_build_without_tls_refuses_its_options_and_does_not_list_them() {
    let refused = ": this build has no TLS";
    for option in OPTIONS.iter().filter(|option| option.group == Group::Tls) {
        let flag = format!("--{}", option.name);
        let said = format!("{flag}=1");
        assert_eq!(refusal(&[&said], &[]), format!("{flag}{refused}"));
        let name = option.env[0];
        assert_eq!(refusal(&[], &[(name, "1")]), format!("{name}{refused}"));
        assert!(!help().contains(&flag));
    }
}
