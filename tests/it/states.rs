//! Saved states: the contents of files, and loading them into models.

use crate::common::*;
use xent::nn::{Loss, Model, Sequential, Training};
use xent::optim::{Group, Optimization, Optimizer, Parameters, Sgd};
use xent::state::{Dtype, LoadOptions, State, Unmatched};
use xent::{Error, Gpu, Readback, Result, Tensor, bf16, f16};

/// Returns the values of each parameter.
fn values_of(gpu: &Gpu, parameters: &Parameters) -> Vec<Vec<f32>> {
    let mut batch = gpu.batch();
    let read = |name| batch.read(&parameters.value(name)?);
    let mut tickets = parameters.names().map(read).collect::<Result<Vec<Readback<Vec<f32>>>>>().unwrap();
    batch.submit().unwrap();
    tickets.iter_mut().map(|ticket| ticket.wait(TIMEOUT).unwrap()).collect()
}

/// Small parameters are gathered before they are copied, here between large parameters and
/// parameters without elements.
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

    // Every third parameter has its own learning rate.
    let own = Group { names: names.iter().step_by(3).cloned().collect(), lr: Some(0.5), weight_decay: None };
    let sgd = Sgd::new().lr(0.25);
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

/// An optimiser accepts other parameters with the same layout, and its error names the first
/// difference.
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

/// Returns a file as another program would write it.
fn file(tensors: &[(&str, Dtype, &[usize], &[u8])]) -> Vec<u8> {
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        (name, safetensors::tensor::TensorView::new(*dtype, shape.to_vec(), bytes).unwrap())
    });
    safetensors::serialize(views, None).unwrap()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// The requested tensors are loaded, whatever else is in a file, and the whole file is preserved.
#[test]
fn a_file_may_hold_tensors_of_any_type() {
    let Some(gpu) = gpu() else { return };
    let bytes = file(&[
        ("w", Dtype::F32, &[2], bytemuck::cast_slice(&[1.5f32, -2.0])),
        ("num_batches_tracked", Dtype::I64, &[], &7i64.to_le_bytes()),
        ("mask", Dtype::BOOL, &[3], &[1, 0, 1]),
        ("table", Dtype::U8, &[2, 2], &[1, 2, 3, 4]),
        ("quantised", Dtype::F8_E4M3, &[2], &[0x38, 0xb8]),
        ("packed", Dtype::F4, &[4], &[0x12, 0x34]),
        ("ids", Dtype::I32, &[1], &5i32.to_le_bytes()),
        ("double", Dtype::F64, &[1], &0.1f64.to_le_bytes()),
        ("nothing", Dtype::C64, &[0, 5], &[]),
    ]);
    let state = State::from_bytes(&bytes).unwrap();
    assert_eq!(state.names().count(), 9);
    assert_eq!((state.dtype("mask"), state.dtype("w"), state.dtype("x")), (Some(Dtype::BOOL), Some(Dtype::F32), None));
    assert!(state.get("mask").is_none() && state.get("quantised").is_none() && state.get("x").is_none());
    assert_eq!(state.get("double").unwrap().1, [0.1]);
    assert_eq!(state.to_bytes().unwrap(), bytes, "everything is written as it was read");

    let parameters = Parameters::new(&gpu, &[("w", [2].into(), &[0.0; 2])]).unwrap();
    let Err(Error::StateNames(unmatched)) = parameters.load(&state) else { panic!("eight too many") };
    assert_eq!((unmatched.missing.len(), unmatched.superfluous.len()), (0, 8));
    assert!(unmatched.superfluous.contains(&"mask".to_owned()));
    assert_eq!(values_of(&gpu, &parameters), [[0.0; 2]], "nothing changed");
    let options = LoadOptions { allow_superfluous: true, ..LoadOptions::default() };
    assert_eq!(parameters.load_with(&state, &options).unwrap(), unmatched);
    assert_eq!(values_of(&gpu, &parameters), [[1.5, -2.0]]);

    // A type matters only if its tensor is requested.
    let wrong = Parameters::new(&gpu, &[("w", [2].into(), &[0.0; 2]), ("ids", [1].into(), &[3.0])]).unwrap();
    let error = wrong.load_with(&state, &options).unwrap_err().to_string();
    assert_eq!(error, "state: \"ids\" must have real numbers (F32, F16, BF16 or F64), got I32");
    assert_eq!(values_of(&gpu, &wrong), [vec![0.0; 2], vec![3.0]], "nothing changed");
    // The check comes before all copies, even of tensors that are too large to be gathered.
    let large = vec![0.0; 1 << 20];
    let list: [(&str, xent::Shape, &[f32]); 2] = [("v", [1 << 20].into(), &large), ("ids", [1].into(), &[3.0])];
    let unchanged = Parameters::new(&gpu, &list).unwrap();
    let mut longer = state.clone();
    longer.insert("v", [1 << 20], vec![1.0; 1 << 20]).unwrap();
    assert!(matches!(unchanged.load_with(&longer, &options), Err(Error::State { .. })));
    assert!(values_of(&gpu, &unchanged)[0] == large, "nothing changed");
    let only = LoadOptions { only: Some(vec!["w".into()]), ..options };
    wrong.load_with(&state, &only).unwrap();
    assert_eq!(values_of(&gpu, &wrong), [vec![1.5, -2.0], vec![3.0]]);
    assert!(state.require("ids", &[1].into()).is_err() && state.require_as::<bf16>("mask", &[3].into()).is_err());
}

