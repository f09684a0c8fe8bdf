//! Cross-origin rules: which web pages may call the gateway from a browser.
//!
//! Any origin together with credentials is refused at the start: every page on the web could then act as the user.

use std::str::FromStr;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Method};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use crate::http::config::CorsConfig;

/// A `[cors]` section that cannot be put into force.
#[derive(Debug, thiserror::Error)]
pub enum CorsError {
    /// Any origin and credentials at once.
    #[error(
        "cors.allow_credentials needs origins that are named: `*` with credentials would let every web page act as \
         the user; list the pages in cors.allow_origins"
    )]
    AnyOriginWithCredentials,
    /// `*` beside other origins.
    #[error("cors.allow_origins has `*` beside other entries; `*` alone already means every origin")]
    MixedWildcard,
    /// An entry that is no valid header value, name or method.
    #[error("cors.{key}: `{value}` is not a valid {wanted}")]
    Invalid {
        /// The key in `[cors]`.
        key: &'static str,
        /// The entry.
        value: String,
        /// What it should be.
        wanted: &'static str,
    },
}

/// The layer for `config`.
pub(in crate::http) fn layer(config: &CorsConfig) -> Result<CorsLayer, CorsError> {
    let any_origin = is_any(&config.allow_origins);
    if !any_origin && config.allow_origins.iter().any(|origin| origin == "*") {
        return Err(CorsError::MixedWildcard);
    }
    if any_origin && config.allow_credentials {
        return Err(CorsError::AnyOriginWithCredentials);
    }
    let origins = if any_origin {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(parse::<HeaderValue>("allow_origins", "origin", &config.allow_origins)?)
    };
    // `*` is answered with the names the browser asked for: as a literal it would not cover `authorization`.
    let headers = if is_any(&config.allow_headers) {
        AllowHeaders::mirror_request()
    } else {
        AllowHeaders::list(parse::<HeaderName>("allow_headers", "header name", &config.allow_headers)?)
    };
    let layer = CorsLayer::new()
        .allow_origin(origins)
        .allow_methods(parse::<Method>("allow_methods", "method", &config.allow_methods)?)
        .allow_headers(headers)
        .expose_headers(parse::<HeaderName>("expose_headers", "header name", &config.expose_headers)?)
        .allow_credentials(config.allow_credentials)
        .max_age(Duration::from_secs(config.max_age_s));
    Ok(layer)
}

fn is_any(items: &[String]) -> bool {
    matches!(items, [only] if only == "*")
}

fn parse<T: FromStr>(key: &'static str, wanted: &'static str, items: &[String]) -> Result<Vec<T>, CorsError> {
    let parse_one =
        |item: &String| item.parse().map_err(|_| CorsError::Invalid { key, value: item.clone(), wanted });
    items.iter().map(parse_one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(origins: &[&str], credentials: bool) -> CorsConfig {
        let allow_origins = origins.iter().map(|&origin| origin.to_owned()).collect();
        CorsConfig { allow_origins, allow_credentials: credentials, ..CorsConfig::default() }
    }

    #[test]
    fn any_origin_never_comes_with_credentials() {
        let refused = layer(&config(&["*"], true));
        assert!(matches!(refused, Err(CorsError::AnyOriginWithCredentials)));
        assert!(matches!(layer(&config(&["*", "https://a.example"], false)), Err(CorsError::MixedWildcard)));
        assert!(layer(&config(&["https://a.example"], true)).is_ok());
    }

    #[test]
    fn a_bad_entry_is_named() {
        let bad = CorsConfig { allow_methods: vec!["GE T".to_owned()], ..CorsConfig::default() };
        assert_eq!(
            layer(&bad).err().unwrap().to_string(),
            "cors.allow_methods: `GE T` is not a valid method"
        );
    }
}
