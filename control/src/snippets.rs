//! Snippets: pieces of command line that people keep. A person's own are theirs alone; shared ones are everybody's in the
//! organisation, to use, and its owners' and admins' to change, because others run them in their shells.
//!
//! Control keeps the text and does not look into it: `{{name}}` and `{{name=default}}` mean something to the web app only.

use rexec_shared::text::is_shown;
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, Condition, ConnectionTrait, DatabaseTransaction, DbErr,
    EntityTrait as _, IntoActiveModel as _, PaginatorTrait as _, QueryFilter as _, QueryOrder as _, Select,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::auth::signed_in::{Right, SignedIn};
use crate::entity::snippet::{Column, Entity, Model};
use crate::error::ApiError;
use crate::limits::{SNIPPET_BODY_MAX, SNIPPET_DESCRIPTION_MAX, SNIPPET_NAME_MAX, SNIPPETS_MAX};
use crate::time::Timestamp;

/// A snippet as people and programs see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Snippet {
    /// Its id.
    pub id: Uuid,
    /// What people find it by.
    pub name: String,
    /// What it is for; may be empty.
    pub description: String,
    /// What is put into the terminal. `{{name}}` and `{{name=default}}` are asked for before that.
    pub body: String,
    /// Everybody in the organisation sees it.
    pub shared: bool,
    /// When it was last written.
    pub changed_at: Timestamp,
}

impl From<Model> for Snippet {
    fn from(row: Model) -> Self {
        Self {
            id: row.id,
            name: row.name,
            description: row.description,
            body: row.body,
            shared: row.shared,
            changed_at: row.changed_at,
        }
    }
}

/// What a snippet says.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub struct Words {
    /// 1 to 80 characters on one line; no other snippet of the same kind has it.
    pub name: String,
    /// Up to 200 characters on one line.
    #[serde(default)]
    pub description: String,
    /// 1 to 8192 bytes; of the characters nobody sees, line ends and tabs only.
    pub body: String,
}

impl Words {
    /// As they are kept: without blanks around a name, with one kind of line end.
    ///
    /// # Errors
    /// Names the field at fault, behind `at`, where more than one snippet is looked at.
    pub fn checked(self, at: &str) -> Result<Self, ApiError> {
        let name = line(&self.name, SNIPPET_NAME_MAX, &format!("{at}name"))?;
        if name.is_empty() {
            return Err(ApiError::invalid(&format!("{at}name"), "a snippet has a name"));
        }
        let description = line(&self.description, SNIPPET_DESCRIPTION_MAX, &format!("{at}description"))?;
        Ok(Self { name, description, body: body(&self.body, &format!("{at}body"))? })
    }
}

fn line(said: &str, max: usize, field: &str) -> Result<String, ApiError> {
    let said = said.trim();
    if said.chars().count() > max {
        return Err(ApiError::invalid(field, format!("longer than {max} characters")));
    }
    if let Some(at) = said.chars().position(|c| !is_shown(c)) {
        return Err(ApiError::invalid(field, format!("character {} is one that nobody sees", at + 1)));
    }
    Ok(said.to_owned())
}

fn body(said: &str, field: &str) -> Result<String, ApiError> {
    let said = said.replace("\r\n", "\n");
    if said.trim().is_empty() {
        return Err(ApiError::invalid(field, "a snippet is not empty"));
    }
    if said.len() > SNIPPET_BODY_MAX {
        return Err(ApiError::invalid(field, format!("longer than {SNIPPET_BODY_MAX} bytes")));
    }
    for (number, line) in said.split('\n').enumerate() {
        if let Some(at) = line.chars().position(|c| c != '\t' && !is_shown(c)) {
            let place = format!("line {}, character {} is one that nobody sees", number + 1, at + 1);
            return Err(ApiError::invalid(field, place).hint("take it out: a shell would act on it unseen"));
        }
    }
    Ok(said)
}

/// What `caller` sees: their own and the shared.
pub fn seen_by(caller: &SignedIn) -> Select<Entity> {
    let own = Condition::any().add(Column::Shared.eq(true)).add(Column::PersonId.eq(caller.person.id));
    caller.scope().rows::<Entity>().filter(own)
}

/// Those of one kind: the shared, or the caller's own.
fn of_kind(caller: &SignedIn, shared: bool) -> Select<Entity> {
    let rows = caller.scope().rows::<Entity>().filter(Column::Shared.eq(shared));
    if shared { rows } else { rows.filter(Column::PersonId.eq(caller.person.id)) }
}

/// # Errors
/// When it is shared and the caller may not write what others run.
pub fn demand_writable(caller: &SignedIn, shared: bool) -> Result<(), ApiError> {
    if shared { caller.demand(Right::ShareSnippets) } else { Ok(()) }
}

