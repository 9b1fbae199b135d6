//! No argument makes the library panic: the whole list of rejections, and hostile values for everything public, under a panic hook.

use std::cell::RefCell;
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::time::Duration;

use crate::common::*;
use crate::errors::REJECTIONS;
use xent::data::{Feed, Standardisation, Table, batches, shuffled};
use xent::metrics::{Average, BinaryOutputs, Confusion, Evaluation, average_precision, roc_auc, roc_curve};
use xent::nn::{Linear, Loss, Model, Sequential, Training};
use xent::wgpu;
use xent::{
    Bce, BceWithLogits, Caps, CrossEntropy, Error, Gpu, Group, Layout, LinearBackward, LinearBceWithLogits,
    LinearCrossEntropy, LinearSgd, Momentum, Mse, Nll, Optimization, Optimizer, Parameters, Reduction, Schedule, Sgd,
    State, Tensor, Weights, cpu, f16,
};

const HUGE: usize = usize::MAX;

thread_local! {
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// What a test tried, and what went wrong.
struct Watch {
    tried: usize,
    wrong: Vec<String>,
}

impl Watch {
    fn new() -> Self {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                PANICS.with_borrow_mut(|panics| panics.push(info.to_string()));
                before(info);
            }));
        });
        PANICS.take();
        Self { tried: 0, wrong: Vec::new() }
    }

    /// Whatever comes of it, but no panic: not even one that somebody catches.
    fn tries<T>(&mut self, what: &str, case: impl FnOnce() -> T) -> Option<T> {
        self.tried += 1;
        let outcome = catch_unwind(AssertUnwindSafe(case)).ok();
        self.wrong.extend(PANICS.take().into_iter().map(|panic| format!("{what}: {panic}")));
        outcome
    }

    /// An error, which has something to say.
    fn refuses<T>(&mut self, what: &str, case: impl FnOnce() -> xent::Result<T>) {
        match self.tries(what, case) {
            Some(Err(error)) if error.to_string().len() > 10 => {}
            Some(Err(error)) => self.wrong.push(format!("{what}: {error:?}")),
            Some(Ok(_)) => self.wrong.push(format!("{what}: was accepted")),
            None => {}
        }
    }

    fn gives<T: PartialEq + Debug>(&mut self, what: &str, case: impl FnOnce() -> T, want: T) {
        if let Some(got) = self.tries(what, case)
            && got != want
        {
            self.wrong.push(format!("{what}: got {got:?}, want {want:?}"));
        }
    }

    #[track_caller]
    fn ends(self) {
        assert!(self.wrong.is_empty(), "{} of {}:\n{}", self.wrong.len(), self.tried, self.wrong.join("\n"));
    }
}

#[test]
fn the_watch_sees_panics_and_what_is_accepted() {
    let mut watch = Watch::new();
    watch.tries("caught by somebody", || drop(catch_unwind(|| [0; 3][std::hint::black_box(5)])));
    watch.refuses("a panic", || -> xent::Result<()> { panic!("on purpose") });
    watch.refuses("accepted", || Ok(()));
    watch.gives("another value", || 1, 2);
    watch.refuses("refused", || shuffled(HUGE, 0));
    assert_eq!((watch.tried, watch.wrong.len()), (5, 4), "{:?}", watch.wrong);
}

#[test]
fn rejections() {
    let mut watch = Watch::new();
    for (what, list) in REJECTIONS {
        watch.tries(what, list);
    }
    watch.ends();
}

/// Shapes whose products overflow, or are 0 where others would.
const SHAPES: [&[usize]; 19] = [
    &[],
    &[0],
    &[1],
    &[2],
    &[HUGE],
    &[0, 0],
    &[0, 2],
    &[2, 0],
    &[1, 2],
    &[HUGE, 0],
    &[0, HUGE],
    &[HUGE, HUGE],
    &[HUGE / 4, 8],
    &[1 << 32, 1 << 32, 0],
    &[0, u32::MAX as usize, u32::MAX as usize],
    &[2, 0, HUGE],
    &[1, 1, 1, 1, 1, 1, 1, 2],
    &[HUGE, 0, HUGE],
    &[u32::MAX as usize, 0],
];

fn hostile_weights() -> Vec<Option<Weights>> {
    let shaped = |shape: &[usize], values: &[f32]| Weights::new(shape, values).ok();
    let lists = [None, Some([].into()), Some([f32::NAN].into()), Some([f32::INFINITY, -0.0].into())];
    lists.into_iter().chain([shaped(&[], &[0.0]), shaped(&[0, 2], &[]), shaped(&[1, 2], &[1.0; 2])]).collect()
}

