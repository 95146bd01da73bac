//! Stores with their ledgers, and workers as they last announced themselves.

use super::{
    App,
    parameters::{Asked, Parameters},
    refusal::Refusal,
};
use crate::{audit, database};
use anyhow::Context;
use axum::{Json, extract::State};
use longshore_schema::site::Role;
use serde_json::{Value, json};
use std::sync::Arc;

/// `{"stores": […]}`, by name.
pub(super) async fn stores(State(app): State<Arc<App>>, asked: Asked) -> Result<Json<Value>, Refusal> {
    Parameters::read(asked, &[])?;
    let stores = audit::places(app.database.read(), Role::Store.as_str()).await?;
    Ok(Json(json!({"stores": stores})))
}

/// `{"workers": […]}`, by id.
pub(super) async fn workers(State(app): State<Arc<App>>, asked: Asked) -> Result<Json<Value>, Refusal> {
    Parameters::read(asked, &[])?;
    let now = database::now(app.database.read()).await.context("read the database's clock")?;
    let workers = audit::workers(app.database.read(), now).await?;
    Ok(Json(json!({"workers": workers})))
}
