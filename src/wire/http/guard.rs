//! Keeps the pages of browsers out of a server that trusts its network: against cross-site requests (CSRF) and against
//! DNS rebinding, where a page's owner points a name at this server. It checks no secret. Invariant: a page uses the face
//! only if its origin is configured, or is the face's own.

use core::net::{Ipv4Addr, Ipv6Addr};

use super::{Exchange, Problem, Settings};

/// Checks `Host` and `Origin` before anything is carried out, and notes whether the page may read the answer.
pub fn admit(exchange: &mut Exchange, settings: &Settings, has_auth: bool) -> Result<(), Problem> {
    if !is_allowed_host(exchange, settings, has_auth) {
        return Err(Problem::new(
            "misdirected",
            "this server has no token, so Host must be localhost, an IP address or the value of \
             --http-host; with --auth-token-file any Host will do",
        ));
    }
    if !is_allowed_origin(exchange, settings) {
        return Err(Problem::new(
            "origin-not-allowed",
            "name the origin in --http-cors-allowed-origins to let its pages in",
        ));
    }
    exchange.is_shared = is_configured(exchange, settings);
    Ok(())
}

/// Whether the request means this server, as far as one without a secret must know: the owner of a name can point it at
/// any address, and then a page of that name is of the same origin as this server. HTTP/1.0 has no `Host`, and browsers
/// do not speak it.
pub fn is_allowed_host(exchange: &Exchange, settings: &Settings, has_auth: bool) -> bool {
    let host = host_of(&exchange.host);
    let is = |name: &[u8]| !name.is_empty() && host.eq_ignore_ascii_case(name);
    has_auth
        // A page of another name would need a certificate for it, and its reader's.
        || settings.knows_clients
        || (exchange.is_old && exchange.host.is_empty())
        || is(b"localhost")
        || is(settings.host.as_bytes())
        || is_address(host)
}

/// Whether a page asks that may: one of a configured origin, or the face's own page.
pub fn is_allowed_origin(exchange: &Exchange, settings: &Settings) -> bool {
    let Some(origin) = &exchange.origin else {
        return true;
    };
    is_own(origin, &exchange.host, settings.is_https) || is_configured(exchange, settings)
}

/// Whether an origin is the face's own: its scheme, and the host that is asked.
fn is_own(origin: &[u8], host: &[u8], is_https: bool) -> bool {
    let (scheme, port): (&[u8], &[u8]) = match is_https {
        true => (b"https://", b":443"),
        false => (b"http://", b":80"),
    };
    let without_port = |host: &[u8]| host.strip_suffix(port).unwrap_or(host).to_ascii_lowercase();
    origin
        .strip_prefix(scheme)
        .is_some_and(|own| !own.is_empty() && without_port(own) == without_port(host))
}

fn is_configured(exchange: &Exchange, settings: &Settings) -> bool {
    let origin = exchange.origin.as_deref().unwrap_or_default();
    let is_it =
        |known: &String| !origin.is_empty() && known.as_bytes().eq_ignore_ascii_case(origin);
    settings.origins.iter().any(is_it)
}

/// A `Host` without its port.
fn host_of(host: &[u8]) -> &[u8] {
    let colon = host.iter().rposition(|&byte| byte == b':');
    match colon.map(|at| host.split_at(at)) {
        Some((host, port)) if port[1..].iter().all(u8::is_ascii_digit) => host,
        _ => host,
    }
}

