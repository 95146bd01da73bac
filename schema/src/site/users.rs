//! What the site says of the broker's users.

use super::{User, invalid};
use crate::{
    fault::{Fault, shown},
    text::is_unprintable,
    wire::names,
};
use std::collections::BTreeSet;

/// Each has a name that is its own and not Longshore's, and tenants.
pub(super) fn check(users: &[User]) -> Result<(), Fault> {
    let mut seen = BTreeSet::new();
    for user in users {
        let name = shown(&user.name);
        let mut texts = std::iter::once(&user.name).chain(&user.tenants);
        if let Some(wrong) = texts.find(|it| !(1..=255).contains(&it.len()) || it.chars().any(is_unprintable)) {
            return Err(invalid(format!("user `{name}`: `{}` is not a name: 1 to 255 printable characters", shown(wrong))));
        }
        if [names::LOCAL_USER, names::ENGINE_USER].contains(&&*user.name) {
            return Err(invalid(format!("user `{name}` is Longshore's own: call the broker's user something else")));
        }
        if !seen.insert(&user.name) {
            return Err(invalid(format!("user `{name}` is there twice")));
        }
        if user.tenants.is_empty() {
            return Err(invalid(format!("user `{name}` has no tenants: give it one, or leave the user out")));
        }
        if user.tenants.iter().collect::<BTreeSet<_>>().len() < user.tenants.len() {
            return Err(invalid(format!("user `{name}` has a tenant twice")));
        }
    }
    Ok(())
}
