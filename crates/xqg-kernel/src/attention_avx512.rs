//! The kernels of [`crate::attention`] for AVX-512: VNNI's products of two 16-bit or of four 8-bit
//! numbers, tiles of 12 rows x 32 columns as in `avx512.rs`.

use std::arch::asm;
use std::arch::x86_64::*;

use crate::attention::{GREATEST, Head, PANEL, Scratch};
use crate::{attention_eight as eight, attention_sixteen as sixteen};

/// Rows of a tile.
const TILE: usize = 12;
/// Bytes of a panel that a step of a product takes.
const STEP_BYTES: usize = PANEL * 4;

/// 2^f for f from -1/2 to 1/2, by powers from 4 to 0: the output of `tables/exp2_powers.py`, which also
/// tells the relative error, 2.6e-6.
const EXP2: [f32; 5] = [0.009_570_11, 0.055_917_9, 0.240_247_44, 0.693_121_8, 0.999_999_3];

/// Packs queries as rows, keys and values as panels; returns the scale of each.
///
/// # Safety
/// AVX-512 is there; the head's rows lie inside their buffer and the scratch has room for them.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(crate) unsafe fn pack<const EIGHT: bool>(head: &Head, s: &mut Scratch) -> [f32; 3] {
    // SAFETY: passed on from the caller.
    unsafe {
        let (found, most) = (greatest(head), if EIGHT { 127.0 } else { GREATEST });
        let factor = |i: usize| if found[i] > 0.0 { most / found[i] } else { 0.0 };
        let [queries, keys, values] =
            [&mut s.queries, &mut s.keys, &mut s.values].map(|v| v.as_mut_ptr().cast::<u8>());
        if EIGHT {
            eight::pack_queries(head, factor(0), queries);
            eight::pack_keys(head, factor(1), keys, s.starts.as_mut_ptr());
            eight::pack_values(head, factor(2), values);
        } else {
            sixteen::pack_queries(head, factor(0), queries.cast());
            sixteen::pack_keys(head, factor(1), keys.cast());
            sixteen::pack_values(head, factor(2), values.cast());
        }
        [found[0] / most, found[1] / most, found[2] / most]
    }
}

/// The greatest size of queries, keys and values.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn greatest(head: &Head) -> [f32; 3] {
    // SAFETY: the caller vouches for all rows.
    unsafe {
        let mut most = [_mm512_setzero_ps(); 3];
        for token in 0..head.n {
            let row = head.qkv.as_ptr().add(token * head.stride);
            for (most, column) in most.iter_mut().zip(head.columns) {
                for i in (0..head.dim).step_by(16) {
                    let v = _mm512_loadu_ps(row.add(column + i));
                    *most = _mm512_max_ps(*most, _mm512_abs_ps(v));
                }
            }
        }
        [
            _mm512_reduce_max_ps(most[0]),
            _mm512_reduce_max_ps(most[1]),
            _mm512_reduce_max_ps(most[2]),
        ]
    }
}

/// Transposes a block of 16 x 16 numbers of 32 bits.
#[target_feature(enable = "avx512f")]
#[inline]
pub(crate) unsafe fn transpose(rows: &mut [__m512i; 16]) {
    let mut turned = [_mm512_setzero_si512(); 16];
    // Pairs, then fours within each quarter of the registers.
    for i in 0..4 {
        let [a, b, c, d] = [rows[4 * i], rows[4 * i + 1], rows[4 * i + 2], rows[4 * i + 3]];
        let (ab, cd) = (_mm512_unpacklo_epi32(a, b), _mm512_unpacklo_epi32(c, d));
        let (ab_high, cd_high) = (_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d));
        turned[4 * i] = _mm512_unpacklo_epi64(ab, cd);
        turned[4 * i + 1] = _mm512_unpackhi_epi64(ab, cd);
        turned[4 * i + 2] = _mm512_unpacklo_epi64(ab_high, cd_high);
        turned[4 * i + 3] = _mm512_unpackhi_epi64(ab_high, cd_high);
    }
    // Then the quarters themselves: column 4 q + j is quarter q of the four registers with j.
    for j in 0..4 {
        let [a, b, c, d] = [turned[j], turned[4 + j], turned[8 + j], turned[12 + j]];
        let (ab, cd) = (_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0x88>(c, d));
        let (ab_odd, cd_odd) =
            (_mm512_shuffle_i32x4::<0xdd>(a, b), _mm512_shuffle_i32x4::<0xdd>(c, d));
        rows[j] = _mm512_shuffle_i32x4::<0x88>(ab, cd);
        rows[8 + j] = _mm512_shuffle_i32x4::<0xdd>(ab, cd);
        rows[4 + j] = _mm512_shuffle_i32x4::<0x88>(ab_odd, cd_odd);
        rows[12 + j] = _mm512_shuffle_i32x4::<0xdd>(ab_odd, cd_odd);
    }
}

