//! The kernels of [`crate::attention`] for AVX-512: VNNI's product of two 16-bit numbers, tiles of
//! 12 rows x 32 columns as in `avx512.rs`.

use std::arch::x86_64::*;

use crate::attention::{GREATEST, Head, PANEL, Scratch};

/// 2^f for f from -1/2 to 1/2, by powers from 4 to 0: a least-squares fit of the relative error,
/// weighted until it is even; at most 2.6e-6.
const EXP2: [f32; 5] = [0.009_570_11, 0.055_917_9, 0.240_247_44, 0.693_121_8, 0.999_999_3];

/// Packs queries as rows, keys and values as panels; returns the scale of each.
///
/// # Safety
/// AVX-512 is there; the head's rows lie inside their buffer and the scratch has room for them.
#[target_feature(enable = "avx512f,avx512bw")]
pub(crate) unsafe fn pack(head: &Head, s: &mut Scratch) -> [f32; 3] {
    // SAFETY: passed on from the caller.
    unsafe {
        let greatest = greatest(head);
        let factor = |i: usize| if greatest[i] > 0.0 { GREATEST / greatest[i] } else { 0.0 };
        pack_queries(head, factor(0), s.queries.as_mut_ptr());
        pack_keys(head, factor(1), s.keys.as_mut_ptr());
        pack_values(head, factor(2), s.values.as_mut_ptr());
        [greatest[0] / GREATEST, greatest[1] / GREATEST, greatest[2] / GREATEST]
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

/// 32 numbers as 16-bit whole numbers.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
unsafe fn whole(from: *const f32, factor: __m512) -> __m512i {
    // SAFETY: the caller vouches for 32 numbers.
    unsafe {
        let low = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(from), factor));
        let high = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(from.add(16)), factor));
        let low = _mm512_castsi256_si512(_mm512_cvtsepi32_epi16(low));
        _mm512_inserti64x4::<1>(low, _mm512_cvtsepi32_epi16(high))
    }
}

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
unsafe fn pack_queries(head: &Head, factor: f32, to: *mut i16) {
    // SAFETY: the caller vouches for all rows and for room for them.
    unsafe {
        for token in 0..head.n {
            let from = head.qkv.as_ptr().add(token * head.stride + head.columns[0]);
            for i in (0..head.dim).step_by(32) {
                let numbers = whole(from.add(i), _mm512_set1_ps(factor));
                _mm512_storeu_si512(to.add(token * head.dim + i).cast(), numbers);
            }
        }
    }
}

/// Panels of 32 keys: two numbers of each side by side, then the next two; zeros after the last key.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
unsafe fn pack_keys(head: &Head, factor: f32, to: *mut i16) {
    // SAFETY: the caller vouches for all rows and for room for whole panels.
    unsafe {
        for first in (0..head.n.next_multiple_of(PANEL)).step_by(16) {
            let panel = to.add(first / PANEL * PANEL * head.dim + first % PANEL * 2);
            for i in (0..head.dim).step_by(32) {
                let mut block = [_mm512_setzero_si512(); 16];
                for (token, row) in (first..head.n).zip(&mut block) {
                    let from = head.qkv.as_ptr().add(token * head.stride + head.columns[1] + i);
                    *row = whole(from, _mm512_set1_ps(factor));
                }
                transpose(&mut block);
                for (pair, row) in block.into_iter().enumerate() {
                    _mm512_storeu_si512(panel.add((i / 2 + pair) * PANEL * 2).cast(), row);
                }
            }
        }
    }
}

/// Panels of 32 columns: two tokens of each side by side, then the next two; zeros after the last.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
unsafe fn pack_values(head: &Head, factor: f32, to: *mut i16) {
    // SAFETY: the caller vouches for all rows and for room for an even number of them.
    unsafe {
        let factor = _mm512_set1_ps(factor);
        let pairs = head.n.div_ceil(2);
        for pair in 0..pairs {
            for i in (0..head.dim).step_by(32) {
                let at = |token: usize| {
                    head.qkv.as_ptr().wrapping_add(token * head.stride + head.columns[2] + i)
                };
                let first = whole(at(2 * pair), factor);
                let second = match 2 * pair + 1 < head.n {
                    true => whole(at(2 * pair + 1), factor),
                    false => _mm512_setzero_si512(),
                };
                let (low, high) = interleave(first, second);
                let to = to.add((i / 32 * pairs + pair) * PANEL * 2);
                _mm512_storeu_si512(to.cast(), low);
                _mm512_storeu_si512(to.add(32).cast(), high);
            }
        }
    }
}

