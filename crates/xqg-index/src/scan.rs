//! Search by sketches: one pass over the 8-bit copies bounds every row's score from both sides
//! ([`bounds`](crate::bounds)); what cannot be among the best k is dropped at once, and the few rows
//! that are left are scored from the stored numbers. The bounds are proven, so the best k, their
//! scores and the order of ties are those of a search over all stored numbers.
//!
//! One query or a few are multiplied with the rows where they lie, with all 14 bits. Of more queries
//! the upper 7 bits are multiplied in panels; where their bound leaves a row in play, the lower
//! 7 bits follow while the row lies in the cache.

use std::cmp::Ordering;

use xqg_kernel::codes::{PANEL, Panels, dots};
use xqg_kernel::isa::Isa;
use xqg_kernel::sift::{Sieve, sift};

use crate::block::{Block, Mix, Part, Row, Sheet, centres};
use crate::bounds::{COARSE_ROUNDING, Probe, TINY, interval};
use crate::exact::Buffers;
use crate::index::OpenUnit;
use crate::rescore::{Places, Wanted, rescore, score_sorted};
use crate::search::{Group, Hits, Pass};
use crate::share::share_out;
use crate::shortlist::{Candidate, Floor, Shortlist};
use crate::sketch::round_up;
use crate::top_k::TopK;

/// Rows that a thread takes at a time.
const PIECE_ROWS: usize = 1536;
/// Rows multiplied together: with their products they stay in a core's cache.
const BLOCK_ROWS: usize = 192;
/// Fewer queries than this are multiplied one by one.
const FEW: usize = 3;
/// And of those that weigh questions: to fold eight rows into one costs as much as nine queries do.
const FEW_FUSED: usize = 9;

/// Candidates of a query in a thread beyond which they are scored at once. Only collections with
/// very many nearly equal rows come here.
pub(crate) fn most_candidates(k: usize) -> usize {
    k.saturating_mul(4).saturating_add(1 << 14)
}

/// What all threads of a pass share.
struct Scan<'a> {
    pass: &'a Pass<'a>,
    isa: Isa,
    groups: Vec<Asked>,
    places: Places,
    floors: Vec<Floor>,
}

/// The queries of a group in digits.
struct Asked {
    probes: Vec<Probe>,
    panels: Panels,
}

/// The candidates and the memory of one thread.
struct State {
    lists: Vec<Shortlist>,
    sheet: Sheet,
    products: Vec<i32>,
    kept: Vec<u32>,
    low: Vec<i32>,
    middles: Vec<f64>,
    reaches: Vec<f64>,
    buffers: Buffers,
}

/// Ranks all rows for each weight and query of a pass.
pub(crate) fn run(pass: &Pass) -> Vec<Vec<Hits>> {
    let scan = Scan::new(pass);
    let pieces: Vec<(usize, usize)> =
        pass.index.units().iter().enumerate().flat_map(pieces).collect();
    let states = share_out(pieces.len(), || scan.state(), |state, i| scan.piece(state, pieces[i]));
    scan.finish(states)
}

/// Pieces of a unit: its number, and the first row within it.
fn pieces((number, unit): (usize, &OpenUnit)) -> impl Iterator<Item = (usize, usize)> {
    (0..unit.vectors.rows()).step_by(PIECE_ROWS).map(move |start| (number, start))
}

impl Asked {
    fn new(group: &Group) -> Self {
        let probe = |member: usize| Probe::new(group.vector(member));
        let probes: Vec<Probe> = (0..group.members.len()).map(probe).collect();
        let stride = probes.first().map_or(0, |p| p.high.len());
        let digits: Vec<u8> = probes.iter().flat_map(|p| &p.high).copied().collect();
        let few = probes.len() < if group.fused() { FEW_FUSED } else { FEW };
        let panels = if few { Panels::default() } else { Panels::pack(&digits, stride) };
        Self { probes, panels }
    }
}

impl<'a> Scan<'a> {
    fn new(pass: &'a Pass<'a>) -> Self {
        let slots = pass.queries * pass.options.weights.len();
        Self {
            pass,
            isa: Isa::detect(),
            groups: pass.groups.iter().map(Asked::new).collect(),
            places: Places::new(pass),
            floors: (0..slots).map(|_| Floor::new()).collect(),
        }
    }

