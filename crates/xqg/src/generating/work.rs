//! Going through the work, unit by unit: passages are written questions for, or questions are read;
//! either way the gate, where there is one, judges them, and the unit is kept. At the end the units
//! become one file of questions and, with a gate, one of rejected questions.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Result;
use xqg_data::error::DataError;
use xqg_data::lang::Lang;
use xqg_data::lines::LineFile;
use xqg_data::passage::Passage;
use xqg_index::manifest::Shard;

use super::counts::Counts;
use super::gate::{Block, Gate};
use super::judged::{Judged, Thresholds, apply, read_judged};
use super::writer::{QuestionWriter, Written};
use crate::progress::Display;
use crate::units::{Work, refuse_finished, write_lines};

/// Passages to be written questions for.
pub struct Task<'a> {
    /// The languages, in the order asked.
    pub langs: &'a [Lang],
    /// Questions a language.
    pub n: usize,
    /// Passages in a work unit.
    pub unit_passages: usize,
    /// Which units are this run's.
    pub shard: Shard,
    /// Passages in all units that are this run's.
    pub passages: u64,
    /// The gate, if there is one.
    pub gate: Option<&'a Gate<'a>>,
}

impl Task<'_> {
    /// Writes the questions of all units that are not finished yet; returns the units.
    ///
    /// # Errors
    /// Where the writer or the gate cannot go on. Finished units stay.
    pub fn run(
        &self,
        mut passages: LineFile<Passage>,
        writer: &mut dyn QuestionWriter,
        work: &Work,
        display: &mut Display,
    ) -> Result<Vec<usize>> {
        let (mut units, mut done) = (Vec::new(), 0);
        for unit in 0.. {
            let some: Vec<Passage> =
                passages.by_ref().take(self.unit_passages).collect::<Result<_, DataError>>()?;
            if some.is_empty() {
                break;
            }
            if !self.shard.holds(unit) {
                continue;
            }
            units.push(unit);
            if !work.has(unit) {
                let mut report = |n: u64| self.report(display, done + n);
                self.unit(unit, &some, writer, work, &mut report)?;
            }
            done += some.len() as u64;
        }
        Ok(units)
    }

    fn report(&self, display: &mut Display, passages: u64) {
        let each = (self.n * self.langs.len()) as u64;
        display.show("generating", "questions", passages * each, Some(self.passages * each));
    }

    fn unit(
        &self,
        unit: usize,
        passages: &[Passage],
        writer: &mut dyn QuestionWriter,
        work: &Work,
        report: &mut dyn FnMut(u64),
    ) -> Result<()> {
        let mut counts = Counts { passages: passages.len() as u64, ..Counts::default() };
        let mut blocks: Vec<Block> = Vec::with_capacity(passages.len());
        let batch = writer.batch().max(1);
        for (i, some) in passages.chunks(batch).enumerate() {
            report((i * batch) as u64);
            let written = writer.write(some, self.langs)?;
            for (passage, written) in some.iter().zip(written) {
                blocks.push((Some(passage), to_lines(passage, &written, &mut counts)));
            }
        }
        let rows = judge(blocks, self.gate, &mut counts)?;
        work.write(unit, &rows, &counts)
    }
}

/// The questions of a passage as lines; counts what is known of them.
pub fn to_lines(passage: &Passage, written: &Written, counts: &mut Counts) -> Vec<Judged> {
    counts.cut_passages += u64::from(written.truncated);
    counts.usage.add(&written.usage);
    for question in written.questions.iter().filter(|q| q.cut) {
        counts.languages.entry(question.lang.code().to_owned()).or_default().cut += 1;
    }
    // A blank text cannot be a line; a model may well write one.
    let lines = written.questions.iter().map(|q| Judged::new(q.to_line(&passage.docid)));
    let lines: Vec<Judged> = lines.filter_map(Result::ok).collect();
    counts.blank += (written.questions.len() - lines.len()) as u64;
    counts.without_questions += u64::from(lines.is_empty());
    lines
}

