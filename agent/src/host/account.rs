//! The account that sessions run as: ours, as the password database tells it.

use std::path::PathBuf;
use std::process::Command;

use nix::unistd::{Uid, User};
use rexec_shared::sandbox::{HOME, SANDBOX_ENV};

/// What a login shell needs to know of its user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    /// Login name.
    pub(super) name: String,
    /// Home directory.
    pub(super) home: PathBuf,
    /// Login shell.
    pub(super) shell: PathBuf,
}

impl Account {
    /// The account of the running user.
    ///
    /// A static binary reads `/etc/passwd` but loads no NSS modules, so accounts of LDAP or SSSD are asked of `getent`; without
    /// either answer a POSIX shell in `/` is what is left.
    pub(super) fn of_this_process() -> Self {
        let account = Self::of_database();
        if std::env::var_os(SANDBOX_ENV).is_some() { account.in_sandbox() } else { account }
    }

    fn of_database() -> Self {
        let uid = Uid::effective();
        if let Ok(Some(user)) = User::from_uid(uid) {
            return Self::new(user.name, user.dir, user.shell);
        }
        getent(uid).unwrap_or_else(|| Self::new(uid.to_string(), PathBuf::new(), PathBuf::new()))
    }

    /// A sandbox's image may know no users and have any shell; its home is always the same.
    fn in_sandbox(self) -> Self {
        let shells =
            [self.shell, "/bin/bash".into(), "/usr/bin/bash".into(), "/bin/sh".into(), "/bin/ash".into()];
        let shell = shells.into_iter().find(|shell| is_executable(shell)).unwrap_or_else(|| "/bin/sh".into());
        let name = if self.name == "0" { "root".to_owned() } else { self.name };
        Self::new(name, HOME.into(), shell)
    }

    fn new(name: String, home: PathBuf, shell: PathBuf) -> Self {
        let home = if home.is_dir() { home } else { PathBuf::from("/") };
        let shell = if is_executable(&shell) { shell } else { PathBuf::from("/bin/sh") };
        Self { name, home, shell }
    }
}

/// Whether this user may execute the file.
pub(super) fn is_executable(path: &std::path::Path) -> bool {
    path.is_absolute() && path.is_file() && nix::unistd::access(path, nix::unistd::AccessFlags::X_OK).is_ok()
}

fn getent(uid: Uid) -> Option<Account> {
    let output = Command::new("getent").arg("passwd").arg(uid.to_string()).output().ok()?;
    parse_passwd(&String::from_utf8(output.stdout).ok()?)
}

fn parse_passwd(line: &str) -> Option<Account> {
    let mut fields = line.trim_end().split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    let home = fields.nth(4)?;
    let shell = fields.next()?;
    Some(Account::new(name.to_owned(), home.into(), shell.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_getent_is_an_account() {
        let account = parse_passwd("jo:*:1001:1001:Jo, Room 1:/:/bin/sh\n").unwrap();
        assert_eq!(account, Account { name: "jo".into(), home: "/".into(), shell: "/bin/sh".into() });
        assert_eq!(parse_passwd(""), None);
        assert_eq!(parse_passwd("jo:x"), None);
    }

    #[test]
    fn what_is_missing_falls_back_to_what_every_machine_has() {
        let account = Account::new("jo".into(), "/nowhere/at/all".into(), "/nowhere/shell".into());
        assert_eq!((account.home, account.shell), ("/".into(), "/bin/sh".into()));
    }
}
