//! One work unit: its queries are ranked together, the passages of all rankings read once, then
//! each query gets its positives and negatives, on all threads.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use rayon::prelude::*;
use xqg_data::query::Query;
use xqg_data::training::{Asked, FoundBy, PassageSource, TrainingExample, TrainingPassage};
use xqg_data::translations::{Translations, single_spaced};

use super::answers::{Answers, Rule};
use super::counts::{Counts, LangCounts};
use super::passages::Passages;
use super::retriever::{Ask, Retriever};
use super::select::{Choice, Found, Ranking, lot, nearest, negatives, positives};

/// What is known about queries before anything is searched.
#[derive(Debug, Default)]
pub struct Known {
    /// Their translations.
    pub translations: Translations,
    /// For each judged query the rows of its relevant passages.
    pub judged: BTreeMap<String, Vec<u32>>,
    /// Ids and texts of queries that must not be used.
    pub left_out: BTreeSet<String>,
}

/// Mines one unit after another.
pub struct Miner {
    /// Where passages come from.
    pub retriever: Retriever,
    /// What is known.
    pub known: Known,
    /// How many, and from where.
    pub choice: Choice,
    /// What it takes to hold an answer.
    pub rule: Rule,
    /// The fewest characters of an answer.
    pub shortest_answer: usize,
}

/// A query that can be mined.
struct Task<'a> {
    query: &'a Query,
    answers: Answers,
    judged: &'a [u32],
    translation: Option<&'a str>,
}

/// Why a query cannot be.
enum Skip {
    LeftOut,
    NoAnswer,
    NotRanked,
}

/// A positive of a query and how it was found.
struct Positive {
    row: u32,
    source: PassageSource,
}

impl Miner {
    /// The rows of a unit's queries, in their order, and what became of each; `passages` are those
    /// read so far.
    pub fn unit(
        &self,
        queries: &[Query],
        passages: &mut Passages,
    ) -> Result<(Vec<TrainingExample>, Counts)> {
        let mut counts = Counts::default();
        let mut tasks = Vec::new();
        for query in queries {
            let counts = counts.of(query.lang);
            counts.queries += 1;
            match self.task(query) {
                Ok(task) => tasks.push(task),
                Err(Skip::LeftOut) => counts.left_out += 1,
                Err(Skip::NoAnswer) => counts.no_answer += 1,
                Err(Skip::NotRanked) => counts.not_ranked += 1,
            }
        }
        let rankings = self.rankings(&tasks)?;
        let judged = tasks.iter().flat_map(|task| task.judged.iter().copied());
        let ranked = rankings.iter().flatten().flat_map(|r| r.hits.iter().map(|hit| hit.1));
        passages.load(&self.retriever, judged.chain(ranked).collect())?;
        let passages = &*passages;
        let one = |(task, rankings): (&Task, &Vec<Ranking>)| {
            Mining { miner: self, passages, task, rankings }.run()
        };
        let mined: Vec<_> = tasks.par_iter().zip(&rankings).map(one).collect();
        for (task, (_, found)) in tasks.iter().zip(&mined) {
            counts.of(task.query.lang).add(found);
        }
        let examples = mined.into_iter().filter_map(|(example, _)| example).collect();
        Ok((examples, counts))
    }

    fn task<'a>(&'a self, query: &'a Query) -> Result<Task<'a>, Skip> {
        let Known { translations, judged, left_out } = &self.known;
        if left_out.contains(&query.qid) || left_out.contains(&single_spaced(&query.text)) {
            return Err(Skip::LeftOut);
        }
        let answers = Answers::new(&query.answers, self.rule, self.shortest_answer);
        let judged = judged.get(&query.qid).map(Vec::as_slice).unwrap_or_default();
        if answers.is_empty() && judged.is_empty() {
            return Err(Skip::NoAnswer);
        }
        let translation = translations.get(query);
        if translation.is_none() && !self.retriever.ranks_question(query) {
            return Err(Skip::NotRanked);
        }
        Ok(Task { query, answers, judged, translation })
    }

    fn rankings(&self, tasks: &[Task]) -> Result<Vec<Vec<Ranking>>> {
        let mut asks: Vec<Ask> = Vec::new();
        for (i, task) in tasks.iter().enumerate() {
            if self.retriever.ranks_question(task.query) {
                asks.push((i, Asked::Question, &task.query.text));
            }
            asks.extend(task.translation.map(|text| (i, Asked::Translation, text)));
        }
        self.retriever.rank(&asks, tasks.len(), self.choice.depth())
    }
}

