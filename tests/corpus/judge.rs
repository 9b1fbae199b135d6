//! Judging, as `FORMAT.md` says.

use anyhow::{Context, Result, ensure};

use crate::case::{Case, Outputs};

/// How a case ended.
#[derive(Default)]
pub(crate) struct Verdict {
    pub(crate) lenient: bool,
    /// Where PyTorch's definition gives NaN and this crate, on purpose, a limit.
    pub(crate) on_purpose: usize,
    /// Our error over PyTorch f32's, for each output.
    pub(crate) ratios: Vec<f64>,
}

fn class(v: f64) -> u8 {
    match v as f32 {
        v if v.is_nan() => 3,
        v if v == f32::INFINITY => 1,
        v if v == f32::NEG_INFINITY => 2,
        _ => 0,
    }
}

/// Judges results as `FORMAT.md` says. `limits` are the CPU reference's results, with which a value has to agree where it is a
/// limit on purpose.
pub(crate) fn judge(case: &Case, got: &Outputs, limits: &Outputs) -> Result<Verdict> {
    let mut verdict = Verdict::default();
    let rtol = case.number("rtol")?;
    let features: Vec<&str> = case.text("features")?.split(',').collect();
    // The differences on purpose: a coefficient of 0 wins over an infinite term, binary cross-entropy of infinite logits takes its
    // limit, and an ignored row has no gradient whatever it holds.
    let may_differ = ["pytorch_artifact", "nan_input", "row_neg_inf"].iter().any(|tag| features.contains(tag));
    for name in case.text("outputs")?.split(',') {
        let x = got.get(name).with_context(|| format!("output {name:?} is not known"))?;
        let reference = &case.data(&format!("{name}_f64"))?.floats;
        let pt = case.tensors.get(&format!("{name}_pytorch_f32")).map_or(case.data(name), Ok)?;
        let atol = case.number(&format!("atol_{name}"))?;
        ensure!(x.len() == reference.len(), "{name}: {} elements instead of {}", x.len(), reference.len());
        let both = |v: f64, r: f64| class(v) == 0 && class(r) == 0;
        let finite = || pt.floats.iter().zip(reference).filter(|(p, r)| both(**p, **r));
        let e = finite().map(|(p, r)| (p - r).abs() / (r.abs() + atol / rtol)).fold(0.0, f64::max);
        let error = |values: &[f64]| {
            let pairs = values.iter().zip(reference).filter(|(v, r)| both(**v, **r));
            pairs.map(|(v, r)| (v - r).abs() / r.abs().max(atol / rtol)).fold(0.0, f64::max)
        };
        verdict.ratios.push(error(x) / error(&pt.floats).max((-24f64).exp2()));
        for (i, ((&x, &r), &p)) in x.iter().zip(reference).zip(&pt.floats).enumerate() {
            let strict = match both(x, r) {
                true => (x - r).abs() <= atol + rtol * r.abs(),
                false => class(x) == class(r),
            };
            if strict {
                continue;
            }
            if (both(x, r) && (x - r).abs() <= 4.0 * e * (r.abs() + atol / rtol))
                || (class(p) != class(r) && class(x) == class(p))
            {
                verdict.lenient = true;
                continue;
            }
            let limit = limits.get(name).and_then(|values| values.get(i)).copied().unwrap_or(f64::NAN);
            let is_limit =
                class(x) == class(limit) && (class(x) != 0 || (x - limit).abs() <= atol + rtol * limit.abs());
            ensure!(
                may_differ && r.is_nan() && !x.is_nan() && is_limit,
                "{name}: element {i}: got {x:e}, want {r:e} (PyTorch f32: {p:e})"
            );
            verdict.on_purpose += 1;
        }
    }
    Ok(verdict)
}
