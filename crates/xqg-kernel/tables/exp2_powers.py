#!/usr/bin/env python3
"""Prints the powers of `attention_avx512.rs`: 2^f for f from -1/2 to 1/2 as a polynomial of degree 4,
by powers from 4 to 0. A least-squares fit of the relative error, whose weights grow where the error
is largest until it is even (Lawson's iteration)."""
import numpy as np

DEGREE = 4
f = np.linspace(-0.5, 0.5, 4001)
rows = np.vander(f, DEGREE + 1) / (2.0**f)[:, None]
weights = np.ones_like(f)
for _ in range(400):
    root = np.sqrt(weights)
    powers = np.linalg.lstsq(rows * root[:, None], root, rcond=None)[0]
    weights *= np.abs(rows @ powers - 1) + 1e-12
    weights /= weights.mean()
stored = np.float32(powers)
print("[", ", ".join(str(p) for p in stored), "]")
print(f"// greatest relative error: {np.abs(rows @ stored.astype(float) - 1).max():.1e}")