/// Each type is converted to the model's or the requested type with one rounding.
#[test]
fn real_numbers_of_any_width_are_read_into_what_is_asked_for() {
    let Some(gpu) = gpu() else { return };
    // Halfway between two f32, and slightly above; halfway between two f16, and above by less than
    // f32 resolves; outside the range of both.
    let tie = f64::from(1.0f32) + f64::from(f32::EPSILON) / 2.0;
    let half_tie = 1.0 + 2f64.powi(-11);
    let doubles = [tie, tie + 1e-15, half_tie, half_tie + 1e-12, -1e300, 1e-50];
    let halves = [f16::from_f32(0.1), f16::MAX, f16::from_bits(1), f16::NEG_INFINITY, f16::NEG_ZERO, f16::ONE];
    let brains = [bf16::from_f32(0.1), bf16::MAX, bf16::from_bits(1), bf16::NEG_INFINITY, bf16::NEG_ZERO, bf16::ONE];
    let state = State::from_bytes(&file(&[
        ("f64", Dtype::F64, &[6], bytemuck::cast_slice(&doubles)),
        ("f16", Dtype::F16, &[6], bytemuck::cast_slice(&halves)),
        ("bf16", Dtype::BF16, &[2, 3], bytemuck::cast_slice(&brains)),
    ]))
    .unwrap();
    let zeros = [0.0; 6];
    let shapes = [("f16", vec![6]), ("bf16", vec![2, 3]), ("f64", vec![6])];
    let list: Vec<_> = shapes.iter().map(|(name, shape)| (*name, shape.clone().into(), &zeros[..])).collect();
    let parameters = Parameters::new(&gpu, &list).unwrap();
    parameters.load(&state).unwrap();
    let above = f32::from_bits(1.0f32.to_bits() + 1);
    let half_near = half_tie as f32;
    let want =
        [halves.map(f16::to_f32), brains.map(bf16::to_f32), [1.0, above, half_near, half_near, f32::NEG_INFINITY, 0.0]];
    for ((name, _), (got, want)) in shapes.iter().zip(values_of(&gpu, &parameters).iter().zip(&want)) {
        assert_eq!(bits(got), bits(want), "{name}");
        assert_eq!(bits(state.get(name).unwrap().1), bits(want), "{name}");
    }
    let as_half = state.require_as::<f16>("f64", &[6].into()).unwrap();
    let next = f16::from_bits(f16::ONE.to_bits() + 1);
    assert_eq!(*as_half, [f16::ONE, f16::ONE, f16::ONE, next, f16::NEG_INFINITY, f16::ZERO]);
    let as_brain = state.require_as::<bf16>("f16", &[6].into()).unwrap();
    assert_eq!(as_brain[..2], [bf16::from_f32(halves[0].to_f32()), bf16::from_f32(65536.0)]);
    let own = state.require_as::<bf16>("bf16", &[2, 3].into()).unwrap();
    assert!(matches!(own, std::borrow::Cow::Borrowed(own) if *own == brains));
    assert!(state.require_as::<bf16>("bf16", &[6].into()).is_err(), "a shape is a shape");
}

