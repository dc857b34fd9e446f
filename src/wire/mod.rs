//! The faces: how requests arrive as bytes and how replies leave as bytes. A face is a pure function from the
//! head of a byte stream to one request and back from a reply to bytes; it keeps nothing between calls.

pub mod ask;
pub mod json;
pub mod text;