    fn state(&self) -> State {
        State {
            lists: self.floors.iter().map(|_| Shortlist::new(self.pass.options.k)).collect(),
            sheet: Sheet::default(),
            products: Vec::new(),
            kept: Vec::new(),
            low: Vec::new(),
            middles: Vec::new(),
            reaches: Vec::new(),
            buffers: Buffers::default(),
        }
    }

    fn piece(&self, state: &mut State, (number, start): (usize, usize)) {
        let unit = &self.pass.index.units()[number];
        self.pass.index.fetch_ahead(number, self.pass.groups.iter().any(Group::fused));
        for (list, floor) in state.lists.iter_mut().zip(&self.floors) {
            list.learn(floor);
        }
        let end = (start + PIECE_ROWS).min(unit.vectors.rows());
        for (group, asked) in self.pass.groups.iter().zip(&self.groups) {
            let centres = Centres::new(self.isa, unit, group);
            for at in (start..end).step_by(BLOCK_ROWS) {
                let rows = BLOCK_ROWS.min(end - at);
                let block = Block::new(self.pass, unit, (at, rows), group);
                let first = (unit.first + at) as u32;
                self.block(state, &block, (group, asked, &centres), first);
            }
        }
        for slot in 0..state.lists.len() {
            if state.lists[slot].all.len() > most_candidates(self.pass.options.k) {
                self.settle(state, slot);
            }
        }
    }

    fn block(&self, state: &mut State, block: &Block, asked: AskedGroup, first: u32) {
        let (group, probes, _) = asked;
        for (weight, &alpha) in group.alphas.iter().enumerate() {
            let mix = block.mix(alpha, self.pass.options.renormalize);
            let slots = weight * self.pass.queries;
            if probes.panels.is_empty() {
                self.one_by_one(state, (block, &mix), asked, (first, slots));
            } else {
                state.sheet.fill(self.isa, block, &mix);
                self.in_panels(state, block, asked, (first, slots));
            }
        }
    }

    /// Multiplies each part of each row with each query, by both digits.
    fn one_by_one(
        &self,
        state: &mut State,
        (block, mix): (&Block, &Mix),
        (group, asked, centres): AskedGroup,
        (first, slots): (u32, usize),
    ) {
        for (member, probe) in asked.probes.iter().enumerate() {
            state.middles.clear();
            state.middles.resize(block.rows, 0.0);
            state.reaches.clear();
            state.reaches.resize(block.rows, 0.0);
            for (part, factors) in block.parts.iter().zip(&mix.factors) {
                let centre = centres.of(part.family, member);
                state.add_part(self.isa, (part, factors), probe, centre);
            }
            let slot = slots + group.members[member];
            let (list, floor) = (&mut state.lists[slot], &self.floors[slot]);
            let rows = state.middles.iter().zip(&state.reaches).zip(&mix.errors);
            for (i, ((&middle, &reach), &error)) in rows.enumerate() {
                let error = probe.norm * error + probe.fine.rest * reach;
                if middle + error + TINY < f64::from(list.floor) {
                    continue;
                }
                let (low, high) = interval(middle, error);
                list.push(Candidate { row: first + i as u32, low, high }, floor);
            }
        }
    }

    /// Multiplies each row with panels of queries by their high digits.
    fn in_panels(
        &self,
        state: &mut State,
        block: &Block,
        (group, asked, centres): AskedGroup,
        (first, slots): (u32, usize),
    ) {
        let State { lists, sheet, products, kept, .. } = state;
        let folded = !sheet.folded.is_empty();
        let codes = if folded { &sheet.folded[..] } else { block.parts[0].codes(block.rows) };
        let second = block.first_sum().map_or(0, |p| p.family);
        let near = Near { isa: self.isa, codes, rows: &sheet.rows, asked, centres, second };
        products.resize(block.rows * PANEL, 0);
        kept.resize(block.rows, 0);
        for panel in 0..asked.panels.len() {
            asked.panels.multiply(self.isa, panel, codes, products);
            let members = panel * PANEL..asked.probes.len().min((panel + 1) * PANEL);
            let floors = |member: usize| lists[slots + group.members[member]].floor;
            let sieve = sieve(asked, members.clone(), (centres, second), floors);
            sift(self.isa, &sieve, &sheet.terms, products, kept);
            for (i, (&kept, products)) in kept.iter().zip(products.chunks(PANEL)).enumerate() {
                for lane in lanes(kept).take_while(|&lane| lane < members.len()) {
                    let member = members.start + lane;
                    let (low, high) = near.bounds(i, member, products[lane]);
                    let slot = slots + group.members[member];
                    let candidate = Candidate { row: first + i as u32, low, high };
                    lists[slot].push(candidate, &self.floors[slot]);
                }
            }
        }
    }

