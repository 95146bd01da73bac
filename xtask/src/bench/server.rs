//! The S3 server that everything is measured against, and what it counts itself: the same for every tool.

use super::s3s_fs;
use crate::{
    project::run,
    services::{python::Python, s3},
};
use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::Serialize;
use serde_json::{Value, json};
use std::{
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::{Command, Stdio},
};

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The server of the tests. Most of the processor time is its own.
    #[value(name = "seaweedfs")]
    Seaweedfs,
    /// Needs less processor time of its own, never syncs what it writes, and counts no traffic. Only for measuring.
    #[value(name = "s3s-fs")]
    S3sFs,
}

impl Kind {
    /// What Longshore is told that it can, where trying it out ends badly: s3s-fs answers 500 to a body that isn't the signed one,
    /// and 400 to one that isn't as its checksum says, but keeps both.
    pub fn capabilities(self) -> Option<Value> {
        let known = || {
            json!({
                "ranges": true, "overwrite_visible": true, "list_after_put": true, "delete_visible": true, "multipart": true,
            })
        };
        (self == Kind::S3sFs).then(known)
    }

    /// The name of the picture of what was measured against it.
    pub fn picture(self) -> &'static str {
        match self {
            Kind::Seaweedfs => "data",
            Kind::S3sFs => "data-s3s-fs",
        }
    }
}

/// A server that runs.
pub struct Server {
    kind: Kind,
    s3: s3::S3,
}

/// What went through it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Traffic {
    /// Bytes of bodies that it received.
    pub sent_mib: f64,
    /// Bytes of bodies that it sent.
    pub received_mib: f64,
    /// Requests of any kind.
    pub requests: f64,
}

impl Traffic {
    /// What came since `before`.
    pub fn since(self, before: Traffic) -> Traffic {
        Traffic {
            sent_mib: self.sent_mib - before.sent_mib,
            received_mib: self.received_mib - before.received_mib,
            requests: self.requests - before.requests,
        }
    }
}

impl Server {
    /// Starts one in a scratch folder, and installs it before if it is missing.
    pub fn start(kind: Kind, scratch: &Path) -> Result<Server> {
        let s3 = match kind {
            Kind::Seaweedfs => s3::start(scratch, &Python::ready()?)?,
            Kind::S3sFs => s3s_fs::start(scratch)?,
        };
        Ok(Server { kind, s3 })
    }

    /// Which.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.s3.service.process().map_or(0, |process| process.pid)
    }

    /// Its address.
    pub fn endpoint(&self) -> &str {
        &self.s3.endpoint
    }

    /// A command that finds the server in its environment, whichever tool it is.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        for name in ["AWS_ACCESS_KEY_ID", "RCLONE_CONFIG_S3_ACCESS_KEY_ID", "LONGSHORE_BENCH_KEY"] {
            command.env(name, &self.s3.key);
        }
        for name in ["AWS_SECRET_ACCESS_KEY", "RCLONE_CONFIG_S3_SECRET_ACCESS_KEY", "LONGSHORE_BENCH_SECRET"] {
            command.env(name, &self.s3.secret);
        }
        command.env("RCLONE_CONFIG_S3_TYPE", "s3").env("RCLONE_CONFIG_S3_PROVIDER", "Other");
        command.env("RCLONE_CONFIG_S3_ENDPOINT", &self.s3.endpoint).env("RCLONE_CONFIG", "/dev/null");
        // rclone stops at a bundle of certificates that it can't load, though nothing here is encrypted.
        command.env_remove("AWS_CA_BUNDLE");
        command
    }

    /// A curl that signs what it asks for, and no bodies.
    pub fn curl(&self) -> Command {
        let mut curl = self.command("curl");
        curl.args(["-sSf", "--aws-sigv4", "aws:amz:us-east-1:s3", "--user"]).arg(format!("{}:{}", self.s3.key, self.s3.secret));
        curl.args(["-H", "x-amz-content-sha256: UNSIGNED-PAYLOAD"]);
        curl
    }

    /// Makes a bucket.
    pub fn make_bucket(&self, name: &str) -> Result<()> {
        let mut curl = self.curl();
        run(curl.args(["-X", "PUT"]).arg(format!("{}/{name}", self.endpoint())).stdout(Stdio::null()))
    }

    /// Removes a bucket with all that is in it.
    pub fn remove_bucket(&self, name: &str) -> Result<()> {
        let mut curl = self.curl();
        run(curl.args(["-X", "DELETE"]).arg(format!("{}/{name}", self.endpoint())).stdout(Stdio::null()))
    }

    /// The counters so far; `None` of a server that doesn't count.
    pub fn traffic(&self) -> Result<Option<Traffic>> {
        let Some(metrics) = self.s3.metrics else { return Ok(None) };
        let mut stream = TcpStream::connect(("127.0.0.1", metrics)).context("ask the server for its counters")?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let mib = f64::from(1 << 20);
        Ok(Some(Traffic {
            sent_mib: sum(&text, "SeaweedFS_s3_bucket_traffic_received_bytes_total") / mib,
            received_mib: sum(&text, "SeaweedFS_s3_bucket_traffic_sent_bytes_total") / mib,
            requests: sum(&text, "SeaweedFS_s3_request_total"),
        }))
    }
}

/// The sum of a counter over all its labels.
fn sum(text: &str, name: &str) -> f64 {
    let lines = text.lines().filter_map(|line| line.strip_prefix(name)).filter(|rest| rest.starts_with(['{', ' ']));
    lines.filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::Kind;
    use clap::ValueEnum;

    #[test]
    fn a_server_has_one_name_on_the_command_line_and_in_what_is_printed() {
        for kind in Kind::value_variants() {
            let name = kind.to_possible_value().map(|value| value.get_name().to_owned());
            assert_eq!(serde_json::json!(kind).as_str(), name.as_deref());
        }
    }

    #[test]
    fn a_counter_is_summed_over_its_labels_and_no_other_is() {
        let text = "# HELP a b\na{x=\"1 2\"} 3\na{x=\"2\"} 4\nab{x=\"1\"} 100\na 1\n";
        assert_eq!(super::sum(text, "a"), 8.0);
    }
}
