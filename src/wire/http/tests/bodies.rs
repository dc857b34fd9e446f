//! Bodies of requests: values at their edges, and JSON that readers could take for different things.

use super::super::read::*;
use super::super::{Acquire, Asked, Problem, Release, Renew, Route};
use super::settings;
use crate::command::{SECOND, Token};

fn read(route: Route, text: &str) -> Result<Asked, Problem> {
    body(route, text.as_bytes(), &settings())
}

fn acquire(text: &str) -> Acquire {
    match read(Route::Acquire, text) {
        Ok(Asked::Acquire(acquire)) => acquire,
        other => panic!("{text}: {other:?}"),
    }
}

/// What is wrong, as `code: field field`.
fn wrong(route: Route, text: &[u8]) -> String {
    match body(route, text, &settings()) {
        Ok(asked) => panic!("{}: {asked:?}", text.escape_ascii()),
        Err(Problem { code, errors, .. }) => {
            let fields: Vec<_> = errors.iter().map(|(field, _)| *field).collect();
            format!("{code}: {}", fields.join(" "))
        }
    }
}

#[test]
fn nothing_and_null_are_the_defaults() {
    let default = Acquire {
        client: None,
        lease: 30 * SECOND,
        wait: 0,
        renews: false,
        metadata: None,
        limit: None,
        attempt: None,
        keep: 0,
    };
    let known = "clientId timeout waitTimeout autoRenew metadata limit requestId keepPlace";
    let nulls = known.split(' ').map(|name| format!("\"{name}\":null"));
    let nulls: Vec<_> = nulls.collect();
    for text in [
        "",
        "{}",
        " {\t}\r\n",
        "{\"unknown\":[{}],\"Timeout\":0}",
        &format!("{{{}}}", nulls.join(", ")),
        "{\"keepPlace\":0}",
    ] {
        assert_eq!(acquire(text), default, "{text}");
    }
}

#[test]
fn seconds_are_exact_and_in_their_range() {
    for (number, lease) in [
        ("0.1", 100_000),
        ("30", 30_000_000),
        ("30.0", 30_000_000),
        ("1e1", 10_000_000),
        ("3E+2", 300_000_000),
        ("300.0000000000000000000000000000000001", 300_000_000),
        ("2999e-1", 299_900_000),
        ("0.0000003e7", 3_000_000),
        ("1.2345678", 1_234_567),
        ("0.3", 300_000),
        ("0.000000000000000000000000000001e30", 1_000_000),
    ] {
        assert_eq!(
            acquire(&format!("{{\"timeout\":{number}}}")).lease,
            lease,
            "{number}"
        );
    }
    for number in [
        "0",
        "0.09",
        "0.0999999",
        "-0",
        "-30",
        "300.1",
        "301",
        "1e3",
        "1e400",
        "1e-400",
        "1e99999999999999999999",
        "1e-99999999999999999999",
        "99999999999999999999999999",
        "18446744073709.551616",
        "true",
        "\"30\"",
        "[30]",
        "{}",
    ] {
        let text = format!("{{\"timeout\":{number}}}");
        assert_eq!(
            wrong(Route::Acquire, text.as_bytes()),
            "invalid-field: timeout"
        );
    }
}

#[test]
fn a_wait_may_be_nothing_and_a_problem_says_what_is_wanted() {
    for (number, wait) in [("0", 0), ("-0.0", 0), ("0e999999", 0), ("300", 300_000_000)] {
        assert_eq!(
            acquire(&format!("{{\"waitTimeout\":{number}}}")).wait,
            wait,
            "{number}"
        );
    }
    for number in ["-0.0000001", "300.001", "-1"] {
        let text = format!("{{\"waitTimeout\":{number}}}");
        assert_eq!(
            wrong(Route::Acquire, text.as_bytes()),
            "invalid-field: waitTimeout"
        );
    }
    let problem = read(Route::Acquire, "{\"timeout\":301}").unwrap_err();
    assert_eq!(
        problem.detail,
        "timeout: want a number of seconds, 0.1 to 300"
    );
}