    /// Scores all candidates of a slot and keeps the best.
    fn settle(&self, state: &mut State, slot: usize) {
        let list = &mut state.lists[slot];
        list.cut();
        if list.all.len() <= most_candidates(self.pass.options.k) / 2 {
            return;
        }
        let mut wanted: Vec<Wanted> =
            list.all.iter().map(|c| self.places.wanted(c.row, slot)).collect();
        wanted.sort_unstable();
        let (mut scores, ids) = (Vec::new(), &self.pass.index.ids);
        score_sorted(self.pass, &self.places, &mut state.buffers, &wanted, &mut scores);
        let mut best = TopK::new(self.pass.options.k);
        for (wanted, score) in wanted.iter().zip(scores) {
            best.offer(score, wanted.row, ids);
        }
        list.all.clear();
        for (score, row) in best.into_sorted(ids) {
            let known = if score.is_nan() { f32::INFINITY } else { score };
            let low = if score.is_nan() { f32::NEG_INFINITY } else { score };
            list.push(Candidate { row, low, high: known }, &self.floors[slot]);
        }
        list.cut();
    }

    /// Brings the threads' candidates together and scores them.
    fn finish(&self, states: Vec<State>) -> Vec<Vec<Hits>> {
        let k = self.pass.options.k;
        let mut lists: Vec<Shortlist> = self.floors.iter().map(|_| Shortlist::new(k)).collect();
        for state in states {
            for ((list, more), floor) in lists.iter_mut().zip(state.lists).zip(&self.floors) {
                list.all.extend(more.all);
                list.learn(floor);
            }
        }
        let mut best = vec![TopK::new(k); lists.len()];
        // The most promising first: their scores raise the floor for the others.
        self.offer(
            &mut best,
            lists.iter_mut().map(|list| {
                list.cut();
                let n = list.promising();
                list.all.drain(..n).collect()
            }),
        );
        let ids = &self.pass.index.ids;
        let rest: Vec<Vec<Candidate>> = lists
            .iter()
            .zip(&best)
            .map(|(list, best)| {
                let floor = best.floor(ids).unwrap_or(f32::NEG_INFINITY);
                // A bound that is no number excludes nothing.
                let out = |c: &&Candidate| c.high.partial_cmp(&floor) == Some(Ordering::Less);
                list.all.iter().filter(|c| !out(c)).copied().collect()
            })
            .collect();
        self.offer(&mut best, rest.into_iter());
        let mut runs: Vec<Vec<Hits>> = Vec::new();
        let mut sorted = best.into_iter().map(|top| top.into_sorted(ids));
        for _ in &self.pass.options.weights {
            runs.push(sorted.by_ref().take(self.pass.queries).collect());
        }
        runs
    }

    fn offer(&self, best: &mut [TopK], candidates: impl Iterator<Item = Vec<Candidate>>) {
        let wanted = |(slot, some): (usize, Vec<Candidate>)| {
            some.into_iter().map(move |c| self.places.wanted(c.row, slot))
        };
        let mut wanted: Vec<Wanted> = candidates.enumerate().flat_map(wanted).collect();
        let scores = rescore(self.pass, &self.places, &mut wanted);
        for (wanted, score) in wanted.iter().zip(scores) {
            best[wanted.slot as usize].offer(score, wanted.row, &self.pass.index.ids);
        }
    }
}

/// The places of the bits that are set.
fn lanes(mut bits: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lane = bits.trailing_zeros() as usize;
        bits &= bits.wrapping_sub(1);
        (lane < PANEL).then_some(lane)
    })
}

