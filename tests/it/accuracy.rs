//! The errors of long sums compared with the errors of pairwise sums in `f32`, as a table:
//! `cargo test --release --test it -- --ignored accuracy --nocapture`.

use std::fmt::Write as _;

use crate::common::*;
use xent::linear::{LinearCrossEntropy, LinearLossRequest};
use xent::loss::{CrossEntropy, Grad, LossRequest, Mse, Reduction, Targets};
use xent::{Gpu, Layout, Tensor, Weights, cpu};

/// The largest allowed error, in units of the pairwise sum's error.
const BAR: f64 = 4.0;

/// The relative error of rounding a result once, whatever was summed: half an ulp.
const ROUNDING: f64 = 1.0 / (1 << 24) as f64;

/// Returns numbers normally distributed around 0 with deviation `sigma`.
fn normal(seed: u64, len: usize, sigma: f64) -> Vec<f32> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let uniform = std::iter::repeat_with(|| 1.0 - rng.f64()).take(2 * len).collect::<Vec<_>>();
    let pairs = uniform.chunks_exact(2);
    pairs.map(|u| (sigma * (-2.0 * u[0].ln()).sqrt() * (std::f64::consts::TAU * u[1]).cos()) as f32).collect()
}

/// Sums in `f32`, halving the slice recursively.
fn pairwise(values: &[f32]) -> f32 {
    match values {
        [] => 0.0,
        [value] => *value,
        _ => {
            let (a, b) = values.split_at(values.len() / 2);
            pairwise(a) + pairwise(b)
        }
    }
}

/// The relative errors of several results of one kind.
#[derive(Clone, Copy, Default)]
struct Errors {
    squares: f64,
    count: f64,
}

impl Errors {
    fn add(&mut self, got: f32, want: f64, scale: f64) {
        self.squares += ((f64::from(got) - want) / scale).powi(2);
        self.count += 1.0;
    }

    fn rms(self) -> f64 {
        (self.squares / self.count.max(1.0)).sqrt()
    }
}

/// The rows of the table, and the number of rows above the bar.
struct Table {
    text: String,
    above: usize,
}

impl Table {
    fn row(&mut self, what: &str, sizes: &str, gpu: &Gpu, (errors, pairwise): (Errors, Errors)) {
        // A result is rounded once, even if the pairwise sum happens to be exact.
        let bar = pairwise.rms().max(ROUNDING * 0.5);
        let ratio = errors.rms() / bar;
        self.above += usize::from(ratio > BAR);
        let family = format!("{:?}", gpu.caps().family);
        let _ = writeln!(
            self.text,
            "| {what} | {sizes} | {family} | {:.1e} | {:.1e} | {ratio:.2} |",
            errors.rms(),
            pairwise.rms()
        );
    }
}

