//! A transaction that begins with its first statement, so that one whose work is a single statement needs no more.

use sea_orm::{
    ConnectionTrait, DatabaseBackend, DatabaseConnection, DatabaseTransaction, DbErr, ExecResult, QueryResult,
    SqliteTransactionMode, Statement, TransactionOptions, TransactionTrait,
};
use tokio::sync::OnceCell;

/// What `Database::transact` hands out.
#[derive(Debug)]
pub struct Transaction {
    connection: DatabaseConnection,
    begun: OnceCell<DatabaseTransaction>,
}

impl Transaction {
    pub(super) fn new(connection: DatabaseConnection) -> Transaction {
        Transaction { connection, begun: OnceCell::new() }
    }

    /// Begins, if it hasn't.
    pub async fn begun(&self) -> Result<&DatabaseTransaction, DbErr> {
        let begin = || {
            let options = TransactionOptions {
                sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
                ..TransactionOptions::default()
            };
            self.connection.begin_with_options(options)
        };
        self.begun.get_or_try_init(begin).await
    }

    /// The last statement, which is the whole transaction if nothing was asked before: then it commits itself, and must
    /// fail by itself if it isn't to.
    pub async fn query_last(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        match self.begun.get() {
            Some(begun) => begun.query_one_raw(statement).await,
            None => self.connection.query_one_raw(statement).await,
        }
    }

    pub(super) async fn commit(self) -> Result<(), DbErr> {
        match self.begun.into_inner() {
            Some(begun) => begun.commit().await,
            None => Ok(()),
        }
    }

    pub(super) async fn rollback(self) -> Result<(), DbErr> {
        match self.begun.into_inner() {
            Some(begun) => begun.rollback().await,
            None => Ok(()),
        }
    }
}

#[async_trait::async_trait]
impl ConnectionTrait for Transaction {
    fn get_database_backend(&self) -> DatabaseBackend {
        self.connection.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.begun().await?.execute_raw(statement).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.begun().await?.execute_unprepared(sql).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.begun().await?.query_one_raw(statement).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.begun().await?.query_all_raw(statement).await
    }

    fn is_mock_connection(&self) -> bool {
        self.connection.is_mock_connection()
    }
}