#[test]
fn the_reference() {
    let mut watch = Watch::new();
    let values = [f32::NAN, f32::INFINITY, 0.5];
    let targets = [i64::MIN, i64::MAX, 0];
    for (shape, len) in SHAPES.iter().flat_map(|shape| (0..=3).map(move |len| (*shape, len))) {
        let (x, t) = (&values[..len], &targets[..len]);
        let here = &format!("{shape:?} of {len}");
        let wrong = shape.iter().fold(1, |product: usize, &dim| product.saturating_mul(dim)) != len;
        let mut all = |what: &str, case: &dyn Fn() -> xent::Result<Vec<f64>>| {
            let what = &format!("cpu::{what} {here}");
            if wrong { watch.refuses(what, case) } else { drop(watch.tries(what, case)) }
        };
        for (dim, other) in [0, 1, 2, HUGE].into_iter().zip([x, &[], &values, x]) {
            all("softmax", &|| cpu::softmax(x, shape, dim));
            all("softmax_backward", &|| cpu::softmax_backward(x, shape, other, dim));
            all("log_softmax", &|| cpu::log_softmax(x, shape, dim));
            all("log_softmax_backward", &|| cpu::log_softmax_backward(x, shape, other, dim));
        }
        for weight in hostile_weights() {
            for reduction in [Reduction::None, Reduction::Mean] {
                let up = [1.0, f64::NAN];
                for upstream in [None, Some(&up[..0]), Some(&up[..1]), Some(&up[..])] {
                    let (position_weight, ignore_index) = (weight.clone(), targets[0]);
                    let nll = Nll { weight: weight.clone(), position_weight, reduction, ignore_index };
                    all("nll", &|| Ok(cpu::nll_backward(x, shape, t, &nll, upstream)?.grad));
                    let ce = CrossEntropy { weight: weight.clone(), reduction, ..Default::default() };
                    all("cross_entropy", &|| Ok(cpu::cross_entropy_backward(x, shape, t, &ce, upstream)?.grad));
                    all("cross_entropy", &|| Ok(cpu::cross_entropy_backward(x, shape, x, &ce, upstream)?.grad));
                    all("statistics", &|| Ok(cpu::cross_entropy_statistics(x, shape, x, &ce)?.entropy));
                    let bce = Bce { weight: weight.clone(), reduction };
                    all("bce", &|| Ok(cpu::bce_backward(x, shape, x, &bce, upstream)?.grad));
                    let logits = BceWithLogits { weight: weight.clone(), pos_weight: weight.clone(), reduction };
                    let backward = || cpu::bce_with_logits_backward(x, shape, x, &logits, upstream);
                    all("bce_with_logits", &|| Ok(backward()?.grad));
                    let mse = Mse { weight: weight.clone(), reduction };
                    for other in SHAPES {
                        all("mse", &|| Ok(cpu::mse_backward((x, shape), (x, other), &mse, upstream)?.grad));
                    }
                }
            }
        }
    }
    let sizes = [0, 1, 2, HUGE];
    let matrices = sizes.iter().flat_map(|&m| sizes.map(|n| [m, n]));
    for (a, b) in matrices.clone().flat_map(|a| matrices.clone().map(move |b| (a, b))) {
        let of = |[m, n]: [usize; 2]| &[0.5f32; 4][..m.saturating_mul(n).min(4)];
        let what = &format!("cpu {a:?} {b:?}");
        for layout in [Layout::Nn, Layout::Nt, Layout::Tn] {
            watch.tries(what, || cpu::matmul(layout, (of(a), a), (of(b), b), Some(of(a))));
            watch.tries(what, || cpu::matmul(layout, (of(a), a), (of(b), b), None));
        }
        watch.tries(what, || cpu::column_sum(of(a), a));
        let (linear, bce) = (LinearCrossEntropy::default(), BceWithLogits::default());
        watch.tries(what, || cpu::linear_cross_entropy((of(a), a), (of(b), b), None, &[0i64; 2], &linear, None));
        watch.tries(what, || cpu::linear_bce_with_logits((of(a), a), (of(b), b), None, &[0.5; 2], &bce, None));
    }
    watch.refuses("no rows of all columns", || cpu::column_sum(&[0.0f32; 0], [0, HUGE]));
    watch.refuses("a product of nothing", || {
        cpu::matmul(Layout::Nn, (&[0.0f32; 0], [1 << 20, 0]), (&[], [0, 1 << 20]), None)
    });
    watch.refuses("rows of no classes", || {
        cpu::cross_entropy(&[0.0f32; 0], &[u32::MAX as usize, 0], &[0.0f32; 0], &CrossEntropy::DEFAULT)
    });
    let tall = vec![0.5f32; 1 << 17];
    watch.refuses("squared error of too much", || {
        cpu::mse((&tall, &[1 << 17, 1]), (&tall, &[1, 1 << 17]), &Mse::default())
    });
    let sgd = Sgd { momentum: 0.9, ..Sgd::default() };
    watch.refuses("velocity", || cpu::sgd(&mut [0.0; 2], &[0.0f32; 2], &mut vec![0.0; 3], &sgd));
    watch.refuses("grads", || cpu::sgd(&mut [0.0; 2], &[0.0f32; 3], &mut vec![], &sgd));
    watch.refuses("relu_backward", || cpu::relu_backward(&[0.0f32; 2], &[0.0; 1]));
    watch.refuses("sigmoid_backward", || cpu::sigmoid_backward(&[0.0f32; 2], &[0.0; 3]));
    watch.ends();
}

