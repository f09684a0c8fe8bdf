//! The `[config]` table of the operator's file.

use serde::de::DeserializeOwned;

use crate::types::Error;

/// The whole `[config]` table of the plugin's operator file, read as `T`.
///
/// A missing table reads as an empty one, so a `T` with `#[serde(default)]` needs no file at all.
///
/// ```
/// #[derive(serde::Deserialize)]
/// #[serde(default, deny_unknown_fields)]
/// struct Config {
///     words: Vec<String>,
/// }
///
/// impl Default for Config {
///     fn default() -> Self {
///         Self { words: vec!["secret".into()] }
///     }
/// }
///
/// witgate_plugin::testing::set_config(r#"{ "words": ["plan", "budget"] }"#);
/// let config: Config = witgate_plugin::config()?;
/// assert_eq!(config.words, ["plan", "budget"]);
/// # Ok::<(), witgate_plugin::Error>(())
/// ```
///
/// # Errors
/// Where the table does not fit `T`: says which key, and what was expected.
pub fn config<T: DeserializeOwned>() -> Result<T, Error> {
    read(&get_all(), "the plugin's [config] table")
}

/// One value of the `[config]` table, none where the key is not set.
///
/// # Errors
/// Where the value does not fit `T`.
pub fn config_value<T: DeserializeOwned>(key: &str) -> Result<Option<T>, Error> {
    get(key).map(|text| read(&text, &format!("`{key}` in the plugin's [config] table"))).transpose()
}

fn read<T: DeserializeOwned>(text: &str, what: &str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|error| {
        // Line and column are those of the JSON text, which the operator never sees.
        let message = error.to_string();
        let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message);
        Error::Internal(format!("{what}: {message}"))
    })
}

#[cfg(target_arch = "wasm32")]
use crate::bindings::response::witgate::plugin::config::{get, get_all};

#[cfg(not(target_arch = "wasm32"))]
fn get_all() -> String {
    crate::testing::with(|host| host.config.to_string())
}

#[cfg(not(target_arch = "wasm32"))]
fn get(key: &str) -> Option<String> {
    crate::testing::with(|host| host.config.get(key).map(ToString::to_string))
}

#[cfg(test)]
mod tests {
    use super::{config, config_value};
    use crate::testing;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Config {
        limit: u32,
    }

    #[test]
    fn the_table_is_read_as_a_whole_and_by_key() {
        testing::set_config(r#"{ "limit": 3 }"#);
        assert_eq!(config::<Config>(), Ok(Config { limit: 3 }));
        assert_eq!(config_value::<u32>("limit"), Ok(Some(3)));
        assert_eq!(config_value::<u32>("other"), Ok(None));
    }

    #[test]
    fn an_error_names_the_key_and_what_was_expected() {
        testing::set_config(r#"{ "limits": 3 }"#);
        let error = config::<Config>().expect_err("an unknown key").to_string();
        assert!(
            error.contains("[config]") && error.contains("`limits`") && !error.contains("line"),
            "{error}"
        );
        testing::set_config(r#"{ "limit": "three" }"#);
        let error = config_value::<u32>("limit").expect_err("a wrong type").to_string();
        assert!(error.contains("`limit`") && error.contains("\\\"three\\\""), "{error}");
    }
}
