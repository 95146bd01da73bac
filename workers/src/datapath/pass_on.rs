//! The extents of an object that is copied into a store where they have the same size: those that the base or an earlier
//! attempt has aren't even fetched, and frames of the others are passed on as they are, once their digests were checked.

use super::{
    format::page::Entry,
    object::ObjectReader,
    process::{Had, Outcome, Processed, Task},
    scan::Wanted,
};
use longshore_schema::fault::{Fault, code};

/// What becomes of the extents of one span.
pub async fn pass_on(source: ObjectReader, task: Task) -> Result<Processed, Fault> {
    let Task { span, base, sparse, known, level: _ } = task;
    let entries = source.entries(span.first, span.count.into()).await?;
    let had = Had::new(base.as_deref(), &sparse, &known);
    let (mut outcomes, mut wanted) = (vec![], vec![]);
    for (extent, entry) in (span.first..).zip(entries) {
        outcomes.push(match entry {
            Entry::Zero => Some(Outcome::Zero),
            Entry::Data(digest, place) => {
                let found = had.find(extent, digest);
                if found.is_none() {
                    wanted.push((Wanted { extent, digest }, place));
                }
                found
            }
        });
    }
    let mut read = 0;
    for (piece, stored) in source.frames(wanted).await? {
        let Wanted { extent, digest } = piece.tag;
        let repacked = had.in_base(extent, digest).is_some();
        read += u64::from(piece.length);
        outcomes[(extent - span.first) as usize] = Some(Outcome::New { digest, codec: piece.place.codec, stored, repacked });
    }
    let outcomes: Option<Vec<Outcome>> = outcomes.into_iter().collect();
    let outcomes = outcomes.ok_or_else(|| Fault::permanent(code::INTERNAL, "an extent that was to be fetched wasn't"))?;
    Ok(Processed { span, outcomes, base, read, rewritten: 0 })
}