/// The 16-bit numbers of two registers in turns.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
unsafe fn interleave(a: __m512i, b: __m512i) -> (__m512i, __m512i) {
    const fn order(first: i16) -> [i16; 32] {
        let mut order = [0; 32];
        let mut i = 0;
        while i < 32 {
            order[i as usize] = first + i / 2 + i % 2 * 32;
            i += 1;
        }
        order
    }
    const LOW: [i16; 32] = order(0);
    const HIGH: [i16; 32] = order(16);
    // SAFETY: both orders have 32 numbers.
    unsafe {
        let (low, high) =
            (_mm512_loadu_si512(LOW.as_ptr().cast()), _mm512_loadu_si512(HIGH.as_ptr().cast()));
        (_mm512_permutex2var_epi16(a, low, b), _mm512_permutex2var_epi16(a, high, b))
    }
}

/// Transposes a block of 16 x 16 numbers of 32 bits.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn transpose(rows: &mut [__m512i; 16]) {
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

/// Scores of some queries with all keys, and the softmax's weights of them.
///
/// # Safety
/// AVX-512 and VNNI are there; the scratch is [`pack`]ed and has room for the rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(crate) unsafe fn weigh(
    head: &Head,
    scales: [f32; 3],
    most: f32,
    (first, rows): (usize, usize),
    s: &mut Scratch,
) {
    let keys = head.n.next_multiple_of(PANEL);
    let factor = scales[0] * scales[1] * head.scale * std::f32::consts::LOG2_E;
    // SAFETY: passed on from the caller.
    unsafe {
        let queries = s.queries.as_ptr().add(first * head.dim);
        let scores = s.scores.as_mut_ptr();
        for row in (0..rows).step_by(12) {
            for panel in 0..keys / PANEL {
                let b = s.keys.as_ptr().add(panel * PANEL * head.dim);
                let left = (queries.add(row * head.dim), head.dim);
                let to = scores.add(row * keys + panel * PANEL);
                score_tile(12.min(rows - row), left, (b, head.dim / 2), (to, keys));
            }
            for row in row..rows.min(row + 12) {
                let weights = s.weights.as_mut_ptr().add(row * keys);
                let total = softmax(scores.add(row * keys), head.n, (factor, most), weights);
                *s.totals.as_mut_ptr().add(row) = total;
            }
        }
    }
}

/// The context of some rows: their weights times the values, over the sum of weights.
///
/// # Safety
/// As [`weigh`], which has seen the same rows; the context has room for them.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(crate) unsafe fn gather(
    head: &Head,
    scale: f32,
    rows: usize,
    (out, stride): (*mut f32, usize),
    s: &Scratch,
) {
    let (keys, pairs) = (head.n.next_multiple_of(PANEL), head.n.div_ceil(2));
    // SAFETY: passed on from the caller.
    unsafe {
        for panel in 0..head.dim / PANEL {
            let b = s.values.as_ptr().add(panel * pairs * PANEL * 2);
            for row in (0..rows).step_by(12) {
                let left = (s.weights.as_ptr().add(row * keys), keys);
                let about = (s.totals.as_ptr().add(row), scale);
                let to = (out.add(row * stride + panel * PANEL), stride);
                context_tile(12.min(rows - row), left, (b, pairs), about, to);
            }
        }
    }
}

/// Sums of products of two 16-bit numbers: `M` rows with one panel.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
#[inline]
unsafe fn sums<const M: usize>(
    (a, stride): (*const i16, usize),
    (b, pairs): (*const i16, usize),
) -> [[__m512i; 2]; M] {
    // SAFETY: the caller vouches for rows and panel.
    unsafe {
        let mut sums = [[_mm512_setzero_si512(); 2]; M];
        for pair in 0..pairs {
            let at = b.add(pair * PANEL * 2);
            let (left, right) =
                (_mm512_loadu_si512(at.cast()), _mm512_loadu_si512(at.add(PANEL).cast()));
            for (i, sum) in sums.iter_mut().enumerate() {
                let two = a.add(i * stride + 2 * pair).cast::<i32>().read_unaligned();
                let x = _mm512_set1_epi32(two);
                sum[0] = _mm512_dpwssd_epi32(sum[0], x, left);
                sum[1] = _mm512_dpwssd_epi32(sum[1], x, right);
            }
        }
        sums
    }
}

