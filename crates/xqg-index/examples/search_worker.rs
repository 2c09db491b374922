//! Our side of `bench/search`: an index that stays open and is searched each time it is asked.
//! `search_worker INDEX QUERIES.npy THREADS [graph]`; see `bench/search/worker.py` for what it reads and
//! prints. Passages are alone (share 0): it is their search that peers can do. With `graph` the index's
//! graph proposes, else every row is compared.
#![allow(clippy::print_stdout, clippy::unwrap_used)] // a measuring program of ours, not the product

use std::io::{BufRead as _, Write as _};
use std::path::Path;
use std::time::Instant;

use xqg_data::npy::{Dtype, MatrixWriter, write_counts};
use xqg_data::vectors::Embeddings;
use xqg_index::fuse::{LangWeights, Reduce, Weight};
use xqg_index::graph::Graph;
use xqg_index::graph::search::search_graph;
use xqg_index::index::Index;
use xqg_index::search::{Hits, QueryVectors, SearchOptions, search_rows};

struct Worker {
    index: Index,
    graph: Option<Graph>,
    effort: usize,
    queries: Vec<f32>,
    last: Vec<Hits>,
}

impl Worker {
    /// Searches some queries in calls of `batch`; returns the seconds.
    fn search(&mut self, (start, count, k): (usize, usize, usize), batch: usize) -> f64 {
        let dim = self.index.dim();
        let options = SearchOptions {
            k,
            weights: vec![Weight::Alpha(0.0)],
            reduce: Reduce::Mean,
            renormalize: true,
            langs: LangWeights::default(),
        };
        self.last.clear();
        let begun = Instant::now();
        for first in (start..start + count).step_by(batch) {
            let n = batch.min(start + count - first);
            let (qids, langs) = (vec![String::new(); n], vec![None; n]);
            let vectors = &self.queries[first * dim..][..n * dim];
            let queries = QueryVectors { qids: &qids, langs: &langs, vectors };
            let hits = match &self.graph {
                Some(graph) => {
                    let (both, effort) = ((&self.index, graph), Some(self.effort));
                    search_graph(both, queries, &options, effort, &mut |_| {}).unwrap()
                }
                None => search_rows(&self.index, queries, &options, &mut |_| {}).unwrap(),
            };
            self.last.extend(hits.into_iter().flatten());
        }
        begun.elapsed().as_secs_f64()
    }

    /// Writes the last rows and scores, query after query.
    fn save(&self, path: &str) {
        let rows: Vec<u32> = self.last.iter().flatten().map(|hit| hit.1).collect();
        let scores: Vec<f32> = self.last.iter().flatten().map(|hit| hit.0).collect();
        write_counts(Path::new(&format!("{path}.ids.npy")), &rows).unwrap();
        let scores_path = format!("{path}.scores.npy");
        let mut out =
            MatrixWriter::create(Path::new(&scores_path), Dtype::F32, scores.len(), 1).unwrap();
        out.push(&scores).unwrap();
        out.commit().unwrap();
    }

    fn answer(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |i: usize| words[i].parse::<usize>().unwrap();
        match words[0] {
            "one" => format!("{:.6}", self.search((number(1), number(2), number(3)), 1)),
            "batch" => format!("{:.6}", self.search((number(1), number(2), number(3)), number(2))),
            "save" => {
                self.save(words[1]);
                "saved".to_owned()
            }
            "effort" => {
                self.effort = number(1);
                "set".to_owned()
            }
            other => panic!("no such word: {other}"),
        }
    }
}

fn say(text: &str) {
    println!("{text}");
    std::io::stdout().flush().unwrap();
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let [_, index, queries, threads, graph @ ..] = &args[..] else {
        panic!("usage: search_worker INDEX QUERIES.npy THREADS [graph]");
    };
    let threads = threads.parse().unwrap();
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().unwrap();
    let begun = Instant::now();
    let index = Index::open(Path::new(index)).unwrap();
    let queries = Embeddings::open(Path::new(queries), None).unwrap().to_vec();
    let graph = (!graph.is_empty()).then(|| Graph::open(&index).unwrap());
    let mut worker = Worker { index, graph, effort: 64, queries, last: Vec::new() };
    say(&format!("ready {:.3}", begun.elapsed().as_secs_f64()));
    for line in std::io::stdin().lock().lines() {
        let words = worker.answer(&line.unwrap());
        say(&words);
    }
}