#[test]
fn data_and_metrics() {
    let mut watch = Watch::new();
    for (columns, len) in [(0, 0), (0, 1), (HUGE, 0), (HUGE, 1), (2, 3), (1, 0)] {
        watch.refuses("a table", || Table::new(columns, vec![0.0; len]));
    }
    let (none, one) = (Table::default(), Table::new(1, vec![2_147_483_648.0]).unwrap());
    watch.refuses("a row", || one.select(&[0, HUGE]));
    watch.refuses("a row of none", || none.select(&[0]));
    watch.gives("no row of none", || none.select(&[]).unwrap(), none.clone());
    for at in [0, 1, HUGE] {
        watch.refuses("a split", || one.split_columns(at));
        watch.refuses("a split of none", || none.split_columns(at));
    }
    watch.refuses("a class above i32", || one.classes(HUGE));
    watch.refuses("classes of none", || none.classes(2));
    watch.gives("standardisation of none", || none.standardisation().mean().len(), 0);
    watch.refuses("lengths", || Standardisation::new(vec![0.0], vec![]));
    watch.refuses("columns", || one.standardisation().apply(&mut none.clone()));
    for rows in [HUGE, HUGE / 8, 1 << 44] {
        watch.refuses("shuffled", || shuffled(rows, 0));
    }
    watch.gives("batches of 0", || batches(&[1, 2], 0, 0, u64::MAX).count(), 2);
    watch.gives("batches of all", || batches(&[1, 2], HUGE, u64::MAX, 0).count(), 1);

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("table.csv");
    watch.refuses("no file", || Table::read_csv(&path, 0));
    watch.refuses("a directory", || Table::read_csv(directory.path(), 0));
    for text in ["", "\n\r\n", "\u{feff}", "\"", "\"\n\"\"", "1,2\n3", "1\n\u{feff}2", "1e39", "nan", "-inf", ",", "\0"]
    {
        std::fs::write(&path, text).unwrap();
        for skip in [0, HUGE] {
            watch.refuses(&format!("{text:?}"), || Table::read_csv(&path, skip));
        }
    }
    for bytes in [&b"1\n\xff"[..], b"\xef\xbb\xbf1,\xc3\n", b"\r\n\r\n1\n\n\n\x80"] {
        std::fs::write(&path, bytes).unwrap();
        watch.refuses("no text", || Table::read_csv(&path, 0));
    }

    let all = [Average::Binary(0), Average::Binary(HUGE), Average::Macro, Average::Micro, Average::Weighted];
    watch.refuses("classes", || Confusion::of(HUGE, &[], &[]));
    watch.refuses("classes", || Confusion::of(1 << 16, &[], &[]));
    watch.refuses("a class of none", || Confusion::of(0, &[0], &[0]));
    watch.refuses("a target", || Confusion::of(2, &[HUGE], &[0]));
    watch.refuses("a prediction", || Confusion::of(2, &[0], &[2]));
    watch.refuses("lengths", || Confusion::of(2, &[0], &[]));
    watch.refuses("counts", || Confusion::from_counts(HUGE, vec![]));
    watch.refuses("counts", || Confusion::from_counts(1 << 32, vec![0]));
    for counts in [vec![], vec![u64::MAX; 4], vec![0; 4], vec![u64::MAX]] {
        let confusion = Confusion::from_counts([0, 1, 0, 0, 2][counts.len()], counts).unwrap();
        for average in all {
            let scores = || [confusion.precision(average), confusion.recall(average), confusion.f1(average)];
            watch.gives(
                "scores",
                || scores().iter().chain([&confusion.accuracy()]).all(|s| (0.0..=2.0).contains(s)),
                true,
            );
        }
        watch.gives("a count", || confusion.count(HUGE, HUGE) + confusion.count(0, 2), 0);
        watch.tries("a total", || confusion.total());
    }
    watch.gives("a total", || Confusion::from_counts(2, vec![u64::MAX; 4]).unwrap().total(), u64::MAX);
    for (scores, positive) in [(&[0.5f32, f32::NAN][..], &[true, false][..]), (&[0.5], &[]), (&[], &[true])] {
        watch.refuses("roc_curve", || roc_curve(scores, positive));
        watch.refuses("roc_auc", || roc_auc(scores, positive));
        watch.refuses("average_precision", || average_precision(scores, positive));
    }
    watch.gives(
        "no scores",
        || (roc_auc(&[], &[]).unwrap().is_nan(), average_precision(&[], &[]).unwrap()),
        (true, 0.0),
    );
    for n in [0, 1, 2, u64::MAX - 1, u64::MAX] {
        for (a, b) in [(0, 0), (0, u64::MAX), (u64::MAX, 0), (u64::MAX, u64::MAX), (1, 2)] {
            let cosine = Schedule::Cosine { warm_up: a, steps: b, floor: f64::NAN };
            watch.tries("a schedule", || [cosine, Schedule::Step { every: a, factor: -1.0 }].map(|s| s.factor(n)));
        }
    }
    watch.ends();
}

