//! The answers that are the same for everybody: the status page and the description of the face, as they are in the
//! files beside this one. Both are sent unchanged. Invariant: nothing in them comes from a client or from a setting.

/// The status page. It asks for all that it shows.
pub const PAGE: &str = include_str!("page.html");

/// The `Content-Security-Policy` of the page: no script and no style but those in it, by their hashes; requests to this
/// server only; in no frame. A browser also refuses any of its code that would make markup of text.
pub const PAGE_POLICY: &str = include_str!("page.csp").trim_ascii();

/// The description of the face, in OpenAPI 3.1.
pub const OPENAPI: &str = include_str!("openapi.json");

/// The `ETag` of the description, with its quotes: a hash of it (FNV-1a), so it is the same as long as that is.
pub fn openapi_tag() -> String {
    let hash = OPENAPI
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    format!("\"{hash:016x}\"")
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::problem::CODES;
    use super::super::route::{Access, PATHS};
    use super::*;

    /// What is between the tags of the only element of this name.
    fn element(name: &str) -> &'static str {
        let (open, close) = (format!("<{name}>"), format!("</{name}>"));
        let (_, rest) = PAGE.split_once(&open).expect("it is there");
        let (text, rest) = rest.split_once(&close).expect("it is there");
        assert!(!rest.contains(&open), "there are two {name}");
        text
    }

    #[test]
    fn the_policy_lets_the_page_in_and_nothing_else() {
        let [script, style] =
            ["script", "style"].map(|name| base64(&sha256(element(name).as_bytes())));
        let policy = format!(
            "default-src 'none'; script-src 'sha256-{script}'; style-src 'sha256-{style}'; connect-src 'self'; \
             img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
             require-trusted-types-for 'script'; trusted-types 'none'"
        );
        assert_eq!(PAGE_POLICY, policy, "page.csp has to say: {policy}");
    }

    #[test]
    fn the_page_is_small_and_needs_nothing_from_elsewhere() {
        assert!(PAGE.len() < 30_500, "{} bytes", PAGE.len());
        for word in [
            "innerHTML",
            "outerHTML",
            "insertAdjacent",
            "document.write",
            "eval(",
            "Function(",
            "src=",
            "@import",
            "url(",
            "style=",
            "https:",
        ] {
            assert!(!PAGE.contains(word), "{word}");
        }
        // The name of a vocabulary, in the icon of the tab.
        let addresses = PAGE.matches("http:").count();
        assert_eq!(
            addresses,
            PAGE.matches("http://www.w3.org/2000/svg").count()
        );
        let (_, markup) = PAGE.split_once("</style>").expect("it is there");
        let (markup, _) = markup.split_once("<script>").expect("it is there");
        let is_handler = |word: &str| word.starts_with("on") && word.contains('=');
        assert!(!markup.split_whitespace().any(is_handler));
    }

    fn description() -> Value {
        serde_json::from_str(OPENAPI).expect("it is JSON")
    }

    #[test]
    fn the_description_has_the_version_of_the_server() {
        let description = description();
        assert_eq!(description["info"]["version"], env!("CARGO_PKG_VERSION"));
        let examples = OPENAPI.matches("\"version\": \"").count();
        let own = format!("\"version\": \"{}\"", env!("CARGO_PKG_VERSION"));
        assert_eq!(OPENAPI.matches(&own).count(), examples);
    }

    #[test]
    fn the_description_has_each_path_and_method_of_the_router_and_no_other() {
        let description = description();
        let paths = description["paths"].as_object().expect("paths");
        let mut described: Vec<(String, String, bool)> = Vec::new();
        for (path, item) in paths {
            for (method, operation) in item.as_object().expect("methods") {
                if method != "parameters" {
                    let is_public = operation["security"] == Value::Array(Vec::new());
                    described.push((path.clone(), method.to_uppercase(), is_public));
                }
            }
        }
        let mut routed = Vec::new();
        // OpenAPI has no word for the path `*`.
        for row in PATHS.iter().filter(|row| row.template != "*") {
            for method in row.allow.split(", ") {
                let is_public = row.access == Access::Public || method == "OPTIONS";
                routed.push((row.template.to_string(), method.to_string(), is_public));
            }
        }
        described.sort();
        routed.sort();
        assert_eq!(described, routed);
    }

    #[test]
    fn the_description_has_each_problem() {
        let description = description();
        let codes = &description["components"]["schemas"]["Problem"]["properties"]["code"]["enum"];
        let known: Vec<&str> = CODES.iter().map(|code| code.0).collect();
        assert_eq!(codes, &Value::from(known));
        let responses = &description["components"]["responses"];
        let mut seen = 0;
        for (name, response) in responses.as_object().expect("responses") {
            let examples = &response["content"]["application/problem+json"]["examples"];
            for (code, example) in examples.as_object().into_iter().flatten() {
                let problem = &example["value"];
                let row = CODES.iter().find(|row| row.0 == code).expect(code);
                let status = if name == "NothingHeld" { 404 } else { row.1 };
                assert_eq!(problem["code"], row.0);
                assert_eq!(problem["title"], row.2, "{code}");
                assert_eq!(problem["status"], status, "{code}");
                seen += 1;
            }
        }
        assert!(seen > 15, "{seen}");
    }

    #[test]
    fn sha256_and_base64_are_those_of_their_standards() {
        // FIPS 180-4's example, and RFC 4648's.
        let hash = sha256(b"abc").map(|byte| format!("{byte:02x}")).concat();
        assert_eq!(
            hash,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(base64(b"foobar"), "Zm9vYmFy");
        assert_eq!(base64(b"fooba"), "Zm9vYmE=");
    }

    /// The `bits` bits after the point of the `root`-th root of `n`.
    fn fraction(n: u128, root: u32) -> u32 {
        // The largest x with x^root <= n * 2^(32 * root): its low 32 bits are the fraction.
        let goal = n << (32 * root);
        let mut x = 0_u128;
        for bit in (0..40).rev() {
            let next = x | 1 << bit;
            if next.pow(root) <= goal {
                x = next;
            }
        }
        x as u32
    }

    /// FIPS 180-4. Its constants are roots of the first primes.
    fn sha256(message: &[u8]) -> [u8; 32] {
        let primes: Vec<u128> = (2..312).filter(|n| (2..*n).all(|d| n % d > 0)).collect();
        let rounds: Vec<u32> = primes[..64].iter().map(|&n| fraction(n, 3)).collect();
        let mut state: Vec<u32> = primes[..8].iter().map(|&n| fraction(n, 2)).collect();
        let mut data = message.to_vec();
        data.push(0x80);
        data.resize(data.len().next_multiple_of(64), 0);
        if data.len() - message.len() < 9 {
            data.resize(data.len() + 64, 0);
        }
        let end = data.len() - 8;
        data[end..].copy_from_slice(&(message.len() as u64 * 8).to_be_bytes());
        for block in data.chunks_exact(64) {
            let mut words: Vec<u32> = block
                .chunks_exact(4)
                .map(|word| u32::from_be_bytes(word.try_into().expect("four bytes")))
                .collect();
            for at in 16..64 {
                let (a, b) = (words[at - 15], words[at - 2]);
                let a = a.rotate_right(7) ^ a.rotate_right(18) ^ (a >> 3);
                let b = b.rotate_right(17) ^ b.rotate_right(19) ^ (b >> 10);
                let sum = words[at - 16].wrapping_add(words[at - 7]);
                words.push(sum.wrapping_add(a).wrapping_add(b));
            }
            let before = state.clone();
            for (word, constant) in words.iter().zip(&rounds) {
                let (a, e) = (state[0], state[4]);
                let mixed = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
                let choice = (e & state[5]) ^ (!e & state[6]);
                let first = [state[7], mixed, choice, *constant, *word];
                let first = first.into_iter().fold(0, u32::wrapping_add);
                let mixed = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
                let majority = (a & state[1]) ^ (a & state[2]) ^ (state[1] & state[2]);
                state.rotate_right(1);
                state[4] = state[4].wrapping_add(first);
                state[0] = first.wrapping_add(mixed).wrapping_add(majority);
            }
            for (word, before) in state.iter_mut().zip(before) {
                *word = word.wrapping_add(before);
            }
        }
        let bytes: Vec<u8> = state.iter().flat_map(|word| word.to_be_bytes()).collect();
        bytes.try_into().expect("eight words")
    }

    /// RFC 4648, 4.
    fn base64(bytes: &[u8]) -> String {
        const DIGITS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::new();
        for part in bytes.chunks(3) {
            let mut three = [0; 3];
            three[..part.len()].copy_from_slice(part);
            let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
            for at in 0..4 {
                let digit = DIGITS[(bits >> (18 - 6 * at)) as usize & 63];
                text.push(if at <= part.len() { digit.into() } else { '=' });
            }
        }
        text
    }
}
