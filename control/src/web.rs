//! The web app: embedded, or read from `WEB_DIR`.
//!
//! Files whose names carry a hash (`assets/…`) never change and are kept by browsers for a year; everything else is asked for
//! again with its ETag. Any other address is a page of the app, so `index.html` answers it. Files compressed by the build
//! (`.br`, `.gz` beside the file) are sent to whoever takes them.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use aws_lc_rs::digest;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};

use crate::app::App;
use crate::error::ApiError;

/// What the build put in: paths relative to `web/dist`, and contents.
static EMBEDDED: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/web_dist.rs"));

const INDEX: &str = "index.html";
const FOREVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
const ASK_AGAIN: HeaderValue = HeaderValue::from_static("no-cache");

/// Shown when there is no web app to serve.
const MISSING: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Rexec</title>\
<h1>The web app is not here</h1><p>This server was built without it. Build it with <code>make build</code>, \
or set <code>WEB_DIR</code> to a directory that holds a built one.</p></html>";

/// Where the web app comes from.
#[derive(Debug)]
pub enum WebApp {
    /// Out of the binary.
    Embedded(BTreeMap<&'static str, File>),
    /// Out of a directory, read at each request.
    Directory(PathBuf),
}

/// One file, ready to send.
#[derive(Debug, Clone)]
pub struct File {
    bytes: Bytes,
    etag: HeaderValue,
}

impl File {
    fn new(bytes: Bytes) -> Self {
        let hash = digest::digest(&digest::SHA256, &bytes);
        let short = hash.as_ref().get(..16).unwrap_or_default();
        let etag = HeaderValue::from_str(&format!("\"{}\"", URL_SAFE_NO_PAD.encode(short)))
            .unwrap_or(HeaderValue::from_static("\"\""));
        Self { bytes, etag }
    }
}

impl WebApp {
    /// The app in `dir`, or the embedded one.
    pub fn new(dir: Option<PathBuf>) -> Self {
        dir.map_or_else(
            || {
                Self::Embedded(
                    EMBEDDED
                        .iter()
                        .map(|(name, bytes)| (*name, File::new(Bytes::from_static(bytes))))
                        .collect(),
                )
            },
            Self::Directory,
        )
    }

    /// Whether there is an app to serve.
    pub async fn is_here(&self) -> bool {
        self.file(INDEX).await.is_some()
    }

    async fn file(&self, name: &str) -> Option<File> {
        match self {
            Self::Embedded(files) => files.get(name).cloned(),
            Self::Directory(dir) => read(dir, name).await,
        }
    }
}

/// Reads `dir/name`, which must not lead out of `dir`.
async fn read(dir: &Path, name: &str) -> Option<File> {
    let name = Path::new(name);
    if !name.components().all(|part| matches!(part, Component::Normal(_))) {
        return None;
    }
    let dir = tokio::fs::canonicalize(dir).await.ok()?;
    let path = tokio::fs::canonicalize(dir.join(name)).await.ok()?;
    if !path.starts_with(&dir) {
        return None;
    }
    tokio::fs::read(path).await.ok().map(|bytes| File::new(bytes.into()))
}

/// Everything that no other route serves.
pub async fn serve(State(app): State<App>, method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path();
    let is_reading = method == Method::GET || method == Method::HEAD;
    if !is_reading || is_api(path) {
        return ApiError::of_status(StatusCode::NOT_FOUND).into_response();
    }
    let name = path.trim_start_matches('/');
    let web = &app.parts().web;
    if !name.is_empty()
        && name != INDEX
        && let Some((file, encoding)) = best(web, name, &headers).await
    {
        return asset(name, file, encoding, &headers);
    }
    if name.starts_with("assets/") {
        return ApiError::of_status(StatusCode::NOT_FOUND).into_response();
    }
    page(&app, &headers).await
}

/// Addresses of the API are never pages, however they are written.
fn is_api(path: &str) -> bool {
    path.trim_start_matches('/').split('/').next() == Some("api")
}

/// The smallest form of a file that the browser takes.
async fn best(web: &WebApp, name: &str, headers: &HeaderMap) -> Option<(File, Option<&'static str>)> {
    let takes = |encoding: &str| {
        headers
            .get_all(header::ACCEPT_ENCODING)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|offer| offer.split(';').next().is_some_and(|offer| offer.trim() == encoding))
    };
    for (encoding, suffix) in [("br", "br"), ("gzip", "gz")] {
        if takes(encoding)
            && let Some(file) = web.file(&format!("{name}.{suffix}")).await
        {
            return Some((file, Some(encoding)));
        }
    }
    web.file(name).await.map(|file| (file, None))
}

