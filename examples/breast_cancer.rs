//! Logistic regression on real data: is a tumour malignant? Five random splits, the ROC curve, and
//! the errors at each threshold.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use common::{Options, Program};
use xent::data::{Table, batches, shuffled};
use xent::loss::BceWithLogits;
use xent::metrics::{Average, Confusion, roc_auc, roc_curve};
use xent::nn::{Linear, Loss, Model, Sequential, Training};
use xent::optim::{Optimization, Schedule, Sgd};
use xent::{Gpu, Tensor, Weights};

mod common;

const PROGRAM: Program = Program {
    name: "breast_cancer",
    about: "Logistic regression on real data: is a tumour malignant? Five random splits, a ROC curve, a threshold table.",
    epochs: 60,
    files: &[("--data", "the samples (default examples/data/breast_cancer.csv)")],
};

const SPLITS: u8 = 5;
const BATCH: usize = 32;

fn main() -> ExitCode {
    common::run(&PROGRAM, example)
}

/// Samples: their measurements, and whether they are malignant.
struct Samples {
    x: Table,
    malignant: Table,
}

fn read(path: &Path) -> Result<Samples> {
    // Skip the first line, which describes the file.
    let table = Table::read_csv(path, 1)?;
    ensure!(table.columns() > 1, "{}: one column is too few", path.display());
    let (x, benign) = table.split_columns(table.columns() - 1)?;
    let malignant = benign.classes(2)?.iter().map(|&benign| 1.0 - benign as f32).collect();
    Ok(Samples { x, malignant: Table::new(1, malignant)? })
}

/// The scores of a split's test samples, and which of them are malignant.
struct Tested {
    scores: Vec<f32>,
    malignant: Vec<bool>,
}

impl Tested {
    fn confusion(&self, threshold: f32) -> Result<Confusion> {
        let targets: Vec<usize> = self.malignant.iter().map(|&m| usize::from(m)).collect();
        let predicted: Vec<usize> = self.scores.iter().map(|&score| usize::from(score > threshold)).collect();
        Ok(Confusion::of(2, &targets, &predicted, None)?)
    }
}

fn example(options: &Options) -> Result<()> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/breast_cancer.csv");
    let samples = read(options.file("--data").unwrap_or(&default))?;
    let gpu = options.gpu()?;
    println!("{} samples with {} measurements each; a fifth is for the test", samples.x.rows(), samples.x.columns());
    let test = samples.x.rows() / 5;
    ensure!(test > 0, "too few samples to split");
    let bar = common::bar(usize::from(SPLITS) * options.epochs)?;
    let mut all = Vec::new();
    for split in 0..SPLITS {
        let seed = options.seed.wrapping_add(u64::from(split));
        let order = shuffled(samples.x.rows(), seed)?;
        let (test, train) = order.split_at(test);
        let tested = fit(&gpu, &samples, train, test, options.epochs, seed, &bar)?;
        let (auc, accuracy) = (roc_auc(&tested.scores, &tested.malignant, None)?, tested.confusion(0.0)?.accuracy());
        bar.suspend(|| println!("split {seed}: ROC-AUC {auc:.4}, accuracy {accuracy:.4}"));
        all.push((auc, accuracy, tested));
    }
    bar.finish_and_clear();
    let mean = |value: fn(&(f64, f64, Tested)) -> f64| all.iter().map(value).sum::<f64>() / f64::from(SPLITS);
    println!("mean of {SPLITS} splits: ROC-AUC {:.4}, accuracy {:.4}", mean(|s| s.0), mean(|s| s.1));

    let (_, _, first) = &all[0];
    let curve = roc_curve(&first.scores, &first.malignant, None)?;
    let points = curve.iter().map(|p| (p.false_positive_rate, p.true_positive_rate)).collect();
    let lines = [("logistic regression", points), ("guessing", vec![(0.0, 0.0), (1.0, 1.0)])];
    common::chart(
        &options.in_out("roc.svg")?,
        "malignant or benign",
        ["false positive rate", "true positive rate"],
        &lines,
    )?;
    println!("of split {}: called malignant from this probability on", options.seed);
    println!("probability  missed  false alarms  precision  recall  F1");
    for probability in [0.01f32, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9] {
        let confusion = first.confusion((probability / (1.0 - probability)).ln())?;
        let malignant = Average::Binary(1);
        println!(
            "{probability:11.2}  {:6}  {:12}  {:9.3}  {:6.3}  {:.3}",
            confusion.count(1, 0),
            confusion.count(0, 1),
            confusion.precision(malignant),
            confusion.recall(malignant),
            confusion.f1(malignant)
        );
    }
    Ok(())
}

fn fit(
    gpu: &Gpu,
    samples: &Samples,
    train: &[usize],
    test: &[usize],
    epochs: usize,
    seed: u64,
    bar: &indicatif::ProgressBar,
) -> Result<Tested> {
    let (mut x, y) = (samples.x.select(train)?, samples.malignant.select(train)?);
    let standardisation = x.standardisation();
    standardisation.apply(&mut x)?;
    // Malignant samples are rarer than benign ones: weight them by the ratio.
    let malignant = y.values().iter().sum::<f32>();
    ensure!(malignant > 0.0, "no malignant sample to train on");
    let pos_weight = (y.rows() as f32 - malignant) / malignant;
    let loss = BceWithLogits::new().pos_weight(Weights::from([pos_weight]));

    let network = Sequential::new().layer(Linear::new(x.columns(), 1).named("linear"));
    let steps = (epochs * train.len().div_ceil(BATCH)) as u64;
    let optimization = Optimization {
        sgd: Sgd::new().lr(0.1).momentum(0.9).weight_decay(1e-2),
        schedule: Schedule::Cosine { warm_up: 0, steps, floor: 0.0 },
        ..Optimization::default()
    };
    let model = Model::new(gpu, &network, seed)?;
    let mut training = Training::new(model, vec![Loss::from(loss)], optimization)?;
    let mut feeds = [xent::data::Feed::new(gpu, BATCH, x.columns())?, xent::data::Feed::new(gpu, BATCH, 1)?];
    let rows: Vec<usize> = (0..x.rows()).collect();
    for epoch in 0..epochs {
        for rows in batches(&rows, BATCH, seed, epoch as u64)? {
            let mut batch = gpu.batch();
            let (tx, ty) = (feeds[0].load(&mut batch, &x, &rows)?, feeds[1].load(&mut batch, &y, &rows)?);
            training.step(&mut batch, &tx, &[(&ty).into()])?;
            batch.submit()?;
        }
        bar.inc(1);
    }
    let mut x = samples.x.select(test)?;
    standardisation.apply(&mut x)?;
    let scores =
        common::predict(gpu, training.model(), &Tensor::from_slice(gpu, [x.rows(), x.columns()], x.values())?)?;
    let malignant = samples.malignant.select(test)?.values().iter().map(|&m| m > 0.5).collect();
    Ok(Tested { scores: scores.concat(), malignant })
}
