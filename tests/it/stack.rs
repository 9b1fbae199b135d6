//! How this stack computes arithmetic that kernels do not rely on. The test is ignored, because no
//! result is wrong: it prints the figures of CONTRIBUTING's table.

use std::fmt::Write as _;

use crate::common::{gpu, say};
use crate::numerics::{evaluate, ulps};

/// A description, an expression, its `x`, and the result by IEEE 754.
const EXPRESSIONS: &[(&str, &str, f32, f32)] = &[
    ("`x != x` of NaN", "f32(x != x)", f32::NAN, 1.0),
    ("`x - x` of NaN", "x - x", f32::NAN, f32::NAN),
    ("`x - x` of infinity", "x - x", f32::INFINITY, f32::NAN),
    ("`x < 1.0` of NaN", "f32(x < 1.0)", f32::NAN, 0.0),
    ("`x != 0.0` of NaN", "f32(x != 0.0)", f32::NAN, 1.0),
    ("`x > 0.0` of NaN", "f32(x > 0.0)", f32::NAN, 0.0),
    ("`max(x, 0.0)` of NaN", "max(x, 0.0)", f32::NAN, 0.0),
    ("`max(0.0, x)` of NaN", "max(0.0, x)", f32::NAN, 0.0),
    ("`x + x` of 2^-127", "x + x", f32::from_bits(0x0040_0000), f32::MIN_POSITIVE),
    ("`0.5 * x` of 2^-126", "0.5 * x", f32::MIN_POSITIVE, f32::from_bits(0x0040_0000)),
    ("rounding error of `x + 1e-8` at 1", "1e-8 - ((x + 1e-8) - x)", 1.0, 1e-8),
    ("`exp(x)` of NaN", "exp(x)", f32::NAN, f32::NAN),
];

#[test]
#[ignore = "a measurement"]
fn prints_driver_arithmetic() {
    let Some(gpu) = gpu() else { return };
    let mut report = format!("subgroups of {}\n", gpu.caps().subgroup_size);
    for (what, expression, x, ieee) in EXPRESSIONS {
        let got = evaluate(&gpu, expression, &[*x])[0];
        writeln!(report, "{what}: {got:e} (IEEE 754: {ieee:e})").unwrap();
    }
    for (function, exact, from, to) in [("exp", f64::exp as fn(f64) -> f64, -87.0, 0.0), ("log", f64::ln, 0.5, 2.0)] {
        let xs: Vec<f32> = (0..=1_000_000u32).map(|i| from + (to - from) * (f64::from(i) * 1e-6) as f32).collect();
        let got = evaluate(&gpu, &format!("{function}(x)"), &xs);
        let errors = xs.iter().zip(&got).map(|(&x, &y)| ulps(y, exact(f64::from(x))));
        // At 1 the logarithm is 0, which has no unit in the last place.
        let worst = errors.filter(|error| error.is_finite()).fold(0.0, f64::max);
        writeln!(report, "`{function}` on [{from}, {to}]: {worst:.1} ulp").unwrap();
    }
    say(&report);
}
