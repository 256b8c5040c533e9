//! Extractors that answer with problem details.

use axum::RequestExt as _;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use http::request::Parts;
use http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;

use crate::error::ApiError;
use crate::limits::BODY_DEADLINE;

/// A JSON body, whole within [`BODY_DEADLINE`] and [`crate::limits::BODY_MAX`].
#[derive(Debug)]
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            return Err(ApiError::of_status(StatusCode::UNSUPPORTED_MEDIA_TYPE)
                .hint("send the header content-type: application/json"));
        }
        let bytes = tokio::time::timeout(BODY_DEADLINE, request.extract::<Bytes, _>())
            .await
            .map_err(|_| ApiError::of_status(StatusCode::REQUEST_TIMEOUT))?
            .map_err(|rejection: BytesRejection| ApiError::of_status(rejection.status()))?;
        parse(&bytes).map(Self)
    }
}

/// Whether the body says it is JSON, in those words and no others (THREATS WS-02).
pub fn is_json(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .and_then(|kind| kind.split(';').next())
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|fault| {
        let path = fault.path().to_string();
        at_fault(fault.inner(), path)
    })?;
    json.end().map_err(|fault| at_fault(&fault, ".".to_owned()))?;
    Ok(value)
}

fn at_fault(fault: &serde_json::Error, path: String) -> ApiError {
    if fault.is_data() {
        let error = ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", without_position(fault));
        return if path == "." { error } else { error.field(path) };
    }
    ApiError::new(
        StatusCode::BAD_REQUEST,
        "malformed_json",
        format!(
            "malformed JSON at line {}, column {}: {}",
            fault.line(),
            fault.column(),
            without_position(fault)
        ),
    )
}

/// The words of a JSON fault; they may quote the value at fault, so only ours and the library's own are kept.
fn without_position(fault: &serde_json::Error) -> String {
    let words = fault.to_string();
    words.rsplit_once(" at line ").map_or(words.clone(), |(before, _)| before.to_owned())
}

/// Query parameters.
#[derive(Debug)]
pub struct Choices<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Choices<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        Query::<T>::from_request_parts(parts, state).await.map(|Query(value)| Self(value)).map_err(|_| {
            ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", "the query holds what it may not")
        })
    }
}

/// Path parameters; ones that do not parse name nothing, so they are 404.
#[derive(Debug)]
pub struct Params<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        Path::<T>::from_request_parts(parts, state)
            .await
            .map(|Path(value)| Self(value))
            .map_err(|_| ApiError::of_status(StatusCode::NOT_FOUND))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    struct Two {
        #[expect(dead_code, reason = "only parsed")]
        a: u8,
        #[expect(dead_code, reason = "only parsed")]
        b: Vec<u8>,
    }

    #[test]
    fn a_fault_of_syntax_names_its_position() {
        let error = parse::<Two>(b"{\n \"a\": 1,,").expect_err("malformed");
        assert_eq!((error.status(), error.code()), (StatusCode::BAD_REQUEST, "malformed_json"));
        assert!(error.to_string().starts_with("malformed JSON at line 2, column 9"), "{error}");
        let error = parse::<Two>(b"{\"a\":1,\"b\":[]} x").expect_err("trailing");
        assert_eq!(error.code(), "malformed_json");
    }

    #[test]
    fn a_fault_of_content_names_its_field() {
        let error = parse::<Two>(br#"{"a":1,"b":[1,"x"]}"#).expect_err("wrong type");
        assert_eq!(error.status(), StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(error.problem("r").field.as_deref(), Some("b[1]"));
    }

    #[test]
    fn only_json_is_json() {
        let says = |kind: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
            is_json(&headers)
        };
        assert!(says("application/json"));
        assert!(says("Application/JSON; charset=utf-8"));
        for other in [
            "text/plain",
            "text/plain; application/json",
            "multipart/form-data",
            "application/json-patch+json",
        ] {
            assert!(!says(other), "{other}");
        }
    }
}