fn is_address(host: &[u8]) -> bool {
    let Ok(host) = str::from_utf8(host) else {
        return false;
    };
    let inner = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    match inner {
        Some(inner) => inner.parse::<Ipv6Addr>().is_ok(),
        None => host.parse::<Ipv4Addr>().is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{settings, whole};
    use super::*;

    fn request(version: &str, more: &str) -> Exchange {
        let request = format!("GET /health HTTP/{version}\r\n{more}\r\n");
        whole(request.as_bytes()).0
    }

    #[test]
    fn without_a_secret_a_name_must_be_the_servers() {
        for (host, is_allowed) in [
            ("localhost", true),
            ("LocalHost:5000", true),
            ("127.0.0.1:5000", true),
            ("10.0.0.7", true),
            ("[::1]:5000", true),
            ("[::ffff:10.0.0.7]", true),
            ("locks.example", true),
            ("LOCKS.example:80", true),
            ("localhost:", true),
            ("evil.example", false),
            ("localhost.evil.example", false),
            ("evil.example:localhost", false),
            ("localhost:5000:80", false),
            ("127.0.0.1.evil.example", false),
            ("127.0.0.1:x", false),
            ("1", false),
            ("0x7f000001", false),
            ("127.1", false),
            ("::1", false),
            ("[::1", false),
            ("[localhost]", false),
            ("[]", false),
            (":5000", false),
            ("", false),
        ] {
            let mut exchange = request("1.1", &format!("Host: {host}\r\n"));
            assert_eq!(
                is_allowed_host(&exchange, &settings(), false),
                is_allowed,
                "{host}"
            );
            assert!(is_allowed_host(&exchange, &settings(), true));
            let problem = admit(&mut exchange, &settings(), false).err();
            assert_eq!(
                problem.map(|p| p.status),
                (!is_allowed).then_some(421),
                "{host}"
            );
        }
        assert!(is_allowed_host(&request("1.0", ""), &settings(), false));
        assert!(!is_allowed_host(
            &request("1.0", "Host: evil.example\r\n"),
            &settings(),
            false
        ));
        // A request that is not understood is told so, whatever its host.
        assert!(is_allowed_host(&request("1.1", ""), &settings(), false));
        let mut unnamed = settings();
        unnamed.host.clear();
        assert!(!is_allowed_host(
            &request("1.1", "Host: \r\n"),
            &unnamed,
            false
        ));
    }

    #[test]
    fn clients_with_certificates_may_use_any_name() {
        let mut known = settings();
        known.knows_clients = true;
        let named = request("1.1", "Host: locks.of.others\r\n");
        assert!(is_allowed_host(&named, &known, false));
        assert!(!is_allowed_host(&named, &settings(), false));
    }

    #[test]
    fn over_tls_the_faces_own_pages_are_of_https() {
        let mut secure = settings();
        secure.is_https = true;
        for (host, origin, is_allowed) in [
            ("localhost:5000", "https://localhost:5000", true),
            ("localhost", "https://localhost:443", true),
            ("localhost:443", "https://LOCALHOST", true),
            ("localhost:80", "https://localhost", false),
            ("localhost:5000", "http://localhost:5000", false),
            ("localhost:5000", "https://evil.example", false),
        ] {
            let exchange = request("1.1", &format!("Host: {host}\r\nOrigin: {origin}\r\n"));
            assert_eq!(
                is_allowed_origin(&exchange, &secure),
                is_allowed,
                "{origin}"
            );
        }
    }

    #[test]
    fn a_page_is_let_in_if_it_is_the_faces_own_or_configured() {
        for (host, origin, is_allowed, is_shared) in [
            ("localhost:5000", "http://localhost:5000", true, false),
            ("localhost:5000", "http://LOCALHOST:5000", true, false),
            ("localhost", "http://localhost:80", true, false),
            ("localhost:80", "http://localhost", true, false),
            ("localhost:5000", "https://ops.example", true, true),
            ("localhost:5000", "HTTPS://OPS.example", true, true),
            ("localhost:5000", "http://ops.example", false, false),
            ("localhost:5000", "https://ops.example:444", false, false),
            ("localhost:5000", "https://ops.example.evil", false, false),
            ("localhost:5000", "https://localhost:5000", false, false),
            ("localhost:5000", "http://localhost", false, false),
            ("localhost:5000", "http://127.0.0.1:5000", false, false),
            ("localhost:5000", "http://evil.example", false, false),
            ("localhost:5000", "null", false, false),
            ("localhost:5000", "", false, false),
            ("", "http://", false, false),
        ] {
            let head = format!("Host: {host}\r\nOrigin: {origin}\r\n");
            let mut exchange = request("1.1", &head);
            assert_eq!(
                is_allowed_origin(&exchange, &settings()),
                is_allowed,
                "{head}"
            );
            // Even where everyone is trusted who knows the secret.
            let problem = admit(&mut exchange, &settings(), true).err();
            assert_eq!(
                problem.map(|p| p.status),
                (!is_allowed).then_some(403),
                "{head}"
            );
            assert_eq!(exchange.is_shared, is_shared, "{head}");
        }
        assert!(is_allowed_origin(
            &request("1.1", "Host: h\r\n"),
            &settings()
        ));
    }
}
