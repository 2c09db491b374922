//! The networks of a bi-encoder: one for both sides, or one each; with gradients and optimisers. One
//! step of training goes through here.

use crate::batch::Batch;
use crate::cache::Chunks;
use crate::config::{CorpusConfig, Distil, LossConfig};
use crate::corpus::LessonBatch;
use crate::gradients::Gradients;
use crate::loss::alignment::alignment;
use crate::loss::contrastive::info_nce;
use crate::loss::corpus::corpus_kl;
use crate::loss::distillation::{kl, margin_mse};
use crate::loss::{Loss, Scores};
use crate::network::Encoder;
use crate::network::pass::{Keep, Text, Workspace};
use crate::optimiser::{AdamW, Optimiser};

/// Texts that are encoded at once where nothing is kept.
const AT_ONCE: usize = 256;

/// One network that learns.
#[derive(Debug)]
pub struct Tower {
    /// The network.
    pub encoder: Encoder,
    /// What changes its parameters.
    pub optimiser: Optimiser,
    gradients: Gradients,
}

impl Tower {
    /// A network that has not learned yet.
    pub fn new(encoder: Encoder, settings: AdamW) -> Self {
        let optimiser = Optimiser::new(settings, &encoder.parameters);
        let gradients = Gradients::zeros(&encoder.parameters);
        Self { encoder, optimiser, gradients }
    }
}

/// One network for both sides, or the query's and the passage's.
#[derive(Debug)]
pub struct Towers {
    /// One or two.
    pub all: Vec<Tower>,
    workspace: Workspace,
}

impl Towers {
    /// Towers of one or two networks, the query's first.
    pub fn new(all: Vec<Tower>) -> Self {
        Self { all, workspace: Workspace::default() }
    }

    /// The place of the passages' network.
    fn passage(&self) -> usize {
        self.all.len() - 1
    }

    /// The embeddings of texts as queries (side 0) or passages (side 1), nothing left out.
    pub fn embed(&mut self, side: usize, texts: &[Text]) -> Vec<f32> {
        let place = side.min(self.passage());
        let encoder = &mut self.all[place].encoder;
        let dropout = encoder.dropout.take();
        let mut embeddings = Vec::new();
        for part in texts.chunks(AT_ONCE) {
            let pass = encoder.forward(part, Keep::Nothing, &mut self.workspace);
            embeddings.extend_from_slice(&pass.embeddings);
            self.workspace.recycle(pass);
        }
        encoder.dropout = dropout;
        embeddings
    }

    /// Adds the gradients of a batch, as one of `parts` of a step; returns its loss.
    pub fn learn(
        &mut self,
        batch: &Batch,
        settings: &LossConfig,
        chunks: Chunks,
        parts: usize,
    ) -> f64 {
        let passage = self.passage();
        let workspace = &mut self.workspace;
        let queries = chunks.encode(&self.all[0].encoder, &batch.queries, workspace);
        let passages = chunks.encode(&self.all[passage].encoder, &batch.passages, workspace);
        let temperature = temperature(&self.all[0].encoder, settings);
        let (q, p) = (&queries.embeddings, &passages.embeddings);
        let scores = Scores::new(q, p, self.all[0].encoder.config().hidden_size, temperature);
        let mut loss = total(&scores, batch, settings, temperature);
        if !loss.value.is_finite() {
            return loss.value;
        }
        loss.grad.iter_mut().for_each(|g| *g /= parts as f64);
        let (dq, dp) = scores.back(&loss.grad, q, p);
        for (place, texts, encoded, grad) in
            [(0, &batch.queries, queries, dq), (passage, &batch.passages, passages, dp)]
        {
            let Tower { encoder, gradients, .. } = &mut self.all[place];
            chunks.back(encoder, (texts, encoded), &grad, gradients, workspace);
        }
        loss.value
    }

    /// Adds the gradients of a batch of lessons over the passages of a corpus, as one of `parts` of
    /// a step; returns its loss.
    pub fn learn_corpus(
        &mut self,
        (batch, passages): (&LessonBatch<'_>, &[f32]),
        (settings, corpus): (&LossConfig, &CorpusConfig),
        chunks: Chunks,
        parts: usize,
    ) -> f64 {
        let Tower { encoder, gradients, .. } = &mut self.all[0];
        let queries = chunks.encode(encoder, &batch.queries, &mut self.workspace);
        let (dim, temperature) = (encoder.config().hidden_size, temperature(encoder, settings));
        let told = corpus.teacher_temperature.unwrap_or(temperature);
        let student = Scores::new(&queries.embeddings, passages, dim, temperature);
        let teacher = Scores::new(&batch.teachers, passages, dim, told);
        let mut loss = corpus_kl(&student, &teacher, &batch.holders, corpus.answer_bonus);
        if loss.value.is_finite() {
            loss.grad.iter_mut().for_each(|g| *g /= parts as f64);
            let grad = student.back_to_queries(&loss.grad, passages);
            chunks.back(encoder, (&batch.queries, queries), &grad, gradients, &mut self.workspace);
        }
        loss.value
    }

    /// The norm of all gradients that were added.
    pub fn norm(&self) -> f64 {
        self.all.iter().map(|tower| tower.gradients.norm().powi(2)).sum::<f64>().sqrt()
    }

    /// Changes all parameters by the gradients, and forgets these.
    pub fn step(&mut self, norm: f64, rate: f64) {
        for Tower { encoder, optimiser, gradients } in &mut self.all {
            optimiser.step_of_norm(&mut encoder.parameters, gradients, (norm, rate));
            gradients.clear();
        }
    }
}

/// What scores are divided by: as the settings say, or as usual for such embeddings.
fn temperature(encoder: &Encoder, settings: &LossConfig) -> f64 {
    let usual = if encoder.head().normalize { 0.05 } else { 1.0 };
    settings.temperature.unwrap_or(usual)
}

/// The weighted sum of the losses that the settings ask for.
fn total(scores: &Scores, batch: &Batch, settings: &LossConfig, temperature: f64) -> Loss {
    let mut loss = Loss::zero(scores.values.len());
    if settings.contrastive > 0.0 {
        let margin = settings.false_negative_margin.map(|margin| margin / temperature);
        loss.add(&info_nce(scores, &batch.targets, margin), settings.contrastive);
    }
    let teacher = &batch.teacher;
    match settings.distil {
        Some(Distil::Kl) => {
            loss.add(&kl(scores, teacher, settings.teacher_temperature), settings.distil_weight);
        }
        Some(Distil::MarginMse) => loss.add(&margin_mse(scores, teacher), settings.distil_weight),
        None => {}
    }
    if settings.alignment > 0.0 {
        loss.add(&alignment(scores, &batch.pairs), settings.alignment);
    }
    loss
}
