//! Migrations: forward only, alphabetical, each its own file. A later one may add; it never rewrites history. None has a
//! `down`, so that sea-orm refuses to go back: a backup of the database is what leads there.

mod m0001_spine;
mod m0002_fewer_writes;
mod m0003_sparse_packs;
mod m0004_growth;
mod m0005_one_statement;

use sea_orm_migration::prelude::*;

/// Brings a database up to this version.
#[derive(Debug)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m0001_spine::Migration),
            Box::new(m0002_fewer_writes::Migration),
            Box::new(m0003_sparse_packs::Migration),
            Box::new(m0004_growth::Migration),
            Box::new(m0005_one_statement::Migration),
        ]
    }
}
