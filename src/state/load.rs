//! Loads parameters from a state.

use std::collections::{HashMap, HashSet};

use super::{State, unreal};
use crate::error::{Error, Result, Unmatched, ensure};
use crate::parameters::Parameters;
use crate::tensor::{Shape, Tensor};

/// Which tensors of a state are loaded ([`Parameters::load_with`]). By default, the state must have
/// every parameter and no other tensor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// The names of the parameters to load, such as those of a trunk whose head is new; `None`
    /// loads all. The other parameters keep their values, and the state's tensors of these names
    /// are ignored, whatever their shapes.
    pub only: Option<Vec<String>>,
    /// Whether parameters may be missing from the state. They then keep their values.
    pub allow_missing: bool,
    /// Whether the state may have tensors that belong to no parameter. They are then ignored.
    pub allow_superfluous: bool,
}

/// A tensor that a load expects.
pub(crate) struct Wanted<'a> {
    /// The tensor's own name, and the names tied to it.
    pub(crate) names: Vec<String>,
    pub(crate) shape: &'a Shape,
    /// Whether to load the tensor. If not, a tensor of this name is still not superfluous.
    pub(crate) asked: bool,
}

impl State {
    /// Checks that a state has the wanted tensors, with real numbers and the right shapes. Returns
    /// for each wanted tensor the name under which the state has it (`None` if it is missing or not
    /// to be loaded), and the unmatched names that the options allow.
    pub(crate) fn matching(
        &self,
        wanted: &[Wanted<'_>],
        options: &LoadOptions,
    ) -> Result<(Vec<Option<&str>>, Unmatched)> {
        let mut unmatched = Unmatched::default();
        let known: HashSet<&str> = wanted.iter().flat_map(|wanted| &wanted.names).map(String::as_str).collect();
        unmatched.superfluous.extend(self.names().filter(|name| !known.contains(name)).map(str::to_owned));
        let mut found = Vec::with_capacity(wanted.len());
        for Wanted { names, asked, .. } in wanted {
            let here = names.iter().find_map(|name| self.tensors.get_key_value(name)).filter(|_| *asked);
            found.push(here.map(|(name, _)| name.as_str()));
            if *asked && here.is_none() {
                unmatched.missing.extend(names.first().cloned());
            }
        }
        if (!unmatched.missing.is_empty() && !options.allow_missing)
            || (!unmatched.superfluous.is_empty() && !options.allow_superfluous)
        {
            return Err(Error::StateNames(unmatched));
        }
        for Wanted { names, shape, .. } in wanted.iter().filter(|wanted| wanted.asked) {
            self.check_same(names, shape)?;
        }
        Ok((found, unmatched))
    }

    /// Checks that a tensor has real numbers and this shape, and the same values under each of its
    /// names that the state has.
    fn check_same(&self, names: &[String], shape: &Shape) -> Result<()> {
        let mut first: Option<&str> = None;
        for name in names.iter().filter(|name| self.tensors.contains_key(*name)) {
            let stored = self.find(name, shape)?;
            ensure!(stored.is_real(), unreal(name, stored.dtype()));
            let Some(first) = first else {
                first = Some(name);
                continue;
            };
            let (a, b) = (self.require_as::<f32>(first, shape)?, self.require_as::<f32>(name, shape)?);
            let same = a.iter().map(|v| v.to_bits()).eq(b.iter().map(|v| v.to_bits()));
            ensure!(same, Error::state(name, format!("the values of {first:?}, which it is tied to"), "others"));
        }
        Ok(())
    }
}

impl Parameters {
    /// Replaces all values by values of a state. The state is checked as a whole first: if anything
    /// does not fit, nothing changes.
    ///
    /// # Errors
    /// [`Error::StateNames`] with all missing and superfluous tensors; [`Error::State`] with a
    /// tensor that has another shape, does not hold real numbers, or differs from a tensor
    /// [tied](Self::tie) to it; the errors of [`Tensor::write`](crate::Tensor::write).
    pub fn load(&self, state: &State) -> Result<()> {
        self.load_with(state, &LoadOptions::default()).map(|_| ())
    }

    /// Replaces the values that the options select by values of a state. Returns the unmatched
    /// names that the options allow. The state is checked as a whole first: if anything does not
    /// fit, nothing changes. Tensors that only have other names can be [renamed](State::rename)
    /// first.
    ///
    /// # Errors
    /// As [`Parameters::load`]; [`Error::Value`] for a name in [`LoadOptions::only`] that is not a
    /// parameter.
    ///
    /// # Examples
    /// ```
    /// use xent::Gpu;
    /// use xent::optim::Parameters;
    /// use xent::state::{LoadOptions, State};
    /// # let Ok(gpu) = Gpu::headless() else { return Ok(()) };
    /// let parameters = Parameters::new(&gpu, &[
    ///     ("trunk.weight", [2].into(), &[0.0; 2]),
    ///     ("head.weight", [3].into(), &[0.5; 3]), // new: the old one had another size
    /// ])?;
    /// let mut state = State::default();
    /// state.insert("model.trunk.weight", [2], vec![1.0f32, 2.0])?;
    /// state.insert("model.head.weight", [5], vec![0.0f32; 5])?;
    /// let trunk = LoadOptions { only: Some(vec!["trunk.weight".into()]), ..LoadOptions::default() };
    /// parameters.load_with(&state.split_off("model."), &trunk)?;
    /// # Ok::<(), xent::Error>(())
    /// ```
    pub fn load_with(&self, state: &State, options: &LoadOptions) -> Result<Unmatched> {
        let mut wanted = self.wanted("");
        if let Some(only) = &options.only {
            let asked = only.iter().map(|name| Ok(self.part(name)?.0)).collect::<Result<HashSet<usize>>>()?;
            wanted.iter_mut().enumerate().for_each(|(number, wanted)| wanted.asked = asked.contains(&number));
        }
        let (found, unmatched) = state.matching(&wanted, options)?;
        self.take(self.values(), state, &found)?;
        Ok(unmatched)
    }

    /// Returns the tensors that loading all parameters needs, with `prefix` before their names.
    pub(crate) fn wanted(&self, prefix: &str) -> Vec<Wanted<'_>> {
        let mut tied: HashMap<usize, Vec<&str>> = HashMap::new();
        self.parts().ties().for_each(|(alias, number)| tied.entry(number).or_default().push(alias));
        let wanted = self.parts().list().iter().enumerate().map(|(number, part)| {
            let names = std::iter::once(part.name.as_str()).chain(tied.remove(&number).unwrap_or_default());
            let names = names.map(|name| format!("{prefix}{name}")).collect();
            Wanted { names, shape: &part.shape, asked: true }
        });
        wanted.collect()
    }

    /// Writes tensors of a state into `flat`, which has the layout of the values. Parameters whose
    /// `found` is `None` keep their contents. The caller has checked that the tensors fit.
    pub(crate) fn take(&self, flat: &Tensor<f32>, state: &State, found: &[Option<&str>]) -> Result<()> {
        let parts = self.parts().list().iter().zip(found);
        self.write(flat, parts.map(|(part, name)| name.map(|name| state.require_as(name, &part.shape)).transpose()))
    }
}
