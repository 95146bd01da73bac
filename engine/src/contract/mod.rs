//! The contract as documents, generated from the code: AsyncAPI, OpenAPI, and a JSON Schema of every body. They
//! are checked in, and the test below fails when they differ from the code.

mod asyncapi;
mod openapi;
mod schemas;
mod write;

use std::collections::BTreeMap;

/// Every generated document: its path from the root of the repository, and its text.
pub fn documents() -> BTreeMap<String, String> {
    let schemas = schemas::all().into_iter().map(|(name, schema)| (format!("docs/schemas/{name}.json"), write::json(&schema)));
    let mut documents: BTreeMap<String, String> = schemas.collect();
    documents.insert("docs/asyncapi.yaml".into(), write::yaml(&asyncapi::document()));
    documents.insert("docs/openapi.yaml".into(), write::yaml(&openapi::document()));
    documents
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_schema::fault::code;
    use std::{collections::BTreeSet, fs, path::PathBuf};

    fn root() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
    }

    fn names(folder: &str, ending: &str) -> BTreeSet<String> {
        let Ok(entries) = fs::read_dir(root().join(folder)) else { return BTreeSet::new() };
        let names = entries.map(|it| it.unwrap().file_name().into_string().unwrap());
        names.filter_map(|it| it.strip_suffix(ending).map(str::to_owned)).collect()
    }

    #[test]
    fn the_documents_that_are_checked_in_are_those_of_the_code() {
        let documents = documents();
        if std::env::var_os("BLESS").is_some() {
            fs::create_dir_all(root().join("docs/schemas")).unwrap();
            for (path, text) in &documents {
                fs::write(root().join(path), text).unwrap();
            }
        }
        let read = |path: &String| fs::read_to_string(root().join(path)).unwrap_or_default();
        let differ: Vec<_> = documents.iter().filter(|(path, text)| read(path) != **text).map(|(path, _)| path).collect();
        let gone = names("docs/schemas", ".json").into_iter().map(|it| format!("docs/schemas/{it}.json"));
        let gone: Vec<_> = gone.filter(|it| !documents.contains_key(it)).collect();
        assert!(
            differ.is_empty() && gone.is_empty(),
            "not as in the code: {differ:?}; not in the code any more, delete them: {gone:?}. The contract may grow, it doesn't \
             change; if it is meant to, write them with\n    BLESS=1 cargo test -p longshore-engine contract"
        );
    }

    #[test]
    fn every_reference_leads_to_something() {
        let documents = documents();
        for (path, text) in &documents {
            for name in text.split("./schemas/").skip(1).filter_map(|it| it.split_once(".json")).map(|(name, _)| name) {
                assert!(documents.contains_key(&format!("docs/schemas/{name}.json")), "{path} refers to {name}");
            }
        }
    }

    #[test]
    fn every_fault_has_its_page_and_every_page_its_fault() {
        let codes: BTreeSet<String> = code::ALL.iter().map(|it| (*it).to_owned()).collect();
        let mut pages = names("docs/faults", ".md");
        assert!(pages.remove("README"), "docs/faults/README.md is missing");
        assert_eq!(pages, codes);
        let index = fs::read_to_string(root().join("docs/faults/README.md")).unwrap();
        for code in &codes {
            assert!(index.contains(&format!("]({code}.md)")), "the index lacks {code}");
            let page = fs::read_to_string(root().join(format!("docs/faults/{code}.md"))).unwrap();
            assert!(page.starts_with(&format!("# {code}\n")), "{code}");
            for part in ["## What happened\n", "## What Longshore did\n", "## What you can do\n"] {
                assert!(page.contains(part), "{code} lacks {part:?}");
            }
        }
    }
}
