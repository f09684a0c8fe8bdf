//! HTTP Message Signatures (RFC 9421): reading the two header fields, and building the signature base.

use hmac::{Hmac, KeyInit, Mac};
use sfv::{Dictionary, FieldType, InnerList, Key, List, ListEntry, Parser};
use sha2::Sha256;
use witgate_plugin::auth::HttpRequest;

use crate::config::Scheme;

/// The only algorithm of this plugin (RFC 9421, section 3.3.3).
pub(crate) const ALGORITHM: &str = "hmac-sha256";
/// Most signatures of one request that are looked at.
const MAX_SIGNATURES: usize = 4;
/// Most components that one signature covers.
const MAX_COMPONENTS: usize = 64;
/// Longest value of `keyid` and `nonce`.
const MAX_PARAMETER: usize = 256;

/// One signature of a request.
#[derive(Debug)]
pub(crate) struct Signature {
    /// Its name in both header fields.
    pub(crate) label: String,
    /// Names of what it covers, in order.
    pub(crate) components: Vec<String>,
    /// When it was made, in seconds since 1970.
    pub(crate) created: Option<i64>,
    /// When it ends.
    pub(crate) expires: Option<i64>,
    /// Which key.
    pub(crate) keyid: Option<String>,
    /// Good for one request.
    pub(crate) nonce: Option<String>,
    /// What it is for.
    pub(crate) tag: Option<String>,
    /// The algorithm, where the signature says it.
    pub(crate) algorithm: Option<String>,
    /// The value of `@signature-params`.
    parameters: String,
    value: Vec<u8>,
}

/// The signatures of a request; none where it has neither header field.
///
/// # Errors
/// Where the header fields do not fit each other or are not what the RFC says.
pub(crate) fn signatures(http: &HttpRequest) -> Result<Vec<Signature>, String> {
    let (inputs, values) = match (field(http, "signature-input"), field(http, "signature")) {
        (None, None) => return Ok(Vec::new()),
        (Some(inputs), Some(values)) => (inputs, values),
        (Some(_), None) => return Err("there is `Signature-Input` but no `Signature`".into()),
        (None, Some(_)) => return Err("there is `Signature` but no `Signature-Input`".into()),
    };
    let inputs = dictionary("Signature-Input", &inputs)?;
    let mut values = dictionary("Signature", &values)?;
    if inputs.len() > MAX_SIGNATURES {
        return Err(format!("there are more than {MAX_SIGNATURES} signatures"));
    }
    let signatures = inputs.into_iter().map(|(label, entry)| {
        let value = values.swap_remove(&label);
        Signature::read(&label, entry, value).map_err(|why| format!("signature `{}`: {why}", label.as_str()))
    });
    signatures.collect()
}

fn dictionary(name: &str, text: &str) -> Result<Dictionary, String> {
    Parser::new(text).parse().map_err(|error| format!("`{name}` cannot be read: {error}"))
}

/// All values of a header field in one, as RFC 9421 section 2.1 combines them.
pub(crate) fn field(http: &HttpRequest, name: &str) -> Option<String> {
    let values: Vec<&str> = http
        .headers
        .iter()
        .filter(|(own, _)| own == name)
        .map(|(_, value)| value.trim_matches([' ', '\t']))
        .collect();
    (!values.is_empty()).then(|| values.join(", "))
}

impl Signature {
    fn read(label: &Key, input: ListEntry, value: Option<ListEntry>) -> Result<Self, String> {
        let ListEntry::InnerList(input) = input else {
            return Err("`Signature-Input` must name the components in parentheses".into());
        };
        let value = match value {
            Some(ListEntry::Item(item)) => item.bare_item.as_byte_sequence().map(<[u8]>::to_vec),
            _ => None,
        };
        let text = |name: &str| match parameter(&input, name) {
            None => Ok(None),
            Some(value) => match value.as_string().map(|text| text.as_str().to_owned()) {
                Some(text) if text.len() <= MAX_PARAMETER => Ok(Some(text)),
                Some(_) => Err(format!("`{name}` is longer than {MAX_PARAMETER} characters")),
                None => Err(format!("`{name}` must be a string")),
            },
        };
        let seconds = |name: &str| match parameter(&input, name) {
            None => Ok(None),
            Some(value) => {
                let seconds = value.as_integer().map(i64::from);
                seconds.map(Some).ok_or_else(|| format!("`{name}` must be a whole number of seconds"))
            }
        };
        Ok(Self {
            label: label.as_str().to_owned(),
            components: components(&input)?,
            created: seconds("created")?,
            expires: seconds("expires")?,
            keyid: text("keyid")?,
            nonce: text("nonce")?,
            tag: text("tag")?,
            algorithm: text("alg")?,
            value: value.ok_or("`Signature` must hold its bytes in base64 between colons")?,
            parameters: List::from([ListEntry::InnerList(input)]).serialize().unwrap_or_default(),
        })
    }

