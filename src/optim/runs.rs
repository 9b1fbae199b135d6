//! Neighbouring parameters with the same options.

use std::ops::Range;

use super::Optimization;
use crate::error::{Error, Result, ensure};
use crate::ops::update::Sgd;
use crate::parameters::Parameters;
use crate::tensor::narrow;

/// Neighbouring parameters of the same group, or of none.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) range: Range<usize>,
    pub(super) group: Option<usize>,
    pub(super) sgd: Sgd,
}

pub(super) fn check_lr(op: &'static str, lr: f64) -> Result<()> {
    ensure!(lr >= 0.0 && narrow(lr).is_finite(), Error::value(op, "lr", "at least 0 and finite", lr));
    Ok(())
}

/// Finds the options of each parameter, and joins neighbours of the same group.
pub(super) fn runs(parameters: &Parameters, options: &Optimization) -> Result<Vec<Run>> {
    options.sgd.validate()?;
    let mut groups: Vec<Option<usize>> = vec![None; parameters.parts().list().len()];
    let names = options.groups.iter().enumerate();
    for (group, name) in names.flat_map(|(i, group)| group.names.iter().map(move |name| (i, name))) {
        let (number, _) = parameters.part(name)?;
        if groups.get_mut(number).and_then(|own| own.replace(group)).is_some() {
            return Err(Error::value("Optimizer::new", "a name", "in one group, once", format!("{name:?} twice")));
        }
    }
    let mut runs: Vec<Run> = Vec::new();
    for (range, group) in parameters.ranges().zip(groups) {
        let mut sgd = options.sgd.clone();
        let own = group.and_then(|group| options.groups.get(group));
        sgd.lr = own.and_then(|group| group.lr).unwrap_or(sgd.lr);
        sgd.weight_decay = own.and_then(|group| group.weight_decay).unwrap_or(sgd.weight_decay);
        sgd.validate()?;
        match runs.last_mut() {
            Some(last) if last.group == group => last.range.end = range.end,
            _ => runs.push(Run { range, group, sgd }),
        }
    }
    Ok(runs)
}