/// A block whose rows lie in the cache.
struct Near<'a> {
    isa: Isa,
    codes: &'a [i8],
    rows: &'a [Row],
    asked: &'a Asked,
    centres: &'a Centres,
    second: usize,
}

impl Near<'_> {
    /// Bounds of the score of a row for a member by both digits, of which the high ones have been
    /// multiplied.
    fn bounds(&self, i: usize, member: usize, product: i32) -> (f32, f32) {
        let (row, probe) = (&self.rows[i], &self.asked.probes[member]);
        let (stride, mut low) = (probe.low.len(), [0]);
        dots(self.isa, &self.codes[i * stride..][..stride], &probe.low, &mut low);
        let digits = 128.0 * f64::from(product) + f64::from(low[0]);
        let middle = row.times[0] * self.centres.of(0, member)
            + row.times[1] * self.centres.of(self.second, member)
            + probe.fine.base * row.total
            + probe.fine.step * row.scale * digits;
        interval(middle, probe.norm * row.error + probe.fine.rest * row.reach)
    }
}

type AskedGroup<'a> = (&'a Group, &'a Asked, &'a Centres);

impl State {
    /// Adds what a part brings to each row's product with a query.
    fn add_part(&mut self, isa: Isa, (part, factors): (&Part, &[f64]), probe: &Probe, centre: f64) {
        let (rows, codes) = (factors.len(), part.codes(factors.len()));
        self.products.resize(rows, 0);
        self.low.resize(rows, 0);
        dots(isa, codes, &probe.high, &mut self.products[..rows]);
        dots(isa, codes, &probe.low, &mut self.low[..rows]);
        let at = part.first..part.first + rows;
        let scales = &part.sketch.scales()[at.clone()];
        let reaches = &part.sketch.reaches()[at.clone()];
        let sums = &part.sketch.sums()[at];
        for i in 0..rows {
            let digits = 128.0 * f64::from(self.products[i]) + f64::from(self.low[i]);
            let product = probe.fine.base * f64::from(sums[i]) + probe.fine.step * digits;
            let middle = part.times(i) * centre + f64::from(scales[i]) * product;
            self.middles[i] += factors[i] * middle;
            self.reaches[i] += factors[i] * f64::from(reaches[i]);
        }
    }
}

/// The products of a unit's centres with the queries of a group.
struct Centres {
    members: usize,
    products: Vec<f32>,
}

impl Centres {
    fn new(isa: Isa, unit: &OpenUnit, group: &Group) -> Self {
        let members = group.members.len();
        let all: Vec<f32> = centres(unit).flatten().copied().collect();
        let dim = unit.vectors.dim();
        let mut products = vec![0.0; all.len() / dim * members];
        xqg_kernel::dense::dots(isa, dim, &all, &group.vectors, &mut products);
        Self { members, products }
    }

    fn of(&self, family: usize, member: usize) -> f64 {
        f64::from(self.products[family * self.members + member])
    }
}

/// The numbers of a panel's queries; a place without one lets nothing through.
fn sieve(
    asked: &Asked,
    members: std::ops::Range<usize>,
    (centres, second): (&Centres, usize),
    floor: impl Fn(usize) -> f32,
) -> Sieve {
    let mut sieve =
        Sieve { step: [0.0; PANEL], terms: [[0.0; PANEL]; 5], floor: [f32::INFINITY; PANEL] };
    let [bases, norms, rests, first, other] = &mut sieve.terms;
    for (lane, member) in members.enumerate() {
        let (coarse, norm) = (asked.probes[member].coarse, asked.probes[member].norm);
        sieve.step[lane] = coarse.step as f32;
        bases[lane] = coarse.base as f32;
        norms[lane] = round_up(norm * (1.0 + COARSE_ROUNDING));
        rests[lane] = round_up(coarse.rest + COARSE_ROUNDING * coarse.size);
        first[lane] = centres.of(0, member) as f32;
        other[lane] = centres.of(second, member) as f32;
        sieve.floor[lane] = (f64::from(floor(member)) - 2.0 * TINY) as f32;
    }
    sieve
}
