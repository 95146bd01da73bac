//! The site: what a site file would change, decided purely, and the transaction that changes it. What is in
//! use is neither removed nor moved to another address, hypervisor, zone or region.

mod rows;

use longshore_schema::{
    fault::{Fault, code},
    site::{Place, Site, Size, User, Zone},
    tables::place,
};
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

pub use rows::{apply, read};

/// Bytes of an extent, unless the site file says otherwise: chosen by measurement.
pub const DEFAULT_EXTENT_SIZE: u32 = 64 << 10;

/// The site as the database has it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Known {
    /// Changes with every change of the site.
    pub version: i64,
    /// The database's incarnation, which its stores name as their owner.
    pub incarnation: uuid::Uuid,
    /// Zones, stores, pools and users. A store has the extent size that it was founded with.
    pub site: Site,
    /// The places' rows, by name.
    pub places: BTreeMap<String, place::Model>,
    /// Why a place can't be removed or moved, by its name.
    pub places_in_use: BTreeMap<String, String>,
    /// Why a zone can't be removed or moved, by its name.
    pub zones_in_use: BTreeMap<String, String>,
}

/// One entry of the site file that differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// `zone store pool user`.
    pub what: &'static str,
    /// Its name.
    pub name: String,
    /// How.
    #[serde(flatten)]
    pub how: How,
    /// Why it isn't possible, if it isn't.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// How an entry differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "change", rename_all = "lowercase")]
pub enum How {
    /// It is new.
    Added {
        /// All that it says.
        fields: Map<String, Value>,
    },
    /// It says something else.
    Changed {
        /// What it said and says now, by the field's name; `null` where it says nothing.
        fields: BTreeMap<String, (Value, Value)>,
    },
    /// It isn't there any more.
    Removed,
}

/// What the file would change, in the order zones, stores, pools, users. Empty: nothing.
pub fn difference(known: &Known, wanted: &Site) -> Result<Vec<Change>, Fault> {
    let mut changes = vec![];
    let wanted = settled(known, wanted);
    entries("zone", &known.site.zones, &wanted.zones, |it: &Zone| &it.name, &mut changes)?;
    entries("store", &known.site.stores, &wanted.stores, |it| &it.name, &mut changes)?;
    entries("pool", &known.site.pools, &wanted.pools, |it| &it.name, &mut changes)?;
    entries("user", &known.site.users, &wanted.users, |it: &User| &it.name, &mut changes)?;
    for change in &mut changes {
        change.refused = refusal(known, change);
    }
    Ok(changes)
}

/// `site.invalid` with everything that isn't possible, unless all of it is.
pub fn check(changes: &[Change]) -> Result<(), Fault> {
    let refused: Vec<_> =
        changes.iter().filter_map(|it| it.refused.as_ref().map(|why| format!("{} {}: {why}", it.what, it.name))).collect();
    match refused.is_empty() {
        true => Ok(()),
        false => Err(Fault::permanent(code::SITE_INVALID, refused.join("; "))),
    }
}

/// The file with what it leaves to the database: a store's extent size is fixed when it is founded.
pub fn settled(known: &Known, wanted: &Site) -> Site {
    let mut wanted = wanted.clone();
    for store in &mut wanted.stores {
        let founded = known.site.stores.iter().find(|it| it.name == store.name && it.url == store.url);
        let default = Size(u64::from(DEFAULT_EXTENT_SIZE));
        store.extent_size = store.extent_size.or(founded.and_then(|it| it.extent_size)).or(Some(default));
    }
    wanted
}

fn entries<T: Serialize>(
    what: &'static str,
    known: &[T],
    wanted: &[T],
    name: impl Fn(&T) -> &str,
    changes: &mut Vec<Change>,
) -> Result<(), Fault> {
    let known = by_name(known, &name)?;
    let wanted = by_name(wanted, &name)?;
    let names: BTreeSet<_> = known.keys().chain(wanted.keys()).collect();
    for name in names {
        let how = match (known.get(name), wanted.get(name)) {
            (Some(known), Some(wanted)) if known == wanted => continue,
            (Some(known), Some(wanted)) => How::Changed { fields: fields(known, wanted) },
            (None, Some(wanted)) => How::Added { fields: wanted.clone() },
            _ => How::Removed,
        };
        changes.push(Change { what, name: name.clone(), how, refused: None });
    }
    Ok(())
}

fn by_name<T: Serialize>(entries: &[T], name: impl Fn(&T) -> &str) -> Result<BTreeMap<String, Map<String, Value>>, Fault> {
    let internal = |error: serde_json::Error| Fault::permanent(code::INTERNAL, format!("write the site as JSON: {error}"));
    let object = |entry: &T| match serde_json::to_value(entry).map_err(internal)? {
        Value::Object(mut fields) => {
            fields.remove("name");
            Ok((name(entry).to_owned(), fields))
        }
        _ => Err(Fault::permanent(code::INTERNAL, "an entry of the site isn't a table")),
    };
    entries.iter().map(object).collect()
}

fn fields(known: &Map<String, Value>, wanted: &Map<String, Value>) -> BTreeMap<String, (Value, Value)> {
    let names: BTreeSet<_> = known.keys().chain(wanted.keys()).collect();
    let both = |name: &String| {
        let of = |fields: &Map<String, Value>| fields.get(name).cloned().unwrap_or(Value::Null);
        (name.clone(), (of(known), of(wanted)))
    };
    names.into_iter().map(both).filter(|(_, (known, wanted))| known != wanted).collect()
}

/// What an entry must not do while it is in use. An extent size can't change even then.
fn refusal(known: &Known, change: &Change) -> Option<String> {
    let used = match change.what {
        "zone" => known.zones_in_use.get(&change.name),
        "store" | "pool" => known.places_in_use.get(&change.name),
        _ => None,
    };
    match &change.how {
        How::Added { .. } => {
            let other_role = known.places.get(&change.name).filter(|it| change.what != "zone" && it.role != change.what)?;
            (change.what != "user").then(|| format!("there is a {} of that name; remove it first", other_role.role))
        }
        How::Removed => used.map(|why| format!("it is in use: {why}")),
        How::Changed { fields } => {
            let moves = ["region", "zone", "url", "hypervisor"].into_iter().filter(|it| fields.contains_key(*it));
            let moves: Vec<_> = moves.collect();
            if !fields.contains_key("url") && fields.contains_key("extent_size") {
                return Some("extent_size is fixed when a store is founded; make another store at another url".into());
            }
            used.filter(|_| !moves.is_empty()).map(|why| format!("{} can't change while it is in use: {why}", moves.join(", ")))
        }
    }
}

/// The place that an entry of the site becomes.
pub fn places(site: &Site, incarnation: uuid::Uuid) -> impl Iterator<Item = (String, Place)> {
    let pools = site.pools.iter().map(|it| (it.name.clone(), Place::Pool(it.clone())));
    let stores = site.stores.iter().map(move |it| (it.name.clone(), Place::Store { store: it.clone(), incarnation }));
    pools.chain(stores)
}

#[cfg(test)]
mod tests;