/// A save writes the target of a symbolic link, which need not exist yet.
#[test]
#[cfg(unix)]
fn links_stay_links() {
    let folder = tempfile::tempdir().unwrap();
    let [link, file] = ["latest", "weights.safetensors"].map(|name| folder.path().join(name));
    std::os::unix::fs::symlink(file.file_name().unwrap(), &link).unwrap();
    for value in [1.0, 2.0f32] {
        let mut state = State::default();
        state.insert("w", [1], vec![value]).unwrap();
        state.save(&link).unwrap();
        assert!(link.is_symlink() && !file.is_symlink());
        assert_eq!(State::load(&file).unwrap(), state);
    }
}

/// Tensors of halves, and tensors cast to halves, are saved as halves.
#[test]
fn halves_are_saved_as_halves() {
    let Some(gpu) = gpu() else { return };
    let values = random(3, 10, 2.0);
    let halves: Vec<f16> = values.iter().map(|&v| f16::from_f32(v)).collect();
    let tensor = Tensor::from_slice(&gpu, [2, 5], &halves).unwrap();
    let mut batch = gpu.batch();
    let mut ticket = batch.read(&tensor).unwrap();
    batch.submit().unwrap();
    let mut saved = State::default();
    saved.insert("w", [2, 5], ticket.wait(TIMEOUT).unwrap()).unwrap();
    saved.set_note("epoch", "3");
    let bytes = saved.to_bytes().unwrap();
    let parsed = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(parsed.tensor("w").unwrap().dtype(), Dtype::F16);
    assert_eq!(parsed.tensor("w").unwrap().data(), bytemuck::cast_slice::<f16, u8>(&halves));
    let loaded = State::from_bytes(&bytes).unwrap();
    assert_eq!((&loaded, loaded.note("epoch")), (&saved, Some("3")));
    let again = Tensor::from_slice(&gpu, [2, 5], &loaded.require_as::<f16>("w", &[2, 5].into()).unwrap()).unwrap();
    assert_eq!(again.shape(), tensor.shape());

    let mut state = State::from_bytes(&file(&[
        ("steps", Dtype::I64, &[1], &9i64.to_le_bytes()),
        ("f32", Dtype::F32, &[10], bytemuck::cast_slice(&values)),
        ("f64", Dtype::F64, &[1], &(1.0f64 + 2f64.powi(-9)).to_le_bytes()),
    ]))
    .unwrap();
    let before = state.clone();
    state.cast::<bf16>();
    let types = ["steps", "f32", "f64"].map(|name| state.dtype(name).unwrap());
    assert_eq!(types, [Dtype::I64, Dtype::BF16, Dtype::BF16]);
    let want: Vec<f32> = values.iter().map(|&v| bf16::from_f32(v).to_f32()).collect();
    assert_eq!((state.get("f32").unwrap().1, state.get("f64").unwrap().1), (&want[..], &[1.0][..]));
    assert!(state != before && State::from_bytes(&state.to_bytes().unwrap()).unwrap() == state);
    state.cast::<f32>();
    assert_eq!((state.dtype("f64"), state.get("f32").unwrap().1), (Some(Dtype::F32), &want[..]));
}

