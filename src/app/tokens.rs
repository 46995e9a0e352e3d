//! The admin API's tokens: that of the store's folder, which is made if it is not there, or of
//! `admin.token`; and the named ones.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{ServerError, random};
use crate::config::Config;
use crate::files;
use crate::model::admin::{DEFAULT_TOKEN, KnownToken, Role};
use crate::model::hex::hex;

/// The tokens that a configuration names.
pub(super) fn of(config: &Config) -> Result<Vec<KnownToken>, ServerError> {
    let default = blake3::hash(default(config)?.as_bytes());
    let default = KnownToken {
        name: DEFAULT_TOKEN.into(),
        role: Role::Write,
        hash: Some(default),
        until_ms: None,
    };
    Ok(std::iter::once(default).chain(config.admin.tokens.iter().cloned()).collect())
}

fn default(config: &Config) -> Result<String, ServerError> {
    if let Some(token) = &config.admin.token {
        return Ok(token.expose().clone());
    }
    let path = config.admin_token_file();
    let failed = |error| ServerError::File { path: path.clone(), error };
    match std::fs::read_to_string(&path) {
        Ok(token) if !token.trim().is_empty() => Ok(token.trim().to_owned()),
        Ok(_) => Err(failed(std::io::Error::other("it is empty; remove it to have a new token"))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let token = hex(&random::<32>()?);
            files::write_secret(&path, &token).map_err(failed)?;
            Ok(token)
        }
        Err(error) => Err(failed(error)),
    }
}

/// What differs between two sets, for the audit log: names, and how the tokens are now. `None` if
/// nothing does.
pub(super) fn changes(before: &[KnownToken], after: &[KnownToken]) -> Option<Value> {
    let by_name = |tokens: &[KnownToken]| -> BTreeMap<Arc<str>, KnownToken> {
        tokens.iter().map(|token| (Arc::clone(&token.name), token.clone())).collect()
    };
    let (old, new) = (by_name(before), by_name(after));
    let names = |of: &dyn Fn(&Arc<str>) -> bool| -> Vec<&str> {
        let all = old.keys().chain(new.keys().filter(|name| !old.contains_key(*name)));
        all.filter(|name| of(name)).map(|name| &**name).collect()
    };
    let added = names(&|name| !old.contains_key(name));
    let removed = names(&|name| !new.contains_key(name));
    let changed =
        names(&|name| old.get(name).zip(new.get(name)).is_some_and(|(old, new)| old != new));
    if added.is_empty() && removed.is_empty() && changed.is_empty() {
        return None;
    }
    let roles = |tokens: &BTreeMap<Arc<str>, KnownToken>| -> BTreeMap<String, &str> {
        tokens.iter().map(|(name, token)| (name.to_string(), token.role.as_str())).collect()
    };
    Some(json!({
        "added": added,
        "changed": changed,
        "removed": removed,
        "before": roles(&old),
        "after": roles(&new),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_secret_under_the_same_name_is_a_change() {
        let token = |name: &str, secret: &[u8], role| KnownToken {
            name: name.into(),
            role,
            hash: Some(blake3::hash(secret)),
            until_ms: None,
        };
        let before = [token("a", b"1", Role::Read), token("b", b"2", Role::Read)];
        assert_eq!(changes(&before, &before), None);
        let after = [token("a", b"3", Role::Read), token("c", b"2", Role::Write)];
        let found = changes(&before, &after).expect("a change");
        assert_eq!(found["changed"], json!(["a"]));
        assert_eq!((&found["added"], &found["removed"]), (&json!(["c"]), &json!(["b"])));
        assert!(
            !found.to_string().contains(&blake3::hash(b"3").to_hex()[..8]),
            "no secret, hashed or not"
        );
    }
}
