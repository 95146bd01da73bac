//! tmp
use crate::{ended::Ended, session::Session};
/// x
#[derive(Debug, clap::Args)]
pub(crate) struct Demo {}
impl Demo {
    pub(crate) async fn run(self, _s: &Session) -> Result<(), Ended> {
        Ok(())
    }
}
