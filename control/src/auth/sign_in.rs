//! How many passwords may be tried (THREATS BU-06).
//!
//! Three budgets at once: per account and network, per account, per network. The account's own budget makes guessing slow
//! from any number of addresses, and never locks: it comes back by itself, and a network from which the person has signed in
//! before does not draw on it, so nobody can keep the person out by guessing.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::client_ip::ClientIp;
use super::identifier::EmailKey;
use super::rate::{Budgets, Rate};

/// From one network against one account.
const PAIR: Rate = Rate { burst: 5, every: Duration::from_secs(360) };
/// Against one account from everywhere new: at most 20 in any hour.
const ACCOUNT: Rate = Rate { burst: 10, every: Duration::from_secs(360) };
/// From one network against everybody.
const NET: Rate = Rate { burst: 30, every: Duration::from_secs(20) };
/// Keys each budget remembers: some 20 MiB at the very most.
const KEYS_MAX: usize = 65_536;

/// The budgets of sign-in attempts.
#[derive(Debug)]
pub struct SignInLimits {
    budgets: Mutex<Three>,
}

#[derive(Debug)]
struct Three {
    pair: Budgets<(EmailKey, String)>,
    account: Budgets<EmailKey>,
    net: Budgets<String>,
}

/// One attempt at an account.
#[derive(Debug, Clone)]
pub struct Attempt {
    account: EmailKey,
    net: String,
    familiar: bool,
}

impl Attempt {
    /// An attempt at `account` from `ip`; `familiar` when its person has signed in from that network before.
    pub fn new(account: EmailKey, ip: ClientIp, familiar: bool) -> Self {
        Self { account, net: ip.net(), familiar }
    }

    fn pair(&self) -> (EmailKey, String) {
        (self.account.clone(), self.net.clone())
    }
}

impl Default for SignInLimits {
    fn default() -> Self {
        let pair = Budgets::new(PAIR, KEYS_MAX);
        let account = Budgets::new(ACCOUNT, KEYS_MAX);
        let net = Budgets::new(NET, KEYS_MAX);
        Self { budgets: Mutex::new(Three { pair, account, net }) }
    }
}

impl SignInLimits {
    /// Admits `attempt` before its password is looked at.
    ///
    /// # Errors
    /// With the time to wait; nothing is spent then.
    pub fn admit(&self, attempt: &Attempt, now: Instant) -> Result<(), Duration> {
        let mut three = self.budgets.lock().unwrap_or_else(PoisonError::into_inner);
        let account =
            if attempt.familiar { Duration::ZERO } else { three.account.wait(&attempt.account, now) };
        let wait = account.max(three.pair.wait(&attempt.pair(), now)).max(three.net.wait(&attempt.net, now));
        if !wait.is_zero() {
            return Err(wait);
        }
        three.net.spend(attempt.net.clone(), now)?;
        three.pair.spend(attempt.pair(), now)?;
        if attempt.familiar { Ok(()) } else { three.account.spend(attempt.account.clone(), now) }
    }

    /// Takes back what an attempt spent whose password was right, and forgives the wrong ones before it.
    pub fn succeeded(&self, attempt: &Attempt) {
        self.was_not_looked_at(attempt);
        let mut three = self.budgets.lock().unwrap_or_else(PoisonError::into_inner);
        three.pair.forgive(&attempt.pair());
    }

    /// Takes back what an attempt spent whose password was not looked at after all.
    pub fn was_not_looked_at(&self, attempt: &Attempt) {
        let mut three = self.budgets.lock().unwrap_or_else(PoisonError::into_inner);
        three.pair.give_back(&attempt.pair());
        three.net.give_back(&attempt.net);
        if !attempt.familiar {
            three.account.give_back(&attempt.account);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(address: u32, account: &str, familiar: bool) -> Attempt {
        Attempt::new(EmailKey::of(account), ClientIp(std::net::Ipv4Addr::from_bits(address).into()), familiar)
    }

    #[test]
    fn bu_06_ten_thousand_guesses_from_anywhere_are_at_most_twenty_an_hour() {
        let (limits, start) = (SignInLimits::default(), Instant::now());
        let admitted = (0..10_000u32)
            .filter(|i| {
                let now = start + Duration::from_millis(u64::from(*i) * 360);
                let account = if i % 2 == 0 { "bob@x.org" } else { " BOB@x.org" };
                limits.admit(&from(*i, account, false), now).is_ok()
            })
            .count();
        assert!(admitted <= 20, "{admitted}");
        assert!(
            limits.admit(&from(77_777, "bob@x.org", true), start + Duration::from_secs(3600)).is_ok(),
            "the person still gets in"
        );
    }

    #[test]
    fn bu_06_one_network_cannot_try_every_account() {
        let (limits, now) = (SignInLimits::default(), Instant::now());
        let admitted =
            (0..1_000).filter(|i| limits.admit(&from(1, &format!("{i}@x.org"), false), now).is_ok()).count();
        assert_eq!(admitted, 30);
    }

    #[test]
    fn bu_06_attempts_turned_away_before_the_password_cost_nothing() {
        let (limits, now) = (SignInLimits::default(), Instant::now());
        let attempt = from(1, "a@x.org", false);
        for _ in 0..100 {
            assert_eq!(limits.admit(&attempt, now), Ok(()));
            limits.was_not_looked_at(&attempt);
        }
        let wrong = (0..100).filter(|_| limits.admit(&attempt, now).is_ok()).count();
        assert_eq!(wrong, 5, "nor do they give any more");
    }

    #[test]
    fn a_person_who_signs_in_all_day_is_never_slowed_down() {
        let (limits, now) = (SignInLimits::default(), Instant::now());
        for _ in 0..100 {
            let attempt = from(1, "a@x.org", false);
            assert_eq!(limits.admit(&attempt, now), Ok(()));
            limits.succeeded(&attempt);
        }
    }
}
