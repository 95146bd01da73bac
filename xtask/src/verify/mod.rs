//! `cargo xtask verify`.

/// Checks.
pub fn verify() -> anyhow::Result<()> {
    Ok(())
}
