//! Tests of the options in a build without the REST face.

use super::*;

#[test]
fn a_build_without_http_refuses_its_options_and_does_not_list_them() {
    let refused = ": this build has no HTTP";
    for option in OPTIONS.iter().filter(|option| option.group == Group::Http) {
        let flag = format!("--{}", option.name);
        let said = format!("{flag}=1");
        assert_eq!(refusal(&[&said], &[]), format!("{flag}{refused}"));
        let name = option.env[0];
        assert_eq!(refusal(&[], &[(name, "1")]), format!("{name}{refused}"));
        assert!(!help().contains(&flag));
    }
    run(&[], &[("DEFAULT_TIMEOUT", "x"), ("REDIS_HOST", "x")]);
}