/// Calls a function of a constant number of rows.
macro_rules! by_rows {
    ($rows:expr, $function:ident($($arg:expr),*)) => {
        match $rows {
            1 => $function::<1>($($arg),*),
            2 => $function::<2>($($arg),*),
            3 => $function::<3>($($arg),*),
            4 => $function::<4>($($arg),*),
            5 => $function::<5>($($arg),*),
            6 => $function::<6>($($arg),*),
            7 => $function::<7>($($arg),*),
            8 => $function::<8>($($arg),*),
            9 => $function::<9>($($arg),*),
            10 => $function::<10>($($arg),*),
            11 => $function::<11>($($arg),*),
            _ => $function::<12>($($arg),*),
        }
    };
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn score_tile(
    rows: usize,
    a: (*const i16, usize),
    b: (*const i16, usize),
    to: (*mut i32, usize),
) {
    // SAFETY: passed on from the caller.
    unsafe { by_rows!(rows, score_rows(a, b, to)) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn score_rows<const M: usize>(
    a: (*const i16, usize),
    b: (*const i16, usize),
    (to, stride): (*mut i32, usize),
) {
    // SAFETY: passed on from the caller, who vouches for room for whole panels.
    unsafe {
        for (i, sum) in sums::<M>(a, b).into_iter().enumerate() {
            _mm512_storeu_si512(to.add(i * stride).cast(), sum[0]);
            _mm512_storeu_si512(to.add(i * stride + 16).cast(), sum[1]);
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn context_tile(
    rows: usize,
    a: (*const i16, usize),
    b: (*const i16, usize),
    about: (*const f32, f32),
    to: (*mut f32, usize),
) {
    // SAFETY: passed on from the caller.
    unsafe { by_rows!(rows, context_rows(a, b, about, to)) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn context_rows<const M: usize>(
    a: (*const i16, usize),
    b: (*const i16, usize),
    (totals, scale): (*const f32, f32),
    (to, stride): (*mut f32, usize),
) {
    // SAFETY: passed on from the caller, who vouches for totals and room.
    unsafe {
        for (i, sum) in sums::<M>(a, b).into_iter().enumerate() {
            let factor = _mm512_set1_ps(scale / *totals.add(i));
            let to = to.add(i * stride);
            _mm512_storeu_ps(to, _mm512_mul_ps(_mm512_cvtepi32_ps(sum[0]), factor));
            _mm512_storeu_ps(to.add(16), _mm512_mul_ps(_mm512_cvtepi32_ps(sum[1]), factor));
        }
    }
}

/// Whole weights `most · 2^(factor (score - greatest))` of one row's `n` scores, zeros up to the end
/// of the last 16; returns their sum.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
unsafe fn softmax(scores: *const i32, n: usize, (factor, most): (f32, f32), to: *mut i16) -> f32 {
    // SAFETY: the caller vouches for whole registers.
    unsafe {
        let (whole, rest) = (n / 16 * 16, n % 16);
        let mask = (1u16 << rest) - 1;
        let least = _mm512_set1_epi32(i32::MIN);
        let mut greatest = [least; 2];
        for at in (0..whole).step_by(16) {
            let v = _mm512_loadu_si512(scores.add(at).cast());
            greatest[at / 16 % 2] = _mm512_max_epi32(greatest[at / 16 % 2], v);
        }
        if rest > 0 {
            let v = _mm512_mask_loadu_epi32(least, mask, scores.add(whole));
            greatest[0] = _mm512_max_epi32(greatest[0], v);
        }
        let greatest = _mm512_reduce_max_epi32(_mm512_max_epi32(greatest[0], greatest[1]));
        let (shift, factor) = (_mm512_set1_ps(-(greatest as f32) * factor), _mm512_set1_ps(factor));
        let most = _mm512_set1_ps(most);
        let mut total = _mm512_setzero_si512();
        for at in (0..whole).step_by(16) {
            let v = _mm512_loadu_si512(scores.add(at).cast());
            let e = exp2(_mm512_fmadd_ps(_mm512_cvtepi32_ps(v), factor, shift), most);
            total = _mm512_add_epi32(total, e);
            _mm256_storeu_si256(to.add(at).cast(), _mm512_cvtepi32_epi16(e));
        }
        if rest > 0 {
            let v = _mm512_loadu_si512(scores.add(whole).cast());
            let e = exp2(_mm512_fmadd_ps(_mm512_cvtepi32_ps(v), factor, shift), most);
            let e = _mm512_maskz_mov_epi32(mask, e);
            total = _mm512_add_epi32(total, e);
            _mm256_storeu_si256(to.add(whole).cast(), _mm512_cvtepi32_epi16(e));
        }
        _mm512_reduce_add_epi32(total) as f32
    }
}

/// `most · 2^x` as whole numbers.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn exp2(x: __m512, most: __m512) -> __m512i {
    let n = _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x);
    let f = _mm512_sub_ps(x, n);
    let mut p = _mm512_set1_ps(EXP2[0]);
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(EXP2[1]));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(EXP2[2]));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(EXP2[3]));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(EXP2[4]));
    _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_scalef_ps(p, n), most))
}
