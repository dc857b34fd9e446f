//! The secrets that a server and its clients share, as values and as the contents of files. Invariant: a secret is 1 to
//! 65,536 bytes on one line without blanks around it, and no message shows it.

use std::ffi::OsStr;
use std::fmt::{self, Display};

use super::file::{content, exposure};
use crate::wire::text::SECRET_MAX;

/// How much of a file is read: more than a secret and the blanks around it may have.
const FILE_MAX: u64 = 128 * 1024;

/// Where a secret comes from: the token if there is one, else the file. Without both there is no secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Auth {
    /// The secret itself.
    pub token: Option<Vec<u8>>,
    /// The path of a file that contains it.
    pub file: Option<String>,
    /// The option or the variable that named the file, for messages; empty if there is none.
    pub file_from: String,
}

/// The secrets themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Secrets {
    /// The one that clients must say first, if there is one.
    pub auth: Option<Vec<u8>>,
    /// The one that an administrator may say, if there is one.
    pub admin: Option<Vec<u8>>,
}

impl Secrets {
    /// What is wrong with the two of them. Equal ones would make every client an administrator, which each is without an
    /// admin token too: so somebody has given one of them by mistake.
    pub fn mistake(&self) -> Option<&'static str> {
        let is_same = self.admin.is_some() && self.admin == self.auth;
        is_same.then_some(
            "the admin token is the auth token: want another one, or none, with which every client that says the auth token may break locks",
        )
    }
}

/// Why a file brings no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoSecret {
    /// The option or the variable that named the file.
    pub source: String,
    /// Its path.
    pub path: String,
    /// What is wrong, and what is wanted.
    pub why: String,
    /// It cannot be read. Otherwise its content cannot be a secret.
    pub is_unread: bool,
}

impl Display for NoSecret {
    /// One line of text.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let verb = match self.is_unread {
            true => "cannot read",
            false => "bad file",
        };
        let NoSecret {
            source, path, why, ..
        } = self;
        write!(f, "{source}: {verb} {path:?}: {why}")
    }
}

impl Auth {
    /// The secret, if there is one; its file is read now. A file that every user may read is warned of.
    ///
    /// # Errors
    /// The file cannot be read, or its content cannot be a secret.
    pub fn secret(&self, warnings: &mut Vec<String>) -> Result<Option<Vec<u8>>, NoSecret> {
        if let Some(token) = &self.token {
            return Ok(Some(token.clone()));
        }
        let Some(path) = &self.file else {
            return Ok(None);
        };
        let source = &self.file_from;
        warnings.extend(exposure(source, path));
        secret_in(source, path.as_ref()).map(Some)
    }

    /// Reads the secret from its file once more; None if no file is used. It does not wait: a file of another kind, such
    /// as a pipe, is an error.
    pub fn secret_again(&self) -> Option<Result<Vec<u8>, NoSecret>> {
        let path = self.file.as_ref().filter(|_| self.token.is_none())?;
        Some(read(&self.file_from, path.as_ref(), true))
    }
}

/// A secret as it can be said on the line: trimmed, not empty, one line, not over the cap. An error says what is
/// wrong and what is wanted.
pub fn secret(text: &[u8]) -> Result<Vec<u8>, String> {
    let secret = text.trim_ascii();
    let wrong = if secret.is_empty() {
        "it is empty"
    } else if secret.contains(&b'\n') {
        "it has several lines"
    } else if secret.len() > SECRET_MAX {
        "it is too long"
    } else {
        return Ok(secret.to_vec());
    };
    Err(format!("{wrong}; want 1 to {SECRET_MAX} bytes on one line"))
}

/// Reads the secret from a file; `source` is the option or the variable that named it.
///
/// # Errors
/// The file cannot be read, or its content cannot be a secret.
pub fn secret_in(source: &str, path: &OsStr) -> Result<Vec<u8>, NoSecret> {
    read(source, path, false)
}

