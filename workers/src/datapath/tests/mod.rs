//! Tests of the data path as a whole, on the file store and volumes in memory.

mod bound;
mod damage;
mod disk;
mod full;
mod geometry;
mod incremental;
mod readback;
mod resume;
mod rig;
mod shape;
mod sparse;
mod sweep;
mod transfer;
mod unfinished;
