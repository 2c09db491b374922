//! One file a verb. Each parses, calls the library's verb of the same name, and prints.

pub mod compare;
pub mod derive;
pub mod encode;
pub mod evaluate;
pub mod explain;
pub mod filter;
pub mod generate;
pub mod graph;
pub mod index;
pub mod index_generate;
pub mod mine;
pub mod model;
pub mod prune;
pub mod quickstart;
pub mod search;
pub mod shell;
pub mod teach;
pub mod train;
pub mod tune;
