//! Requests as etcd 3.4 understands them, and its answers as they were seen there.

use super::*;

fn head(number: u64) -> Head {
    Head {
        cluster: [1; 16],
        life: [2; 16],
        node: "a \"b\"".into(),
        address: "a:6388".into(),
        number,
        largest: 0,
        leads: false,
        left: false,
    }
}

fn change() -> Change {
    Change {
        revision: 7,
        head: head(9),
        batch: Some(b"facts".to_vec()),
        keep_from: Some(4),
    }
}

fn keys() -> Keys {
    Keys::new("dflockd/x")
}

fn text(value: &Value) -> String {
    String::from_utf8(bytes(value).expect("base64")).expect("text")
}

/// The answer to a request, as far as it tells something.
fn told(ask: &Ask, answer: &str) -> Result<Told, Failure> {
    keys().told(ask, 200, answer.as_bytes())
}

/// An entry of the head, as etcd gives it.
fn entry(revision: u64, value: &[u8]) -> String {
    let (key, value) = (base64(b"dflockd/x/head"), base64(value));
    format!(
        r#"{{"key":"{key}","create_revision":"2","mod_revision":"{revision}","version":"3","value":"{value}"}}"#
    )
}

#[test]
fn a_change_is_one_transaction_that_compares_the_revision_of_the_head() {
    let request = keys().request(&Ask::Change(change()));
    assert_eq!(request.path, "/v3/kv/txn");
    let body: Value = serde_json::from_str(&request.body).unwrap();
    // An unknown member would be ignored, so that there are others is as bad as that one lacks.
    let members = |value: &Value| {
        let mut names: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
        names.sort();
        names.join(" ")
    };
    assert_eq!(members(&body), "compare failure success");
    let compare = &body["compare"];
    assert_eq!(compare.as_array().unwrap().len(), 1);
    assert_eq!(members(&compare[0]), "key mod_revision result target");
    assert_eq!(text(&compare[0]["key"]), "dflockd/x/head");
    let [target, result] = ["target", "result"].map(|name| &compare[0][name]);
    assert_eq!((target, result), (&json!("MOD"), &json!("EQUAL")));
    assert_eq!(compare[0]["mod_revision"], "7");
    let success = body["success"].as_array().unwrap();
    assert_eq!(success.len(), 3);
    let puts: Vec<_> = success[..2]
        .iter()
        .map(|each| &each["request_put"])
        .collect();
    assert_eq!(text(&puts[0]["key"]), "dflockd/x/head");
    let value = bytes(&puts[0]["value"]).unwrap();
    assert_eq!(head_from_json(&value), Some(head(9)));
    assert_eq!(text(&puts[1]["key"]), "dflockd/x/log/0000000000000009");
    assert_eq!(text(&puts[1]["value"]), "facts");
    let removed = &success[2]["request_delete_range"];
    assert_eq!(text(&removed["key"]), "dflockd/x/log/0000000000000000");
    assert_eq!(
        text(&removed["range_end"]),
        "dflockd/x/log/0000000000000004"
    );
    let failure = &body["failure"][0]["request_range"];
    assert_eq!(
        (members(failure), text(&failure["key"])),
        ("key".into(), "dflockd/x/head".into())
    );
    let beat = Change {
        batch: None,
        keep_from: None,
        ..change()
    };
    let body: Value = serde_json::from_str(&keys().request(&Ask::Change(beat)).body).unwrap();
    assert_eq!(body["success"].as_array().unwrap().len(), 1);
}

#[test]
fn a_change_that_was_made_has_the_revision_of_the_answer() {
    let ask = Ask::Change(change());
    let made = r#"{"header":{"cluster_id":"1","member_id":"2","revision":"12","raft_term":"2"},"succeeded":true,
        "responses":[{"response_put":{"header":{"revision":"12"}}}]}"#;
    assert_eq!(told(&ask, made), Ok(Told::Changed(12)));
    let kvs = entry(11, &head_to_json(&head(8)));
    let refused = format!(
        r#"{{"header":{{"revision":"12"}},"responses":[{{"response_range":{{"header":{{"revision":"12"}},"kvs":[{kvs}],"count":"1"}}}}]}}"#
    );
    let other = Told::Refused(Some((11, head(8))));
    assert_eq!(told(&ask, &refused), Ok(other));
    let gone = r#"{"header":{"revision":"12"},"responses":[{"response_range":{"header":{"revision":"12"}}}]}"#;
    assert_eq!(told(&ask, gone), Ok(Told::Refused(None)));
    // Half of an answer is none.
    for strange in [
        r#"{"succeeded":true}"#,
        r#"{"header":{"revision":"12"}}"#,
        "{}",
        "[]",
        "",
        "<html>",
    ] {
        let failure = told(&ask, strange).unwrap_err();
        assert!(
            matches!(&failure, Failure::Failed(what) if what.starts_with("not an answer of etcd")),
            "{failure:?}"
        );
    }
}

