//! What the steps of a volume do in a pool.

use super::{Advanced, Job, SIZE, done, failed, read};
use crate::simulation::{mutants::Bug, world::World};
use longshore_schema::{
    fault::code,
    steps::volume::{self, Identity, Written},
};

impl Job {
    pub(super) fn write(&mut self, world: &mut World) -> Advanced {
        let step: volume::Write = read(&self.message.args);
        let attempt = self.message.attempt.n;
        match self.done {
            1 => {
                world.put_draft(step.operation, attempt, self.late);
                None
            }
            2 => {
                self.content = self.must_read(world, step.object, &step.root)?;
                None
            }
            3 => {
                if let Some(file) = world.drafts.get_mut(&(step.operation, attempt)) {
                    file.content = Some(self.content);
                }
                None
            }
            _ => done(Written { virtual_size: SIZE, written: SIZE, fetched: SIZE, requests: 1, attempt }),
        }
    }

    pub(super) fn publish(&mut self, world: &mut World) -> Advanced {
        let step: volume::Publish = read(&self.message.args);
        let written: Written = read(&self.message.input);
        let Some(draft) = world.drafts.get(&(step.operation, written.attempt)).cloned() else {
            return failed(code::VOLUME_MISSING, "the draft isn't there");
        };
        if self.done == 1 {
            if !world.volumes.contains_key(&step.volume) || self.bug == Some(Bug::OverwriteVolumes) {
                world.link(step.volume, draft, self.late);
            }
            return None;
        }
        match world.volumes.get(&step.volume) {
            Some(found) if found.inode == draft.inode => done(Identity { id: draft.inode.to_string(), born_ns: None }),
            Some(_) | None => failed(code::VOLUME_EXISTS, step.volume),
        }
    }

    pub(super) fn discard_drafts(&mut self, world: &mut World) -> Advanced {
        let step: volume::Discard = read(&self.message.args);
        let found = world.drafts.keys().find(|(id, _)| *id == step.operation).copied();
        match found {
            Some(key) => {
                world.drafts.remove(&key);
                None
            }
            None => done(()),
        }
    }

    pub(super) fn remove(&mut self, world: &mut World) -> Advanced {
        let step: volume::Remove = read(&self.message.args);
        let identity: Option<Identity> = read(&self.message.input);
        let ours = world.volumes.get(&step.volume).is_some_and(|found| match &identity {
            Some(identity) => identity.id == found.inode.to_string(),
            None => world.drafts.iter().any(|((id, _), draft)| *id == step.operation && draft.inode == found.inode),
        });
        if self.done == 1 && ours && self.bug != Some(Bug::KeepVolumes) {
            world.remove_volume(&step.volume);
            return None;
        }
        done(())
    }
}