fn asset(name: &str, file: File, encoding: Option<&'static str>, request: &HeaderMap) -> Response {
    let kind = kind_of(name);
    let lasts = if name.starts_with("assets/") { FOREVER } else { ASK_AGAIN };
    let mut response = unless_known(file, request);
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, lasts);
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if let Ok(kind) = HeaderValue::from_str(&kind) {
        headers.insert(header::CONTENT_TYPE, kind);
    }
    if let Some(encoding) = encoding {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    response
}

/// The media type by the name's ending; every text of ours is UTF-8.
fn kind_of(name: &str) -> String {
    let kind = mime_guess::from_path(name).first_or_octet_stream();
    if kind.type_() == "text" { format!("{kind}; charset=utf-8") } else { kind.to_string() }
}

async fn page(app: &App, request: &HeaderMap) -> Response {
    let mut response = match best(&app.parts().web, INDEX, request).await {
        Some((file, encoding)) => asset(INDEX, file, encoding, request),
        None => {
            (StatusCode::SERVICE_UNAVAILABLE, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], MISSING)
                .into_response()
        }
    };
    if let Ok(policy) = HeaderValue::from_str(&policy(app)) {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

/// What a page may load: its own files, and nothing made up in the page. xterm.js sets its colours by style elements, so styles alone may be inline.
fn policy(app: &App) -> String {
    let origins = std::iter::once(app.public_origin()).chain(app.parts().brokers.viewer_origins());
    let sockets: Vec<String> = origins.map(|origin| origin.replacen("http", "ws", 1)).collect();
    let sockets = sockets.join(" ");
    let web_transport = app.web_transport().map(|url| url.origin().ascii_serialization()).unwrap_or_default();
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; \
         font-src 'self'; connect-src 'self' {sockets} {web_transport}; worker-src 'self'; manifest-src 'self'; \
         base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'; \
         require-trusted-types-for 'script'; trusted-types svelte-trusted-html rexec-worker"
    )
}

fn unless_known(file: File, request: &HeaderMap) -> Response {
    let known = request
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|tag| tag.trim().trim_start_matches("W/").as_bytes() == file.etag.as_bytes());
    let (status, body) = if known {
        (StatusCode::NOT_MODIFIED, Body::empty())
    } else {
        (StatusCode::OK, Body::from(file.bytes))
    };
    let mut response = (status, body).into_response();
    response.headers_mut().insert(header::ETAG, file.etag);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_outside_the_directory_is_read() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(dir.path().join("web")).expect("made");
        std::fs::write(dir.path().join("secret"), "canary").expect("written");
        std::fs::write(dir.path().join("web/a.js"), "ok").expect("written");
        std::os::unix::fs::symlink(dir.path().join("secret"), dir.path().join("web/link")).expect("linked");
        let web = dir.path().join("web");
        assert!(read(&web, "a.js").await.is_some());
        for out in ["../secret", "/etc/passwd", "link", ".", "a/../../secret", ""] {
            assert!(read(&web, out).await.is_none(), "{out}");
        }
    }

    #[test]
    fn in_02_no_spelling_of_the_api_is_a_page() {
        for api in ["/api", "/api/", "/api/setup/", "//api/setup", "/api//setup"] {
            assert!(is_api(api), "{api}");
        }
        assert!(!is_api("/apix") && !is_api("/m/api"));
    }
}
