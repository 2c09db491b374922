//! A lexical index in a folder: BM25 (k1 = 1.2, b = 0.75) over lower-cased words with English
//! stemming, of title and text together. It is built by one thread in the order of the corpus and
//! ends as one segment, so rows are the corpus's rows and rankings are the same every time. Memory
//! is bounded by [`ARENA_BYTES`]; the rest lies on disk, mapped.

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use tantivy::collector::TopDocs;
use tantivy::indexer::NoMergePolicy;
use tantivy::query::{BooleanQuery, Occur, Query, TermQuery};
use tantivy::schema::{
    FAST, Field, IndexRecordOption, STORED, STRING, Schema, TextFieldIndexing, TextOptions,
    Value as _,
};
use tantivy::tokenizer::{Language, LowerCaser, RemoveLongFilter, SimpleTokenizer, Stemmer};
use tantivy::tokenizer::{TextAnalyzer, TokenStream as _};
use tantivy::{DocAddress, Index, IndexWriter, Searcher, TantivyDocument, Term, doc};
use xqg_data::error::DataError;
use xqg_data::file::{remove, writable_folder, write_whole};
use xqg_data::passage::Passage;
use xqg_data::run::rank_order;

use crate::error::{LexicalError, Result};

/// What the words of passages not yet on disk may take while an index is built.
pub const ARENA_BYTES: usize = 256 << 20;

/// Words longer than this many bytes are left out: they are no words.
const LONGEST_WORD: usize = 64;
/// Written last: names the number of passages of a finished index.
const COMPLETE: &str = "complete";
const ANALYZER: &str = "english-words";

/// A passage's score and row, as a vector index gives them.
pub type Hit = (f32, u32);

struct Fields {
    words: Field,
    docid: Field,
    title: Field,
    text: Field,
    row: Field,
}

/// A finished lexical index, opened.
pub struct LexicalIndex {
    folder: PathBuf,
    fields: Fields,
    searcher: Searcher,
    analyzer: TextAnalyzer,
}

fn schema() -> (Schema, Fields) {
    let mut schema = Schema::builder();
    let words = TextFieldIndexing::default()
        .set_tokenizer(ANALYZER)
        .set_index_option(IndexRecordOption::WithFreqs);
    let fields = Fields {
        words: schema.add_text_field("words", TextOptions::default().set_indexing_options(words)),
        docid: schema.add_text_field("docid", STRING | STORED),
        title: schema.add_text_field("title", STORED),
        text: schema.add_text_field("text", STORED),
        row: schema.add_u64_field("row", FAST),
    };
    (schema.build(), fields)
}

fn analyzer() -> TextAnalyzer {
    TextAnalyzer::builder(SimpleTokenizer::default())
        .filter(RemoveLongFilter::limit(LONGEST_WORD))
        .filter(LowerCaser)
        .filter(Stemmer::new(Language::English))
        .build()
}

/// Builds an index of these passages in a folder, and opens it. An unfinished one that lies there
/// is thrown away; a finished one is opened without being checked against the passages.
///
/// # Errors
/// When a passage cannot be read or the disk refuses.
pub fn build(
    folder: &Path,
    passages: impl Iterator<Item = std::result::Result<Passage, DataError>>,
    observer: &mut dyn FnMut(u64),
) -> Result<LexicalIndex> {
    if !folder.join(COMPLETE).exists() {
        write(folder, passages, ARENA_BYTES, observer)?;
    }
    LexicalIndex::open(folder)
}

/// Writes the index and returns how many segments the arena made of it before they became one.
fn write(
    folder: &Path,
    passages: impl Iterator<Item = std::result::Result<Passage, DataError>>,
    arena: usize,
    observer: &mut dyn FnMut(u64),
) -> Result<usize> {
    remove(folder)?;
    writable_folder(folder)?;
    let (schema, fields) = schema();
    let engine = |source| engine("building", folder, source);
    let index = Index::create_in_dir(folder, schema).map_err(engine)?;
    index.tokenizers().register(ANALYZER, analyzer());
    let mut writer = index.writer_with_num_threads(1, arena).map_err(engine)?;
    writer.set_merge_policy(Box::new(NoMergePolicy));
    let mut rows = 0u64;
    for passage in passages {
        writer.add_document(document(&fields, passage?, rows)).map_err(engine)?;
        rows += 1;
        observer(rows);
    }
    writer.commit().map_err(engine)?;
    let segments = merge(&index, writer).map_err(engine)?;
    write_whole(&folder.join(COMPLETE), format!("{rows}\n").as_bytes())?;
    Ok(segments)
}

fn document(fields: &Fields, p: Passage, row: u64) -> TantivyDocument {
    doc!(
        fields.words => p.encoder_text(),
        fields.docid => p.docid,
        fields.title => p.title,
        fields.text => p.text,
        fields.row => row,
    )
}