#[test]
fn states() {
    let mut watch = Watch::new();
    for shape in SHAPES {
        let mut state = State::default();
        let fits = shape.iter().all(|&dim| dim < 3) && shape.iter().product::<usize>() == 2;
        let inserted = watch.tries("insert", || state.insert("x", shape, vec![0.0; 2]).is_ok());
        assert_eq!(inserted, Some(fits), "{shape:?}");
        let none = watch.tries("insert", || state.insert("none", shape, vec![]));
        if let Some(bytes) = watch.tries("to_bytes", || state.to_bytes()) {
            watch.gives("from_bytes", || bytes.and_then(|b| State::from_bytes(&b)).ok(), Some(state.clone()));
        }
        drop(none);
    }
    let mut state = State::default();
    state.insert("x", [1], vec![0.0]).unwrap();
    watch.refuses("twice", || state.insert("x", [1], vec![0.0]));
    watch.refuses("the format's own", || state.insert("__metadata__", [1], vec![0.0]));
    watch.refuses("merge", || state.clone().merge("", state.clone()));
    watch.refuses("require", || state.require("x", &[HUGE].into()).map(<[f32]>::to_vec));
    watch.refuses("require_only", || state.require_only([]));
    let directory = tempfile::tempdir().unwrap();
    for path in ["", "/", directory.path().to_str().unwrap(), "/nowhere/at/all", "\0"] {
        watch.refuses("save", || state.save(path));
        watch.refuses("load", || State::load(path));
    }
    let whole = state.to_bytes().unwrap();
    for len in 0..whole.len() {
        watch.refuses("a part", || State::from_bytes(&whole[..len]));
    }
    for header in [
        r#"{"x":{"dtype":"F32","shape":[18446744073709551615,2],"data_offsets":[0,8]}}"#,
        r#"{"x":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}"#,
        r#"{"x":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#,
        r#"{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,18446744073709551615]}}"#,
        r#"{"x":{"dtype":"F32","shape":[2],"data_offsets":[18446744073709551608,18446744073709551615]}}"#,
        r#"{"x":{"dtype":"F64","shape":[1],"data_offsets":[0,8]}}"#,
        r#"{"x":{"dtype":"F4","shape":[3],"data_offsets":[0,1]}}"#,
        "{",
        "[]",
        "0",
    ] {
        for len in [0, header.len() as u64, header.len() as u64 + 1, u64::MAX, u64::MAX - 7, 1 << 63] {
            let bytes = [&len.to_le_bytes()[..], header.as_bytes(), &[0; 8]].concat();
            watch.refuses(header, || State::from_bytes(&bytes));
        }
    }
    watch.ends();
}

