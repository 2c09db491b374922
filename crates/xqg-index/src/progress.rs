//! How long work tells where it is. The library calls a function that it was given; drawing bars
//! is the caller's business.

/// Which part of the work goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Reading passages and laying out work units.
    Passages,
    /// Reading questions and sorting them to their passages.
    Questions,
    /// Encoding passages.
    EncodePassages,
    /// Encoding questions.
    EncodeQuestions,
    /// Writing 8-bit copies; counts passages.
    Sketch,
    /// Copying embeddings that exist already.
    Copy,
    /// Scoring passages.
    Search,
    /// Reading all fused vectors once, for their centre and their greatest length.
    Survey,
    /// Linking passages in a graph.
    Graph,
    /// Fusing passages into a single matrix.
    Fuse,
}

/// A report of progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Which part of the work goes on.
    pub stage: Stage,
    /// Things done in this stage, counting those of an earlier, interrupted run.
    pub done: u64,
    /// Things to do in this stage, where known.
    pub total: Option<u64>,
}

/// The function that hears of progress.
pub type Observer<'a> = &'a mut dyn FnMut(Progress);
