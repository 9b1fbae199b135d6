//! Saved states: what a file may hold, and how it gets into a model.

use crate::common::*;
use xent::{Error, Gpu, Group, Optimization, Optimizer, Parameters, Readback, Result, Sgd, State, Tensor};

/// The values of each parameter.
fn values_of(gpu: &Gpu, parameters: &Parameters) -> Vec<Vec<f32>> {
    let mut batch = gpu.batch();
    let read = |name| batch.read(&parameters.value(name)?);
    let mut tickets = parameters.names().map(read).collect::<Result<Vec<Readback<f32>>>>().unwrap();
    batch.submit().unwrap();
    tickets.iter_mut().map(|ticket| ticket.wait(TIMEOUT).unwrap()).collect()
}

/// Small parameters are gathered before they are copied, in turns with large ones and with some of no elements.
#[test]
fn many_parameters_each_get_their_own_values() {
    let Some(gpu) = gpu() else { return };
    let lens: Vec<usize> = (0..600).map(|i| if i == 250 || i == 251 { (1 << 20) + 3 } else { i % 5 }).collect();
    let names: Vec<String> = (0..lens.len()).map(|i| format!("layers.{i}.scale")).collect();
    let zeros = vec![0.0; (1 << 20) + 3];
    let list: Vec<_> = names.iter().zip(&lens).map(|(name, &len)| (&name[..], [len].into(), &zeros[..len])).collect();
    let parameters = Parameters::new(&gpu, &list).unwrap();
    let want: Vec<Vec<f32>> = lens.iter().zip(0..).map(|(&len, seed)| random(seed, len, 1.0)).collect();
    let mut state = State::default();
    for (name, values) in names.iter().zip(&want) {
        state.insert(name, [values.len()], values.clone()).unwrap();
    }
    parameters.load(&state).unwrap();
    for ((name, got), want) in names.iter().zip(values_of(&gpu, &parameters)).zip(&want) {
        same_bits(name, &got, want);
    }
    let mut batch = gpu.batch();
    let mut saved = parameters.state(&mut batch).unwrap();
    batch.submit().unwrap();
    assert_eq!(saved.wait(TIMEOUT).unwrap(), state);
    let [flat] = eval(&gpu, |_| Ok([parameters.values().clone()]));
    assert_eq!(flat.iter().filter(|v| **v != 0.0).count(), want.iter().flatten().filter(|v| **v != 0.0).count());

    // Every third has a learning rate of its own.
    let own = Group { names: names.iter().step_by(3).cloned().collect(), lr: Some(0.5), weight_decay: None };
    let sgd = Sgd { lr: 0.25, ..Sgd::default() };
    let options = Optimization { sgd, groups: vec![own.clone()], ..Optimization::default() };
    let mut optimizer = Optimizer::new(&parameters, options.clone()).unwrap();
    let ones = Tensor::from_slice(&gpu, [parameters.grads().len()], &vec![1.0; parameters.grads().len()]).unwrap();
    let mut batch = gpu.batch();
    batch.accumulate(&ones, parameters.grads()).unwrap();
    optimizer.step(&mut batch, &parameters).unwrap();
    batch.submit().unwrap();
    for (i, (got, want)) in values_of(&gpu, &parameters).iter().zip(&want).enumerate() {
        let lr = if i % 3 == 0 { 0.5 } else { 0.25 };
        let want: Vec<f32> = want.iter().map(|value| value - lr).collect();
        same_bits(&names[i], got, &want);
    }

    let error = parameters.value("w").unwrap_err().to_string();
    assert!(error.ends_with("\"layers.7.scale\"] and 592 more, got \"w\"") && error.len() < 300, "{error}");
    let twice = Optimization { groups: vec![own.clone(), own], ..options };
    assert!(matches!(Optimizer::new(&parameters, twice), Err(Error::Value { what: "a name", .. })));
    let twice = [list[1].clone(), list[2].clone(), list[1].clone()];
    assert!(matches!(Parameters::new(&gpu, &twice), Err(Error::Value { what: "the names", .. })));
}

/// An optimiser takes parameters like its own, and says what is different about others.
#[test]
fn an_optimizer_knows_its_parameters_again() {
    let Some(gpu) = gpu() else { return };
    let two = |name: &str, len: usize| {
        let values = vec![1.0; len];
        Parameters::new(&gpu, &[("a", [3].into(), &[1.0; 3]), (name, [len].into(), &values)]).unwrap()
    };
    let mut optimizer = Optimizer::new(&two("b", 2), Optimization::default()).unwrap();
    optimizer.step(&mut gpu.batch(), &two("b", 2)).unwrap();
    let one = Parameters::new(&gpu, &[("a", [3].into(), &[1.0; 3])]).unwrap();
    for (other, got) in [
        (two("c", 2), "\"c\" of shape [2] as parameter 1"),
        (two("b", 1), "\"b\" of shape [1] as parameter 1"),
        (one, "1 of them"),
    ] {
        let error = optimizer.step(&mut gpu.batch(), &other).unwrap_err().to_string();
        let expected = "Optimizer: the parameters must have \"b\" of shape [2] as parameter 1";
        assert_eq!(error, format!("{expected}, got {got}"));
    }
}