#[test]
fn tensors_and_devices() {
    let Some(gpu) = gpu() else { return };
    let mut watch = Watch::new();
    let empty = Tensor::<f32>::from_slice(&gpu, [0], &[]).unwrap();
    let x = Tensor::from_slice(&gpu, [4, 2], &[0.5f32; 8]).unwrap();
    for shape in SHAPES {
        let what = &format!("{shape:?}");
        watch.refuses(what, || Tensor::from_slice(&gpu, shape, &[0.0f32; 5]));
        watch.refuses(what, || Tensor::targets(&gpu, shape, &[0i64; 5], HUGE, 0));
        watch.refuses(what, || Weights::new(shape, &[0.0; 5]));
        watch.refuses(what, || x.reshape(shape));
        watch.refuses(what, || Parameters::new(&gpu, &[("x", shape.into(), &[0.0; 5])]));
        // As an empty tensor, and what can be done with it.
        let tensors = [
            watch.tries(what, || empty.reshape(shape)),
            watch.tries(what, || Parameters::new(&gpu, &[("x", shape.into(), &[])]).and_then(|p| p.value("x"))),
            watch.tries(what, || Tensor::<f32>::zeros(&gpu, shape)),
        ];
        for tensor in tensors.into_iter().flatten().flatten() {
            operations(&mut watch, &gpu, &tensor, what);
        }
    }
    for gpu in families(&gpu) {
        operations(&mut watch, &gpu, &x, "what fits");
    }
    for dims in [[HUGE, 1], [1 << 40, 1], [1 << 32, 1], [1 << 31, 1 << 31]] {
        watch.refuses("zeros", || Tensor::<f16>::zeros(&gpu, dims));
        watch.refuses("from_slice", || Tensor::<f32>::from_slice(&gpu, dims, &[0.0]));
        watch.refuses("Momentum", || Momentum::new(&gpu, dims));
        watch.refuses("Feed", || Feed::new(&gpu, dims[0], dims[1]));
    }
    // Far more than there is memory for, but the slice says that it is a mistake.
    watch.refuses("from_slice", || Tensor::from_slice(&gpu, [1 << 22, 1 << 22], &[0.0f32]));
    #[expect(clippy::reversed_empty_ranges, reason = "that is what has to be refused")]
    for rows in [5..5, 3..2, 0..HUGE, HUGE..HUGE, HUGE..0] {
        watch.refuses("rows", || x.rows(rows.clone()));
    }
    let half = Tensor::from_slice(&gpu, [3], &[f16::ONE; 3]).unwrap().rows(1..2).unwrap();
    watch.refuses("a half word", || half.write(&[f16::ONE]));
    watch.refuses("a half word", || gpu.batch().upload(&half, &[f16::ONE]));
    watch.refuses("a long slice", || x.write(&[0.0; 9]));
    watch.refuses("no slice", || gpu.batch().upload(&x, &[]));
    watch.refuses("probabilities", || Tensor::probabilities(&gpu, [1], &[f32::NAN]));
    watch.refuses("targets", || Tensor::targets(&gpu, [1], &[i64::from(i32::MIN)], HUGE, i64::MAX));
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
    let descriptor = wgpu::BufferDescriptor { label: None, size: 64, usage, mapped_at_creation: false };
    for (offset, shape) in
        [(u64::MAX - 3, &[1][..]), (u64::MAX - 3, &[0]), (64, &[0]), (0, &[HUGE]), (4, &[HUGE / 4, 4])]
    {
        let buffer = gpu.device().create_buffer(&descriptor);
        watch.refuses("from_buffer", || Tensor::<f32>::from_buffer(&gpu, buffer, offset, shape));
    }
    for value in [0, 1, 3, 4097, 1 << 20, u32::MAX] {
        let changes: [fn(&mut Caps, u32); 7] = [
            |c, v| c.max_invocations = v,
            |c, v| c.simd_width = v,
            |c, v| c.storage_align = v,
            |c, v| c.uniform_align = v,
            |c, v| c.max_groups = v,
            |c, v| c.max_binding = v.into(),
            |c, v| c.max_buffer = v.into(),
        ];
        for change in changes {
            let mut caps = gpu.caps().clone();
            change(&mut caps, value);
            watch.tries("workgroup_size", || caps.workgroup_size());
            if let Some(Ok(other)) = watch.tries("with_caps", || gpu.with_caps(caps)) {
                operations(&mut watch, &other, &x, "other caps");
            }
        }
        let mut caps = gpu.caps().clone();
        (caps.enough_tiles, caps.subgroup_size) = (value, value);
        watch.tries("with_caps", || gpu.with_caps(caps).map(drop));
    }
    for sizes in [[HUGE; 3], [0; 3], [HUGE, 0, 0], [0, HUGE, 0], [0, 0, HUGE], [HUGE, 1, 1], [1, HUGE, 1], [1, 1, HUGE]]
    {
        for (scratch, yes) in [(0, true), (u64::MAX, true), (u64::MAX, false), (1 << 20, true)] {
            let (options, bce) = (
                LinearCrossEntropy { scratch, ..Default::default() },
                LinearBceWithLogits { scratch, ..Default::default() },
            );
            for family in families(&gpu) {
                watch.tries("a plan", || {
                    Ok::<_, Error>(family.plan_linear_cross_entropy(sizes, &options, yes)?.to_string())
                });
                watch.tries("a plan", || {
                    Ok::<_, Error>(family.plan_linear_cross_entropy_sgd(sizes, &options, yes)?.to_string())
                });
                watch.tries("a plan", || {
                    Ok::<_, Error>(family.plan_linear_bce_with_logits(sizes, &bce, yes)?.to_string())
                });
            }
        }
    }
    watch.refuses("an adapter", || pollster::block_on(Gpu::request("\0")).map(drop));
    watch.ends();
}

