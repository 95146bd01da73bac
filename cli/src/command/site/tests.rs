//! The site file applied to a real database and a real directory: founded once, refused when foreign.

use super::*;
use longshore_schema::fault::code;

struct Place {
    folder: tempfile::TempDir,
    database: Database,
}

impl Place {
    async fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("pool")).unwrap();
        let database = Database::open(&format!("sqlite://{}", folder.path().join("l.db").display())).await.unwrap();
        Place { folder, database }
    }

    fn site(&self, more: &str) -> SiteFile {
        let path = self.folder.path().display();
        SiteFile::parse(&format!(
            "[[zone]]\nname='z1'\nregion='r1'\n[[pool]]\nname='p'\nzone='z1'\nhypervisor='kvm'\nurl='file://{path}/pool'\n\
             capacity=1000\n[[store]]\nname='s'\nzone='z1'\nurl='file://{path}/store'\ncapacity=1000\n{more}"
        ))
        .unwrap()
    }

    async fn apply(&self, wanted: &SiteFile) -> Result<usize, Ended> {
        let known = read(&self.database).await?;
        let changes = site::difference(&known, wanted).map_err(Ended::Refused)?;
        site::check(&changes).map_err(Ended::Refused)?;
        apply(&self.database, &known, wanted, &changes, true).await.map(|()| changes.len())
    }
}

#[tokio::test]
async fn a_file_is_applied_once_and_its_store_is_founded_for_this_database() {
    let place = Place::new().await;
    assert_eq!(place.apply(&place.site("")).await.unwrap(), 3);
    let known = read(&place.database).await.unwrap();
    assert_eq!(site::difference(&known, &place.site("")).unwrap(), []);
    let (_, description) = longshore_workers::store::open::attach(&known.site.stores[0], known.incarnation).await.unwrap();
    assert_eq!(description.extent_size, site::DEFAULT_EXTENT_SIZE);
}

#[tokio::test]
async fn a_store_of_another_database_is_refused_and_nothing_is_written() {
    let place = Place::new().await;
    place.apply(&place.site("extent_size='64 KiB'")).await.unwrap();
    let url = format!("sqlite://{}", place.folder.path().join("other.db").display());
    let other = Place { database: Database::open(&url).await.unwrap(), folder: place.folder };
    let Err(Ended::Refused(fault)) = other.apply(&other.site("")).await else { panic!("it was taken") };
    assert!(fault.code == code::STORE_FOREIGN && fault.message.contains("store s"), "{fault}");
    assert_eq!(read(&other.database).await.unwrap().site, SiteFile::default());
}

#[tokio::test]
async fn a_store_that_was_founded_keeps_its_extent_size_whatever_the_file_says_later() {
    let place = Place::new().await;
    place.apply(&place.site("extent_size='64 KiB'")).await.unwrap();
    let without = place.site("");
    assert_eq!(site::difference(&read(&place.database).await.unwrap(), &without).unwrap(), []);
    let Err(Ended::Refused(fault)) = place.apply(&place.site("extent_size='1 MiB'")).await else { panic!("it was taken") };
    assert!(fault.message.contains("extent_size is fixed"), "{fault}");
    // Forgotten and added again, the store itself remembers.
    let mut gone = without.clone();
    gone.stores.clear();
    place.apply(&gone).await.unwrap();
    place.apply(&without).await.unwrap();
    let known = read(&place.database).await.unwrap();
    assert_eq!(known.site.stores[0].extent_size, Some(longshore_schema::site::Size(64 << 10)));
}

#[tokio::test]
async fn a_store_that_is_missing_is_not_made_unless_that_was_asked_for() {
    let place = Place::new().await;
    let (known, wanted) = (read(&place.database).await.unwrap(), place.site(""));
    let changes = site::difference(&known, &wanted).unwrap();
    let Err(Ended::Refused(fault)) = apply(&place.database, &known, &wanted, &changes, false).await else {
        panic!("it was taken")
    };
    assert!(fault.code == code::STORE_MISSING && fault.message.contains("--create"), "{fault}");
    assert!(!place.folder.path().join("store").exists());
    assert_eq!(read(&place.database).await.unwrap().site, SiteFile::default());
    let mut site = place.site("");
    site.stores[0].url = format!("file://{}/not/mounted", place.folder.path().display());
    let Err(Ended::Refused(fault)) = place.apply(&site).await else { panic!("it was taken") };
    assert!(fault.message.starts_with("try out store s: "), "{fault}");
    assert!(!place.folder.path().join("not").exists());
}
