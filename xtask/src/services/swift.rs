//! OpenStack's Swift and Keystone, and the memcached in which Swift keeps the tokens that it gives itself (tempauth). Swift has
//! two proxies over the same servers: one for tempauth's users, one for Keystone's.

use super::{
    account::Account,
    packages::executable,
    ports::Ports,
    probe::Probe,
    python::Python,
    secret,
    service::{End, Service},
};
use anyhow::{Context, Result, anyhow};
use serde_json::json;
use std::{collections::BTreeMap, path::Path, thread};

const START_SWIFT: &str = include_str!("../../../tests/python/start_swift.py");
const START_KEYSTONE: &str = include_str!("../../../tests/python/start_keystone.py");

/// All of it, running.
#[derive(Debug)]
pub struct Swift {
    /// Swift itself: how to kill it and start it again.
    pub service: Service,
    /// Keystone.
    pub keystone: Service,
    /// What forgets tempauth's tokens when it is flushed.
    pub memcached: Service,
    /// Where tempauth gives tokens, to `test:tester`, who may do everything, and `test:reader`, who may do nothing.
    pub tempauth: String,
    /// Where Keystone gives them: to `tester` of the domain `Default` and to `stranger` of `elsewhere`, each for a project `backups`.
    pub identity: String,
    /// The key or password of all four.
    pub key: String,
    _ports: Ports,
}

/// Starts one in `scratch`, with what `python` has installed.
pub fn start(scratch: &Path, python: &Python) -> Result<Swift> {
    let ports = Ports::reserve(7)?;
    let [account, container, object, tempauth, keystone, memcached, identity] = ports.numbers[..] else {
        unreachable!("seven were reserved")
    };
    let remembers = Service {
        name: "memcached".into(),
        scratch: scratch.into(),
        program: executable("memcached").context("memcached is not installed")?,
        args: ["-l", "127.0.0.1", "-p", &memcached.to_string(), "-U", "0"].map(String::from).into(),
        env: BTreeMap::new(),
        account: Account::to_drop_to("nobody")?,
        probe: Probe::Tcp { port: memcached },
        end: End::Kill,
        litter: vec![],
    };
    let in_python = |name: &str, ports: &[u16], probe: Probe| Service {
        name: name.into(),
        program: python.interpreter(),
        args: std::iter::once(format!("start_{name}.py")).chain(ports.iter().map(u16::to_string)).collect(),
        // Both say much about what they will do one day.
        env: [("PYTHONWARNINGS".to_string(), "ignore".to_string())].into(),
        probe,
        ..remembers.clone()
    };
    let identifies = in_python("keystone", &[identity, keystone], Probe::Keystone { port: identity });
    let servers = [account, container, object, tempauth, keystone, memcached, identity];
    let service = in_python("swift", &servers, Probe::Swift { port: tempauth });
    let key = secret::password();
    let passwords = json!({"admin": secret::password(), "user": key}).to_string();
    remembers.make_folder()?;
    for (it, program) in [(&identifies, START_KEYSTONE), (&service, START_SWIFT)] {
        it.make_folder()?;
        it.write(&it.args[0], 0o400, program)?;
        it.write("passwords.json", 0o400, &passwords)?;
    }
    thread::scope(|scope| {
        let starts = [&identifies, &remembers, &service].map(|it| scope.spawn(move || it.start()));
        starts.into_iter().try_for_each(|it| it.join().map_err(|_| anyhow!("a thread that starts a part of Swift panicked"))?)
    })?;
    Ok(Swift {
        service,
        keystone: identifies,
        memcached: remembers,
        tempauth: format!("http://127.0.0.1:{tempauth}/auth/v1.0"),
        identity: format!("http://127.0.0.1:{identity}/v3"),
        key,
        _ports: ports,
    })
}
