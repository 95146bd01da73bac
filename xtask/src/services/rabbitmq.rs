//! RabbitMQ, from Debian's package: one node with the management plugin, and an epmd of its own, since each
//! Erlang node needs one and would otherwise leave a shared one behind.

use super::{
    account::Account,
    packages::{executable, newest},
    ports::Ports,
    probe::Probe,
    secret,
    service::{End, Service},
};
use anyhow::{Context, Result, ensure};
use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    time::{Duration, Instant},
};

const NODE: &str = "rabbitmq@localhost";
const USER: &str = "longshore";

/// Erlang's resolver: a node looks itself up by name, also on a machine whose /etc/hosts has no localhost.
const INETRC: &str = "{host, {127,0,0,1}, [\"localhost\"]}.\n{lookup, [file, native]}.\n";

/// A node that runs.
#[derive(Debug)]
pub struct Rabbitmq {
    /// How to kill it and start it again.
    pub service: Service,
    /// Its epmd, which stays when the node is killed.
    pub epmd: Service,
    /// The administrator's address of the virtual host `/`.
    pub url: String,
    /// The same over TLS, if it has a certificate.
    pub tls_url: Option<String>,
    /// The address of the management plugin's HTTP interface.
    pub management: String,
    _ports: Ports,
}

/// What a node needs to speak TLS: the content of PEM files.
#[derive(Debug, Clone)]
pub struct Tls {
    /// Who signed its certificate.
    pub authority: String,
    /// Its certificate, for 127.0.0.1.
    pub certificate: String,
    /// The certificate's key.
    pub key: String,
}

impl Rabbitmq {
    /// SIGKILL to the node, as soon as it has written down which quorum queues it has. It does that half a second
    /// after a declaration (Ra's `auto_save`); up to then a crash makes the queue unusable for ever (RabbitMQ
    /// 3.10, Ra 2.2), which is no test of ours.
    pub fn kill(&self) -> Result<()> {
        let process = self.service.process().context("the broker never started")?;
        let until = Instant::now() + Duration::from_secs(30);
        while !self.knows_its_queues()? && !process.wait(Duration::from_millis(20))? {
            ensure!(Instant::now() < until, "the broker hasn't written down its quorum queues for 30 s");
        }
        self.service.kill()
    }

    /// Each quorum queue has a folder, whose name is in the node's directory file once that is saved.
    fn knows_its_queues(&self) -> Result<bool> {
        let quorum = self.service.folder().join("data").join(NODE).join("quorum").join(NODE);
        if !quorum.is_dir() {
            return Ok(true);
        }
        let names = fs::read(quorum.join("names.dets")).unwrap_or_default();
        for entry in fs::read_dir(&quorum)? {
            let entry = entry?;
            let name = entry.file_name();
            let is_known = names.windows(name.len()).any(|part| part == name.as_encoded_bytes());
            if entry.file_type()?.is_dir() && !is_known {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Ends both.
    pub fn stop(&self) -> Result<()> {
        self.service.stop()?;
        self.epmd.stop()
    }
}

/// Starts one in `scratch`; with a certificate, it takes connections over TLS too.
pub fn start(scratch: &Path, tls: Option<&Tls>) -> Result<Rabbitmq> {
    let home = newest("/usr/lib/rabbitmq/lib", "rabbitmq_server-", "").context("RabbitMQ is not installed")?;
    let ports = Ports::reserve(5)?;
    let [epmd_port, amqp, amqps, management, distribution] = ports.numbers[..] else { unreachable!("five were reserved") };
    let account = Account::to_drop_to("rabbitmq")?;
    let epmd_env = [("ERL_EPMD_PORT", epmd_port.to_string()), ("ERL_EPMD_ADDRESS", "127.0.0.1".into())];
    let epmd_env: BTreeMap<String, String> = epmd_env.map(|(key, value)| (key.to_string(), value)).into();
    let epmd = Service {
        name: "epmd".into(),
        scratch: scratch.into(),
        program: executable("epmd").context("Erlang's epmd is not installed")?,
        args: vec![],
        env: epmd_env.clone(),
        account,
        probe: Probe::Tcp { port: epmd_port },
        end: End::Kill,
        litter: vec![],
    };
    epmd.make_folder()?;
    epmd.start()?;

    let password = secret::password();
    let mut service = Service {
        name: "rabbitmq".into(),
        // The package's wrappers in /usr/sbin insist on root; the scripts under its home run as anybody.
        program: home.join("sbin/rabbitmq-server"),
        env: epmd_env,
        probe: Probe::Amqp { port: amqp },
        ..epmd.clone()
    };
    let folder = service.make_folder()?.display().to_string();
    service.write(".erlang.cookie", 0o400, &secret::password())?;
    service.write("inetrc", 0o400, INETRC)?;
    service.write("plugins", 0o600, "[rabbitmq_management].\n")?;
    let mut configured = configuration(amqp, management, &password);
    if let Some(tls) = tls {
        configured.push_str(&format!("listeners.ssl.1 = 127.0.0.1:{amqps}\nssl_options.verify = verify_none\n"));
        for (option, content) in [("cacertfile", &tls.authority), ("certfile", &tls.certificate), ("keyfile", &tls.key)] {
            service.write(option, 0o400, content)?;
            configured.push_str(&format!("ssl_options.{option} = {folder}/{option}\n"));
        }
    }
    service.write("rabbitmq.conf", 0o600, &configured)?;
    let env = [
        ("ERL_INETRC", format!("{folder}/inetrc")),
        // Makes the script become the server instead of its parent: one process to kill.
        ("RUNNING_UNDER_SYSTEMD", "1".into()),
        ("RABBITMQ_HOME", home.display().to_string()),
        ("RABBITMQ_NODENAME", NODE.into()),
        ("RABBITMQ_DIST_PORT", distribution.to_string()),
        ("RABBITMQ_MNESIA_BASE", format!("{folder}/data")),
        ("RABBITMQ_LOG_BASE", format!("{folder}/log")),
        ("RABBITMQ_CONFIG_FILE", format!("{folder}/rabbitmq")),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", format!("{folder}/plugins")),
        ("RABBITMQ_CONF_ENV_FILE", "/dev/null".into()),
        ("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1} +SDio 4".into()),
    ];
    service.env.extend(env.map(|(key, value)| (key.to_string(), value)));
    service.start()?;
    let url = format!("amqp://{USER}:{password}@127.0.0.1:{amqp}/%2f");
    let tls_url = tls.map(|_| format!("amqps://{USER}:{password}@127.0.0.1:{amqps}/%2f"));
    let management = format!("http://{USER}:{password}@127.0.0.1:{management}");
    Ok(Rabbitmq { service, epmd, url, tls_url, management, _ports: ports })
}

fn configuration(amqp: u16, management: u16, password: &str) -> String {
    format!(
        "listeners.tcp.1 = 127.0.0.1:{amqp}\n\
         management.tcp.ip = 127.0.0.1\n\
         management.tcp.port = {management}\n\
         default_user = {USER}\n\
         default_pass = {password}\n\
         default_user_tags.administrator = true\n\
         log.console = true\n\
         log.console.level = warning\n\
         log.file = false\n\
         vm_memory_high_watermark.absolute = 2GB\n\
         disk_free_limit.absolute = 50MB\n"
    )
}
