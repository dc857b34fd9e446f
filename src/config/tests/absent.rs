//! Tests of the options in a build that lacks the REST face, TLS or etcd.

use super::*;

/// The options of a group are refused by name, as flags and as variables, and not listed.
fn is_absent(group: Group) {
    let refused = format!(": this build has no {}", group.title());
    for option in OPTIONS.iter().filter(|option| option.group == group) {
        let flag = format!("--{}", option.name);
        let said = format!("{flag}=1");
        assert_eq!(refusal(&[&said], &[]), format!("{flag}{refused}"));
        let name = option.env[0];
        assert_eq!(refusal(&[], &[(name, "1")]), format!("{name}{refused}"));
        assert!(!help().contains(&flag));
    }
}

#[cfg(not(feature = "http"))]
#[test]
fn a_build_without_http_refuses_its_options_and_does_not_list_them() {
    is_absent(Group::Http);
    run(&[], &[("DEFAULT_TIMEOUT", "x"), ("REDIS_HOST", "x")]);
}

#[cfg(not(feature = "tls"))]
#[test]
fn a_build_without_tls_refuses_its_options_and_does_not_list_them() {
    is_absent(Group::Tls);
}

#[cfg(not(feature = "etcd"))]
#[test]
fn a_build_without_etcd_refuses_its_options_and_does_not_list_them() {
    is_absent(Group::Etcd);
}
