//! Little-endian fields, read with bounds and written in order.

use super::{Broken, Hash};
use longshore_schema::ids::{OperationId, PackId};

/// What is left to read.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Broken> {
        let (head, rest) = self.0.split_at_checked(count).ok_or(Broken("it ends too early"))?;
        self.0 = rest;
        Ok(head)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Broken> {
        self.bytes(N)?.try_into().map_err(|_| Broken("it ends too early"))
    }

    pub(super) fn u8(&mut self) -> Result<u8, Broken> {
        Ok(self.array::<1>()?[0])
    }

    pub(super) fn u16(&mut self) -> Result<u16, Broken> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Broken> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Broken> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn hash(&mut self) -> Result<Hash, Broken> {
        self.array().map(Hash::from_bytes)
    }

    pub(super) fn pack_id(&mut self) -> Result<PackId, Broken> {
        let operation = OperationId(uuid::Uuid::from_bytes(self.array()?));
        Ok(PackId { operation, attempt: self.u32()?, n: self.u32()? })
    }

    /// `count` bytes that must be zeros.
    pub(super) fn zeros(&mut self, count: usize) -> Result<(), Broken> {
        let zeros = self.bytes(count)?.iter().all(|byte| *byte == 0);
        zeros.then_some(()).ok_or(Broken("a reserved field isn't zero"))
    }

    pub(super) fn end(&self) -> Result<(), Broken> {
        self.0.is_empty().then_some(()).ok_or(Broken("bytes follow its end"))
    }
}

pub(super) fn put_pack_id(out: &mut Vec<u8>, id: &PackId) {
    out.extend_from_slice(id.operation.0.as_bytes());
    out.extend_from_slice(&id.attempt.to_le_bytes());
    out.extend_from_slice(&id.n.to_le_bytes());
}
