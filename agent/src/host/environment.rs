//! The environment of a session, built from nothing (THREATS AI-07, LO-02).
//!
//! Nothing of the agent's own environment reaches a shell, and of what a viewer asks for only the terminal's type and the locale,
//! with values that cannot be anything else.
#![deny(clippy::disallowed_methods)]

use std::collections::BTreeMap;

use uuid::Uuid;

use super::account::Account;

/// Longest value taken from a viewer, bytes: the longest locale and terminal names are below 40.
const VALUE_MAX: usize = 64;
const PATH_USER: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games";
const PATH_ROOT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The whole environment of one session's leader.
pub(super) fn environment(
    account: &Account,
    session: Uuid,
    asked: &BTreeMap<String, String>,
    host_lang: Option<&str>,
) -> BTreeMap<String, String> {
    let home = account.home.to_string_lossy().into_owned();
    let path = if account.name == "root" { PATH_ROOT } else { PATH_USER };
    let lang = host_lang.filter(|lang| is_plain(lang)).unwrap_or("C.UTF-8");
    let mut env: BTreeMap<String, String> = [
        ("HOME", home.as_str()),
        ("USER", &account.name),
        ("LOGNAME", &account.name),
        ("SHELL", &account.shell.to_string_lossy()),
        ("PATH", path),
        ("TERM", "xterm-256color"),
        ("COLORTERM", "truecolor"),
        ("LANG", lang),
        ("REXEC_SESSION", &session.to_string()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect();
    env.extend(
        asked.iter().filter(|(name, value)| is_taken(name, value)).map(|(n, v)| (n.clone(), v.clone())),
    );
    env
}

/// What leads programs through the proxy of a sandbox that has one, in the forms they look for.
pub(super) fn proxied(proxy: &str) -> BTreeMap<String, String> {
    let ways = ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"].map(|name| (name, proxy));
    let around = ["no_proxy", "NO_PROXY"].map(|name| (name, "localhost,127.0.0.1,::1,rexec.internal"));
    ways.into_iter().chain(around).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn is_taken(name: &str, value: &str) -> bool {
    let locale = name.strip_prefix("LC_").is_some_and(|rest| {
        !rest.is_empty()
            && rest.len() <= 32
            && rest.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
    });
    (locale || matches!(name, "TERM" | "COLORTERM" | "LANG")) && is_plain(value)
}

/// `[A-Za-z0-9][A-Za-z0-9_.@+-]*`: every locale and terminal name, no path, no shell syntax, no terminfo outside the system's.
fn is_plain(value: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.@+-".contains(&byte);
    value.len() <= VALUE_MAX
        && value.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && value.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn account() -> Account {
        Account { name: "jo".into(), home: "/home/jo".into(), shell: "/bin/bash".into() }
    }

    #[test]
    fn ai_07_the_environment_is_the_list_and_nothing_else() {
        let env = environment(&account(), Uuid::nil(), &BTreeMap::new(), None);
        let expected = [
            ("COLORTERM", "truecolor"),
            ("HOME", "/home/jo"),
            ("LANG", "C.UTF-8"),
            ("LOGNAME", "jo"),
            ("PATH", PATH_USER),
            ("REXEC_SESSION", "00000000-0000-0000-0000-000000000000"),
            ("SHELL", "/bin/bash"),
            ("TERM", "xterm-256color"),
            ("USER", "jo"),
        ];
        let got: Vec<_> = env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(got, expected);
    }

    #[test]
    fn a_viewer_chooses_its_terminal_and_its_locale() {
        let asked =
            [("LANG", "de_DE.UTF-8"), ("LC_TIME", "C"), ("TERM", "xterm-kitty"), ("LC_EVIL", "$(id)")];
        let asked = asked.into_iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        let env = environment(&account(), Uuid::nil(), &asked, Some("fr_FR.UTF-8"));
        assert_eq!(env["LANG"], "de_DE.UTF-8");
        assert_eq!(env["LC_TIME"], "C");
        assert_eq!(env["TERM"], "xterm-kitty");
        assert!(!env.contains_key("LC_EVIL"));
    }

    proptest! {
        #[test]
        fn lo_02_no_asked_name_or_value_can_execute_anything(name in "[A-Z_]{1,12}|LD_PRELOAD|BASH_ENV|PATH", value in ".{0,80}") {
            let asked = [(name.clone(), value.clone())].into_iter().collect();
            let plain = environment(&account(), Uuid::nil(), &BTreeMap::new(), None);
            let env = environment(&account(), Uuid::nil(), &asked, None);
            for (key, got) in env.iter().filter(|(key, got)| plain.get(*key) != Some(got)) {
                prop_assert!(key.starts_with("LC_") || ["TERM", "COLORTERM", "LANG"].contains(&key.as_str()));
                prop_assert!(got.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.@+-".contains(&byte)));
            }
        }
    }
}