#[test]
fn a_look_finds_the_head_or_none() {
    let none = r#"{"header":{"revision":"5"}}"#;
    assert_eq!(told(&Ask::Look, none), Ok(Told::Head(None)));
    let at = |value: &[u8]| {
        let entry = entry(5, value);
        told(
            &Ask::Look,
            &format!(r#"{{"header":{{"revision":"9"}},"kvs":[{entry}],"count":"1"}}"#),
        )
    };
    let value = head_to_json(&head(3));
    assert_eq!(at(&value), Ok(Told::Head(Some((5, head(3))))));
    let newer = String::from_utf8(value)
        .unwrap()
        .replace(r#""version":1"#, r#""version":2"#);
    for foreign in [newer.as_bytes(), b"", b"x", b"{}"] {
        assert!(matches!(at(foreign), Err(Failure::Unfit(_))), "{foreign:?}");
    }
}

#[test]
fn batches_come_in_pages() {
    let ask = Ask::Load {
        from: 0x1f,
        count: 16,
    };
    let request = keys().request(&ask);
    let body: Value = serde_json::from_str(&request.body).unwrap();
    assert_eq!(request.path, "/v3/kv/range");
    assert_eq!(text(&body["key"]), "dflockd/x/log/000000000000001f");
    assert_eq!(text(&body["range_end"]), "dflockd/x/log0");
    assert_eq!(body["limit"], "16");
    let entry = |key: &str, value: &str| {
        let [key, value] = [key, value].map(|text| base64(text.as_bytes()));
        format!(r#"{{"key":"{key}","mod_revision":"3","value":"{value}"}}"#)
    };
    let page = |kvs: &str, more: &str| {
        told(
            &ask,
            &format!(r#"{{"header":{{"revision":"9"}},"kvs":[{kvs}]{more},"count":"7"}}"#),
        )
    };
    let kvs = [
        entry("dflockd/x/log/000000000000001f", "one"),
        entry("dflockd/x/log/0000000000000020", "two"),
    ];
    let batches = vec![(0x1f, b"one".to_vec()), (0x20, b"two".to_vec())];
    let both = kvs.join(",");
    assert_eq!(page(&both, ""), Ok(Told::Batches(batches.clone(), false)));
    assert_eq!(
        page(&both, r#","more":true"#),
        Ok(Told::Batches(batches, true))
    );
    let none = told(&ask, r#"{"header":{"revision":"9"}}"#);
    assert_eq!(none, Ok(Told::Batches(vec![], false)));
    for digits in ["x", "1f", "00000000000000AB", "+00000000000001f"] {
        let foreign = page(&entry(&format!("dflockd/x/log/{digits}"), "one"), "");
        assert!(matches!(foreign, Err(Failure::Unfit(_))), "{foreign:?}");
    }
    let order = "not an answer of etcd: batches out of order";
    let early = entry("dflockd/x/log/000000000000001e", "old");
    for wrong in [
        early,
        [&kvs[1][..], &kvs[0]].join(","),
        [&kvs[0][..], &kvs[0]].join(","),
    ] {
        assert_eq!(page(&wrong, ""), Err(Failure::Failed(order.into())));
    }
}

#[test]
fn what_etcd_says_instead_of_an_answer_decides_what_to_do_next() {
    let said = |status, text: &str| {
        let body = format!(r#"{{"error":"{text}","code":2,"message":"{text}"}}"#);
        keys()
            .told(&Ask::Look, status, body.as_bytes())
            .unwrap_err()
    };
    assert_eq!(said(400, "etcdserver: user name is empty"), Failure::Token);
    assert_eq!(said(401, "etcdserver: invalid auth token"), Failure::Token);
    let denied = "etcdserver: permission denied";
    assert_eq!(said(403, denied), Failure::Denied(denied.into()));
    let late = "etcdserver: request timed out";
    assert_eq!(said(503, late), Failure::Failed(late.into()));
    let page = keys()
        .told(&Ask::Look, 502, b"<h1>Bad gateway</h1>")
        .unwrap_err();
    let text = "not an answer of etcd: 502, \"<h1>Bad gateway</h1>\"";
    assert_eq!(page, Failure::Failed(text.into()));
    let Failure::Failed(long) = said(500, &"é".repeat(10_000)) else {
        panic!("it is a failure");
    };
    assert_eq!(long, "é".repeat(100));
}

#[test]
fn a_user_gets_a_token() {
    let request = authenticate("u", "p\"q");
    assert_eq!(request.path, "/v3/auth/authenticate");
    let body: Value = serde_json::from_str(&request.body).unwrap();
    assert_eq!(body, json!({"name": "u", "password": "p\"q"}));
    let answer = r#"{"header":{"revision":"1"},"token":"abc.1"}"#;
    assert_eq!(token(200, answer.as_bytes()), Ok("abc.1".into()));
    let wrong = "etcdserver: authentication failed, invalid user ID or password";
    let body = format!(r#"{{"error":"{wrong}","code":3,"message":"{wrong}"}}"#);
    assert_eq!(
        token(400, body.as_bytes()),
        Err(Failure::Denied(wrong.into()))
    );
}
