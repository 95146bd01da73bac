//! `object.copy` and `object.transfer`: a volume, or an object of another store, becomes packs and a root. Spans are read and
//! processed several at a time, on all processors, and taken in their order; the packs that they fill are sent while the
//! next are read.
//!
//! **Invariant**: what is held in memory doesn't depend on the volume's size, except for the list of packs.

use super::{
    Tuning, Work,
    counts::check_counts,
    finish::{Finished, Sums, finish},
    format::{pack::Kind, page::Entry, root::RootFile, shape::Shape},
    lost::lost,
    manifest::{Cursor, Leaf, load_root_with_fanout},
    object::ObjectReader,
    pack::{Content, Numbers, Packer},
    pass_on::pass_on,
    process::{Outcome, Processed, Task, process},
    read::{Reader, Walk},
    resume::Earlier,
    tree::Tree,
    until_stopped,
    write::Uploader,
};
use crate::hypervisor::BlockRead;
use longshore_schema::{
    fault::{Fault, code},
    ids::PackId,
    steps::object::{About, Base, Copied, Sealed},
};
use std::{
    collections::{HashSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};
use tokio_util::task::AbortOnDropHandle;

/// What to copy.
pub struct Copying {
    /// The frozen volume, or the object.
    pub reader: Box<dyn BlockRead>,
    /// The same object, if its frames can be passed on: its extents have the size that they have in this store.
    pub frames: Option<ObjectReader>,
    /// Bytes of an extent in this store.
    pub extent_size: u32,
    /// What may be taken over.
    pub base: Option<Base>,
    /// For the root.
    pub about: About,
    /// Bytes that all attempts together may put.
    pub may_write: Option<u64>,
    /// Whether every byte that was put is read again, since the store doesn't check what it is given.
    pub read_back: bool,
    /// How.
    pub tuning: Tuning,
}

/// Copies, and closes the reader.
pub async fn copy(work: &Work, copying: Copying) -> Result<Copied, Fault> {
    let reader: Reader = Arc::new(copying.reader);
    let shape = Shape::with_fanout(reader.size(), copying.extent_size, copying.tuning.fanout);
    let shape = shape.map_err(|broken| Fault::permanent(code::IMAGE_INVALID, format!("{}: {broken}", copying.about.source)))?;
    let job = Job {
        work: work.clone(),
        reader,
        frames: copying.frames,
        shape,
        about: copying.about,
        may_write: copying.may_write,
        read_back: copying.read_back,
        tuning: copying.tuning,
        numbers: Numbers::default(),
        rewritten: AtomicU64::new(0),
    };
    let copied = until_stopped(&work.lease, job.copy(copying.base)).await.map_err(|fault| job.explained(fault))?;
    if let Some(reader) = Arc::into_inner(job.reader) {
        reader.close().await?;
    }
    Ok(copied)
}

struct Job {
    work: Work,
    reader: Reader,
    frames: Option<ObjectReader>,
    shape: Shape,
    about: About,
    may_write: Option<u64>,
    read_back: bool,
    tuning: Tuning,
    numbers: Numbers,
    /// Bytes of extents that an earlier attempt stored and that are others now.
    rewritten: AtomicU64,
}

/// A base that can be read so far.
struct Usable {
    base: Base,
    root: RootFile,
    cursor: Cursor,
}

/// Why a pass over the volume ended without a root.
enum Stopped {
    /// The base's manifest is damaged.
    BadBase(Fault),
    /// Anything else.
    Fault(Fault),
}

impl From<Fault> for Stopped {
    fn from(fault: Fault) -> Stopped {
        Stopped::Fault(fault)
    }
}

enum UnderWay {
    Done(Processed),
    Task(AbortOnDropHandle<Result<Processed, Fault>>),
}

impl UnderWay {
    async fn end(self) -> Result<Processed, Fault> {
        match self {
            UnderWay::Done(processed) => Ok(processed),
            UnderWay::Task(task) => task
                .await
                .unwrap_or_else(|error| Err(Fault::transient(code::INTERNAL, format!("a task of the copy died: {error}")))),
        }
    }
}

impl Job {
    /// With the base if it can be used, else all of it, and the reason.
    async fn copy(&self, base: Option<Base>) -> Result<Copied, Fault> {
        let mut because = None;
        let mut usable = match base {
            None => None,
            Some(base) => self.open(base, &mut because).await?,
        };
        loop {
            match self.pass(usable.take(), because.clone()).await {
                Ok(copied) => return Ok(copied),
                Err(Stopped::Fault(fault)) => return Err(fault),
                Err(Stopped::BadBase(fault)) => because = Some(self.without_base(&fault)),
            }
        }
    }

    async fn open(&self, mut base: Base, because: &mut Option<String>) -> Result<Option<Usable>, Fault> {
        let loaded = match check_counts(&self.work.store, base.object, &base.root).await {
            Ok(()) => load_root_with_fanout(&self.work.store, base.object, &base.root, self.shape.fanout()).await,
            Err(fault) => Err(fault),
        };
        let root = match loaded {
            Ok(root) => root,
            Err(fault) if is_damage(&fault) => {
                *because = Some(self.without_base(&fault));
                return Ok(None);
            }
            Err(fault) => return Err(fault),
        };
        if root.header.extent_size != self.shape.extent_size() {
            *because = Some(format!("full: the extents of base {} have another size", base.object));
            return Ok(None);
        }
        let cursor = Cursor::new(self.work.store.clone(), &root)?;
        let lost = lost(&self.work, &root.packs).await?;
        *because = Some(self.incremental(&base, &lost));
        base.sparse.extend(lost);
        Ok(Some(Usable { base, root, cursor }))
    }

    /// Why it is an incremental, and what else somebody should know.
    fn incremental(&self, base: &Base, lost: &[PackId]) -> String {
        let because = match self.frames {
            None => "incremental: all that is allocated was read and compared, since the source tells no changes",
            Some(_) => "incremental: of the extents only those were read whose digests the base doesn't have",
        };
        let Some(first) = lost.first() else { return because.into() };
        let (count, object) = (lost.len(), base.object);
        let damage = format!("{count} of base {object}'s packs are missing or cut short, {} among them", first.key());
        tracing::warn!(operation.id = %self.work.operation, damage, "the base is damaged; what its lost packs had is stored again");
        format!("{because}; {damage}: what they had was stored again, and {object} can't be restored whole")
    }

    /// A volume that stays as it was keeps to its bound. One that is written between attempts is stored twice.
    fn explained(&self, fault: Fault) -> Fault {
        let rewritten = self.rewritten.load(Relaxed);
        if fault.code != code::RESERVATION_EXCEEDED || rewritten == 0 {
            return fault;
        }
        let message = format!(
            "{} changes while it is copied: {rewritten} bytes are others than an earlier attempt stored, and with both {}",
            self.about.source, fault.message
        );
        Fault::permanent(code::VOLUME_CHANGED, message)
    }

    fn without_base(&self, fault: &Fault) -> String {
        tracing::warn!(operation.id = %self.work.operation, %fault, "the base can't be used, so everything is copied");
        format!("full: the base can't be used: {fault}")
    }

    async fn pass(&self, mut base: Option<Usable>, because: Option<String>) -> Result<Copied, Stopped> {
        let mut earlier = Earlier::find(&self.work).await?;
        self.numbers.skip_to(earlier.free_number());
        for (id, bytes) in earlier.packs() {
            self.work.lease.sealed(Sealed { id: id.clone(), bytes: *bytes });
        }
        let uploader = Uploader::new(self.work.clone(), self.tuning.puts, earlier.spent(), self.may_write);
        let mut packer = Packer::new(self.work.clone(), self.tuning.pack_bytes, self.numbers.clone(), uploader);
        let sparse = base.as_ref().map(|it| it.base.sparse.iter().cloned().collect()).unwrap_or_default();
        let sparse = Arc::<HashSet<PackId>>::new(sparse);
        let mut tree = Tree::new(self.shape, sparse.clone());
        let mut sums = Sums::default();
        let mut walk = Walk::new(self.reader.clone(), self.shape);
        let mut leaf = None;
        let mut under_way = VecDeque::new();
        loop {
            while under_way.len() < self.tuning.spans
                && let Some(span) = walk.next().await?
            {
                let known = earlier.known(span).await?;
                let base = match &mut base {
                    Some(usable) => base_leaf(usable, &mut leaf, span.first / self.shape.fanout()).await?,
                    None => None,
                };
                let task = Task { span, base, sparse: sparse.clone(), known, level: self.tuning.level };
                under_way.push_back(match task.without_reading() {
                    Ok(processed) => UnderWay::Done(processed),
                    Err(task) => UnderWay::Task(AbortOnDropHandle::new(tokio::spawn(self.process(task)))),
                });
            }
            let Some(next) = under_way.pop_front() else { break };
            let processed = next.end().await?;
            self.work.lease.check()?;
            self.take(processed, &mut sums, &mut tree, &mut packer).await?;
        }
        drop(walk);
        let base = base.map(|usable| (usable.base, usable.root));
        let finished = Finished { built: tree.finish(), packer, earlier, base, sums, because, read_back: self.read_back };
        Ok(finish(&self.work, self.shape, self.about.clone(), finished).await?)
    }

    fn process(&self, task: Task) -> impl Future<Output = Result<Processed, Fault>> + Send + use<> {
        let (reader, frames, shape) = (self.reader.clone(), self.frames.clone(), self.shape);
        async move {
            match frames {
                None => process(reader, shape, task).await,
                Some(frames) => pass_on(frames, task).await,
            }
        }
    }

    async fn take(&self, processed: Processed, sums: &mut Sums, tree: &mut Tree, packer: &mut Packer) -> Result<(), Fault> {
        let Processed { span, outcomes, base, read, rewritten } = processed;
        sums.read += read;
        self.rewritten.fetch_add(rewritten, Relaxed);
        for (extent, outcome) in (span.first..).zip(outcomes) {
            let length = self.shape.length(extent);
            let entry = match outcome {
                Outcome::Zero => {
                    sums.zeros += u64::from(length);
                    Entry::Zero
                }
                Outcome::Reused(digest, place) => {
                    sums.reused += u64::from(length);
                    Entry::Data(digest, place)
                }
                Outcome::Resumed(digest, place) => {
                    sums.resumed += u64::from(length);
                    Entry::Data(digest, place)
                }
                Outcome::New { digest, codec, stored, repacked } => {
                    sums.repacked += if repacked { u64::from(length) } else { 0 };
                    let content = Content { kind: Kind::Extent, index: extent, digest, length, codec, stored };
                    Entry::Data(digest, packer.add(content).await?)
                }
            };
            tree.push(extent, entry, base.as_deref(), packer).await?;
        }
        let done = self.shape.offset(span.first + u64::from(span.count)).min(self.shape.size());
        self.work.lease.progress(done, self.shape.size());
        Ok(())
    }
}

/// The base's leaf page `index`, read once for all spans under it; `None` past the base's end.
async fn base_leaf(usable: &mut Usable, last: &mut Option<(u64, Arc<Leaf>)>, index: u64) -> Result<Option<Arc<Leaf>>, Stopped> {
    if let Some((_, leaf)) = last.as_ref().filter(|(known, _)| *known == index) {
        return Ok(Some(leaf.clone()));
    }
    let shape = usable.root.shape().map_err(|broken| Stopped::BadBase(broken.at("the base's root")))?;
    if index >= shape.pages(0) {
        return Ok(None);
    }
    match usable.cursor.leaf(index).await {
        Ok(leaf) => {
            let leaf = Arc::new(leaf);
            *last = Some((index, leaf.clone()));
            Ok(Some(leaf))
        }
        Err(fault) if is_damage(&fault) => Err(Stopped::BadBase(fault)),
        Err(fault) => Err(Stopped::Fault(fault)),
    }
}

fn is_damage(fault: &Fault) -> bool {
    [code::OBJECT_CORRUPT, code::OBJECT_MISSING].contains(&fault.code.as_str())
}