fn read(source: &str, path: &OsStr, at_once: bool) -> Result<Vec<u8>, NoSecret> {
    let not = |why: String, is_unread: bool| NoSecret {
        source: source.to_string(),
        path: path.to_string_lossy().into_owned(),
        why,
        is_unread,
    };
    let text = content(path, FILE_MAX, at_once)
        .map_err(|e| not(format!("{e}; want a file with the secret"), true))?;
    secret(&text).map_err(|why| not(why, false))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::config::tests::{refusal, run};
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    const WANT: &str = "want 1 to 65536 bytes on one line";

    fn in_file(name: &str, text: &[u8]) -> (String, Auth) {
        let path = std::env::temp_dir().join(format!("dflockd-{name}-{}", std::process::id()));
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let path = path.to_str().unwrap().to_string();
        let auth = Auth {
            file: Some(path.clone()),
            file_from: "--token-file".to_string(),
            ..Auth::default()
        };
        (path, auth)
    }

    #[test]
    fn each_mistake_of_a_file_is_told_and_its_content_is_not() {
        let long = "x".repeat(SECRET_MAX + 1);
        for (text, wrong) in [
            ("", "it is empty"),
            (" \n\t\r\n", "it is empty"),
            ("xyzzy\nplugh\n", "it has several lines"),
            (long.as_str(), "it is too long"),
        ] {
            let (path, auth) = in_file("mistakes", text.as_bytes());
            let error = auth.secret(&mut Vec::new()).unwrap_err();
            assert!(!error.is_unread);
            let wanted = format!("--token-file: bad file {path:?}: {wrong}; {WANT}");
            assert_eq!(error.to_string(), wanted);
            assert_eq!(auth.secret_again(), Some(Err(error)));
            fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_told_from_one_without_a_secret() {
        let of = |path: &str| secret_in("--token-file", OsStr::new(path)).unwrap_err();
        for (path, why) in [
            ("/no/such/file", "No such file or directory (os error 2)"),
            ("/", "Is a directory (os error 21)"),
        ] {
            let wanted =
                format!("--token-file: cannot read {path:?}: {why}; want a file with the secret");
            assert_eq!(of(path).to_string(), wanted);
            assert!(of(path).is_unread);
        }
        for (path, why) in [
            ("/dev/null", "it is empty"),
            ("/dev/zero", "it is too long"),
        ] {
            assert!(!of(path).is_unread);
            assert_eq!(of(path).why, format!("{why}; {WANT}"));
        }
    }

    #[test]
    fn a_file_that_every_user_may_read_is_warned_of() {
        let (path, auth) = in_file("open", b" said \n");
        let mut warnings = Vec::new();
        assert_eq!(auth.secret(&mut warnings), Ok(Some(b"said".to_vec())));
        assert_eq!(warnings, [""; 0]);
        fs::set_permissions(&path, Permissions::from_mode(0o604)).unwrap();
        assert_eq!(auth.secret(&mut warnings), Ok(Some(b"said".to_vec())));
        let wanted = format!("--token-file: every user of this host may read {path:?}: ");
        assert!(warnings[0].starts_with(&wanted), "{warnings:?}");
        // A token beside it is used instead, and the file is not looked at.
        let auth = Auth {
            token: Some(b"other".to_vec()),
            ..auth
        };
        warnings.clear();
        assert_eq!(auth.secret(&mut warnings), Ok(Some(b"other".to_vec())));
        assert_eq!((auth.secret_again(), warnings.len()), (None, 0));
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn an_admin_token_that_every_client_knows_is_a_mistake() {
        let secrets = |auth: Option<&str>, admin: Option<&str>| Secrets {
            auth: auth.map(|auth| auth.into()),
            admin: admin.map(|admin| admin.into()),
        };
        for (auth, admin) in [
            (None, None),
            (Some("a"), None),
            (None, Some("a")),
            (Some("a"), Some("b")),
        ] {
            assert_eq!(secrets(auth, admin).mistake(), None);
        }
        assert!(secrets(Some("a"), Some("a")).mistake().is_some());
    }

    #[test]
    fn only_a_regular_file_is_read_again() {
        let (path, auth) = in_file("again", b"one");
        assert_eq!(auth.secret_again(), Some(Ok(b"one".to_vec())));
        fs::write(&path, "two").unwrap();
        assert_eq!(auth.secret_again(), Some(Ok(b"two".to_vec())));
        fs::remove_file(path).unwrap();
        let auth = Auth {
            file: Some("/dev/zero".to_string()),
            ..auth
        };
        let error = auth.secret_again().unwrap().unwrap_err();
        assert!(error.why.starts_with("not a regular file; "), "{error}");
        assert_eq!(Auth::default().secret_again(), None);
    }

    #[test]
    fn a_secret_comes_from_flag_flag_file_variable_or_variable_file_in_this_order() {
        let token = |config: &Config| {
            config
                .auth
                .token
                .clone()
                .map(|t| String::from_utf8(t).unwrap())
        };
        let env = [
            ("DFLOCKD_AUTH_TOKEN", "env"),
            ("DFLOCKD_AUTH_TOKEN_FILE", "env-file"),
        ];
        let (config, _) = run(&["--auth-token-file=f", "--auth-token", " t "], &env);
        assert_eq!(token(&config).as_deref(), Some("t"));
        let (config, _) = run(&["--auth-token-file=f"], &env);
        assert_eq!(
            (token(&config), config.auth.file.as_deref()),
            (None, Some("f"))
        );
        assert_eq!(config.auth.file_from, "--auth-token-file");
        let (config, _) = run(&[], &env);
        assert_eq!(token(&config).as_deref(), Some("env"));
        let (config, _) = run(&[], &env[1..]);
        assert_eq!(
            (token(&config), config.auth.file.as_deref()),
            (None, Some("env-file"))
        );
        assert_eq!(config.auth.file_from, "DFLOCKD_AUTH_TOKEN_FILE");
        assert!(!run(&[], &[]).0.has_auth());
    }

    #[test]
    fn an_admin_token_comes_from_the_same_places_and_lets_nobody_in() {
        let env = [
            ("DFLOCKD_ADMIN_TOKEN", "env"),
            ("DFLOCKD_AUTH_TOKEN", "all"),
        ];
        let (config, _) = run(&["--admin-token-file=f"], &env);
        assert_eq!(config.admin.token, None);
        assert_eq!(config.admin.file.as_deref(), Some("f"));
        assert_eq!(config.admin.file_from, "--admin-token-file");
        assert_eq!(config.auth.token.as_deref(), Some(&b"all"[..]));
        // Strangers may still come in, and distlockd's clients have nothing to say.
        let args = ["--host=0.0.0.0", "--admin-token=a", "--distlockd-port=0"];
        let (config, warnings) = run(&args, &[]);
        assert!(!config.has_auth());
        assert!(warnings[0].contains("without --auth-token-file any client can take any lock"));
    }

    #[test]
    fn an_empty_or_impossible_secret_is_an_error_that_does_not_show_it() {
        let long = "x".repeat(65_537);
        for (bad, wrong) in [
            ("", "it is empty"),
            ("  ", "it is empty"),
            ("two\nlines", "it has several lines"),
            (long.as_str(), "it is too long"),
        ] {
            for flag in ["--auth-token", "--admin-token"] {
                let wanted =
                    format!("{flag}: bad value: {wrong}; want 1 to 65536 bytes on one line");
                assert_eq!(refusal(&[flag, bad], &[]), wanted);
            }
        }
        assert!(refusal(&[], &[("DFLOCKD_AUTH_TOKEN", " ")]).starts_with("DFLOCKD_AUTH_TOKEN: "));
        assert!(refusal(&["--auth-token-file", ""], &[]).starts_with("--auth-token-file: "));
    }
}