/// Every operation with a tensor in every place; nothing is submitted.
fn operations(watch: &mut Watch, gpu: &Gpu, x: &Tensor<f32>, what: &str) {
    let mut b = gpu.batch();
    let y = Tensor::<i32>::zeros(gpu, [4]).unwrap();
    let m = Tensor::<f32>::zeros(gpu, [4, 2]).unwrap();
    for dim in [0, 1, 2, 7, HUGE] {
        watch.tries(what, || b.softmax(x, dim).is_ok() | b.log_softmax(x, dim).is_ok());
        watch.tries(what, || b.softmax_backward(x, x, dim).is_ok() | b.log_softmax_backward(x, &m, dim).is_ok());
    }
    for (p, q) in [(x, x), (x, &m), (&m, x)] {
        for layout in [Layout::Nn, Layout::Nt, Layout::Tn] {
            watch
                .tries(what, || b.matmul(layout, p, q, Some(x)).is_ok() | b.matmul_into(layout, p, q, None, x).is_ok());
        }
        watch.tries(what, || {
            b.relu_backward(p, q).is_ok() | b.sigmoid_backward(p, q).is_ok() | b.accumulate(p, q).is_ok()
        });
        watch.tries(what, || {
            b.sgd(p, q, Some(&mut Momentum::resume(x.clone())), &Sgd { momentum: 1.0, ..Sgd::default() })
        });
        for weight in hostile_weights().into_iter().chain([Some(x.into())]) {
            for reduction in [Reduction::None, Reduction::Mean] {
                let bce = BceWithLogits { weight: weight.clone(), pos_weight: weight.clone(), reduction };
                watch.tries(what, || b.bce_with_logits_backward(p, q, &bce, Some(x)));
                watch.tries(what, || b.bce(p, q, &Bce { weight: weight.clone(), reduction }));
                watch.tries(what, || b.mse_backward(p, q, &Mse { weight: weight.clone(), reduction }, None));
                let ce = CrossEntropy { weight: weight.clone(), reduction, z_loss: 1.0, ..Default::default() };
                watch.tries(what, || b.cross_entropy_backward(p, &y, &ce, Some(x)).is_ok());
                watch.tries(what, || b.cross_entropy_backward_in_place(p, q, &ce, None).is_ok());
                let (position_weight, ignore_index) = (weight.clone(), i64::MAX);
                let nll = Nll { weight: weight.clone(), position_weight, reduction, ignore_index };
                watch.tries(what, || b.nll_backward(p, &y, &nll, Some(x)).is_ok());
                let loss = LinearCrossEntropy { loss: ce, ..Default::default() };
                watch.tries(what, || b.linear_cross_entropy(p, q, Some(x), x, &loss).is_ok());
                watch.tries(what, || {
                    b.linear_cross_entropy_sgd(p, q, None, &y, &loss, LinearSgd::new(&Sgd::default())).is_ok()
                });
                let grads = LinearBackward { weight_grad: Some(x), bias_grad: Some(x), upstream: Some(x) };
                watch.tries(what, || b.linear_bce_with_logits_backward(p, q, None, x, &bce.into(), grads).is_ok());
            }
        }
    }
    watch.tries(what, || {
        b.relu(x).is_ok() | b.sigmoid(x).is_ok() | b.cast::<f32, f16>(x).is_ok() | b.column_sum(x).is_ok()
    });
    watch.tries(what, || b.column_sum_into(&m, x).is_ok() | b.read(x).is_ok() | b.upload(x, &[0.0]).is_ok());
    watch.tries(what, || {
        Evaluation::new(gpu, 2).map(|mut e| {
            let binary = e.record_binary(&mut b, BinaryOutputs::Probabilities(x), &m).is_ok();
            binary | e.record(&mut b, x, &y).is_ok()
        })
    });
    watch.tries(what, || drop(b));
}