/// Makes one segment of all, in the order of the rows; the engine itself orders segments by
/// random names. Returns how many there were.
fn merge(index: &Index, mut writer: IndexWriter) -> tantivy::Result<usize> {
    let searcher = index.reader()?.searcher();
    let mut order = Vec::new();
    for segment in searcher.segment_readers() {
        let first = segment.fast_fields().u64("row")?.first(0).unwrap_or(0);
        order.push((first, segment.segment_id()));
    }
    order.sort_unstable();
    let segments = order.len();
    if segments > 1 {
        let ids: Vec<_> = order.into_iter().map(|(_, id)| id).collect();
        writer.merge(&ids).wait()?;
        writer.garbage_collect_files().wait()?;
    }
    writer.wait_merging_threads()?;
    Ok(segments)
}

fn engine(doing: &'static str, folder: &Path, source: tantivy::TantivyError) -> LexicalError {
    LexicalError::Engine { doing, path: folder.to_path_buf(), source: Box::new(source) }
}

impl LexicalIndex {
    /// Opens a finished index.
    ///
    /// # Errors
    /// When the folder holds none, or one that is damaged.
    pub fn open(folder: &Path) -> Result<Self> {
        let engine = |source| engine("opening", folder, source);
        let index = Index::open_in_dir(folder).map_err(engine)?;
        let (ours, fields) = schema();
        let damaged = |expected: String, found: String| LexicalError::Damaged {
            path: folder.to_path_buf(),
            expected,
            found,
        };
        if index.schema() != ours {
            return Err(damaged("an index of this version".into(), "other fields".into()));
        }
        let searcher = index.reader().map_err(engine)?.searcher();
        let written = std::fs::read_to_string(folder.join(COMPLETE))
            .map_err(DataError::io("reading", &folder.join(COMPLETE)))?;
        let (segments, passages) = (searcher.segment_readers().len(), searcher.num_docs());
        if segments > 1 || written.trim() != passages.to_string() {
            let expected = format!("{} passages in one segment", written.trim());
            return Err(damaged(expected, format!("{passages} in {segments}")));
        }
        Ok(Self { folder: folder.to_path_buf(), fields, searcher, analyzer: analyzer() })
    }

    /// The number of passages.
    pub fn len(&self) -> usize {
        self.searcher.num_docs() as usize
    }

    /// Whether it holds no passage.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The best passages of each text, at most `k`, in the one order of rankings. A passage that
    /// shares no word with the text is not ranked; of passages that tie for the last place the
    /// first of the corpus is taken.
    ///
    /// # Errors
    /// When a file is damaged.
    pub fn search(&self, texts: &[&str], k: usize) -> Result<Vec<Vec<Hit>>> {
        texts.par_iter().map(|text| self.rank(text, k)).collect()
    }

    fn rank(&self, text: &str, k: usize) -> Result<Vec<Hit>> {
        let found = self
            .searcher
            .search(&self.query(text), &TopDocs::with_limit(k.max(1)).order_by_score())
            .map_err(|source| engine("searching", &self.folder, source))?;
        let mut hits = Vec::with_capacity(found.len());
        for (score, address) in found {
            hits.push((score, address.doc_id, self.stored(address.doc_id)?.docid));
        }
        hits.sort_by(|a, b| rank_order((f64::from(a.0), &a.2), (f64::from(b.0), &b.2)));
        Ok(hits.into_iter().map(|(score, row, _)| (score, row)).collect())
    }

    /// Any of the words; one that is asked twice counts twice.
    fn query(&self, text: &str) -> BooleanQuery {
        let mut analyzer = self.analyzer.clone();
        let mut stream = analyzer.token_stream(text);
        let mut clauses: Vec<(Occur, Box<dyn Query>)> = Vec::new();
        while let Some(token) = stream.next() {
            let term = Term::from_field_text(self.fields.words, &token.text);
            let query = TermQuery::new(term, IndexRecordOption::WithFreqs);
            clauses.push((Occur::Should, Box::new(query)));
        }
        BooleanQuery::new(clauses)
    }

    /// The row of a docid, where the corpus has it.
    ///
    /// # Errors
    /// When a file is damaged.
    pub fn row_of(&self, docid: &str) -> Result<Option<u32>> {
        let term = Term::from_field_text(self.fields.docid, docid);
        let query = TermQuery::new(term, IndexRecordOption::Basic);
        let found = self
            .searcher
            .search(&query, &TopDocs::with_limit(1).order_by_score())
            .map_err(|source| engine("searching", &self.folder, source))?;
        Ok(found.first().map(|(_, address)| address.doc_id))
    }

    /// The passages of some rows, in the order asked.
    ///
    /// # Errors
    /// When there is no such row, or a file is damaged.
    pub fn passages(&self, rows: &[u32]) -> Result<Vec<Passage>> {
        rows.iter().map(|&row| self.stored(row)).collect()
    }

