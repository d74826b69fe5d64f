//! HTTP authentication schemes and their parameters (RFC 9110 section 11.2): quoted and
//! unquoted values, padded and unpadded base64url, several schemes in one value.

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::error::DecodeError;

const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The longest value that is looked at, in bytes. A real one has 300.
const MAX_VALUE_BYTES: usize = 8192;
/// The most schemes and parameters in a value. A parameter is compared with all before it, so without
/// a bound the work would grow with the square of the length.
const MAX_ITEMS: usize = 32;

/// One scheme with its parameters, as `PrivateToken token="..."`.
#[derive(Debug)]
pub struct AuthScheme<'a> {
    /// The scheme's name.
    pub name: &'a str,
    params: Vec<(&'a str, &'a str)>,
}

impl<'a> AuthScheme<'a> {
    /// A parameter's text without its quotes.
    pub fn param(&self, name: &str) -> Option<&'a str> {
        self.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }

    /// A base64url parameter's bytes.
    pub fn base64url(&self, name: &'static str) -> Result<Option<Vec<u8>>, DecodeError> {
        self.param(name)
            .map(|text| {
                BASE64URL
                    .decode(text)
                    .map_err(|_| DecodeError::Text { what: name, why: "it is not base64url" })
            })
            .transpose()
    }
}

const fn malformed(why: &'static str) -> DecodeError {
    DecodeError::Text { what: "authentication header", why }
}

/// The schemes of a `WWW-Authenticate` or `Authorization` value, in order.
pub fn auth_schemes(value: &str) -> Result<Vec<AuthScheme<'_>>, DecodeError> {
    if value.len() > MAX_VALUE_BYTES {
        return Err(malformed("it is longer than 8192 bytes"));
    }
    let mut schemes: Vec<AuthScheme<'_>> = Vec::new();
    for item in split_outside_quotes(value)? {
        // `name=value`, `Scheme`, `Scheme name=value`, or `Scheme token68` as `Basic` has it.
        let (head, param) = match item.split_once([' ', '\t']) {
            Some((scheme, rest)) if is_token(scheme) && !rest.trim_start().starts_with('=') => {
                (Some(scheme), rest.trim_start())
            }
            _ if is_token(item) => (Some(item), ""),
            _ => (None, item),
        };
        if let Some(name) = head {
            schemes.push(AuthScheme { name, params: Vec::new() });
        }
        if param.is_empty() || (head.is_some() && is_token68(param)) {
            continue;
        }
        let scheme = schemes.last_mut().ok_or(malformed("it starts with no scheme name"))?;
        let (key, value) = param
            .split_once('=')
            .map(|(key, value)| (key.trim_end(), value.trim_start()))
            .filter(|(key, _)| is_token(key))
            .ok_or(malformed("a parameter is not of the form name=value"))?;
        let value = match value.strip_prefix('"') {
            Some(rest) => rest.strip_suffix('"').ok_or(malformed("text follows a quoted value"))?,
            None => value,
        };
        if scheme.param(key).is_some() {
            return Err(malformed("a parameter stands twice"));
        }
        scheme.params.push((key, value));
    }
    Ok(schemes)
}

/// The comma-separated items, trimmed; commas inside quotes do not count. A backslash inside
/// quotes keeps the next character from ending them.
fn split_outside_quotes(value: &str) -> Result<Vec<&str>, DecodeError> {
    let (mut items, mut start, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (i, byte) in value.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => {
                if items.len() == MAX_ITEMS {
                    return Err(malformed("it has more than 32 parts"));
                }
                items.push(&value[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    if quoted {
        return Err(malformed("a quoted value does not end"));
    }
    items.push(&value[start..]);
    Ok(items.into_iter().map(str::trim).filter(|item| !item.is_empty()).collect())
}

/// The other form of credentials: letters, digits and a few signs, then `=` only at the end.
fn is_token68(text: &str) -> bool {
    let text = text.trim_end_matches('=');
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~+/".contains(&b))
}

/// An RFC 9110 token: a name without separators.
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}
