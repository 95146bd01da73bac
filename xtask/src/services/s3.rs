//! SeaweedFS as the S3 server: master, volume server, filer and S3 interface in one process. Of the light
//! servers it is the one whose conditional puts hold under a race.

use super::{
    account::Account,
    ports::Ports,
    probe::Probe,
    python::Python,
    secret,
    service::{End, Service},
};
use anyhow::Result;
use serde_json::json;
use std::{collections::BTreeMap, path::Path};

/// A server that runs.
#[derive(Debug)]
pub struct S3 {
    /// How to kill it and start it again.
    pub service: Service,
    /// Its address.
    pub endpoint: String,
    /// The access key of its one identity, which may do everything.
    pub key: String,
    /// That key's secret.
    pub secret: String,
    /// The port where it tells what it has counted, if it counts.
    pub metrics: Option<u16>,
    /// Its ports, which nobody else takes while this is alive.
    pub ports: Ports,
}

/// One volume for each bucket instead of seven, so that tests can have hundreds of buckets.
const MASTER: &str = "[master.volume_growth]\ncopy_1 = 1\n";

/// Starts one in `scratch`, with the program that `python` has installed.
pub fn start(scratch: &Path, python: &Python) -> Result<S3> {
    let ports = Ports::reserve(9)?;
    let [master, master_grpc, volume, volume_grpc, filer, filer_grpc, s3, s3_grpc, metrics] = ports.numbers[..] else {
        unreachable!("nine were reserved")
    };
    let mut service = Service {
        name: "s3".into(),
        scratch: scratch.into(),
        program: python.program("weed"),
        args: vec![],
        env: BTreeMap::new(),
        account: Account::to_drop_to("nobody")?,
        probe: Probe::S3 { port: s3, master },
        end: End::Kill,
        // No option moves these.
        litter: [("master", master_grpc), ("volume", volume_grpc), ("filer", filer_grpc), ("s3", s3_grpc)]
            .map(|(part, port)| format!("/tmp/seaweedfs-{part}-grpc-{port}.sock").into())
            .into(),
    };
    service.make_folder()?;
    let (key, secret) = (secret::password(), secret::password());
    let identity = json!({
        "name": "test",
        "credentials": [{"accessKey": key, "secretKey": secret}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    });
    service.write("identities.json", 0o400, &json!({"identities": [identity]}).to_string())?;
    service.write("master.toml", 0o400, MASTER)?;
    let arguments = format!(
        "-logtostderr=true server -dir=. -ip=127.0.0.1 -ip.bind=127.0.0.1 \
         -master.port={master} -master.port.grpc={master_grpc} -master.peers=none -master.telemetry=false \
         -master.volumeSizeLimitMB=1024 -master.volumePreallocate=false \
         -volume.port={volume} -volume.port.grpc={volume_grpc} -volume.max=2000 \
         -filer -filer.port={filer} -filer.port.grpc={filer_grpc} -filer.localSocket=filer.sock \
         -s3 -s3.port={s3} -s3.port.grpc={s3_grpc} -s3.port.iceberg=0 -s3.port.lance=0 \
         -s3.config=identities.json -s3.localSocket=s3.sock -metricsPort={metrics}"
    );
    service.args = arguments.split_whitespace().map(String::from).collect();
    service.start()?;
    Ok(S3 { service, endpoint: format!("http://127.0.0.1:{s3}"), key, secret, metrics: Some(metrics), ports })
}