/// Numbers that a step of a product takes of each row: four bytes.
const fn a_step(eight: bool) -> usize {
    if eight { 4 } else { 2 }
}

/// Bytes of a number.
const fn bytes(eight: bool) -> usize {
    if eight { 1 } else { 2 }
}

/// Scores of some queries with all keys, and the softmax's weights of them.
///
/// # Safety
/// AVX-512 and VNNI are there; the scratch is [`pack`]ed and has room for the rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(crate) unsafe fn weigh<const EIGHT: bool>(
    head: &Head,
    scales: [f32; 3],
    most: f32,
    (first, rows): (usize, usize),
    s: &mut Scratch,
) {
    let keys = head.n.next_multiple_of(PANEL);
    let factor = scales[0] * scales[1] * head.scale * std::f32::consts::LOG2_E;
    let (width, steps) = (head.dim * bytes(EIGHT), head.dim / a_step(EIGHT));
    // SAFETY: passed on from the caller.
    unsafe {
        let queries = s.queries.as_ptr().cast::<u8>().add(first * width);
        let (scores, weights) = (s.scores.as_mut_ptr(), s.weights.as_mut_ptr().cast::<u8>());
        for row in (0..rows).step_by(TILE) {
            let some = TILE.min(rows - row);
            for panel in 0..keys / PANEL {
                let b = s.keys.as_ptr().cast::<u8>().add(panel * PANEL * width);
                let starts = s.starts.as_ptr().add(panel * PANEL);
                let to = scores.add(row * keys + panel * PANEL);
                score_tile::<EIGHT>(
                    some,
                    (queries.add(row * width), width),
                    (b, steps),
                    starts,
                    (to, keys),
                );
            }
            let place =
                (scores.add(row * keys).cast_const(), weights.add(row * keys * bytes(EIGHT)));
            softmax::<EIGHT>(
                some,
                (head.n, keys),
                (factor, most),
                place,
                s.totals.as_mut_ptr().add(row),
            );
        }
    }
}

/// The context of some rows: their weights times the values, over the sum of weights.
///
/// # Safety
/// As [`weigh`], which has seen the same rows; the context has room for them.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(crate) unsafe fn gather<const EIGHT: bool>(
    head: &Head,
    scale: f32,
    rows: usize,
    (out, stride): (*mut f32, usize),
    s: &Scratch,
) {
    let (keys, steps) = (head.n.next_multiple_of(PANEL), head.n.div_ceil(a_step(EIGHT)));
    // SAFETY: passed on from the caller.
    unsafe {
        let (values, weights) = (s.values.as_ptr().cast::<u8>(), s.weights.as_ptr().cast::<u8>());
        for panel in 0..head.dim / PANEL {
            let b = values.add(panel * steps * STEP_BYTES);
            for row in (0..rows).step_by(TILE) {
                let width = keys * bytes(EIGHT);
                let left = (weights.add(row * width), width);
                let about = (s.totals.as_ptr().add(row), scale);
                let to = (out.add(row * stride + panel * PANEL), stride);
                context_tile::<EIGHT>(TILE.min(rows - row), left, (b, steps), about, to);
            }
        }
    }
}