/// A training continues from a checkpoint of halves, and velocities that had not started do not
/// become NaN.
#[test]
fn a_training_resumes_from_halves() {
    let Some(gpu) = gpu() else { return };
    let new = |seed| {
        let model = Model::new(&gpu, &Sequential::new().linear(2, 3), seed).unwrap();
        let sgd = Sgd::new().lr(0.5).momentum(0.9);
        Training::new(model, vec![Loss::mse()], Optimization { sgd, ..Optimization::default() }).unwrap()
    };
    let mut training = new(1);
    let mut batch = gpu.batch();
    let mut checkpoint = training.checkpoint(&mut batch).unwrap();
    batch.submit().unwrap();
    let mut checkpoint = checkpoint.wait(TIMEOUT).unwrap();
    checkpoint.cast::<f16>();
    let checkpoint = State::from_bytes(&checkpoint.to_bytes().unwrap()).unwrap();
    training = new(2);
    training.resume(&checkpoint).unwrap();
    let rounded = checkpoint.get("0.weight").unwrap().1;
    assert_eq!(values_of(&gpu, training.model().parameters())[0], rounded);
    let x = Tensor::from_slice(&gpu, [1, 2], &[1.0, 2.0]).unwrap();
    let y = Tensor::from_slice(&gpu, [1, 3], &[0.0; 3]).unwrap();
    let mut batch = gpu.batch();
    training.step(&mut batch, &x, &[(&y).into()]).unwrap();
    batch.submit().unwrap();
    let after = values_of(&gpu, training.model().parameters());
    assert!(after.concat().iter().all(|v| v.is_finite()) && after[0] != rounded, "{after:?}");

    // One error for the model's names and the optimiser's.
    let mut wrong = checkpoint.clone();
    wrong.retain(|name| !name.ends_with("bias"));
    wrong.insert("extra", [1], vec![0.0]).unwrap();
    let Err(Error::StateNames(unmatched)) = training.resume(&wrong) else { panic!("three names are wrong") };
    assert_eq!(unmatched.missing, ["0.bias", "optimizer.momentum_buffer.0.bias"]);
    assert_eq!(unmatched.superfluous, ["extra"]);
    assert_eq!(values_of(&gpu, training.model().parameters()), after);
}

#[test]
fn names_that_differ_are_listed_together() {
    let Some(gpu) = gpu() else { return };
    let list: [(&str, xent::Shape, &[f32]); 3] =
        [("a", [1].into(), &[1.0]), ("b", [2].into(), &[2.0; 2]), ("c", [1].into(), &[3.0])];
    let parameters = Parameters::new(&gpu, &list).unwrap();
    let mut state = State::default();
    state.insert("b", [2], vec![5.0, 6.0]).unwrap();
    state.insert("x", [1], vec![7.0]).unwrap();
    let error = parameters.load(&state).unwrap_err();
    let message = "got 2 missing: [\"a\", \"c\"]; 1 superfluous: [\"x\"]";
    assert_eq!(error.to_string(), format!("state: the names must be those that are asked for, {message}"));
    let Error::StateNames(unmatched) = error else { panic!("{error}") };

    let none = LoadOptions::default();
    for options in [
        LoadOptions { allow_missing: true, ..none.clone() },
        LoadOptions { allow_superfluous: true, ..none.clone() },
        LoadOptions { only: Some(vec!["b".into(), "c".into()]), allow_superfluous: true, ..none.clone() },
        LoadOptions { only: Some(vec!["b".into()]), ..none.clone() },
    ] {
        assert!(matches!(parameters.load_with(&state, &options), Err(Error::StateNames(_))), "{options:?}");
        assert_eq!(values_of(&gpu, &parameters), [vec![1.0], vec![2.0; 2], vec![3.0]]);
    }
    let unknown = LoadOptions { only: Some(vec!["d".into()]), ..none.clone() };
    assert!(matches!(parameters.load_with(&state, &unknown), Err(Error::Value { .. })));
    let both = LoadOptions { allow_missing: true, allow_superfluous: true, ..none.clone() };
    assert_eq!(parameters.load_with(&state, &both).unwrap(), unmatched);
    assert_eq!(values_of(&gpu, &parameters), [vec![1.0], vec![5.0, 6.0], vec![3.0]]);

    // Loading a part by name: the other tensors' names and shapes do not matter.
    state.retain(|name| name != "x");
    state.insert("a", [1], vec![8.0]).unwrap();
    state.insert("c", [9], vec![0.0; 9]).unwrap();
    assert!(matches!(parameters.load(&state), Err(Error::State { .. })));
    let part = LoadOptions { only: Some(vec!["a".into()]), ..none.clone() };
    assert_eq!(parameters.load_with(&state, &part).unwrap(), Unmatched::default());
    assert_eq!(values_of(&gpu, &parameters), [vec![8.0], vec![5.0, 6.0], vec![3.0]]);
    state.retain(|name| name != "b");
    state.insert("b", [2], vec![0.0; 2]).unwrap();
    let nothing = LoadOptions { only: Some(vec![]), ..none.clone() };
    parameters.load_with(&state, &nothing).unwrap();
    state.rename(|name| name.replace('c', "x")).unwrap();
    state.insert("c", [1], vec![4.0]).unwrap();
    let around = LoadOptions { only: Some(vec!["c".into(), "a".into()]), allow_superfluous: true, ..none };
    parameters.load_with(&state, &around).unwrap();
    assert_eq!(values_of(&gpu, &parameters), [vec![8.0], vec![5.0, 6.0], vec![4.0]], "b lies between them");

    // Of thousands of names, the error has the first few and the number of the others.
    let mut many = State::default();
    (0..5000).for_each(|i| many.insert(&format!("layers.{i}"), [1], vec![0.0]).unwrap());
    let error = parameters.load(&many).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("3 missing: [\"a\", \"b\", \"c\"]; 5000 superfluous: [\"layers.0\", "), "{text}");
    assert!(text.ends_with("] and 4992 more") && text.len() < 400, "{text}");
    let Error::StateNames(unmatched) = error else { panic!("{error}") };
    assert_eq!(unmatched.superfluous.len(), 5000);
    let text = many.require_only(["layers.7"]).unwrap_err().to_string();
    assert!(text.contains("got 4999 superfluous"), "{text}");
}

