//! The networks of a bi-encoder: one for both sides, or one each. One step of training goes through
//! here.

use crate::batch::Batch;
use crate::cache::Chunks;
use crate::composed::device::Opened;
use crate::config::{CorpusConfig, Distil, LossConfig};
use crate::corpus::LessonBatch;
use crate::engine::Tower;
use crate::error::TrainError;
use crate::loss::alignment::alignment;
use crate::loss::contrastive::info_nce;
use crate::loss::corpus::{Told, corpus_kl};
use crate::loss::distillation::{kl, margin_mse};
use crate::loss::{Loss, Scores};
use crate::network::Encoder;
use crate::network::pass::{Text, Workspace};

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

    /// Takes all networks to a device.
    ///
    /// # Errors
    /// As [`Tower::place`].
    pub fn place(&mut self, device: &Opened) -> Result<(), TrainError> {
        self.all.iter_mut().try_for_each(|tower| tower.place(device))
    }

    /// The embeddings of texts as queries (side 0) or passages (side 1), nothing left out; `tokens` are
    /// computed at once.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn embed(
        &mut self,
        side: usize,
        texts: &[Text],
        tokens: usize,
    ) -> Result<Vec<f32>, TrainError> {
        let place = side.min(self.passage());
        self.all[place].embed((texts, tokens), &mut self.workspace)
    }

    /// Adds the gradients of a batch, as one of `parts` of a step; returns its loss.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn learn(
        &mut self,
        batch: &Batch,
        settings: &LossConfig,
        chunks: Chunks,
        parts: usize,
    ) -> Result<f64, TrainError> {
        let passage = self.passage();
        let workspace = &mut self.workspace;
        let queries = self.all[0].encode(&batch.queries, chunks, workspace)?;
        let passages = self.all[passage].encode(&batch.passages, chunks, workspace)?;
        let temperature = temperature(&self.all[0].encoder, settings);
        let (q, p) = (&queries.embeddings, &passages.embeddings);
        let scores = Scores::new(q, p, self.all[0].encoder.config().hidden_size, temperature);
        let mut loss = total(&scores, batch, settings, temperature);
        if !loss.value.is_finite() {
            return Ok(loss.value);
        }
        loss.grad.iter_mut().for_each(|g| *g /= parts as f64);
        let (dq, dp) = scores.back(&loss.grad, q, p);
        for (place, texts, passed, grad) in
            [(0, &batch.queries, queries, dq), (passage, &batch.passages, passages, dp)]
        {
            self.all[place].back((texts, passed), &grad, chunks, workspace)?;
        }
        Ok(loss.value)
    }

    /// Adds the gradients of a batch of lessons over the passages of a corpus, as one of `parts` of
    /// a step; returns its loss.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn learn_corpus(
        &mut self,
        (batch, passages): (&LessonBatch<'_>, &[f32]),
        (settings, corpus): (&LossConfig, &CorpusConfig),
        chunks: Chunks,
        parts: usize,
    ) -> Result<f64, TrainError> {
        let (tower, workspace) = (&mut self.all[0], &mut self.workspace);
        let queries = tower.encode(&batch.queries, chunks, workspace)?;
        let encoder = &tower.encoder;
        let (dim, temperature) = (encoder.config().hidden_size, temperature(encoder, settings));
        let told = corpus.teacher_temperature.unwrap_or(temperature);
        let student = Scores::new(&queries.embeddings, passages, dim, temperature);
        let teacher = Scores::new(&batch.teachers, passages, dim, told);
        let told = Told {
            holders: &batch.holders,
            bonus: corpus.answer_bonus,
            prior: batch.prior,
            prior_weight: corpus.answer_prior,
            weight: corpus.answer_weight,
        };
        let mut loss = corpus_kl(&student, &teacher, &told);
        if loss.value.is_finite() {
            loss.grad.iter_mut().for_each(|g| *g /= parts as f64);
            let grad = student.back_to_queries(&loss.grad, passages);
            tower.back((&batch.queries, queries), &grad, chunks, workspace)?;
        }
        Ok(loss.value)
    }

    /// Waits until a device has done all that it was asked.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn wait(&self) -> Result<(), TrainError> {
        self.all.iter().try_for_each(Tower::wait)
    }

    /// The norm of all gradients that were added.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn norm(&self) -> Result<f64, TrainError> {
        let squares = self.all.iter().map(Tower::squares);
        Ok(squares.sum::<Result<f64, _>>()?.sqrt())
    }

    /// Changes all parameters by the gradients, and forgets these.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn step(&mut self, norm: f64, rate: f64) -> Result<(), TrainError> {
        self.all.iter_mut().try_for_each(|tower| tower.step(norm, rate))
    }

    /// Brings what was learned to where it is saved from.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn to_host(&mut self) -> Result<(), TrainError> {
        self.all.iter_mut().try_for_each(Tower::to_host)
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
