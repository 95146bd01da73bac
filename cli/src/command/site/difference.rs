//! What a site file would change, for people: `+` is new, `~` says something else, `-` goes.

use longshore_engine::site::{Change, How};
use serde_json::Value;

/// Lines for people.
pub(super) fn text(changes: &[Change]) -> String {
    if changes.is_empty() {
        return "no change".into();
    }
    changes.iter().map(one).collect::<Vec<_>>().join("\n")
}

fn one(change: &Change) -> String {
    let mut lines = match &change.how {
        How::Added { fields } => {
            let said = fields.iter().filter(|(_, it)| !it.is_null());
            let said: Vec<_> = said.map(|(name, it)| format!("{name} {}", value(name, it))).collect();
            vec![format!("+ {} {}: {}", change.what, change.name, said.join(", "))]
        }
        How::Changed { fields } => {
            let both =
                fields.iter().map(|(name, (from, to))| format!("    {name}: {} -> {}", value(name, from), value(name, to)));
            [format!("~ {} {}", change.what, change.name)].into_iter().chain(both).collect()
        }
        How::Removed => vec![format!("- {} {}", change.what, change.name)],
    };
    lines.extend(change.refused.as_ref().map(|why| format!("    refused: {why}")));
    lines.join("\n")
}

fn value(name: &str, value: &Value) -> String {
    match (name, value) {
        ("capacity" | "extent_size", Value::Number(bytes)) => {
            bytes.as_u64().map_or_else(|| bytes.to_string(), crate::print::human::bytes)
        }
        (_, Value::Null) => "(nothing)".into(),
        (_, Value::String(text)) => text.clone(),
        (_, other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_engine::site::{Known, difference};
    use longshore_schema::site::Site;

    #[test]
    fn a_difference_names_what_is_new_what_changes_and_what_goes() {
        let file = "[[zone]]\nname='z1'\nregion='r1'\n[[pool]]\nname='p'\nzone='z1'\nhypervisor='kvm'\nurl='file:///p'\ncapacity='1 GiB'\n";
        let wanted = Site::parse(file).unwrap();
        let mut known = Known { site: wanted.clone(), ..Known::default() };
        assert_eq!(text(&difference(&known, &wanted).unwrap()), "no change");
        let other = Site::parse(&file.replace("1 GiB", "2 GiB").replace("z1", "z2")).unwrap();
        known.zones_in_use.insert("z1".into(), "operation x is ready".into());
        let shown = text(&difference(&known, &other).unwrap());
        let wanted = "- zone z1\n    refused: it is in use: operation x is ready\n+ zone z2: path auto, region r1\n~ pool p\n    \
                      capacity: 1 GiB -> 2 GiB\n    zone: z1 -> z2";
        assert_eq!(shown, wanted);
    }
}