#[test]
fn tensors_are_renamed_together_or_not_at_all() {
    let mut state = State::default();
    for (name, value) in [("model.layers.0.w", 1.0), ("model.layers.10.w", 2.0), ("w", 3.0)] {
        state.insert(name, [1], vec![value]).unwrap();
    }
    state.set_note("model.layers.0.w", "stays");
    let before = state.clone();
    let strip = |name: &str| name.strip_prefix("model.layers.0.").unwrap_or(name).to_owned();
    let error = state.rename(strip).unwrap_err().to_string();
    assert_eq!(error, "state: \"w\" must have a name of its own, got another tensor of this name");
    assert!(state.rename(|_| "__metadata__".to_owned()).is_err());
    assert_eq!(state, before);
    // New names that swap, and that sort differently.
    let swapped = |name: &str| match name {
        "w" => "model.layers.0.w".to_owned(),
        "model.layers.0.w" => "w".to_owned(),
        other => other.replace("model.layers.", "z"),
    };
    state.rename(swapped).unwrap();
    let value = |name: &str| state.get(name).unwrap().1[0];
    assert_eq!(["w", "model.layers.0.w", "z10.w"].map(value), [1.0, 3.0, 2.0]);
    assert_eq!((state.names().count(), state.note("model.layers.0.w")), (3, Some("stays")));
}