    /// Whether a component is covered, by itself or by one that contains it.
    pub(crate) fn covers(&self, component: &str) -> bool {
        let has = |name: &str| self.components.iter().any(|own| own == name);
        has(component)
            || match component {
                "@path" | "@query" => has("@request-target") || has("@target-uri"),
                "@authority" | "@scheme" | "@request-target" => has("@target-uri"),
                _ => false,
            }
    }

    /// The text that was signed (RFC 9421, section 2.5).
    ///
    /// # Errors
    /// Where a component is not in the request or not known here.
    pub(crate) fn base(&self, http: &HttpRequest, scheme: Scheme) -> Result<String, String> {
        let mut base = String::new();
        for name in &self.components {
            base.push_str(&format!("\"{name}\": {}\n", value_of(name, http, scheme)?));
        }
        base.push_str("\"@signature-params\": ");
        base.push_str(&self.parameters);
        Ok(base)
    }

    /// Whether `base` was signed with this secret. Takes the same time wherever the signatures differ.
    pub(crate) fn is_of(&self, base: &str, secret: &[u8]) -> bool {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else { return false };
        mac.update(base.as_bytes());
        mac.verify_slice(&self.value).is_ok()
    }
}

fn parameter<'a>(input: &'a InnerList, name: &str) -> Option<&'a sfv::BareItem> {
    input.params.iter().find(|(key, _)| key.as_str() == name).map(|(_, value)| value)
}

fn components(input: &InnerList) -> Result<Vec<String>, String> {
    if input.items.len() > MAX_COMPONENTS {
        return Err(format!("it covers more than {MAX_COMPONENTS} components"));
    }
    let mut names = Vec::<String>::new();
    for item in &input.items {
        let name = item.bare_item.as_string().ok_or("components must be strings")?.as_str();
        if let Some((parameter, _)) = item.params.first() {
            let parameter = parameter.as_str();
            return Err(format!("component `{name}`: the parameter `{parameter}` is not supported"));
        }
        if names.iter().any(|own| own == name) {
            return Err(format!("component `{name}` is there twice"));
        }
        let token = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "!#$%&'*+-.^_`|~".contains(c);
        if !name.strip_prefix('@').unwrap_or(name).chars().all(token) || name.is_empty() {
            return Err(
                "a component's name must be a header's name in lower case, or one of RFC 9421's".into()
            );
        }
        names.push(name.to_owned());
    }
    Ok(names)
}

/// The value of a component (RFC 9421, sections 2.1 and 2.2).
fn value_of(name: &str, http: &HttpRequest, scheme: Scheme) -> Result<String, String> {
    let path = if http.path.is_empty() { "/" } else { http.path.as_str() };
    let query = || match &http.query {
        Some(query) if query.contains("[redacted]") => {
            Err("the query has a credential that the policy may not see; grant it in the plugin's file"
                .to_owned())
        }
        Some(query) => Ok(format!("?{query}")),
        None => Ok(String::new()),
    };
    let authority = || {
        let authority =
            http.authority.as_deref().ok_or("the request names no host, but `@authority` is signed")?;
        let authority = authority.to_ascii_lowercase();
        Ok::<_, String>(authority.strip_suffix(scheme.default_port()).unwrap_or(&authority).to_owned())
    };
    match name {
        "@method" => Ok(http.method.clone()),
        "@authority" => authority(),
        "@scheme" => Ok(scheme.name().into()),
        "@path" => Ok(path.to_owned()),
        "@query" => query().map(|query| if query.is_empty() { "?".into() } else { query }),
        "@request-target" => Ok(format!("{path}{}", query()?)),
        "@target-uri" => Ok(format!("{}://{}{path}{}", scheme.name(), authority()?, query()?)),
        _ if name.starts_with('@') => Err(format!("component `{name}` is not supported")),
        _ => field(http, name).ok_or_else(|| {
            format!("component `{name}`: there is no such header, or the plugin may not see it")
        }),
    }
}