/// VNNI's sum of two products. Named as an instruction, for the compiler takes the intrinsic apart
/// into a product and a sum, which is half as fast.
#[target_feature(enable = "avx512f,avx512vnni")]
#[inline]
unsafe fn add_products(mut sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
    // SAFETY: the instruction reads and writes these registers only; the caller vouches for the set.
    unsafe {
        asm!(
            "vpdpwssd {sum}, {a}, {b}",
            sum = inout(zmm_reg) sum,
            a = in(zmm_reg) a,
            b = in(zmm_reg) b,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sum
}

/// Adds products of two 16-bit or four 8-bit numbers a step: `M` rows with one panel.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
#[inline]
unsafe fn add_tile<const M: usize, const EIGHT: bool>(
    sums: &mut [[__m512i; 2]; M],
    (a, stride): (*const u8, usize),
    (b, steps): (*const u8, usize),
) {
    // SAFETY: the caller vouches for rows and panel.
    unsafe {
        for step in 0..steps {
            let at = b.add(step * STEP_BYTES);
            let (left, right) =
                (_mm512_loadu_si512(at.cast()), _mm512_loadu_si512(at.add(64).cast()));
            for (i, sum) in sums.iter_mut().enumerate() {
                let some = a.add(i * stride + 4 * step).cast::<i32>().read_unaligned();
                let x = _mm512_set1_epi32(some);
                if EIGHT {
                    sum[0] = _mm512_dpbusd_epi32(sum[0], x, left);
                    sum[1] = _mm512_dpbusd_epi32(sum[1], x, right);
                } else {
                    sum[0] = add_products(sum[0], x, left);
                    sum[1] = add_products(sum[1], x, right);
                }
            }
        }
    }
}

/// Calls a function of a constant number of rows.
macro_rules! by_rows {
    ($rows:expr, $function:ident, $eight:ident, $args:tt, $($m:literal)*) => {
        match $rows {
            $($m => $function::<$m, $eight> $args,)*
            _ => unreachable!("a tile has 1 to 12 rows"),
        }
    };
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn score_tile<const EIGHT: bool>(
    rows: usize,
    a: (*const u8, usize),
    b: (*const u8, usize),
    starts: *const i32,
    to: (*mut i32, usize),
) {
    // SAFETY: passed on from the caller.
    unsafe { by_rows!(rows, score_rows, EIGHT, (a, b, starts, to), 1 2 3 4 5 6 7 8 9 10 11 12) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
#[inline]
unsafe fn score_rows<const M: usize, const EIGHT: bool>(
    a: (*const u8, usize),
    b: (*const u8, usize),
    starts: *const i32,
    (to, stride): (*mut i32, usize),
) {
    // SAFETY: passed on from the caller, who vouches for room for whole panels.
    unsafe {
        let mut sums = [[_mm512_setzero_si512(); 2]; M];
        if EIGHT {
            let start = [0, 16].map(|i| _mm512_loadu_si512(starts.add(i).cast()));
            sums = [start; M];
        }
        add_tile::<M, EIGHT>(&mut sums, a, b);
        for (i, sum) in sums.into_iter().enumerate() {
            _mm512_storeu_si512(to.add(i * stride).cast(), sum[0]);
            _mm512_storeu_si512(to.add(i * stride + 16).cast(), sum[1]);
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn context_tile<const EIGHT: bool>(
    rows: usize,
    a: (*const u8, usize),
    b: (*const u8, usize),
    about: (*const f32, f32),
    to: (*mut f32, usize),
) {
    // SAFETY: passed on from the caller.
    unsafe { by_rows!(rows, context_rows, EIGHT, (a, b, about, to), 1 2 3 4 5 6 7 8 9 10 11 12) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
#[inline]
unsafe fn context_rows<const M: usize, const EIGHT: bool>(
    a: (*const u8, usize),
    b: (*const u8, usize),
    (totals, scale): (*const f32, f32),
    (to, stride): (*mut f32, usize),
) {
    // SAFETY: passed on from the caller, who vouches for totals and room.
    unsafe {
        let mut sums = [[_mm512_setzero_si512(); 2]; M];
        add_tile::<M, EIGHT>(&mut sums, a, b);
        for (i, sum) in sums.into_iter().enumerate() {
            let factor = _mm512_set1_ps(scale / *totals.add(i));
            let to = to.add(i * stride);
            _mm512_storeu_ps(to, _mm512_mul_ps(_mm512_cvtepi32_ps(sum[0]), factor));
            _mm512_storeu_ps(to.add(16), _mm512_mul_ps(_mm512_cvtepi32_ps(sum[1]), factor));
        }
    }
}

/// Whole weights `most · 2^(factor (score - greatest))` of a tile's rows of `n` scores, zeros up to
/// the end of the last 16, and their sums. Step by step for all rows, so that none waits for another.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
unsafe fn softmax<const EIGHT: bool>(
    rows: usize,
    (n, stride): (usize, usize),
    (factor, most): (f32, f32),
    (scores, weights): (*const i32, *mut u8),
    totals: *mut f32,
) {
    let mut greatest = [0; TILE];
    let mut sums = [_mm512_setzero_si512(); TILE];
    let powers = EXP2.map(|c| c * most);
    // SAFETY: the caller vouches for whole registers.
    unsafe {
        for (row, greatest) in greatest.iter_mut().enumerate().take(rows) {
            *greatest = greatest_score(scores.add(row * stride), n);
        }
        for (row, sum) in sums.iter_mut().enumerate().take(rows) {
            let below = (_mm512_set1_epi32(greatest[row]), _mm512_set1_ps(factor));
            let to = weights.add(row * stride * bytes(EIGHT));
            *sum = row_weights::<EIGHT>((scores.add(row * stride), n), below, &powers, to);
        }
        for (row, sum) in sums.into_iter().enumerate().take(rows) {
            *totals.add(row) = _mm512_reduce_add_epi32(sum) as f32;
        }
    }
}

#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn greatest_score(scores: *const i32, n: usize) -> i32 {
    // SAFETY: the caller vouches for whole registers.
    unsafe {
        let least = _mm512_set1_epi32(i32::MIN);
        let mut greatest = [least; 2];
        let whole = n / 16 * 16;
        for at in (0..whole).step_by(16) {
            let v = _mm512_loadu_si512(scores.add(at).cast());
            greatest[at / 16 % 2] = _mm512_max_epi32(greatest[at / 16 % 2], v);
        }
        let rest = _mm512_mask_loadu_epi32(least, (1u16 << (n % 16)) - 1, scores.add(whole));
        let greatest = _mm512_max_epi32(greatest[0], _mm512_max_epi32(greatest[1], rest));
        _mm512_reduce_max_epi32(greatest)
    }
}

/// The weights of one row; returns their sum lane by lane.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
unsafe fn row_weights<const EIGHT: bool>(
    (scores, n): (*const i32, usize),
    (greatest, factor): (__m512i, __m512),
    powers: &[f32; 5],
    to: *mut u8,
) -> __m512i {
    // SAFETY: the caller vouches for whole registers.
    unsafe {
        let mut sums = [_mm512_setzero_si512(); 2];
        let whole = n / 16 * 16;
        for at in (0..whole).step_by(16) {
            let v = _mm512_loadu_si512(scores.add(at).cast());
            let v = exp2(below(v, greatest, factor), powers);
            sums[at / 16 % 2] = _mm512_add_epi32(sums[at / 16 % 2], v);
            store_weights::<EIGHT>(v, to.add(at * bytes(EIGHT)));
        }
        if whole < n {
            let v = _mm512_loadu_si512(scores.add(whole).cast());
            let v = exp2(below(v, greatest, factor), powers);
            let v = _mm512_maskz_mov_epi32((1u16 << (n - whole)) - 1, v);
            sums[0] = _mm512_add_epi32(sums[0], v);
            store_weights::<EIGHT>(v, to.add(whole * bytes(EIGHT)));
        }
        _mm512_add_epi32(sums[0], sums[1])
    }
}

/// Stores 16 weights.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn store_weights<const EIGHT: bool>(weights: __m512i, to: *mut u8) {
    // SAFETY: the caller vouches for room.
    unsafe {
        if EIGHT {
            _mm_storeu_si128(to.cast(), _mm512_cvtusepi32_epi8(weights));
        } else {
            _mm256_storeu_si256(to.cast(), _mm512_cvtsepi32_epi16(weights));
        }
    }
}

/// How far scores lie below the greatest one, exact before it is scaled: never above zero.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn below(scores: __m512i, greatest: __m512i, factor: __m512) -> __m512 {
    _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(scores, greatest)), factor)
}

/// 2^x times what the powers are times [`EXP2`], as whole numbers.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn exp2(x: __m512, powers: &[f32; 5]) -> __m512i {
    let n = _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x);
    let f = _mm512_sub_ps(x, n);
    let mut p = _mm512_set1_ps(powers[0]);
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(powers[1]));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(powers[2]));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(powers[3]));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(powers[4]));
    _mm512_cvtps_epi32(_mm512_scalef_ps(p, n))
}
