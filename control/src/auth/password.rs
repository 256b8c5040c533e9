//! Passwords: argon2id, a bounded number at a time.

use std::sync::Arc;

use argon2::password_hash::phc::PasswordHash as Phc;
use argon2::{Argon2, PasswordHasher as _, PasswordVerifier as _};
use tokio::sync::{Semaphore, SemaphorePermit, TryAcquireError};

use crate::entity::PasswordHash;
use crate::error::ApiError;
use crate::limits::{PASSWORD_CHECKS, PASSWORD_MAX, PASSWORD_MIN, PASSWORD_QUEUE};
use crate::secret::Secret;

/// Hashes and checks passwords, few at a time: 19 MiB and one core each (OWASP's parameters, the library's default).
#[derive(Debug, Clone)]
pub struct Passwords {
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    /// Checked when there is no such account, so that it takes as long as one that exists.
    decoy: Arc<PasswordHash>,
}

/// A password that could not be hashed or checked.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// Too many at once.
    #[error("too many passwords are being checked")]
    Busy,
    /// The library refused.
    #[error("password hashing: {0}")]
    Hashing(#[from] argon2::password_hash::Error),
    /// The process is ending.
    #[error("password hashing was cut short")]
    Ending,
}

impl From<PasswordError> for ApiError {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::Busy => Self::rate_limited(std::time::Duration::from_secs(1)),
            PasswordError::Hashing(_) | PasswordError::Ending => Self::internal(error),
        }
    }
}

impl Passwords {
    /// # Errors
    /// When the system has no randomness for a salt.
    pub fn new() -> Result<Self, PasswordError> {
        Ok(Self {
            running: Arc::new(Semaphore::new(PASSWORD_CHECKS)),
            waiting: Arc::new(Semaphore::new(PASSWORD_CHECKS + PASSWORD_QUEUE)),
            decoy: Arc::new(hash_now("a password that nobody has")?),
        })
    }

    /// Hashes a new password.
    ///
    /// # Errors
    /// When too many are at it already.
    pub async fn hash(&self, password: Secret<String>) -> Result<PasswordHash, PasswordError> {
        let _turn = self.turn().await?;
        tokio::task::spawn_blocking(move || hash_now(password.expose()))
            .await
            .map_err(|_| PasswordError::Ending)?
    }

    /// Whether `password` is the one behind `hash`; without a hash it is not, after as long a time.
    ///
    /// # Errors
    /// When too many are at it already.
    pub async fn check(
        &self,
        password: Secret<String>,
        hash: Option<PasswordHash>,
    ) -> Result<bool, PasswordError> {
        let _turn = self.turn().await?;
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| (*self.decoy).clone());
        let right = tokio::task::spawn_blocking(move || matches(password.expose(), &hash))
            .await
            .map_err(|_| PasswordError::Ending)?;
        Ok(right && known)
    }

    async fn turn(&self) -> Result<(SemaphorePermit<'_>, SemaphorePermit<'_>), PasswordError> {
        let waiting = self.waiting.try_acquire().map_err(|error| match error {
            TryAcquireError::NoPermits => PasswordError::Busy,
            TryAcquireError::Closed => PasswordError::Ending,
        })?;
        let running = self.running.acquire().await.map_err(|_| PasswordError::Ending)?;
        Ok((waiting, running))
    }
}

fn hash_now(password: &str) -> Result<PasswordHash, PasswordError> {
    Ok(PasswordHash(Argon2::default().hash_password(password.as_bytes())?.to_string()))
}

fn matches(password: &str, hash: &PasswordHash) -> bool {
    Phc::new(&hash.0).is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
}

/// Whether a new password will do.
///
/// # Errors
/// With what is wrong, for the person.
pub fn check_new(password: &str, email: &str) -> Result<(), String> {
    if password.chars().count() < PASSWORD_MIN {
        return Err(format!(
            "a password has at least {PASSWORD_MIN} characters; a few words in a row are a good one"
        ));
    }
    if password.len() > PASSWORD_MAX {
        return Err(format!("a password has at most {PASSWORD_MAX} bytes"));
    }
    let lower = password.to_lowercase();
    let mut letters = lower.chars().collect::<Vec<_>>();
    letters.sort_unstable();
    letters.dedup();
    if letters.len() < 4 {
        return Err("a password of so few different characters is guessed at once".to_owned());
    }
    let local = email.split('@').next().unwrap_or_default().to_lowercase();
    let is_known = KNOWN.iter().any(|known| lower == *known) || lower == email.to_lowercase();
    let is_name = !local.is_empty()
        && lower.strip_prefix(&local).is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit()));
    if is_known || is_name {
        return Err("this password is among the first that anybody tries".to_owned());
    }
    Ok(())
}

/// The most common passwords that are long enough to pass otherwise.
const KNOWN: [&str; 12] = [
    "password1234",
    "password12345",
    "passwordpassword",
    "123456789012",
    "1234567890123",
    "qwertyuiop123",
    "qwertyuiopasdf",
    "administrator",
    "correcthorsebatterystaple",
    "letmeinletmein",
    "iloveyouiloveyou",
    "changemechangeme",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_matches_its_own_hash_and_no_other() {
        let passwords = Passwords::new().expect("randomness");
        let secret = |text: &str| Secret::new(text.to_owned());
        let hash = passwords.hash(secret("correct horse")).await.expect("hashed");
        assert!(hash.0.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", hash.0);
        assert!(passwords.check(secret("correct horse"), Some(hash.clone())).await.expect("checked"));
        assert!(!passwords.check(secret("wrong horse"), Some(hash)).await.expect("checked"));
        assert!(!passwords.check(secret("a password that nobody has"), None).await.expect("checked"));
    }

    #[test]
    fn in_02_weak_and_known_passwords_are_refused() {
        for weak in
            ["short", "aaaaaaaaaaaaaaa", "Password1234", "administrator", "ada@example.org", "adalovelace12"]
        {
            assert!(
                check_new(
                    weak,
                    if weak == "adalovelace12" { "adalovelace@example.org" } else { "ada@example.org" }
                )
                .is_err(),
                "{weak}"
            );
        }
        assert!(check_new("three small brown hens", "ada@example.org").is_ok());
        assert!(check_new(&"ab c d e f".repeat(200), "ada@example.org").is_err());
    }
}