    fn stored(&self, row: u32) -> Result<Passage> {
        let found: TantivyDocument = self
            .searcher
            .doc(DocAddress::new(0, row))
            .map_err(|source| engine("reading", &self.folder, source))?;
        let field = |field: Field| {
            found.get_first(field).and_then(|v| v.as_str()).unwrap_or_default().to_owned()
        };
        let Fields { docid, title, text, .. } = self.fields;
        Ok(Passage { docid: field(docid), title: field(title), text: field(text) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn passage(i: usize, text: &str) -> Passage {
        Passage { docid: format!("p{i:05}"), title: String::new(), text: text.to_owned() }
    }

    fn index(texts: &[&str]) -> (tempfile::TempDir, LexicalIndex) {
        let folder = tempfile::tempdir().unwrap();
        let all = texts.iter().enumerate().map(|(i, text)| Ok(passage(i, text)));
        let index = build(&folder.path().join("bm25"), all, &mut |_| {}).unwrap();
        (folder, index)
    }

    fn rows(index: &LexicalIndex, text: &str) -> Vec<u32> {
        index.search(&[text], 10).unwrap()[0].iter().map(|hit| hit.1).collect()
    }

    #[test]
    fn scores_are_those_of_the_formula() {
        let texts = ["the ships sail", "a ship of ships and ropes", "ropes", "nothing else here"];
        let (_folder, index) = index(&texts);
        let hits = &index.search(&["Ship?"], 10).unwrap()[0];
        // BM25 by hand, with the logarithm's + 1 and k1 + 1 above the line.
        let mean = (3.0 + 6.0 + 1.0 + 3.0) / 4.0;
        let idf = (1.0 + (4.0 - 2.0 + 0.5) / (2.0 + 0.5f64)).ln();
        let score =
            |tf: f64, length: f64| idf * tf * 2.2 / (tf + 1.2 * (0.25 + 0.75 * length / mean));
        let wanted = [(score(2.0, 6.0), 1), (score(1.0, 3.0), 0)];
        assert_eq!(hits.len(), 2);
        for (hit, wanted) in hits.iter().zip(wanted) {
            assert_eq!(hit.1, wanted.1);
            assert!((f64::from(hit.0) - wanted.0).abs() < 1e-5, "{hit:?} {wanted:?}");
        }
    }

    #[test]
    fn words_are_stemmed_and_ties_go_to_the_greater_docid() {
        let (_folder, index) = index(&["sailing ships", "sailing ships", "stones"]);
        assert_eq!(rows(&index, "a sailed ship"), [1, 0]);
        assert_eq!(rows(&index, "ఓడ !?"), [] as [u32; 0]);
        assert_eq!(index.passages(&[2, 0]).unwrap()[0].text, "stones");
        assert_eq!(index.row_of("p00002").unwrap(), Some(2));
        assert_eq!(index.row_of("p7").unwrap(), None);
        assert!(index.passages(&[3]).is_err(), "no such row");
    }

    #[test]
    fn an_unfinished_index_is_built_anew_and_a_damaged_one_refused() {
        let (folder, index) = index(&["one", "two"]);
        drop(index);
        let path = folder.path().join("bm25");
        std::fs::remove_file(path.join(COMPLETE)).unwrap();
        assert!(LexicalIndex::open(&path).is_err());
        let again = build(&path, [Ok(passage(0, "three"))].into_iter(), &mut |_| {}).unwrap();
        assert_eq!(again.len(), 1);
        std::fs::write(path.join(COMPLETE), "7\n").unwrap();
        let error = LexicalIndex::open(&path).err().unwrap().to_string();
        assert!(error.contains("expected 7 passages in one segment, found 1 in 1"), "{error}");
    }

    #[test]
    fn an_empty_corpus_has_no_hits() {
        let (_folder, index) = index(&[]);
        assert!(index.is_empty() && rows(&index, "a").is_empty());
    }

    #[test]
    fn many_segments_become_one_in_the_order_of_the_corpus() {
        let text = |i: usize| {
            let words = (0..40).map(|w| format!("w{}x{}", i * 7919 % 30_011, w * i % 97));
            words.collect::<Vec<_>>().join(" ")
        };
        let build = || {
            let folder = tempfile::tempdir().unwrap();
            let all = (0..30_000).map(|i| Ok(passage(i, &text(i))));
            let path = folder.path().join("b");
            assert!(write(&path, all, 15_000_000, &mut |_| {}).unwrap() > 2, "several segments");
            (folder, LexicalIndex::open(&path).unwrap())
        };
        let (_one, one) = build();
        let (_two, two) = build();
        for row in [0u32, 1, 14_999, 15_000, 29_999] {
            let docid = &one.passages(&[row]).unwrap()[0].docid;
            assert_eq!(*docid, format!("p{row:05}"));
        }
        let queries = [text(5), text(29_000) + &text(3), text(12_345)];
        let queries: Vec<&str> = queries.iter().map(String::as_str).collect();
        assert_eq!(one.search(&queries, 20).unwrap(), two.search(&queries, 20).unwrap());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn every_passage_is_found_by_its_own_words(
            texts in proptest::collection::vec("[a-e]{3,5}( [a-e]{3,5}){0,6}", 1..12),
        ) {
            let all: Vec<&str> = texts.iter().map(String::as_str).collect();
            let (_folder, index) = index(&all);
            for (i, text) in all.iter().enumerate() {
                let hits = &index.search(&[text], texts.len()).unwrap()[0];
                prop_assert!(hits.iter().any(|hit| hit.1 == i as u32));
                prop_assert!(hits.windows(2).all(|w| w[0].0 >= w[1].0));
            }
        }
    }
}