#[test]
fn every_wrong_field_is_named_at_once() {
    let long = "x".repeat(129);
    let deep = format!("{{\"metadata\":{}1{}}}", "{\"a\":".repeat(9), "}".repeat(9));
    let wide = format!("{{\"metadata\":{{\"a\":\"{}\"}}}}", "x".repeat(4089));
    for (text, fields) in [
        (r#"{"clientId":""}"#.into(), "clientId"),
        (r#"{"clientId":5}"#.into(), "clientId"),
        (r#"{"clientId":"a\u0000"}"#.into(), "clientId"),
        (r#"{"clientId":"a\u0085"}"#.into(), "clientId"),
        (format!("{{\"clientId\":\"{long}\"}}"), "clientId"),
        (r#"{"autoRenew":1,"limit":"1"}"#.into(), "autoRenew limit"),
        (r#"{"limit":0}"#.into(), "limit"),
        (r#"{"limit":1.5}"#.into(), "limit"),
        (r#"{"limit":1048577}"#.into(), "limit"),
        (r#"{"metadata":[]}"#.into(), "metadata"),
        (r#"{"metadata":"{}"}"#.into(), "metadata"),
        (deep, "metadata"),
        (wide, "metadata"),
        (r#"{"requestId":"0123456789abcdef"}"#.into(), "requestId"),
        (r#"{"clientId":"a","requestId":"0123456789abcde"}"#.into(), "requestId"),
        (r#"{"clientId":"a","requestId":"0123456789abcde."}"#.into(), "requestId"),
        (format!("{{\"clientId\":\"a\",\"requestId\":\"{}\"}}", "x".repeat(65)), "requestId"),
        (r#"{"keepPlace":1}"#.into(), "keepPlace"),
        (r#"{"clientId":"a","requestId":"0123456789abcdef","keepPlace":10.1}"#.into(), "keepPlace"),
        (
            r#"{"clientId":1,"timeout":1e9,"waitTimeout":"","autoRenew":"yes","metadata":1,"limit":{},"requestId":[],"keepPlace":-1}"#.into(),
            "clientId timeout waitTimeout autoRenew metadata limit requestId keepPlace",
        ),
    ] {
        let wanted = format!("invalid-field: {fields}");
        assert_eq!(wrong(Route::Acquire, text.as_bytes()), wanted, "{text}");
    }
}

#[test]
fn values_at_the_edge_are_taken_as_sent() {
    let metadata = format!("{{\"a\" : \"{}\"}}", "x".repeat(4086));
    assert_eq!(metadata.len(), 4096);
    let client = "é".repeat(64);
    let asked = acquire(&format!(
        "{{\"clientId\":\"{client}\",\"metadata\": {metadata} ,\"limit\":1048576.0,\"autoRenew\":true,\
         \"requestId\":\"0123456789abcde_\",\"keepPlace\":10}}"
    ));
    let wanted = Acquire {
        client: Some(client.into_bytes()),
        lease: 30 * SECOND,
        wait: 0,
        renews: true,
        metadata: Some(metadata.into_bytes().into()),
        limit: Some(1_048_576),
        attempt: Some(b"0123456789abcde_".to_vec()),
        keep: 10 * SECOND,
    };
    assert_eq!(asked, wanted);
    let asked = acquire(r#"{"client\u0049d":"a\"\ud83d\udc08","metadata":{"a":"]}\\"}}"#);
    assert_eq!(asked.client.as_deref(), Some("a\"🐈".as_bytes()));
    assert_eq!(asked.metadata.as_deref(), Some(&br#"{"a":"]}\\"}"#[..]));
    let deep = format!("{}1{}", "{\"a\":".repeat(8), "}".repeat(8));
    let asked = acquire(&format!("{{\"metadata\":{deep}}}"));
    assert_eq!(asked.metadata.as_deref(), Some(deep.as_bytes()));
}

#[test]
fn a_body_that_readers_could_take_for_different_things_is_refused() {
    let nested = |depth: usize| format!("{{\"x\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    acquire(&nested(15));
    acquire(r#"{"x":"[[[[[[[[[[[[[[[[[[\"[["}"#);
    for text in [
        "{",
        "}",
        "{}{}",
        "{},",
        "{\"timeout\":30,}",
        "{'timeout':30}",
        "{timeout:30}",
        "[",
        "[1,",
        "nul",
        "{\"timeout\":NaN}",
        "{\"timeout\":Infinity}",
        "{\"timeout\":-Infinity}",
        "{\"timeout\":030}",
        "{\"timeout\":.5}",
        "{\"timeout\":5.}",
        "{\"timeout\":+5}",
        "{\"timeout\":0x5}",
        "{\"timeout\":1e}",
        "{\"timeout\":30}\0",
        "\u{feff}{}",
        "{\"x\":\"\n\"}",
        "{\"x\":\"\\x\"}",
        "{\"x\":\"\\u12\"}",
        "{\"x\":\"\\ud800\"}",
        "{\"x\":\"\\udc00\"}",
        "{\"x\":\"\\ud800\\ud800\\udc00\"}",
        "{\"x\":\"\\ud800x\"}",
        "{\"\\ud800\":1}",
        "{\"x\":1 \"y\":2}",
        "// x\n{}",
        "{\"x\":tru}",
        "{\"timeout\":30,\"timeout\":30}",
        "{\"timeout\":null,\"time\\u006fut\":30}",
        "{\"metadata\":{},\"metadata\":{\"a\":1}}",
        &nested(16),
        &nested(60_000),
    ] {
        assert_eq!(
            wrong(Route::Acquire, text.as_bytes()),
            "invalid-json: ",
            "{text:.80}"
        );
    }
}

#[test]
fn a_body_is_text_and_an_object() {
    assert_eq!(wrong(Route::Acquire, b"{\"x\":\"\xff\"}"), "invalid-json: ");
    assert_eq!(
        wrong(Route::Acquire, b"{\"x\":\"\xed\xa0\x80\"}"),
        "invalid-json: "
    );
    // A second member that no route of this path knows is not looked at.
    acquire("{\"x\":1,\"x\":2,\"lockId\":3}");
    for text in ["[]", "5", " null ", "\"{}\"", "true"] {
        assert_eq!(
            wrong(Route::Acquire, text.as_bytes()),
            "invalid-field: body"
        );
    }
}

#[test]
fn a_release_names_a_hold_or_an_attempt() {
    let release = |text: &str| match read(Route::Release, text) {
        Ok(Asked::Release(release)) => release,
        other => panic!("{text}: {other:?}"),
    };
    let asked = release(r#"{"clientId":"client-1","lockId":"lock-789"}"#);
    assert_eq!((asked.fence, asked.token), (Some(0), None));
    let text =
        r#"{"lockId":"lock-18a3f217b3c4d87f","renewalToken":"18a3f217b3c4d87f7f3c1f2b3e9a8d6e"}"#;
    let token = Token {
        fence: 0x18a3_f217_b3c4_d87f,
        salt: 0x7f3c_1f2b_3e9a_8d6e,
    };
    let wanted = Release {
        fence: Some(token.fence),
        token: Some(token),
        ..Release::default()
    };
    assert_eq!(release(text), wanted);
    assert_eq!(
        release(r#"{"renewalToken":"token-abc"}"#).token,
        Some(Token::default())
    );
    let asked = release(r#"{"clientId":"a","requestId":"0123456789abcdef"}"#);
    assert_eq!(asked.attempt.as_deref(), Some(&b"0123456789abcdef"[..]));
    for (text, wanted) in [
        ("", "missing-lock-id: "),
        ("{\"clientId\":\"a\",\"lockId\":null}", "missing-lock-id: "),
        ("{\"clientId\":\"a\",\"lockId\":5}", "invalid-field: lockId"),
        ("{\"clientId\":5}", "invalid-field: clientId"),
        (
            "{\"lockId\":\"lock-18a3f217b3c4d87f\"}",
            "invalid-field: clientId",
        ),
        (
            "{\"lockId\":\"x\",\"renewalToken\":false}",
            "invalid-field: renewalToken",
        ),
        (
            "{\"requestId\":\"0123456789abcdef\"}",
            "invalid-field: requestId",
        ),
    ] {
        assert_eq!(wrong(Route::Release, text.as_bytes()), wanted, "{text}");
    }
}

#[test]
fn a_renewal_needs_its_token_and_nothing_else() {
    let text = r#"{"renewalToken":"x","timeout":0.1,"lockId":"y","clientId":"z"}"#;
    let wanted = Renew {
        token: Token::default(),
        lease: Some(LEASE_MIN),
        fence: Some(0),
        client: Some(b"z".to_vec()),
    };
    assert_eq!(read(Route::Renew, text), Ok(Asked::Renew(wanted)));
    let wanted = Renew {
        token: Token { fence: 1, salt: 2 },
        lease: None,
        fence: None,
        client: None,
    };
    let text = r#"{"renewalToken":"00000000000000010000000000000002"}"#;
    assert_eq!(read(Route::Renew, text), Ok(Asked::Renew(wanted)));
    assert_eq!(wrong(Route::Renew, b""), "invalid-field: renewalToken");
    let both = b"{\"renewalToken\":null,\"timeout\":301}";
    assert_eq!(
        wrong(Route::Renew, both),
        "invalid-field: renewalToken timeout"
    );
    // Other routes read no body.
    assert_eq!(body(Route::Lock, b"{", &settings()), Ok(Asked::Nothing));
}