/// Everything the caller sees, by name.
///
/// # Errors
/// When the database fails.
pub async fn all_of<C: ConnectionTrait>(db: &C, caller: &SignedIn) -> Result<Vec<Snippet>, DbErr> {
    let rows = seen_by(caller).order_by_asc(Column::Name).order_by_asc(Column::Id).all(db).await?;
    Ok(rows.into_iter().map(Snippet::from).collect())
}

/// One that the caller sees.
///
/// # Errors
/// When there is none, or the database fails.
pub async fn find<C: ConnectionTrait>(db: &C, caller: &SignedIn, id: Uuid) -> Result<Model, ApiError> {
    let found = seen_by(caller).filter(Column::Id.eq(id)).one(db).await?;
    found.ok_or_else(|| ApiError::not_found("snippet"))
}

/// Makes a new one. The caller holds the organisation's lock, so that names and numbers hold.
///
/// # Errors
/// When its name is taken or there are too many.
pub async fn make(
    tx: &DatabaseTransaction,
    caller: &SignedIn,
    shared: bool,
    words: Words,
    now: Timestamp,
) -> Result<Model, ApiError> {
    demand_free(tx, caller, shared, &words.name, None).await?;
    if of_kind(caller, shared).count(tx).await? >= SNIPPETS_MAX {
        let whose = if shared { "an organisation shares" } else { "a person has" };
        return Err(ApiError::limit_reached(format!("{whose} at most {SNIPPETS_MAX} snippets"))
            .hint("delete one that is not needed any more"));
    }
    let row = Model {
        id: Uuid::now_v7(),
        organisation_id: caller.organisation.id,
        person_id: caller.person.id,
        shared,
        name: words.name,
        description: words.description,
        body: words.body,
        created_at: now,
        changed_at: now,
    };
    Entity::insert(row.clone().into_active_model().reset_all()).exec_without_returning(tx).await?;
    Ok(row)
}

/// Writes one that is there. The caller holds the organisation's lock.
///
/// # Errors
/// When its new name is taken.
pub async fn write(
    tx: &DatabaseTransaction,
    caller: &SignedIn,
    row: Model,
    words: Words,
    now: Timestamp,
) -> Result<Model, ApiError> {
    demand_free(tx, caller, row.shared, &words.name, Some(row.id)).await?;
    let row =
        Model { name: words.name, description: words.description, body: words.body, changed_at: now, ..row };
    Entity::update(row.clone().into_active_model().reset_all()).exec(tx).await?;
    Ok(row)
}

/// Makes it, or writes the one of the same name. Says whether it is new.
///
/// # Errors
/// When there are too many.
pub async fn put(
    tx: &DatabaseTransaction,
    caller: &SignedIn,
    shared: bool,
    words: Words,
    now: Timestamp,
) -> Result<bool, ApiError> {
    match of_kind(caller, shared).filter(Column::Name.eq(&words.name)).one(tx).await? {
        Some(row) => write(tx, caller, row, words, now).await.map(|_| false),
        None => make(tx, caller, shared, words, now).await.map(|_| true),
    }
}

async fn demand_free(
    tx: &DatabaseTransaction,
    caller: &SignedIn,
    shared: bool,
    name: &str,
    own: Option<Uuid>,
) -> Result<(), ApiError> {
    let other = of_kind(caller, shared).filter(Column::Name.eq(name)).one(tx).await?;
    match other {
        Some(row) if Some(row.id) != own => {
            Err(ApiError::invalid("name", "another snippet has this name").hint("choose another"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(name: &str, body: &str) -> Words {
        Words { name: name.to_owned(), description: String::new(), body: body.to_owned() }
    }

    #[test]
    fn out_08_a_snippet_holds_nothing_that_acts_unseen() {
        for (body, place) in [
            ("ls\u{1b}[201~", "line 1, character 3"),
            ("a\nb\u{7}", "line 2, character 2"),
            ("echo \u{202e}x", "line 1, character 6"),
            ("a\rb", "line 1, character 2"),
        ] {
            let error = words("x", body).checked("").expect_err(body);
            assert_eq!(error.problem("r").field.as_deref(), Some("body"));
            assert!(error.to_string().starts_with(place), "{error}");
        }
        assert!(words("x\u{1b}", "ls").checked("").is_err());
    }

    #[test]
    fn a_snippet_is_kept_with_one_kind_of_line_end_and_no_blanks_around_its_name() {
        let kept = words("  logs ", "a\r\n\tb\n").checked("").expect("fine");
        assert_eq!((kept.name.as_str(), kept.body.as_str()), ("logs", "a\n\tb\n"));
    }

    #[test]
    fn a_fault_in_a_list_names_its_place() {
        let error = words("", "ls").checked("snippets[3].").expect_err("no name");
        assert_eq!(error.problem("r").field.as_deref(), Some("snippets[3].name"));
        let long = "x".repeat(SNIPPET_BODY_MAX + 1);
        let error = words("a", &long).checked("snippets[0].").expect_err("too long");
        assert_eq!(error.problem("r").field.as_deref(), Some("snippets[0].body"));
    }
}