/// The mining of one query.
struct Mining<'a> {
    miner: &'a Miner,
    passages: &'a Passages,
    task: &'a Task<'a>,
    rankings: &'a [Ranking],
}

impl Mining<'_> {
    fn run(&self) -> (Option<TrainingExample>, LangCounts) {
        let mut counts = self.count_found();
        let (positives, best) =
            if self.task.judged.is_empty() { self.by_answers() } else { self.by_judgments() };
        if positives.is_empty() {
            counts.no_passage += 1;
            return (None, counts);
        }
        let negatives = self.negatives(&positives, best.as_ref());
        counts.rows += 1;
        counts.positives += positives.len() as u64;
        counts.negatives += negatives.len() as u64;
        counts.few_negatives += u64::from(negatives.len() < self.miner.choice.negatives);
        let positives = positives.into_iter().map(|p| self.passage(p.row, p.source)).collect();
        let negative = |found: Found| self.passage(found.row, self.source(&found));
        let example = TrainingExample {
            query: self.task.query.clone(),
            prompt: None,
            positives,
            negatives: negatives.into_iter().map(negative).collect(),
        };
        (Some(example), counts)
    }

    /// What each ranking alone would find.
    fn count_found(&self) -> LangCounts {
        let to = self.miner.choice.positives_to;
        let finds = |asked: Asked| {
            let own = self.rankings.iter().filter(|r| r.asked == asked);
            u64::from(own.flat_map(|r| r.found().take(to)).any(|f| self.answer(f.row).is_some()))
        };
        LangCounts {
            translated: u64::from(self.task.translation.is_some()),
            by_question: finds(Asked::Question),
            by_translation: finds(Asked::Translation),
            by_qrels: u64::from(!self.task.judged.is_empty()),
            ..LangCounts::default()
        }
    }

    fn answer(&self, row: u32) -> Option<&str> {
        self.task.answers.held_by(self.passages.get(row))
    }

    fn by_answers(&self) -> (Vec<Positive>, Option<Found>) {
        let holds = |row| self.answer(row).is_some();
        let found = positives(self.rankings, &self.miner.choice, holds);
        let best = found.first().copied();
        let positive = |found: Found| {
            let answer = self.answer(found.row).map(str::to_owned);
            Positive { row: found.row, source: PassageSource { answer, ..self.source(&found) } }
        };
        (found.into_iter().map(positive).collect(), best)
    }

    /// The judged passages, those first that are ranked, best place first.
    fn by_judgments(&self) -> (Vec<Positive>, Option<Found>) {
        let judged = self.task.judged;
        let mut ranked = nearest(self.rankings, self.miner.choice.depth());
        ranked.retain(|found| judged.contains(&found.row));
        let best = ranked.first().copied();
        let place = |row: u32| ranked.iter().position(|found| found.row == row);
        let mut rows: Vec<u32> = judged.to_vec();
        rows.sort_by_key(|&row| (place(row).unwrap_or(usize::MAX), row));
        rows.truncate(self.miner.choice.positives);
        let positive = |row: u32| {
            let nowhere = PassageSource {
                by: FoundBy::Qrels,
                asked: None,
                rank: None,
                score: None,
                answer: None,
            };
            let at =
                place(row).map(|i| PassageSource { by: FoundBy::Qrels, ..self.source(&ranked[i]) });
            Positive { row, source: at.unwrap_or(nowhere) }
        };
        (rows.into_iter().map(positive).collect(), best)
    }

    fn negatives(&self, positives: &[Positive], best: Option<&Found>) -> Vec<Found> {
        let texts: Vec<&str> =
            positives.iter().map(|p| self.passages.get(p.row).passage.text.as_str()).collect();
        let is_eligible = |row: u32| {
            let passage = self.passages.get(row);
            let judged = self.task.judged.contains(&row);
            let same = texts.contains(&passage.passage.text.as_str());
            !judged && !same && !self.task.answers.named_by(passage)
        };
        let choice = &self.miner.choice;
        let ticket = |row: u32| {
            lot(choice.seed, &self.task.query.qid, &self.passages.get(row).passage.docid)
        };
        negatives(self.rankings, choice, best, is_eligible, ticket)
    }

    fn source(&self, found: &Found) -> PassageSource {
        PassageSource {
            by: self.miner.retriever.name(),
            asked: Some(found.asked),
            rank: u32::try_from(found.rank).ok(),
            score: Some(found.score),
            answer: None,
        }
    }

    fn passage(&self, row: u32, source: PassageSource) -> TrainingPassage {
        let passage = self.passages.get(row).passage.clone();
        TrainingPassage { passage, score: None, source: Some(source) }
    }
}