/// Judges the questions of a unit, counts them, and gives the unit's rows.
pub fn judge(mut blocks: Vec<Block>, gate: Option<&Gate>, counts: &mut Counts) -> Result<Vec<u8>> {
    if let Some(gate) = gate {
        gate.judge(&mut blocks)?;
    }
    let mut rows = Vec::new();
    for judged in blocks.iter().flat_map(|(_, block)| block) {
        counts.judge(judged);
        judged.write(&mut rows).expect("memory takes all that is written");
    }
    Ok(rows)
}

/// Where finished questions go.
pub struct Output {
    /// The questions that are kept.
    pub kept: PathBuf,
    /// Those that are not; none without a gate.
    pub rejected: Option<PathBuf>,
    /// The share of each language's questions that is kept at most.
    pub share: Option<f64>,
}

impl Output {
    /// An output; `q.jsonl` has its rejected questions in `q.rejected.jsonl`.
    pub fn new(kept: PathBuf, gate: bool, share: Option<f64>) -> Self {
        let rejected = gate.then(|| rejected_path(&kept));
        Self { kept, rejected, share }
    }

    /// Refuses files that exist, unless `force` is set or a killed run was about to end there.
    ///
    /// # Errors
    /// [`DataError::Exists`].
    pub fn refuse_finished(&self, force: bool) -> Result<(), DataError> {
        let outs: Vec<&Path> =
            [&self.kept].into_iter().chain(&self.rejected).map(PathBuf::as_path).collect();
        refuse_finished(&outs, force)
    }

    /// Makes the files of the finished units, removes these, and counts.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn finish(&self, work: Work, units: &[usize]) -> Result<Counts> {
        let mut counts = Counts::default();
        for &unit in units {
            counts.add(&work.read_counts(unit)?);
        }
        work.finish(|work| match &self.rejected {
            None => work.join(units.iter().copied(), &self.kept).map(|()| counts),
            Some(rejected) => self.split(work, units, rejected, counts),
        })
    }

    fn split(
        &self,
        work: &Work,
        units: &[usize],
        rejected: &Path,
        mut counts: Counts,
    ) -> Result<Counts> {
        let each = |visit: &mut dyn FnMut(Judged) -> Result<()>| -> Result<()> {
            for &unit in units {
                read_judged(&work.rows(unit))?.try_for_each(|judged| visit(judged?))?;
            }
            Ok(())
        };
        let mut thresholds = Thresholds::default();
        if self.share.is_some() {
            each(&mut |judged| {
                thresholds.add(&judged);
                Ok(())
            })?;
        }
        let settled = thresholds.settle(self.share.unwrap_or(1.0));
        let lines = |path: &Path, kept: bool, counts: Option<&mut Counts>| {
            let mut counts = counts;
            write_lines(path, |file| {
                each(&mut |mut judged| {
                    apply(&settled, &mut judged);
                    if let Some(counts) = counts.as_deref_mut() {
                        counts.judge(&judged);
                    }
                    if judged.reason.is_none() == kept {
                        judged.write(file).map_err(DataError::io("writing", path))?;
                    }
                    Ok(())
                })
            })
        };
        for lang in counts.languages.values_mut() {
            (lang.questions, lang.kept) = (0, 0);
            lang.rejected.clear();
        }
        lines(rejected, false, Some(&mut counts))?;
        lines(&self.kept, true, None)?;
        Ok(counts)
    }
}

/// `q.jsonl.gz` has its rejected questions in `q.rejected.jsonl.gz`.
fn rejected_path(kept: &Path) -> PathBuf {
    let name = kept.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let at = name.find(".jsonl").filter(|&at| at > 0).unwrap_or(name.len());
    let mut new = OsString::from(&name[..at]);
    new.push(".rejected");
    new.push(&name[at..]);
    kept.with_file_name(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejected_questions_lie_beside_the_others() {
        for (kept, rejected) in [
            ("a/q.jsonl", "a/q.rejected.jsonl"),
            ("q.jsonl.gz", "q.rejected.jsonl.gz"),
            ("q", "q.rejected"),
        ] {
            assert_eq!(rejected_path(Path::new(kept)), Path::new(rejected));
        }
    }
}
