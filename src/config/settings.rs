//! Every setting as people are shown it: its value, and where it is from. Invariant: no token is shown, not even its
//! length.

use super::Config;
use super::options::{Flag, Group, OPTIONS};
use super::secret::Auth;
use super::values::boolean;

/// One option, as it is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The name of the option, without the two dashes.
    pub name: &'static str,
    /// Its value: `set` for a token, `unset` for an option that nothing has set and that has no default, `unused` for a
    /// token or its file that another one overrides.
    pub value: String,
    /// The flag or the variable that has set it, or `default`.
    pub from: String,
    default: &'static str,
}

/// All settings, in the order of `--help`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings(Vec<Setting>);

impl Settings {
    /// All have their defaults.
    pub(super) fn new() -> Settings {
        let shown = |option: &&Flag| option.group != Group::About;
        let options = Group::ALL
            .iter()
            .flat_map(|group| OPTIONS.iter().filter(move |option| option.group == *group));
        let setting = |option: &'static Flag| Setting {
            name: option.name,
            value: match option.default {
                "" => "unset".to_string(),
                value => value.to_string(),
            },
            from: "default".to_string(),
            default: option.default,
        };
        Settings(options.filter(shown).map(setting).collect())
    }

    /// The option was given this text, which is a good value.
    pub(super) fn note(&mut self, option: &Flag, text: &str, from: &str) {
        if let Some(setting) = self.of(option.name) {
            setting.value = shown(option, text);
            setting.from = from.to_string();
        }
    }

    /// Which of the tokens and files that were given are used is known now.
    pub(super) fn note_secrets(&mut self, config: &Config) {
        for (auth, token, file) in [
            (&config.auth, "auth-token", "auth-token-file"),
            (&config.admin, "admin-token", "admin-token-file"),
        ] {
            let Auth { token: said, .. } = auth;
            for (name, is_used) in [(token, said.is_some()), (file, said.is_none())] {
                if let Some(setting) = self.of(name)
                    && setting.from != "default"
                    && !is_used
                {
                    setting.value = "unused".to_string();
                }
            }
        }
    }

    /// Whether neither a flag nor a variable has set the option.
    pub(super) fn is_default(&self, option: &Flag) -> bool {
        self.from(option.name) == "default"
    }

    /// What has set the option with this name.
    pub(super) fn from(&self, name: &str) -> &str {
        let setting = self.0.iter().find(|setting| setting.name == name);
        setting.map_or("default", |setting| &setting.from)
    }

    fn of(&mut self, name: &str) -> Option<&mut Setting> {
        self.0.iter_mut().find(|setting| setting.name == name)
    }

    /// Those that differ from the default.
    pub fn changed(&self) -> impl Iterator<Item = &Setting> {
        let is_default =
            |setting: &&Setting| setting.from == "default" || setting.value == setting.default;
        self.0.iter().filter(move |setting| !is_default(setting))
    }

    /// One line for each: name, value, source, with blanks between. A value with odd characters is quoted.
    pub fn list(&self) -> String {
        let width = |of: fn(&Setting) -> usize| self.0.iter().map(of).max().unwrap_or(0);
        let names = width(|setting| setting.name.len());
        let values = width(|setting| quoted(&setting.value).len()).min(VALUE_WIDTH);
        let mut text = String::new();
        for setting in &self.0 {
            let Setting { name, from, .. } = setting;
            let value = quoted(&setting.value);
            text += &format!("{name:names$}  {value:values$}  {from}\n");
        }
        text
    }
}

/// A value that is longer pushes its source to the right.
const VALUE_WIDTH: usize = 24;

fn quoted(value: &str) -> String {
    match value.is_empty() || value.contains(|c: char| !c.is_ascii_graphic() || c == '"') {
        true => format!("{value:?}"),
        false => value.to_string(),
    }
}

/// A value in the one spelling that the default would have.
fn shown(option: &Flag, text: &str) -> String {
    let number = text.parse::<i64>().map(|number| number.to_string());
    match (option.value, boolean(text), number) {
        ("TOKEN", ..) => "set".to_string(),
        ("", Ok(value), _) => value.to_string(),
        ("PORT" | "SECONDS" | "COUNT" | "BYTES", _, Ok(number)) => number,
        _ => text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Parsed;
    use crate::config::tests::parse_with;

    fn settings() -> Settings {
        let env = [
            ("DFLOCKD_PORT", "7"),
            ("DFLOCKD_MAX_LOCKS", "+0005"),
            ("DFLOCKD_MAX_WAITERS", "9"),
            ("DFLOCKD_GC_LOOP_SLEEP", "6"),
            ("DFLOCKD_ADMIN_TOKEN", "xyzzy"),
            ("DFLOCKD_AUTH_TOKEN", "plugh"),
        ];
        let args = [
            "--max-waiters=0",
            "--auth-token-file=a b",
            "--debug=YES",
            "--no-deadlock-detection",
            "--log-locks=no",
            "--check",
        ];
        match parse_with(&args, &env) {
            Ok(Parsed::Run { settings, .. }) => settings,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_setting_is_listed_with_its_value_and_its_source() {
        let list = settings().list();
        let with_one_blank =
            |line: &str| line.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        let lines: Vec<String> = list.lines().map(with_one_blank).collect();
        for line in [
            "host 127.0.0.1 default",
            "port 7 DFLOCKD_PORT",
            "distlockd-port unset default",
            "max-locks 5 DFLOCKD_MAX_LOCKS",
            "max-waiters 0 --max-waiters",
            "auth-token-file \"a b\" --auth-token-file",
            "auth-token unused DFLOCKD_AUTH_TOKEN",
            "admin-token-file unset default",
            "admin-token set DFLOCKD_ADMIN_TOKEN",
            "gc-interval 6 DFLOCKD_GC_LOOP_SLEEP",
            "debug true --debug",
            "deadlock-detection false --no-deadlock-detection",
            "log-locks false --log-locks",
        ] {
            assert!(
                lines.iter().any(|listed| listed == line),
                "{line} in\n{list}"
            );
        }
        // All but --check, --version and --help.
        let options = OPTIONS
            .iter()
            .filter(|option| Group::ALL.contains(&option.group));
        assert_eq!(list.lines().count(), options.count() - 3);
        assert!(!list.contains("xyzzy") && !list.contains("plugh"));
    }

    #[test]
    fn what_differs_from_the_default_is_known() {
        let settings = settings();
        let changed = settings.changed();
        let changed: Vec<_> = changed
            .map(|setting| format!("{}={}", setting.name, setting.value))
            .collect();
        let wanted = [
            "port=7",
            "deadlock-detection=false",
            "max-locks=5",
            "auth-token-file=a b",
            "auth-token=unused",
            "admin-token=set",
            "debug=true",
            "gc-interval=6",
        ];
        assert_eq!(changed, wanted);
    }
}
