//! Words in, nearest passages out: BM25 over English passages. It stands beside `xqg-index`, which
//! does the same with vectors, and is a crate of its own because it links a search engine that
//! nothing else needs. Mining looks here for passages that share a question's words; a query in
//! another language comes by way of its English translation.

pub mod error;
pub mod index;
