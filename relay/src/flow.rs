//! Flows: each carries one thing from room to room, in order. Rooms know, flows decide; rooms do not know each other.

pub(crate) mod admit;
pub(crate) mod appear;
pub(crate) mod ask;
pub(crate) mod befriend;
pub(crate) mod commit;
pub(crate) mod deliver;
pub(crate) mod federate;
pub(crate) mod link;
pub(crate) mod log;
pub(crate) mod own;
pub(crate) mod resume;
pub(crate) mod sibling;
pub(crate) mod signal;
pub(crate) mod submit;
pub(crate) mod tree;
pub(crate) mod wake;
