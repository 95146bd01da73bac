//! The scratch folder: everything that the services write, and how to end them from its records.

use super::{secret, service::Service};
use anyhow::{Context, Error, Result, anyhow, ensure};
use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    thread,
};

/// A unix socket's path has at most 107 bytes, and ours have up to 40 after the folder.
const LONGEST: usize = 64;

/// Says that a folder is one of ours: nothing else is ever removed.
const MARK: &str = "scratch";

/// Makes a new scratch folder where temporary files go.
pub fn make() -> Result<PathBuf> {
    let temporary = std::env::temp_dir();
    let parent = if temporary.as_os_str().len() + 19 <= LONGEST { temporary } else { "/tmp".into() };
    make_in(&parent, "longshore")
}

/// Makes a new scratch folder in `parent`. Other accounts may pass through it to the service folders.
pub fn make_in(parent: &Path, prefix: &str) -> Result<PathBuf> {
    let folder = parent.join(format!("{prefix}-{:08x}", secret::number() >> 32));
    fs::create_dir(&folder).with_context(|| format!("make {}", folder.display()))?;
    fs::set_permissions(&folder, Permissions::from_mode(0o711))?;
    fs::write(folder.join(MARK), "Made by `cargo xtask services`, and removed by it.\n")?;
    Ok(folder)
}

/// Makes the folder in it for temporary files of what runs beside the services: so those go too, whoever left them.
pub fn temporary(folder: &Path) -> Result<PathBuf> {
    let temporary = folder.join("tmp");
    fs::create_dir(&temporary).with_context(|| format!("make {}", temporary.display()))?;
    fs::set_permissions(&temporary, Permissions::from_mode(0o711))?;
    Ok(temporary)
}

/// The error after which a folder was removed; it says so if that failed too.
pub fn removed_after(error: Error, removed: Result<()>) -> Error {
    match removed {
        Ok(()) => error,
        Err(e) => error.context(format!("stop what started, and remove its folder: {e:#}")),
    }
}

/// Ends every service of the folder and removes it.
pub fn stop(folder: &Path) -> Result<()> {
    ensure!(folder.join(MARK).is_file(), "{} is not a scratch folder of ours", folder.display());
    let services = Service::all(folder)?;
    thread::scope(|scope| {
        let stops: Vec<_> = services.iter().map(|service| scope.spawn(|| service.stop())).collect();
        stops.into_iter().try_for_each(|stop| stop.join().map_err(|_| anyhow!("a thread that stops a service panicked"))?)
    })?;
    fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_not_ours_is_never_removed() {
        let foreign = std::env::temp_dir().join(format!("xtask-foreign-{:x}", secret::number()));
        fs::create_dir(&foreign).unwrap();
        assert!(stop(&foreign).is_err());
        assert!(foreign.is_dir());
        fs::remove_dir(&foreign).unwrap();
    }

    #[test]
    fn a_scratch_folder_is_removed_with_all_in_it() {
        let outer = make().unwrap();
        let inner = make_in(&outer, "broker").unwrap();
        fs::write(inner.join("x"), "y").unwrap();
        fs::write(temporary(&outer).unwrap().join("x"), "y").unwrap();
        stop(&outer).unwrap();
        assert!(!outer.exists());
    }
}
