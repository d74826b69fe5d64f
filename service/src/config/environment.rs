//! Settings from environment variables. A variable has no type, so it is read as the type that the
//! setting has by default.

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

/// The settings that variables with this prefix give, each with the variable's name, in the order of
/// names. An error is the name of the variable, and what is wrong with it.
pub(super) fn layers<T: Default + Serialize + DeserializeOwned>(
    prefix: &str,
    variables: impl Iterator<Item = (String, String)>,
) -> Result<Vec<(String, Table)>, (String, String)> {
    let defaults = Value::try_from(T::default()).expect("settings are plain data");
    let mut layers = Vec::new();
    for (name, text) in variables {
        let Some(rest) = name.strip_prefix(prefix) else { continue };
        let path: Vec<String> = rest.to_lowercase().split("__").map(str::to_owned).collect();
        let mut default = Some(&defaults);
        for key in &path {
            default = default.and_then(|value| value.get(key));
        }
        let value = match default {
            Some(default) => parse(default, &text),
            None => Err(format!("there is no setting {}", path.join("."))),
        };
        let value = value.map_err(|reason| (name.clone(), reason))?;
        let mut layer = Table::new();
        insert(&mut layer, &path, value);
        if let Err(error) = layer.clone().try_into::<T>() {
            let reason = error.message().replace(&format!("string {text:?}"), "this");
            return Err((name, reason));
        }
        layers.push((name, layer));
    }
    layers.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(layers)
}

/// The error does not repeat the text: it may be a secret.
fn parse(default: &Value, text: &str) -> Result<Value, String> {
    let is_empty = match default {
        Value::String(default) => default.is_empty(),
        Value::Array(default) => default.is_empty(),
        _ => false,
    };
    if text.trim() == "[]" && default.is_array() {
        return Ok(Value::Array(Vec::new()));
    }
    // As of a variable that was to be filled in elsewhere: nobody wants the setting to be nothing.
    if text.trim().is_empty() && !is_empty {
        return Err("this is empty; unset the variable for the default, or give a value ([] for an empty list)".to_owned());
    }
    match default {
        Value::String(_) => Ok(Value::String(text.to_owned())),
        Value::Integer(_) => match text.trim().parse() {
            Ok(number) => Ok(Value::Integer(number)),
            Err(_) => Err("this must be a whole number".to_owned()),
        },
        Value::Boolean(_) => match text.trim() {
            "true" => Ok(Value::Boolean(true)),
            "false" => Ok(Value::Boolean(false)),
            _ => Err("this must be true or false".to_owned()),
        },
        Value::Array(_) => {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            Ok(Value::Array(parts.map(|part| Value::String(part.to_owned())).collect()))
        }
        Value::Table(_) => Err("this is a section; add __ and the name of a setting".to_owned()),
        Value::Float(_) | Value::Datetime(_) => Err("this can be set in a file only".to_owned()),
    }
}

fn insert(table: &mut Table, path: &[String], value: Value) {
    match path {
        [] => {}
        [key] => drop(table.insert(key.clone(), value)),
        [key, rest @ ..] => {
            let section = table.entry(key).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(section) = section {
                insert(section, rest, value);
            }
        }
    }
}