#[test]
fn options() {
    let Some(gpu) = gpu() else { return };
    let mut watch = Watch::new();
    let x = Tensor::from_slice(&gpu, [2, 2], &[0.5f32; 4]).unwrap();
    let mut b = gpu.batch();
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, f64::MAX, -f64::MIN_POSITIVE] {
        let default = CrossEntropy::default;
        for ce in [
            CrossEntropy { label_smoothing: bad, ..default() },
            CrossEntropy { logit_scale: bad, ..default() },
            CrossEntropy { softcap: Some(bad), ..default() },
            CrossEntropy { z_loss: bad, ..default() },
        ] {
            watch.refuses("cross_entropy", || b.cross_entropy(&x, &x, &ce));
            watch.refuses("cpu::cross_entropy", || cpu::cross_entropy(&[0.5f32; 4], &[2, 2], &[0.5f32; 4], &ce));
        }
        let linear = LinearCrossEntropy { gradient_threshold: bad, ..Default::default() };
        watch.refuses("linear_cross_entropy", || b.linear_cross_entropy(&x, &x, None, &x, &linear));
        let parameters = Parameters::new(&gpu, &[("w", [2].into(), &[0.0; 2])]).unwrap();
        let default = Optimization::default;
        for options in [
            Optimization { clip_value: Some(bad), ..default() },
            Optimization { clip_norm: Some(bad), ..default() },
            Optimization { loss_scale: bad, ..default() },
            Optimization { accumulate: 0, ..default() },
            Optimization { schedule: Schedule::Step { every: 0, factor: 1.0 }, ..default() },
            Optimization { schedule: Schedule::Step { every: 1, factor: bad }, ..default() },
            Optimization { schedule: Schedule::Cosine { warm_up: 0, steps: 1, floor: bad }, ..default() },
            Optimization { schedule: Schedule::Cosine { warm_up: u64::MAX, steps: u64::MAX, floor: 0.0 }, ..default() },
            Optimization { groups: vec![Group { names: vec!["v".into()], ..Group::default() }], ..default() },
            Optimization { groups: vec![Group { names: vec!["w".into(); 2], ..Group::default() }], ..default() },
        ] {
            watch.refuses("Optimizer", || Optimizer::new(&parameters, options));
        }
        let network = Sequential::new().linear(2, 1);
        let loss = Loss::mse().weighted(bad);
        let model = || Model::new(&gpu, &network, 0);
        if !bad.is_finite() {
            watch.refuses("a loss's weight", || Training::new(model()?, vec![loss], Optimization::default()));
        }
        watch.refuses("loss_scale", || Training::new(model()?, vec![Loss::mse()], default())?.set_loss_scale(bad));
    }
    for scratch in [0, 1] {
        let linear = LinearCrossEntropy { scratch, ..Default::default() };
        watch.refuses("scratch", || b.linear_cross_entropy(&x, &x, None, &x, &linear));
        let bce = LinearBceWithLogits { scratch, ..Default::default() };
        watch.refuses("scratch", || b.linear_bce_with_logits(&x, &x, None, &x, &bce));
    }
    for (inputs, outputs) in [(HUGE, HUGE), (0, HUGE), (HUGE, 0), (HUGE, 1), (1 << 16, 1 << 16)] {
        watch.refuses("a layer", || Model::new(&gpu, &Sequential::new().linear(inputs, outputs), 0));
    }
    let linear = || Linear::new(2, 1);
    for layer in [
        linear().with_values(&[], &[]),
        linear().with_values(&[0.0; 2], &[]),
        linear().without_bias().with_values(&[0.0; 2], &[0.0]),
    ] {
        watch.refuses("values", || Model::new(&gpu, &Sequential::new().layer(layer), 0));
    }
    let (two, one) = (Sequential::new().linear(2, 3).linear(2, 1), Sequential::new().layer(linear().named("a")));
    watch.refuses("widths", || Model::new(&gpu, &two, 0));
    watch.refuses("names", || Model::with_heads(&gpu, &Sequential::new(), &[("h", &one), ("h", &one)], 0));
    watch.refuses("no heads", || Model::with_heads(&gpu, &one, &[], 0));
    let model =
        Model::with_heads(&gpu, &Sequential::new().relu(), &[("a", &one), ("b", &Sequential::new())], 0).unwrap();
    let (line, vector) = (x.reshape([1, 4]).unwrap(), x.reshape([4]).unwrap());
    watch.refuses("inputs", || model.forward(&mut b, &line));
    watch.refuses("inputs", || model.forward(&mut b, &vector));
    let there = model.forward(&mut b, &x).unwrap();
    watch.refuses("gradients", || model.backward(&mut b, &there, &[]));
    watch.refuses("gradients", || model.backward(&mut b, &there, &[x.clone(), x.clone()]));
    let plain = Model::new(&gpu, &Sequential::new(), 0).unwrap();
    watch.refuses("another's", || plain.backward(&mut b, &there, std::slice::from_ref(&x)));
    watch.refuses("losses", || Training::new(plain, vec![], Optimization::default()));
    let mut training = Training::new(model, vec![Loss::mse(), Loss::bce()], Optimization::default()).unwrap();
    watch.refuses("targets", || training.step(&mut b, &x, &[]));
    let classes = Tensor::<i32>::zeros(&gpu, [2]).unwrap();
    watch.refuses("targets", || training.step(&mut b, &x, &[(&classes).into(), (&x).into()]));
    for classes in [0, HUGE, 1 << 31] {
        watch.refuses("Evaluation", || Evaluation::new(&gpu, classes));
    }
    watch.ends();
}

