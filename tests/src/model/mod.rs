//! The state machine as pure data, to check stores against: every operation of nodes, zombies and people, what it answers,
//! and what the table looks like afterwards.
//!
//! Read `row` and `table` first: they are the model. `operation` names what can happen, `invariants` what must hold whatever
//! happens, `play` does one operation after the other on model and store and compares, `search` does so for every order of
//! operations up to a depth, and `bench` is what a play needs of a store.

pub mod bench;
pub mod draft;
pub mod invariants;
pub mod operation;
pub mod play;
pub mod row;
pub mod search;
pub mod table;
