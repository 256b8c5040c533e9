//! Device approval (RFC 8628): an agent shows a short code, a person approves it, the agent collects a join token, once.

use std::time::Duration;

use rexec_shared::enrol::{DevicePollAnswer, DeviceRequest, DeviceStatus};
use sea_orm::sea_query::{Expr, LockType};
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait as _,
    PaginatorTrait as _, QueryFilter as _, QuerySelect as _, Set,
};
use uuid::Uuid;

use crate::app::App;
use crate::audit::{self, Deed};
use crate::auth::client_ip::ClientIp;
use crate::auth::rate::Rate;
use crate::auth::signed_in::SignedIn;
use crate::db;
use crate::enrolment::{self, NewJoinToken};
use crate::entity::{DeviceState, device_request, installation};
use crate::error::ApiError;
use crate::limits::{DEVICE_JOIN_LIFE, DEVICE_LIFE, DEVICE_WAITING_MAX, DEVICE_WAITING_PER_NET};
use crate::scope::Scope;
use crate::secret::{NoRandomness, Purpose, Secret, fresh_token, random};
use crate::time::Timestamp;
use crate::words::{self, NAME_GRAMMAR};

/// Wrong codes a person may try.
pub const TRIES: Rate = Rate { burst: 20, every: Duration::from_secs(30) };

/// Letters of a user code (RFC 8628 §6.1): no vowels, so no words; nothing that looks like a digit.
const ALPHABET: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
/// Letters of a user code, without the dash.
const CODE_LENGTH: usize = 8;
/// Longest fingerprint that is kept: `SHA256:` and 43 characters.
const FINGERPRINT_MAX: usize = 64;

/// A user code as it is typed, sent and looked up: eight letters of the alphabet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserCode(String);

impl UserCode {
    /// Reads whatever a person typed: case, dashes and spaces do not matter.
    pub fn parse(typed: &str) -> Option<Self> {
        let letters: String = typed
            .chars()
            .take(4 * CODE_LENGTH)
            .filter(|c| !c.is_whitespace() && *c != '-')
            .map(|c| c.to_ascii_uppercase())
            .collect();
        let is_code =
            letters.len() == CODE_LENGTH && letters.bytes().all(|letter| ALPHABET.contains(&letter));
        is_code.then_some(Self(letters))
    }

    fn fresh() -> Result<Self, NoRandomness> {
        let mut letters = String::with_capacity(CODE_LENGTH);
        while letters.len() < CODE_LENGTH {
            let [byte] = random::<1>()?;
            // 240 is the largest multiple of 20 in a byte: above it the letters would not be equally likely.
            if let (true, Some(letter)) = (byte < 240, ALPHABET.get(usize::from(byte % 20))) {
                letters.push(char::from(*letter));
            }
        }
        Ok(Self(letters))
    }

    /// As it is shown: `BCDF-GHJK`.
    pub fn shown(&self) -> String {
        let (left, right) = self.0.split_at(CODE_LENGTH / 2);
        format!("{left}-{right}")
    }
}

/// The two codes of a request.
#[derive(Debug)]
pub struct Codes {
    /// What the agent polls with.
    pub device: Secret<String>,
    /// What the person types.
    pub user: UserCode,
}

/// Writes down that an agent waits for a decision.
///
/// # Errors
/// When too many wait already.
pub async fn request(app: &App, request: &DeviceRequest, ip: ClientIp) -> Result<Codes, ApiError> {
    if !words::is_name(&request.name) {
        return Err(ApiError::invalid("name", format!("a name is {NAME_GRAMMAR}")));
    }
    let (tx, now) = (db::write(app.db()).await?, app.now());
    check_room(&tx, ip, now).await?;
    let codes = Codes { device: fresh_token("rexec_device_")?, user: UserCode::fresh()? };
    let facts = enrolment::tamed(&request.facts);
    let row = device_request::ActiveModel {
        id: Set(Uuid::now_v7()),
        device_mac: Set(app.vault().mac(Purpose::DeviceCode, codes.device.expose())),
        user_mac: Set(app.vault().mac(Purpose::UserCode, &codes.user.0)),
        name: Set(request.name.clone()),
        os: Set(facts.os),
        arch: Set(facts.arch),
        hostname: Set(facts.hostname),
        agent_version: Set(facts.agent_version),
        key_fingerprint: Set(words::printable(&request.key_fingerprint, FINGERPRINT_MAX)),
        ip: Set(ip.to_string()),
        net: Set(ip.net()),
        state: Set(DeviceState::Pending),
        organisation_id: Set(None),
        decided_by: Set(None),
        created_at: Set(now),
        expires_at: Set(now.plus(DEVICE_LIFE)),
    };
    row.insert(&tx).await?;
    tx.commit().await?;
    Ok(codes)
}

/// Holds everybody else who asks back until the transaction ends, so that of many at once none is counted out (THREATS BU-09).
async fn check_room(tx: &DatabaseTransaction, ip: ClientIp, now: Timestamp) -> Result<(), ApiError> {
    installation::Entity::find().lock(LockType::NoKeyUpdate).one(tx).await?;
    let waiting = waiting(now);
    let from_here = waiting.clone().filter(device_request::Column::Net.eq(ip.net())).count(tx).await?;
    if from_here >= DEVICE_WAITING_PER_NET || waiting.count(tx).await? >= DEVICE_WAITING_MAX {
        return Err(ApiError::rate_limited(Duration::from_secs(60)));
    }
    Ok(())
}

fn waiting(now: Timestamp) -> sea_orm::Select<device_request::Entity> {
    device_request::Entity::find()
        .filter(device_request::Column::State.eq(DeviceState::Pending))
        .filter(device_request::Column::ExpiresAt.gt(now))
}

