//! The HTTP API, one file per resource. The OpenAPI document is made from these handlers and nothing else.

pub mod activity;
pub mod agent;
pub mod device;
pub mod events;
pub mod installation;
pub mod join_tokens;
pub mod logins;
pub mod machines;
pub mod me;
pub mod preferences;
pub mod previews;
pub mod samples;
pub mod sandbox_options;
pub mod sandbox_wish;
pub mod sandboxes;
pub mod setup;
pub mod snapshots;
pub mod snippets;
pub mod tickets;
pub mod volumes;

use axum::routing::any;
use utoipa::OpenApi;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, SecurityScheme};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouterExt as _};
use utoipa_axum::routes;

use crate::app::App;
use crate::error::Problem;

/// The document before the handlers add themselves.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Rexec control",
        description = "Accounts, machines and tickets. Every error is `application/problem+json`: see `Problem`. Changing requests that carry the login's cookie also carry the header `X-Rexec-Csrf: 1`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(Problem, events::Hello, events::MachineRemoved, events::SandboxRemoved, crate::samples::NewSamples, sandboxes::Home, preferences::PreferenceChanged, snippets::SnippetsChanged, previews::PreviewsChanged)),
    modifiers(&CookieLogin)
)]
struct Document;

/// Names the cookie as the way to sign in.
struct CookieLogin;

impl utoipa::Modify for CookieLogin {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let cookie = ApiKeyValue::with_description("rexec_login", "`__Host-rexec_login` behind https.");
        let components = document.components.get_or_insert_with(Default::default);
        components.add_security_scheme("login", SecurityScheme::ApiKey(ApiKey::Cookie(cookie)));
    }
}

/// Every route of the API, with its description.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(installation::get_installation))
        .routes(routes!(setup::create_owner).map(|post| post.merge(any(setup::other_method))))
        .routes(routes!(logins::create_login, logins::list_logins))
        .routes(routes!(logins::end_current_login))
        .routes(routes!(logins::end_login))
        .routes(routes!(me::get_me))
        .routes(routes!(preferences::list_preferences))
        .routes(routes!(preferences::put_preference))
        .routes(routes!(machines::list_machines))
        .routes(routes!(machines::get_machine, machines::change_machine, machines::remove_machine))
        .routes(routes!(machines::get_machine_broker))
        .routes(routes!(activity::list_activity))
        .routes(routes!(samples::list_samples))
        .routes(routes!(sandbox_options::get_sandbox_options))
        .routes(routes!(sandboxes::list_sandboxes, sandboxes::create_sandbox))
        .routes(routes!(sandboxes::get_sandbox, sandboxes::change_sandbox, sandboxes::delete_sandbox))
        .routes(routes!(sandboxes::start_sandbox))
        .routes(routes!(sandboxes::stop_sandbox))
        .routes(routes!(sandboxes::restart_sandbox))
        .routes(routes!(snapshots::fork_sandbox))
        .routes(routes!(snapshots::create_snapshot))
        .routes(routes!(snapshots::list_snapshots))
        .routes(routes!(snapshots::change_snapshot, snapshots::delete_snapshot))
        .routes(routes!(snippets::list_snippets, snippets::create_snippet))
        .routes(routes!(snippets::import_snippets))
        .routes(routes!(snippets::change_snippet, snippets::delete_snippet))
        .routes(routes!(previews::list_previews, previews::create_preview))
        .routes(routes!(previews::close_preview))
        .routes(routes!(previews::create_preview_pass))
        .routes(routes!(previews::share_preview, previews::unshare_preview))
        .routes(routes!(volumes::list_volumes))
        .routes(routes!(volumes::delete_volume))
        .routes(routes!(join_tokens::list_join_tokens, join_tokens::create_join_token))
        .routes(routes!(join_tokens::delete_join_token))
        .routes(routes!(tickets::create_ticket))
        .routes(routes!(events::stream_events))
        .routes(routes!(device::request_device))
        .routes(routes!(device::poll_device))
        .routes(routes!(device::get_device))
        .routes(routes!(device::approve_device))
        .routes(routes!(device::deny_device))
        .routes(routes!(agent::enrol))
        .routes(routes!(agent::renew))
        .routes(routes!(agent::unregister))
}

/// The OpenAPI document, as pretty JSON with a line end.
///
/// # Errors
/// Never in practice: the document is plain data.
pub fn document() -> Result<String, serde_json::Error> {
    let (_, document) = routes().split_for_parts();
    serde_json::to_string_pretty(&document).map(|json| json + "\n")
}