#[test]
fn counts_and_times_that_overflow() {
    let Some(gpu) = gpu() else { return };
    let mut watch = Watch::new();
    let parameters = Parameters::new(&gpu, &[("w", [2].into(), &[1.0; 2])]).unwrap();
    let mut optimizer = Optimizer::new(&parameters, Optimization::default()).unwrap();
    let mut last = State::default();
    last.set_note("updates", u64::MAX.to_string());
    optimizer.load(&last, &parameters).unwrap();
    watch.gives(
        "updates",
        || optimizer.step(&mut gpu.batch(), &parameters).map(|_| optimizer.updates()).ok(),
        Some(u64::MAX),
    );
    for note in ["-1", "18446744073709551616", "", "1.5"] {
        last.set_note("updates", note);
        watch.refuses("updates", || optimizer.load(&last, &parameters));
    }

    for timeout in [Duration::MAX, Duration::from_secs(u64::MAX / 2)] {
        let mut b = gpu.batch();
        let mut evaluation = Evaluation::new(&gpu, 2).unwrap();
        evaluation.record(&mut b, &Tensor::zeros(&gpu, [3, 2]).unwrap(), &Tensor::zeros(&gpu, [3]).unwrap()).unwrap();
        let mut scores = evaluation.read(&mut b).unwrap();
        let mut state = parameters.state(&mut b).unwrap();
        let mut values = b.read(parameters.values()).unwrap();
        let mut times = b.times().unwrap();
        let mut dropped = gpu.batch().read(parameters.values()).unwrap();
        b.submit().unwrap();
        watch.gives(
            "scores",
            || scores.wait(timeout).map(|s| (s.counted(), s.top_k_accuracy(HUGE))).ok(),
            Some((3, 1.0)),
        );
        watch.gives("a state", || state.wait(timeout).is_ok_and(|s| s.get("w").is_some()), true);
        watch.gives("values", || values.wait(timeout).map(|v| v.len()).ok(), Some(64));
        watch.gives("times", || times.wait(timeout).map(|t| t.len()).ok(), Some(0));
        watch.refuses("dropped", || dropped.wait(timeout));
        // What was given is not given again.
        watch.refuses("scores again", || scores.wait(timeout));
        watch.refuses("a state again", || state.wait(timeout));
        watch.refuses("values again", || values.wait(timeout));
        watch.refuses("times again", || times.wait(timeout));
    }
    watch.ends();
}

/// Its tickets do not give what was in their memory before.
#[test]
fn a_submission_that_fails() {
    let Some(gpu) = gpu() else { return };
    let mut watch = Watch::new();
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
    let descriptor = wgpu::BufferDescriptor { label: None, size: 64, usage, mapped_at_creation: false };
    let buffer = gpu.device().create_buffer(&descriptor);
    let x = Tensor::<f32>::from_buffer(&gpu, buffer.clone(), 0, [16]).unwrap();
    let y = Tensor::from_slice(&gpu, [16], &[1.0f32; 16]).unwrap();
    let mut b = gpu.batch();
    let mut tickets = [x.clone(), b.relu(&x).unwrap(), y.clone()].map(|tensor| b.read(&tensor).unwrap());
    b.upload(&y, &[2.0; 16]).unwrap();
    buffer.destroy();
    watch.refuses("submit", || b.submit());
    for ticket in &mut tickets {
        let outcome = || matches!(ticket.wait(TIMEOUT), Err(Error::NotSubmitted));
        watch.gives("a ticket", outcome, true);
    }
    watch.refuses("write", || x.write(&[0.0; 16]));
    watch.refuses("an operation", || gpu.batch().relu(&x));
    let [y] = eval(&gpu, |_| Ok([y]));
    watch.gives("what was not submitted", || y, vec![1.0; 16]);
    watch.ends();
}

/// The device may be the caller's, with whatever limits it was made.
#[test]
fn a_device_with_odd_limits() {
    let Some(shared) = gpu() else { return };
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    let info = shared.device().adapter_info();
    let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    let adapter = adapters.into_iter().find(|adapter| adapter.get_info().name == info.name).unwrap();
    let mut watch = Watch::new();
    for align in [8192, 1 << 20, 1 << 31] {
        for storage in [true, false] {
            let mut limits = adapter.limits();
            let one = if storage {
                &mut limits.min_storage_buffer_offset_alignment
            } else {
                &mut limits.min_uniform_buffer_offset_alignment
            };
            *one = align;
            let descriptor = wgpu::DeviceDescriptor { required_limits: limits, ..Default::default() };
            let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).unwrap();
            watch.refuses(&format!("bindings at multiples of {align}"), || Gpu::new(device, queue));
        }
    }
    watch.ends();
}