/// A tensor with several names exists once; a file has one of the names, or several with the same
/// values.
#[test]
fn tied_weights_load_under_any_of_their_names() {
    let Some(gpu) = gpu() else { return };
    let list: [(&str, xent::Shape, &[f32]); 2] = [("embed", [2].into(), &[0.0; 2]), ("bias", [1].into(), &[0.0])];
    let tied = || {
        let mut parameters = Parameters::new(&gpu, &list).unwrap();
        parameters.tie("head", "embed").unwrap();
        parameters.tie("decoder", "head").unwrap();
        parameters
    };
    let file = |tensors: &[(&str, [f32; 2])]| {
        let mut state = State::default();
        state.insert("bias", [1], vec![9.0]).unwrap();
        tensors.iter().for_each(|(name, values)| state.insert(name, [2], values.to_vec()).unwrap());
        state
    };
    let (ab, ba) = ([1.0, 2.0], [2.0, 1.0]);
    for tensors in [&[("embed", ab)][..], &[("head", ab)], &[("decoder", ab)], &[("decoder", ab), ("embed", ab)]] {
        let parameters = tied();
        parameters.load(&file(tensors)).unwrap();
        assert_eq!(values_of(&gpu, &parameters), [vec![1.0, 2.0], vec![9.0]], "{tensors:?}");
        let [head] = eval(&gpu, |_| Ok([parameters.value("decoder")?]));
        assert_eq!(head, [1.0, 2.0]);
    }
    // A half and an `f32` with the same value are equal.
    let mut both = file(&[("head", ab)]);
    both.insert("embed", [2], ab.map(f16::from_f32).to_vec()).unwrap();
    tied().load(&both).unwrap();

    let parameters = tied();
    let error = parameters.load(&file(&[("embed", ab), ("head", ba)])).unwrap_err().to_string();
    let message = "state: \"head\" must have the values of \"embed\", which it is tied to, got others";
    assert_eq!(error, message);
    let Err(Error::StateNames(unmatched)) = parameters.load(&file(&[])) else { panic!("nothing to load") };
    assert_eq!(unmatched.missing, ["embed"], "said once, under its own name");
    let mut wide = file(&[("embed", ab)]);
    wide.insert("head", [1], vec![1.0]).unwrap();
    assert!(matches!(parameters.load(&wide), Err(Error::State { .. })), "another shape is another tensor");
    assert_eq!(values_of(&gpu, &parameters), [vec![0.0; 2], vec![0.0]], "nothing changed");
    let only = LoadOptions { only: Some(vec!["decoder".into()]), ..LoadOptions::default() };
    parameters.load_with(&file(&[("head", ab)]), &only).unwrap();
    assert_eq!(values_of(&gpu, &parameters), [vec![1.0, 2.0], vec![0.0]]);

    // A tied parameter is saved, updated and counted once.
    let mut parameters = parameters;
    assert!(parameters.names().eq(["embed", "bias"]));
    let sgd = Sgd::new().lr(1.0).momentum(0.5);
    let group = |names: &[&str]| Group { names: names.iter().map(|&n| n.into()).collect(), ..Group::default() };
    let options = Optimization { sgd, groups: vec![group(&["head"])], ..Optimization::default() };
    let twice = Optimization { groups: vec![group(&["head", "embed"])], ..options.clone() };
    assert!(Optimizer::new(&parameters, twice).is_err(), "one parameter in a group twice");
    let mut optimizer = Optimizer::new(&parameters, options).unwrap();
    // A later tie does not make them different parameters.
    parameters.tie("output", "embed").unwrap();
    let mut batch = gpu.batch();
    batch.upload(&parameters.grad("output").unwrap(), &[0.5, 0.25]).unwrap();
    optimizer.step(&mut batch, &parameters).unwrap();
    let (mut state, mut moments) =
        (parameters.state(&mut batch).unwrap(), optimizer.state(&mut batch, &parameters).unwrap());
    batch.submit().unwrap();
    let (state, mut moments) = (state.wait(TIMEOUT).unwrap(), moments.wait(TIMEOUT).unwrap());
    assert!(state.names().eq(["bias", "embed"]) && state.get("embed").unwrap().1 == [0.5, 1.75]);
    moments.rename(|name| name.replace("embed", "head")).unwrap();
    optimizer.load(&moments, &parameters).unwrap();

    for (alias, name) in [("head", "bias"), ("bias", "embed"), ("embed", "embed"), ("x", "none")] {
        assert!(matches!(parameters.tie(alias, name), Err(Error::Value { .. })), "{alias} {name}");
    }
    assert!(matches!(parameters.tie("__metadata__", "bias"), Err(Error::State { .. })));
}
