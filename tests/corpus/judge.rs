//! Judges results as `FORMAT.md` specifies.

use anyhow::{Context, Result, ensure};

use crate::case::{Case, Output, Outputs};

/// The verdict on a case.
#[derive(Default)]
pub(crate) struct Verdict {
    pub(crate) lenient: bool,
    /// The number of elements for which PyTorch's definition yields NaN, and this crate
    /// intentionally yields a limit or a gradient of 0.
    pub(crate) on_purpose: usize,
    /// For each output, the error of this crate divided by the error of PyTorch's f32 result.
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

/// Judges results as `FORMAT.md` specifies. An intended limit has to agree with the CPU reference's
/// result in `limits`.
pub(crate) fn judge(case: &Case, got: &Outputs, limits: &Outputs) -> Result<Verdict> {
    let mut verdict = Verdict::default();
    let rtol = case.number("rtol")?;
    let features: Vec<&str> = case.text("features")?.split(',').collect();
    // Intended differences from PyTorch: a coefficient of 0 times an infinite term is 0, and binary
    // cross-entropy of infinite logits takes its limit; an ignored row has a gradient of 0 whatever
    // its logits.
    let has = |tags: &[&str]| tags.iter().any(|tag| features.contains(tag));
    let (limit_wins, ignored_rows) = (has(&["pytorch_artifact"]), has(&["nan_input", "row_neg_inf"]));
    for name in case.text("outputs")?.split(',') {
        let Output { shape, values: x } = got.get(name).with_context(|| format!("output {name:?} is not known"))?;
        if let Some(shape) = shape {
            let want = &case.data(name)?.shape;
            ensure!(shape == want, "{name}: shape {shape:?} instead of {want:?}");
        }
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
        let strict =
            |v: f64, r: f64| if both(v, r) { (v - r).abs() <= atol + rtol * r.abs() } else { class(v) == class(r) };
        let pytorch_is_strict = pt.floats.iter().zip(reference).all(|(&p, &r)| strict(p, r));
        for (i, ((&x, &r), &p)) in x.iter().zip(reference).zip(&pt.floats).enumerate() {
            if strict(x, r) {
                continue;
            }
            if (both(x, r) && (x - r).abs() <= 4.0 * e * (r.abs() + atol / rtol))
                || (class(p) != class(r) && class(x) == class(p))
            {
                ensure!(!pytorch_is_strict, "{name}: element {i}: a lenient pass that PyTorch's f32 does not need");
                verdict.lenient = true;
                continue;
            }
            let limit = limits.get(name).and_then(|output| output.values.get(i)).copied().unwrap_or(f64::NAN);
            let is_limit =
                class(x) == class(limit) && (class(x) != 0 || (x - limit).abs() <= atol + rtol * limit.abs());
            let no_gradient = ignored_rows && name == "grad_input" && x == 0.0;
            ensure!(
                r.is_nan() && !x.is_nan() && ((limit_wins && is_limit) || no_gradient),
                "{name}: element {i}: got {x:e}, want {r:e} (PyTorch f32: {p:e})"
            );
            verdict.on_purpose += 1;
        }
    }
    Ok(verdict)
}
