//! What is in the store and in the pool, beside what is booked for it, and beside what everybody was told to be there.

use super::{
    job::{MARKER_BYTES, ROOT_BYTES, VOLUME_BOOKED},
    schedule::Simulation,
    setup::STORES,
};
use longshore_engine::journal::Item;
use longshore_schema::ids::{OperationId, PackId};
use std::collections::BTreeSet;

/// What is booked for each operation, whatever for.
const BOOKED: &str = "SELECT operation_id, sum(bytes) FROM (\
    SELECT operation_id, bytes_reserved + bytes_used AS bytes FROM reservation \
    UNION ALL SELECT operation_id, bytes FROM pack UNION ALL SELECT operation_id, bytes FROM remains) GROUP BY operation_id";

impl Simulation<'_> {
    /// Nobody has more in a place than is booked for it, but for what came late.
    pub(super) fn check_booked(&mut self, items: &[Item]) {
        let booked = self.place.sqlite.sums(BOOKED).expect("sums by operation");
        for (id, bytes) in self.world.takes() {
            let booked = booked.get(&id.0).copied().unwrap_or(0);
            if bytes > booked {
                self.wrong.push(format!("{id} takes {bytes} B, and {booked} B are booked for it"));
            }
        }
        self.check_line(booked, items);
    }

    /// When nothing happens any more: there is what must be there, and nothing else. `swept`: the stores were swept after the last
    /// late effect.
    pub(super) fn check_left(&mut self, swept: bool) {
        let (packs, roots) = (self.stray_packs(swept), self.stray_roots(swept));
        let world = &self.world;
        let (abandoned, late) = (&world.abandoned, &world.late);
        let markers = world.ready.keys().copied();
        let markers = markers.filter(|it| !world.precious.contains_key(it) && !world.may_stay(*it, swept));
        let markers = markers.filter(|it| swept || !late.ready.contains(it));
        let kept: BTreeSet<u64> = world.kept.values().map(|it| it.inode).collect();
        let drafts = world.drafts.iter().map(|((id, _), file)| (*id, "draft", file));
        let drafts = drafts.filter(|(id, _, file)| !late.files.contains(&file.inode) && !abandoned.contains(id));
        let volumes = world.volumes.values().filter(|it| !kept.contains(&it.inode)).map(|it| (it.owner, "volume", it));
        let volumes = volumes.filter(|(id, _, file)| !late.files.contains(&file.inode) && !abandoned.contains(id));
        let mut left: Vec<String> = packs.iter().map(|it| format!("pack {it}")).collect();
        left.extend(roots.iter().map(|(id, attempt)| format!("root {attempt} of {id}")));
        left.extend(markers.map(|it| format!("ready of {it}")));
        left.extend(drafts.chain(volumes).map(|(id, what, _)| format!("{what} of {id}")));
        if !left.is_empty() {
            self.wrong.push(format!("nobody needs what is left: {}", left.join(", ")));
        }
        let over = world.ready.keys().filter(|it| self.known.is_over(**it) && !abandoned.contains(it));
        let resurrected: Vec<_> = over.filter(|it| world.committed(**it).is_some()).collect();
        if !resurrected.is_empty() {
            self.wrong.push(format!("these are over, and their objects count: {resurrected:?}"));
        }
        self.check_sums();
    }

    /// Packs that no object refers to.
    fn stray_packs(&self, swept: bool) -> Vec<PackId> {
        let world = &self.world;
        let roots = world.precious.iter().filter_map(|(id, root)| world.roots.get(&(*id, root.attempt)));
        let needed: BTreeSet<&PackId> = roots.flat_map(|(manifest, _)| &manifest.packs).collect();
        let is_stray = |it: &&PackId| {
            // A sweep looks only among what isn't committed.
            let came_late = world.late.packs.contains(*it) && !(swept && world.committed(it.operation).is_none());
            !needed.contains(*it) && !world.may_stay(it.operation, swept) && !came_late
        };
        world.packs.keys().filter(is_stray).cloned().collect()
    }

    /// Roots of no object. An object that is there may have some of attempts that came to nothing.
    fn stray_roots(&self, swept: bool) -> Vec<(OperationId, u32)> {
        let world = &self.world;
        let is_stray = |it: &&(OperationId, u32)| {
            let came_late = world.late.roots.contains(*it) && !swept;
            !world.precious.contains_key(&it.0) && !world.may_stay(it.0, swept) && !came_late
        };
        world.roots.keys().filter(is_stray).copied().collect()
    }

    /// The books say how much is there: exactly, but for what remains of abandoned operations. In a store that is nothing, since
    /// sweeps find it, unless the object of one is committed, or packs of it
    /// were taken over; in the pool it is what they had.
    fn check_sums(&mut self) {
        let world = &self.world;
        let mut places = vec![];
        for store in STORES {
            let packs = world.packs.iter().filter(|(id, _)| world.is_in(id.operation, store) && !world.late.packs.contains(id));
            let packs: u64 = packs.map(|(_, (bytes, _))| bytes).sum();
            let objects = world.precious.keys().filter(|it| world.is_in(**it, store)).count() as u64;
            let mut abandoned = world.abandoned.iter().filter(|it| world.is_in(**it, store));
            let all_went = abandoned.all(|it| world.goes_at_last(*it));
            places.push((store, packs + objects * (ROOT_BYTES + MARKER_BYTES), all_went));
        }
        let volumes = self.known.volumes() as u64 * VOLUME_BOOKED;
        let all_stay = world.abandoned.iter().all(|it| self.known.told[it].kind != "create-volume");
        places.push(("fast", volumes, all_stay));
        for (place, there, exactly) in places {
            let books = format!("SELECT reserved, used, promised FROM place WHERE name = '{place}'");
            let [reserved, used, promised] =
                self.place.sqlite.numbers::<3>(&books).expect("the books").map(Option::unwrap_or_default);
            let there = there as i64;
            let fits = if exactly { used == there } else { used >= there };
            if !fits || reserved != 0 || promised != 0 {
                let booked = format!("{used} B used, {reserved} B reserved and {promised} B promised");
                self.wrong.push(format!("in {place} there are {there} B, and the books say {booked}"));
            }
        }
    }
}
