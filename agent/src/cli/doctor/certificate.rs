//! The machine's certificate: good now, ours, of the pinned authority, and when it is renewed.

use std::ops::RangeInclusive;

use rexec_shared::limits::{CERT_LIFE, CERT_RENEW};
use rexec_shared::pki::{self, MachineName};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::report::Check;
use crate::cli::Profile;
use crate::cli::status::ago;
use crate::clock::unix_ms;
use crate::state::Registration;
use crate::uplink::tls::{self, Secured};

const NAME: &str = "certificate";
/// How much later than it is due a renewal may come, seconds: the agent tries every five minutes at least.
const LATE: i64 = 3600;

/// What the tunnel is secured with, if it can be, and how it fares.
pub(super) fn check(profile: &Profile, registration: &Registration) -> (Option<Secured>, Check) {
    match read(profile, registration) {
        Ok((secured, validity)) => {
            let now = i64::try_from(unix_ms() / 1000).unwrap_or(i64::MAX);
            (Some(secured), judge(&validity, now))
        }
        Err(found) => {
            let hint = "`rexec-agent stop`, `rexec-agent unregister --local`, then register anew";
            (None, Check::failed(NAME, found).hint(hint))
        }
    }
}

fn read(profile: &Profile, registration: &Registration) -> Result<(Secured, RangeInclusive<i64>), String> {
    let key = profile.key().map_err(|error| error.to_string())?;
    let pem = profile.certificate().map_err(|error| error.to_string())?;
    let ca = &registration.tunnel.ca;
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| "it is not PEM")?;
    let ours = MachineName { org: registration.org, machine: registration.machine };
    if MachineName::from_certificate(&der).map_err(|error| error.to_string())? != ours {
        return Err("it names another machine than the registration".into());
    }
    let secured = tls::client_config(ca, &pem, &key)
        .and_then(Secured::new)
        .map_err(|error| format!("it does not belong to this machine's key: {error}"))?;
    let validity = pki::validity(&der).map_err(|error| error.to_string())?;
    let last = u64::try_from(*validity.end()).unwrap_or_default();
    tls::check_issuer(ca, &pem, last)
        .map_err(|error| format!("it is not of the authority pinned at enrolment: {error}"))?;
    Ok((secured, validity))
}

fn judge(validity: &RangeInclusive<i64>, now: i64) -> Check {
    let (begin, end) = (*validity.start(), *validity.end());
    let due = end.saturating_sub_unsigned((CERT_LIFE - CERT_RENEW).as_secs());
    let span = |from: i64, to: i64| ago(u64::try_from(to.saturating_sub(from)).unwrap_or_default());
    let check = if now < begin {
        Check::failed(NAME, format!("it is good in {} only", span(now, begin)))
            .hint("set this machine's clock, which is behind")
    } else if now >= end {
        Check::failed(NAME, format!("it ended {} ago", span(end, now)))
            .hint("start the agent, or leave it running: it renews as soon as the server answers")
    } else if now >= due.saturating_add(LATE) {
        Check::warning(
            NAME,
            format!("good for {}, renewal is overdue for {}", span(now, end), span(due, now)),
        )
        .hint("start the agent, or leave it running: it renews as soon as the server answers")
    } else if now >= due {
        Check::ok(NAME, format!("good for {}, renewal is due", span(now, end)))
    } else {
        let found = format!("good for {}, renewed in {}", span(now, end), span(now, due));
        Check::ok(NAME, format!("{found}; it is of the pinned authority and of this machine's key"))
    };
    check.fact("from", begin).fact("until", end).fact("renewal_due", due)
}

#[cfg(test)]
mod tests {
    use super::super::report::Verdict;
    use super::*;

    #[test]
    fn a_certificate_is_judged_by_its_times() {
        let issued = 1_795_000_000i64;
        let life = i64::try_from(CERT_LIFE.as_secs()).unwrap();
        let verdict = |hours: i64| judge(&(issued - 300..=issued + life), issued + hours * 3600).verdict;
        assert_eq!(verdict(-1), Verdict::Failed, "the clock is behind");
        assert_eq!([verdict(0), verdict(8)], [Verdict::Ok; 2]);
        assert_eq!([verdict(9), verdict(23)], [Verdict::Warning; 2]);
        assert_eq!([verdict(24), verdict(24 * 300)], [Verdict::Failed; 2]);
        assert_eq!(judge(&(0..=i64::MAX), i64::MIN).verdict, Verdict::Failed);
        assert_eq!(judge(&(i64::MIN..=i64::MIN), i64::MAX).verdict, Verdict::Failed);
    }
}