/// The request that waits under `code`. Wrong codes draw on the person's budget of tries.
///
/// # Errors
/// 404 when none waits, 429 when too many wrong ones were tried.
pub async fn find(
    app: &App,
    caller: &SignedIn,
    code: &str,
) -> Result<(device_request::Model, UserCode), ApiError> {
    let now = std::time::Instant::now();
    let tries = || app.parts().code_tries.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    tries().spend(caller.person.id, now).map_err(ApiError::rate_limited)?;
    let no_such =
        || ApiError::not_found("code").hint("codes end after ten minutes: start the registration again");
    let code = UserCode::parse(code).ok_or_else(no_such)?;
    let row = waiting(app.now())
        .filter(device_request::Column::UserMac.eq(app.vault().mac(Purpose::UserCode, &code.0)))
        .one(app.db())
        .await?;
    let row = row.ok_or_else(no_such)?;
    tries().give_back(&caller.person.id);
    Ok((row, code))
}

/// Writes a person's decision down; of two decisions at once, one counts.
///
/// # Errors
/// 404 when the request does not wait any more.
pub async fn decide(
    app: &App,
    caller: &SignedIn,
    row: &device_request::Model,
    approve: bool,
) -> Result<(), ApiError> {
    let (state, action) = if approve {
        (DeviceState::Approved, "device.approve")
    } else {
        (DeviceState::Denied, "device.deny")
    };
    let tx = db::write(app.db()).await?;
    let decided = device_request::Entity::update_many()
        .col_expr(device_request::Column::State, Expr::value(state))
        .col_expr(device_request::Column::OrganisationId, Expr::value(caller.organisation.id))
        .col_expr(device_request::Column::DecidedBy, Expr::value(caller.person.id))
        .filter(device_request::Column::Id.eq(row.id))
        .filter(device_request::Column::State.eq(DeviceState::Pending))
        .exec(&tx)
        .await?;
    if decided.rows_affected == 0 {
        return Err(ApiError::not_found("code").hint("somebody has decided it already"));
    }
    let deed =
        Deed::new(action, &row.name).with(serde_json::json!({ "key_fingerprint": row.key_fingerprint }));
    audit::append(&tx, caller.scope(), app.now(), &caller.actor(), deed).await?;
    Ok(tx.commit().await?)
}

/// What the agent that polls with `code` is told.
///
/// # Errors
/// When the database fails.
pub async fn poll(app: &App, code: &str) -> Result<DevicePollAnswer, ApiError> {
    let only = |status| Ok(DevicePollAnswer { status, join_token: None });
    let mac = app.vault().mac(Purpose::DeviceCode, code);
    let found = device_request::Entity::find()
        .filter(device_request::Column::DeviceMac.eq(mac))
        .one(app.db())
        .await?;
    let Some(row) = found.filter(|row| app.now() < row.expires_at) else {
        return only(DeviceStatus::Expired);
    };
    match row.state {
        DeviceState::Pending => only(DeviceStatus::Pending),
        DeviceState::Denied => only(DeviceStatus::Denied),
        DeviceState::Collected => only(DeviceStatus::Expired),
        DeviceState::Approved => match collect(app, row).await? {
            Some(token) => Ok(DevicePollAnswer {
                status: DeviceStatus::Approved,
                join_token: Some(token.expose().clone()),
            }),
            None => only(DeviceStatus::Expired),
        },
    }
}

/// Makes the join token, for this one key and for whoever collects first.
async fn collect(app: &App, row: device_request::Model) -> Result<Option<Secret<String>>, ApiError> {
    let (Some(organisation), Some(approver)) = (row.organisation_id, row.decided_by) else { return Ok(None) };
    let (tx, now) = (db::write(app.db()).await?, app.now());
    let collected = device_request::Entity::update_many()
        .col_expr(device_request::Column::State, Expr::value(DeviceState::Collected))
        .filter(device_request::Column::Id.eq(row.id))
        .filter(device_request::Column::State.eq(DeviceState::Approved))
        .exec(&tx)
        .await?;
    if collected.rows_affected == 0 {
        return Ok(None);
    }
    let new = NewJoinToken {
        label: format!("approved for {}", row.name),
        life: DEVICE_JOIN_LIFE,
        uses: 1,
        made_by: approver,
        key_fingerprint: Some(row.key_fingerprint),
        machine: None,
    };
    let (_, token) = enrolment::make_join_token(&tx, app.vault(), Scope::of(organisation), new, now).await?;
    tx.commit().await?;
    Ok(Some(token))
}

/// Forgets requests whose time has passed.
///
/// # Errors
/// When the database fails.
pub async fn forget_old<C: ConnectionTrait>(db: &C, now: Timestamp) -> Result<(), DbErr> {
    device_request::Entity::delete_many()
        .filter(device_request::Column::ExpiresAt.lte(now))
        .exec(db)
        .await
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_read_however_it_is_typed() {
        let code = UserCode::parse("BCDF-GHJK").expect("a code");
        for typed in ["bcdf-ghjk", "BCDFGHJK", " bcdf ghjk ", "b-c-d-f-g-h-j-k"] {
            assert_eq!(UserCode::parse(typed), Some(code.clone()), "{typed}");
        }
        for wrong in ["", "BCDF-GHJ", "BCDF-GHJKL", "ABCD-EFGH", "BCDF-GHJ1"] {
            assert_eq!(UserCode::parse(wrong), None, "{wrong}");
        }
        assert_eq!(code.shown(), "BCDF-GHJK");
    }

    #[test]
    fn fresh_codes_are_codes() {
        for _ in 0..100 {
            let code = UserCode::fresh().expect("randomness");
            assert_eq!(UserCode::parse(&code.shown()), Some(code));
        }
    }
}
