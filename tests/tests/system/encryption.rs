//! RabbitMQ over TLS, with an authority that the test makes: the whole program runs over it, and a broker that
//! another authority vouches for is refused.

use crate::{
    cloud::{Cloud, Setup},
    rig::{backup_body, make_volume, noise, tool},
};
use longshore_tests::broker::Broker;
use std::{fs, path::Path};
use xtask::services::rabbitmq::Tls;

/// Makes an authority; its certificate and key are `NAME.pem` and `NAME.key`.
fn authority(folder: &Path, name: &str) {
    let file = |end: &str| folder.join(format!("{name}.{end}")).display().to_string();
    let (subject, key, certificate) = (format!("/CN={name}"), file("key"), file("pem"));
    let made = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
    tool("openssl", &[&made[..], &["-subj", &subject, "-keyout", &key, "-out", &certificate]].concat());
}

/// A certificate for 127.0.0.1 from the authority `right`.
fn certificate(folder: &Path) -> Tls {
    let file = |name: &str| folder.join(name).display().to_string();
    fs::write(file("names"), "subjectAltName = IP:127.0.0.1\n").unwrap();
    let (key, request, names, signed) = (file("broker.key"), file("broker.req"), file("names"), file("broker.pem"));
    let made = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=broker"];
    tool("openssl", &[&made[..], &["-keyout", &key, "-out", &request]].concat());
    let (authority, authority_key) = (file("right.pem"), file("right.key"));
    let signing = ["x509", "-req", "-days", "2", "-CAcreateserial", "-CA", &authority, "-CAkey", &authority_key];
    tool("openssl", &[&signing[..], &["-in", &request, "-extfile", &names, "-out", &signed]].concat());
    let read = |path: &str| fs::read_to_string(path).unwrap();
    Tls { authority: read(&authority), certificate: read(&signed), key: read(&key) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_over_tls_carries_everything_and_is_refused_under_another_authority() {
    let folder = tempfile::tempdir().unwrap();
    authority(folder.path(), "right");
    authority(folder.path(), "wrong");
    let broker = Broker::start_with(Some(certificate(folder.path()))).await;
    let trusted = folder.path().join("right.pem").display().to_string();
    let setup = Setup { amqp: Some(broker.tls_url()), environment: vec![("SSL_CERT_FILE", trusted)], ..Setup::default() };
    let cloud = Cloud::start(setup).await;
    make_volume(&cloud.volume("disk"), "raw", &noise(1, 4 << 20));
    let id = cloud.submit("backup-snapshot", &backup_body("disk", None));
    cloud.ready(&id).await;
    cloud.restores(&id).await;

    for wrong in [folder.path().join("wrong.pem"), folder.path().join("none.pem")] {
        let mut command = cloud.command(&["cancel", &id]);
        let output = command.env("SSL_CERT_FILE", &wrong).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(5), "{said}");
        assert!(said.contains("connect to the broker at amqps://127.0.0.1") && said.contains("certificate"), "{said}");
    }
}
