//! `longshore demo`: the main job on this machine, in a scratch folder, with an engine in this process: back a
//! disk up, change it, back it up again, restore both, compare every byte, destroy the first and restore again.

mod compare;
mod disk;
mod image;
mod report;
mod scene;
mod tool;

use crate::{
    ended::Ended,
    print::human,
    session::Session,
    settings::{Broker, File, Settings},
    shutdown,
};
use anyhow::Context;
use clap::Args;
use disk::Disk;
use longshore_schema::site::Size;
use report::Report;
use scene::Scene;
use serde_json::json;
use std::path::{Path, PathBuf};

/// `demo`
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Your own disk image instead of a made one: any format that qemu-img reads. It is copied, never written to.
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// The image's format, as qemu-img calls it; without, its name's suffix says it.
    #[arg(long, value_name = "FORMAT", requires = "image", value_parser = image::FORMATS)]
    format: Option<String>,
    /// Size of the made disk: 64 MiB to 1 TiB.
    #[arg(long, default_value = "256 MiB", conflicts_with = "image", value_parser = disk::size)]
    size: Size,
    /// Keep the scratch folder.
    #[arg(long)]
    keep: bool,
    /// Where the scratch folder goes; the system's temporary directory if absent.
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
}

/// The disk's volume in the pool.
const VOLUME: &str = "disk.qcow2";

impl Demo {
    pub(crate) async fn run(self, outer: &Session) -> Result<(), Ended> {
        let image = self.image.as_deref().map(|it| image::Found::look(it, self.format.as_deref())).transpose()?;
        let mut builder = tempfile::Builder::new();
        builder.prefix("longshore-demo-").disable_cleanup(self.keep);
        let folder = match &self.scratch {
            Some(parent) => builder.tempdir_in(parent),
            None => builder.tempdir(),
        };
        let folder = folder.context("make a scratch folder").map_err(Ended::Broken)?;
        // What was killed on its way leaves the folder; what ends, however it ends, removes it.
        if !self.keep {
            shutdown::removes(folder.path().to_owned());
        }
        let database = format!("sqlite://{}", folder.path().join("longshore.db").display());
        let settings = Settings { database, broker: Broker::Embedded, file: File::default() };
        let session = Session { settings, out: outer.out };
        let mut report = Report::new(session.out);
        report.title(&format!("Longshore: back up, change, back up again, restore, compare, in {}", folder.path().display()))?;
        if let Some(image) = &image {
            report.title(&image.said())?;
        }
        let stop = shutdown::on_signal().map_err(Ended::Broken)?;
        let mut scene = Scene::set(&session, folder.path()).await?;
        let played = tokio::select! {
            played = self.play(image, &mut scene, &mut report, folder.path()) => played,
            () = stop.cancelled() => Err(Ended::Interrupted(None)),
        };
        scene.close().await;
        played?;
        if self.keep {
            report.kept(folder.path())?;
        }
        report.end()
    }

    async fn play(
        &self,
        image: Option<image::Found>,
        scene: &mut Scene<'_>,
        report: &mut Report,
        folder: &Path,
    ) -> Result<(), Ended> {
        let broken = Ended::Broken;
        let started = report.begin("make the disk");
        let disk: Box<dyn Disk> = match &image {
            Some(image) => Box::new(image::Copied::of(image, folder).await.map_err(broken)?),
            None => Box::new(disk::Made::new(self.size.0, folder).await.map_err(broken)?),
        };
        let [first, second] = disk.snapshots();
        report.done(started, disk.said(), json!({"virtual_size": disk.size()}))?;

        let one = scene.backup(report, &format!("back up {first}"), first).await?;
        let started = report.begin("change it");
        let change = disk.change().await.map_err(broken)?;
        report.done(started, format!("{}; snapshot {second}", change.said), json!({"changed": change.bytes}))?;
        let two = scene.backup(report, &format!("back up {second}"), second).await?;

        scene.restore(report, &format!("restore {first}"), one.id, "restored-1.qcow2", "qcow2").await?;
        self.compare(disk.as_ref(), report, first, "restored-1.qcow2", folder).await?;
        scene.restore(report, &format!("restore {second}"), two.id, "restored-2.raw", "raw").await?;
        self.compare(disk.as_ref(), report, second, "restored-2.raw", folder).await?;
        if let Some(files) = disk.files() {
            let started = report.begin("read its files");
            let said = compare::files(files, &folder.join("pool/restored-2.raw"), folder).await.map_err(broken)?;
            report.done(started, said, json!({}))?;
        }

        scene.destroy(report, &format!("destroy {first}'s"), one.id).await?;
        scene.sweep(report).await?;
        scene.verify(report, &format!("verify {second}'s"), two.id).await?;
        scene.restore(report, "restore it again", two.id, "restored-3.qcow2", "qcow2").await?;
        self.compare(disk.as_ref(), report, second, "restored-3.qcow2", folder).await?;
        scene.histories(report).await?;
        report.figures(disk.size(), &one, &two)
    }

    async fn compare(
        &self,
        disk: &dyn Disk,
        report: &mut Report,
        snapshot: &str,
        volume: &str,
        folder: &Path,
    ) -> Result<(), Ended> {
        let started = report.begin("compare");
        let digest = compare::volumes(disk.size(), snapshot, volume, folder).await.map_err(Ended::Broken)?;
        let said = format!(
            "all {} are equal: qemu-img compare, and BLAKE3 of all that isn't zeros, {}…",
            human::bytes(disk.size()),
            &digest[..16]
        );
        report.done(started, said, json!({"volume": volume, "blake3": digest}))
    }
}