fn rows(table: &mut Table, gpu: &Gpu, classes: usize) {
    let n = 8;
    let x = normal(1, n * classes, 3.0);
    let index = labels(2, n, classes);
    let weight: Vec<f32> = unit(3, classes).iter().map(|w| w + 0.5).collect();
    let mut q = unit(4, n * classes);
    q.chunks_mut(classes).for_each(|row| {
        let sum: f64 = row.iter().copied().map(f64::from).sum();
        row.iter_mut().for_each(|q| *q = (f64::from(*q) / sum) as f32);
    });
    let shape = [n, classes];
    let logits = Tensor::from_slice(gpu, shape, &x).unwrap();
    let targets = Targets::new(gpu, [n], &index, classes).unwrap();
    let probabilities = Tensor::from_slice(gpu, shape, &q).unwrap();
    let weights = Some(Weights::new([classes], &weight).unwrap());
    let options =
        |smoothing, weight| CrossEntropy::new().label_smoothing(smoothing).weight(weight).reduction(Reduction::None);
    for (what, options, soft) in [
        ("plain", options(0.0, None), false),
        ("smoothing 0.1", options(0.1, None), false),
        ("smoothing 0.1, weights", options(0.1, weights), false),
        ("probabilities", options(0.0, None), true),
    ] {
        let (on_gpu, on_cpu): (Targets, cpu::Targets<'_>) =
            if soft { ((&probabilities).into(), (&q[..]).into()) } else { ((&targets).into(), (&index[..]).into()) };
        let [loss, grad, entropy] = eval(gpu, |b| {
            let request = LossRequest::new().grad(Grad::New).statistics();
            let out = b.cross_entropy_with(&logits, on_gpu, &options, request)?;
            Ok([out.loss.clone(), out.gradient()?, out.statistics.expect("asked for").entropy])
        });
        let want = cpu::cross_entropy_backward((&x, &shape), on_cpu.clone(), &options, None).unwrap();
        let statistics = cpu::cross_entropy_statistics((&x, &shape), on_cpu, &options).unwrap();
        let (mut of_loss, mut of_grad, mut of_entropy) = <([Errors; 2], [Errors; 2], [Errors; 2])>::default();
        for row in 0..n {
            let x = &x[row * classes..][..classes];
            let m = x.iter().copied().fold(f32::MIN, f32::max);
            let exp: Vec<f32> = x.iter().map(|x| (x - m).exp()).collect();
            let total = pairwise(&exp);
            let log_total = total.ln();
            let smoothing = options.label_smoothing as f32;
            let t = index[row] as usize;
            let of_class = |c: usize| if options.weight.is_some() { weight[c] } else { 1.0 };
            let coefficient = |c: usize| {
                if soft {
                    return q[row * classes + c];
                }
                let of_target = if c == t { (1.0 - smoothing) * of_class(t) } else { 0.0 };
                of_class(c) * smoothing / classes as f32 + of_target
            };
            let a: Vec<f32> = (0..classes).map(coefficient).collect();
            let all = pairwise(&a);
            let terms: Vec<f32> = (0..classes).map(|c| a[c] * ((x[c] - m) - log_total)).collect();
            of_loss[0].add(loss[row], want.loss[row], want.loss[row].abs());
            of_loss[1].add(-pairwise(&terms), want.loss[row], want.loss[row].abs());
            for c in 0..classes {
                let want = want.grad[row * classes + c];
                let got = grad[row * classes + c];
                let scale = want.abs().max(1e-9);
                of_grad[0].add(got, want, scale);
                of_grad[1].add(all * (exp[c] / total) - a[c], want, scale);
            }
            let spread: Vec<f32> = exp.iter().zip(x).map(|(e, x)| e / total * (m - x)).collect();
            let want = statistics.entropy[row];
            of_entropy[0].add(entropy[row], want, want);
            of_entropy[1].add(log_total + pairwise(&spread), want, want);
        }
        let sizes = format!("V = {classes}");
        table.row(&format!("loss, {what}"), &sizes, gpu, of_loss.into());
        table.row(&format!("gradient, {what}"), &sizes, gpu, of_grad.into());
        if what == "plain" {
            table.row("entropy", &sizes, gpu, of_entropy.into());
        }
    }
}

/// Losses of rows whose target's logit is far above all others. They are log1p of a small sum,
/// which would show an error that many summands share.
fn confident_rows(table: &mut Table, gpu: &Gpu, classes: usize) {
    let n = 24;
    let mut x = normal(8, n * classes, 2.0);
    let index = labels(9, n, classes);
    for (row, &t) in index.iter().enumerate() {
        x[row * classes + t as usize] = 21.3 + 0.7 * row as f32;
    }
    let shape = [n, classes];
    let options = CrossEntropy::new().reduction(Reduction::None);
    let [loss] = eval(gpu, |b| {
        let logits = Tensor::from_slice(gpu, shape, &x)?;
        let targets = Targets::new(gpu, [n], &index, classes)?;
        Ok([b.cross_entropy(&logits, &targets, &options)?])
    });
    let want = cpu::cross_entropy((&x, &shape), &index, &options).unwrap();
    let mut errors = <[Errors; 2]>::default();
    for (row, &t) in index.iter().enumerate() {
        let x = &x[row * classes..][..classes];
        let m = x[t as usize];
        let others = x.iter().enumerate().filter(|&(c, _)| c != t as usize);
        let exp: Vec<f32> = others.map(|(_, x)| f64::from(x - m).exp() as f32).collect();
        errors[0].add(loss[row], want[row], want[row]);
        errors[1].add(pairwise(&exp).ln_1p(), want[row], want[row]);
    }
    table.row("loss, confident", &format!("V = {classes}"), gpu, errors.into());
}

/// Products and sums of `k` summands, which are around 0, positive, or nearly equal.
fn sums(table: &mut Table, gpu: &Gpu, k: usize) {
    const SIDE: usize = 6;
    for (what, centre, spread) in [("around 0", 0.0, 1.0), ("positive", 1.5, 0.4), ("nearly equal", 1.1, 1e-3)] {
        let values = |seed| normal(seed, SIDE * k, spread).iter().map(|v| v + centre).collect::<Vec<f32>>();
        let (a, b) = (values(5), values(6));
        let (x, y) = (Tensor::from_slice(gpu, [k, SIDE], &a).unwrap(), Tensor::from_slice(gpu, [k, SIDE], &b).unwrap());
        let ([row, column], zero) = (
            [Tensor::from_slice(gpu, [SIDE, k], &a).unwrap(), Tensor::from_slice(gpu, [SIDE, k], &b).unwrap()],
            Tensor::<f32>::zeros(gpu, [k * SIDE]).unwrap(),
        );
        let flat = x.reshape([k * SIDE]).unwrap();
        let [tn, nt, columns, mse] = eval(gpu, |batch| {
            let sum = Mse::new().reduction(Reduction::Sum);
            Ok([
                batch.matmul(Layout::Tn, &x, &y, None)?,
                batch.matmul(Layout::Nt, &row, &column, None)?,
                batch.column_sum(&x)?,
                batch.mse(&flat, &zero, &sum)?,
            ])
        });
        let f = |v: f32| f64::from(v);
        let mut errors = <[[Errors; 2]; 4]>::default();
        let mut sum = |which: usize, got: f32, summands: &[(f32, f64)]| {
            let want: f64 = summands.iter().map(|s| s.1).sum();
            let rounded: Vec<f32> = summands.iter().map(|s| s.0).collect();
            // The error of a sum around 0 is relative to the sum's expected magnitude.
            let scale = summands.iter().map(|s| s.1 * s.1).sum::<f64>().sqrt().max(want.abs());
            errors[which][0].add(got, want, scale);
            errors[which][1].add(pairwise(&rounded), want, scale);
        };
        for i in 0..SIDE {
            for j in 0..SIDE {
                let of = |p: f32, q: f32| (p * q, f(p) * f(q));
                let by_column: Vec<_> = (0..k).map(|r| of(a[r * SIDE + i], b[r * SIDE + j])).collect();
                sum(0, tn[i * SIDE + j], &by_column);
                let by_row: Vec<_> = (0..k).map(|c| of(a[i * k + c], b[j * k + c])).collect();
                sum(1, nt[i * SIDE + j], &by_row);
            }
            let column: Vec<_> = (0..k).map(|r| (a[r * SIDE + i], f(a[r * SIDE + i]))).collect();
            sum(2, columns[i], &column);
        }
        let squares: Vec<_> = a.iter().map(|&v| (v * v, f(v) * f(v))).collect();
        sum(3, mse[0], &squares);
        for (name, errors) in ["product, Tn", "product, Nt", "column sum", "sum of squares"].iter().zip(errors) {
            table.row(&format!("{name}, {what}"), &format!("K = {k}"), gpu, errors.into());
        }
    }
}

/// The mean loss and the gradients of a linear layer on `n` nearly equal tokens.
fn tokens(table: &mut Table, gpu: &Gpu, n: usize) {
    let (inputs, classes) = (2, 3);
    let hidden: Vec<f32> = normal(7, n * inputs, 1e-3).iter().map(|v| 1.1 + v).collect();
    let weight = [0.3, -0.2, 0.1, 0.4, -0.5, 0.2f32];
    let index: Vec<i64> = (0..n as i64).map(|i| i % 2).collect();
    let options = LinearCrossEntropy::default();
    let each = LinearCrossEntropy::new().loss(CrossEntropy::new().reduction(Reduction::None));
    let x = Tensor::from_slice(gpu, [n, inputs], &hidden).unwrap();
    let w = Tensor::from_slice(gpu, [classes, inputs], &weight).unwrap();
    let bias = Tensor::<f32>::zeros(gpu, [classes]).unwrap();
    let y = Targets::new(gpu, [n], &index, classes).unwrap();
    let [loss, weight_grad, bias_grad] = eval(gpu, |b| {
        let request = LinearLossRequest::gradients();
        let out = b.linear_cross_entropy_with(&x, &w, Some(&bias), &y, &options, request)?;
        Ok([out.loss, out.weight_grad.unwrap(), out.bias_grad.unwrap()])
    });
    let factors = ((&hidden[..], [n, inputs]), (&weight[..], [classes, inputs]));
    let want = cpu::linear_cross_entropy(factors.0, factors.1, None, &index, &options, None).unwrap();
    let all = cpu::linear_cross_entropy(factors.0, factors.1, None, &index, &each, None).unwrap();
    let logits = cpu::matmul(Layout::Nt, factors.0, factors.1, None).unwrap();
    let loss_of_all = &each.loss;
    let grads = cpu::cross_entropy_backward((&logits, &[n, classes]), &index, loss_of_all, None).unwrap().grad;
    let mut errors = <[[Errors; 2]; 3]>::default();
    let mut sum = |which: usize, got: f32, want: f64, summands: &[f32]| {
        errors[which][0].add(got, want, want.abs());
        errors[which][1].add(pairwise(summands) / n as f32, want, want.abs());
    };
    sum(0, loss[0], want.loss[0], &all.loss.iter().map(|&v| v as f32).collect::<Vec<_>>());
    for c in 0..classes {
        let of_class: Vec<f32> = grads.iter().skip(c).step_by(classes).map(|&g| g as f32).collect();
        sum(2, bias_grad[c], want.bias[c], &of_class);
        for d in 0..inputs {
            let terms = of_class.iter().zip(hidden.iter().skip(d).step_by(inputs)).map(|(g, h)| g * h);
            sum(1, weight_grad[c * inputs + d], want.weight[c * inputs + d], &terms.collect::<Vec<_>>());
        }
    }
    for (name, errors) in ["mean loss", "weight gradient", "bias gradient"].iter().zip(errors) {
        table.row(name, &format!("N = {n}"), gpu, errors.into());
    }
}

/// Losses of a linear layer with many inputs, whose logits are long sums.
fn inputs(table: &mut Table, gpu: &Gpu, inputs: usize) {
    const CLASSES: usize = 4;
    let n = (1 << 20) / inputs.max(1 << 14);
    let hidden = normal(10, n * inputs, 1.0);
    let weight: Vec<f32> = normal(11, CLASSES * inputs, 1.0 / (inputs as f64).sqrt());
    let index = labels(12, n, CLASSES);
    let options = LinearCrossEntropy::new().loss(CrossEntropy::new().reduction(Reduction::None));
    let [loss] = eval(gpu, |b| {
        let hidden = Tensor::from_slice(gpu, [n, inputs], &hidden)?;
        let weight = Tensor::from_slice(gpu, [CLASSES, inputs], &weight)?;
        let targets = Targets::new(gpu, [n], &index, CLASSES)?;
        Ok([b.linear_cross_entropy(&hidden, &weight, None, &targets, &options)?])
    });
    let factors = ((&hidden[..], [n, inputs]), (&weight[..], [CLASSES, inputs]));
    let want = cpu::linear_cross_entropy(factors.0, factors.1, None, &index, &options, None).unwrap().loss;
    let product = |row: usize, class: usize| {
        let (h, w) = (&hidden[row * inputs..][..inputs], &weight[class * inputs..][..inputs]);
        pairwise(&h.iter().zip(w).map(|(h, w)| h * w).collect::<Vec<_>>())
    };
    let logits: Vec<f32> = (0..n * CLASSES).map(|i| product(i / CLASSES, i % CLASSES)).collect();
    let pairwise_losses = cpu::cross_entropy((&logits, &[n, CLASSES]), &index, &options.loss).unwrap();
    let mut errors = <[Errors; 2]>::default();
    for (row, &want) in want.iter().enumerate() {
        errors[0].add(loss[row], want, want);
        errors[1].add(pairwise_losses[row] as f32, want, want);
    }
    table.row("loss, linear", &format!("D = {inputs}"), gpu, errors.into());
}

/// The rows of the table that take only seconds: a vocabulary, and the gradients of a hundred
/// thousand tokens.
#[test]
fn long_sums_keep_their_digits() {
    let Some(gpu) = gpu() else { return };
    let mut table = Table { text: String::new(), above: 0 };
    let own = gpu.caps().family;
    for gpu in families(&gpu).into_iter().filter(|gpu| sweeps_in_full() || gpu.caps().family == own) {
        rows(&mut table, &gpu, 50_257);
        rows(&mut table, &gpu, 128_256);
        inputs(&mut table, &gpu, 65_536);
        for classes in [1000, 32_003, 262_144] {
            confident_rows(&mut table, &gpu, classes);
        }
        tokens(&mut table, &gpu, 100_000);
        sums(&mut table, &gpu, 100_000);
        // Equal probabilities of a vocabulary: every class has the same small share.
        let classes = 151_936;
        let q = 1.0 / classes as f32;
        let [loss] = eval(&gpu, |b| {
            let logits = Tensor::<f32>::zeros(&gpu, [1, classes])?;
            let probabilities = Tensor::from_slice(&gpu, [1, classes], &vec![q; classes])?;
            Ok([b.cross_entropy(&logits, &probabilities, &CrossEntropy::default())?])
        });
        let want = f64::from(q) * classes as f64 * (classes as f64).ln();
        close("equal probabilities", &loss, &[want], 2.5e-7, 0.0);
    }
    assert_eq!(table.above, 0, "rows above {BAR} times a pairwise sum's error:\n{}", table.text);
}

#[test]
#[ignore = "minutes; prints a table"]
fn errors_are_those_of_pairwise_sums() {
    let Some(gpu) = gpu() else { return };
    let mut table = Table { text: String::new(), above: 0 };
    for gpu in families(&gpu) {
        for classes in [1000, 32_003, 50_257, 128_256, 151_936, 262_144] {
            rows(&mut table, &gpu, classes);
            confident_rows(&mut table, &gpu, classes);
        }
        for size in [1000, 16_384, 65_536, 200_003, 1_000_003] {
            inputs(&mut table, &gpu, size);
        }
        for k in [1, 1000, 100_000, 1_000_000] {
            sums(&mut table, &gpu, k);
            tokens(&mut table, &gpu, k);
        }
    }
    say(&format!("\n| sum | size | family | error | pairwise | ratio |\n|---|---|---|---|---|---|\n{}", table.text));
    assert_eq!(table.above, 0, "rows above {BAR} times a pairwise sum's error");
}
