//! Rates of 8-bit products.
use std::time::Instant;
use xqg_kernel::isa::Isa;
use xqg_kernel::product::{Int8Panels, Operands, Quantised, product_int8};
fn main() {
    let isa = Isa::detect();
    for off in [0usize] {
        for rows in [126usize, 252] {
            for (k, n, res) in [
                (384usize, 1152usize, false),
                (384, 384, true),
                (384, 1536, false),
                (1536, 384, true),
            ] {
                let w: Vec<i8> = (0..12 * k * n + 256).map(|i| (i * 7 % 251) as i8).collect();
                let al = w.as_ptr().align_offset(64) + off;
                let scales = vec![0.1f32; n];
                let sums = vec![3i32; n];
                let bias = vec![0.5f32; n];
                let r = vec![0.5f32; n * rows];
                let a = Quantised {
                    values: (0..rows * k).map(|i| (i * 5 % 253) as u8).collect(),
                    scales: vec![0.1; rows],
                    zeros: vec![7; rows],
                    offsets: vec![0.7; rows],
                    narrow: false,
                };
                let mut out = vec![0f32; rows * n];
                let mut best = 0f64;
                for _ in 0..5 {
                    let t = Instant::now();
                    let mut macs = 0f64;
                    for it in 0..(2_000_000_000 / (rows * k * n)).max(1) {
                        let values = &w[al + it % 12 * k * n..];
                        let p =
                            Int8Panels { values: &values[..k * n], scales: &scales, sums: &sums };
                        let o = Operands {
                            a: &[],
                            a_stride: 0,
                            k: 0,
                            panels: &[],
                            bias: Some(&bias),
                            residual: res.then_some((&r[..], n)),
                            gelu: n == 1536,
                        };
                        product_int8(isa, (rows, k), (&a, &p), o, (&mut out, n), 1);
                        macs += (rows * k * n) as f64;
                    }
                    best = best.max(macs / t.elapsed().as_secs_f64() / 1e9);
                }
                println!("off {off} rows {rows} k {k} n {n}: {best:.0} GMAC/s");
            }
        }
    }
}
