//! No argument makes the library panic: all rejections, and hostile arguments for functions on the
//! host, under a panic hook. `hostile_calls.rs` has the hostile arguments for calls with a device.

use std::cell::RefCell;
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use crate::errors::REJECTIONS;
use xent::data::{CsvOptions, Missing, Standardisation, Table, batches, shuffled};
use xent::linear::LinearCrossEntropy;
use xent::loss::{Bce, BceWithLogits, CrossEntropy, Mse, Nll, Reduction};
use xent::metrics::{Average, Confusion, average_precision, roc_auc, roc_curve};
use xent::optim::{Schedule, Sgd};
use xent::state::State;
use xent::{Layout, Weights, cpu, f16};

pub(crate) const HUGE: usize = usize::MAX;

thread_local! {
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// The number of calls that a test tried, and the failures.
pub(crate) struct Watch {
    tried: usize,
    wrong: Vec<String>,
}

impl Watch {
    pub(crate) fn new() -> Self {
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

    /// Calls `case`, which may have any outcome but a panic, even one that is caught.
    pub(crate) fn tries<T>(&mut self, what: &str, case: impl FnOnce() -> T) -> Option<T> {
        self.tried += 1;
        let outcome = catch_unwind(AssertUnwindSafe(case)).ok();
        self.wrong.extend(PANICS.take().into_iter().map(|panic| format!("{what}: {panic}")));
        outcome
    }

    /// Calls `case`, which must return an error with a message.
    pub(crate) fn refuses<T>(&mut self, what: &str, case: impl FnOnce() -> xent::Result<T>) {
        match self.tries(what, case) {
            Some(Err(error)) if error.to_string().len() > 10 => {}
            Some(Err(error)) => self.wrong.push(format!("{what}: {error:?}")),
            Some(Ok(_)) => self.wrong.push(format!("{what}: was accepted")),
            None => {}
        }
    }

    pub(crate) fn gives<T: PartialEq + Debug>(&mut self, what: &str, case: impl FnOnce() -> T, want: T) {
        if let Some(got) = self.tries(what, case)
            && got != want
        {
            self.wrong.push(format!("{what}: got {got:?}, want {want:?}"));
        }
    }

    #[track_caller]
    pub(crate) fn ends(self) {
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

/// Shapes whose products overflow, or would without a 0.
pub(crate) const SHAPES: [&[usize]; 19] = [
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

pub(crate) fn hostile_weights() -> Vec<Option<Weights>> {
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
            all("softmax", &|| cpu::softmax((x, shape), dim));
            all("softmax_backward", &|| cpu::softmax_backward((x, shape), other, dim));
            all("log_softmax", &|| cpu::log_softmax((x, shape), dim));
            all("log_softmax_backward", &|| cpu::log_softmax_backward((x, shape), other, dim));
        }
        for weight in hostile_weights() {
            for reduction in [Reduction::None, Reduction::Mean] {
                let up = [1.0, f64::NAN];
                for upstream in [None, Some(&up[..0]), Some(&up[..1]), Some(&up[..])] {
                    let nll = Nll::new().weight(weight.clone()).position_weight(weight.clone()).reduction(reduction);
                    let ignoring = || cpu::Targets::from(t).ignoring(targets[0]);
                    all("nll", &|| Ok(cpu::nll_backward((x, shape), ignoring(), &nll, upstream)?.grad));
                    let ce = CrossEntropy::new().weight(weight.clone()).reduction(reduction);
                    all("cross_entropy", &|| Ok(cpu::cross_entropy_backward((x, shape), t, &ce, upstream)?.grad));
                    all("cross_entropy", &|| Ok(cpu::cross_entropy_backward((x, shape), x, &ce, upstream)?.grad));
                    all("statistics", &|| Ok(cpu::cross_entropy_statistics((x, shape), x, &ce)?.entropy));
                    let bce = Bce::new().weight(weight.clone()).reduction(reduction);
                    all("bce", &|| Ok(cpu::bce_backward((x, shape), (x, shape), &bce, upstream)?.grad));
                    let logits =
                        BceWithLogits::new().weight(weight.clone()).pos_weight(weight.clone()).reduction(reduction);
                    let backward = || cpu::bce_with_logits_backward((x, shape), (x, shape), &logits, upstream);
                    all("bce_with_logits", &|| Ok(backward()?.grad));
                    let mse = Mse::new().weight(weight.clone()).broadcast(true).reduction(reduction);
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
            watch.tries(what, || cpu::matmul(layout, (of(a), &a), (of(b), &b), Some(of(a))));
            watch.tries(what, || cpu::matmul(layout, (of(a), &a), (of(b), &b), None));
        }
        watch.tries(what, || cpu::column_sum((of(a), a)));
        let (linear, bce) = (LinearCrossEntropy::default(), BceWithLogits::default());
        watch.tries(what, || cpu::linear_cross_entropy((of(a), &a), (of(b), &b), None, &[0i64; 2], &linear, None));
        watch.tries(what, || cpu::linear_bce_with_logits((of(a), &a), (of(b), &b), None, &[0.5; 2], &bce, None));
    }
    watch.refuses("no rows of all columns", || cpu::column_sum((&[0.0f32; 0], &[0, HUGE])));
    watch.refuses("a product of nothing", || {
        cpu::matmul(Layout::Nn, (&[0.0f32; 0], &[1 << 20, 0]), (&[], &[0, 1 << 20]), None)
    });
    watch.refuses("sums of nothing", || cpu::column_sum((&[0.0f32; 0], &[0, 1 << 25])));
    let (tokens, classes) = ((&[0.0f32; 0][..], [1 << 13, 0]), (&[0.0f32; 0][..], [1 << 12, 0]));
    watch.refuses("tokens of nothing", || {
        cpu::linear_cross_entropy(tokens, classes, None, &[0i64; 1 << 13], &LinearCrossEntropy::default(), None)
    });
    watch.refuses("rows of no classes", || {
        cpu::cross_entropy((&[0.0f32; 0], &[u32::MAX as usize, 0]), &[0.0f32; 0], &CrossEntropy::new())
    });
    let tall = vec![0.5f32; 1 << 17];
    watch.refuses("squared error of too much", || {
        cpu::mse((&tall, &[1 << 17, 1]), (&tall, &[1, 1 << 17]), &Mse::new().broadcast(true))
    });
    let sgd = Sgd::new().momentum(0.9);
    watch.refuses("velocity", || cpu::sgd(&mut [0.0; 2], &[0.0f32; 2], &mut vec![0.0; 3], &sgd));
    watch.refuses("grads", || cpu::sgd(&mut [0.0; 2], &[0.0f32; 3], &mut vec![], &sgd));
    for wrong in [f64::NAN, f64::INFINITY, 1e39, -1e-9] {
        watch.refuses("lr", || sgd.clone().lr(wrong).validate());
        watch.refuses("momentum", || sgd.clone().momentum(wrong).validate());
        watch.refuses("weight decay", || sgd.clone().weight_decay(wrong).validate());
    }
    watch.refuses("dampening", || sgd.clone().dampening(f64::NAN).validate());
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
    // 2^48 bytes exceed the address space. Less may be granted where memory is overcommitted.
    let wide = Table::new(1 << 23, vec![0.0; 1 << 23]).unwrap();
    watch.refuses("rows past any memory", || wide.select(&vec![0; 1 << 23]));
    for at in [0, 1, HUGE] {
        watch.refuses("a split", || one.split_columns(at));
        watch.refuses("a split of none", || none.split_columns(at));
    }
    watch.refuses("a class above i32", || one.classes(HUGE));
    watch.refuses("classes of none", || none.classes(2));
    watch.gives("standardisation of none", || none.standardisation().mean().len(), 0);
    watch.refuses("lengths", || Standardisation::new(vec![0.0], vec![]));
    watch.refuses("columns", || one.standardisation().apply(&mut none.clone()));
    for rows in [HUGE, HUGE / 8, 1 << 45] {
        watch.refuses("shuffled", || shuffled(rows, 0));
    }
    watch.refuses("batches of 0", || batches(&[1, 2], 0, 0, u64::MAX).map(Iterator::count));
    watch.gives("batches of all", || batches(&[1, 2], HUGE, u64::MAX, 0).expect("a size").count(), 1);

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

    let texts = ["", " ", "\"", ",", ",,\n,,", "a", "1", "1,2\n3", "\u{feff}\r\n\r", "1,\"\n", "?\n?", "9e99", "1\0"];
    let columns = [None, Some(vec![HUGE.into()]), Some(vec!["".into(), 0.into()]), Some(vec![0.into(); 3])];
    for (text, columns) in texts.iter().flat_map(|text| columns.iter().map(move |columns| (text, columns))) {
        for (delimiter, skip, header) in [(b',', 0, true), (b' ', 1, false), (0, HUGE, true), (b'1', 0, false)] {
            for missing in [Missing::Error, Missing::Value(f32::NAN), Missing::DropRow] {
                let missing_spellings = vec![String::new(), "1".to_owned()];
                let (columns, thousands, allow_rounding) = (columns.clone(), Some(' '), skip == 0);
                let options = CsvOptions {
                    skip,
                    header,
                    delimiter,
                    columns,
                    missing,
                    missing_spellings,
                    thousands,
                    allow_rounding,
                };
                watch.tries(&format!("{text:?}, {options:?}"), || Table::from_csv(text.as_bytes(), &options));
            }
        }
    }
    for (delimiter, thousands) in [(b'"', None), (0xff, None), (b'\n', None), (b',', Some('1')), (b',', Some('-'))] {
        let options = CsvOptions { delimiter, thousands, ..CsvOptions::default() };
        watch.refuses("options", || Table::from_csv(b"1", &options));
        watch.refuses("options", || Table::read_csv_with(&path, &options));
    }

    let all = [Average::Binary(0), Average::Binary(HUGE), Average::Macro, Average::Micro, Average::Weighted];
    watch.refuses("classes", || Confusion::of(HUGE, &[], &[], None));
    watch.refuses("classes", || Confusion::of(1 << 16, &[], &[], None));
    watch.refuses("a class of none", || Confusion::of(0, &[0], &[0], None));
    watch.refuses("a target", || Confusion::of(2, &[HUGE], &[0], None));
    watch.refuses("a prediction", || Confusion::of(2, &[0], &[2], None));
    watch.refuses("lengths", || Confusion::of(2, &[0], &[], None));
    watch.refuses("counts", || Confusion::from_counts(HUGE, vec![]));
    watch.refuses("counts", || Confusion::from_counts(1 << 32, vec![0.0]));
    for bad in [f64::NAN, f64::INFINITY, f64::MAX, -1.0] {
        watch.refuses("a count", || Confusion::from_counts(1, vec![bad]));
    }
    for bad in [f32::NAN, f32::INFINITY, -1.0] {
        watch.refuses("a weight", || Confusion::of(1, &[0], &[0], Some(&[bad])));
        watch.refuses("a weight", || roc_auc(&[0.5], &[true], Some(&[bad])));
    }
    watch.refuses("weights", || Confusion::of(1, &[0], &[0], Some(&[])));
    const MOST: f64 = u64::MAX as f64;
    for counts in [vec![], vec![MOST; 4], vec![0.0; 4], vec![MOST]] {
        let confusion = Confusion::from_counts([0, 1, 0, 0, 2][counts.len()], counts).unwrap();
        for average in all {
            let scores = || [confusion.precision(average), confusion.recall(average), confusion.f1(average)];
            watch.gives(
                "scores",
                || scores().iter().chain([&confusion.accuracy()]).all(|s| (0.0..=2.0).contains(s)),
                true,
            );
        }
        watch.gives("a count", || confusion.count(HUGE, HUGE) + confusion.count(0, 2), 0.0);
        watch.tries("a total", || confusion.total());
    }
    watch.gives("a total", || Confusion::from_counts(2, vec![MOST; 4]).unwrap().total(), 4.0 * MOST);
    for (scores, positive) in [(&[0.5f32, f32::NAN][..], &[true, false][..]), (&[0.5], &[]), (&[], &[true])] {
        watch.refuses("roc_curve", || roc_curve(scores, positive, None));
        watch.refuses("roc_auc", || roc_auc(scores, positive, None));
        watch.refuses("average_precision", || average_precision(scores, positive, None));
    }
    watch.gives(
        "no scores",
        || (roc_auc(&[], &[], None).unwrap().is_nan(), average_precision(&[], &[], None).unwrap()),
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
        watch.tries("insert", || drop(state.insert::<f32>("none", shape, vec![])));
        if let Some(bytes) = watch.tries("to_bytes", || state.to_bytes()) {
            watch.gives("from_bytes", || bytes.and_then(|b| State::from_bytes(&b)).ok(), Some(state.clone()));
        }
    }
    let mut state = State::default();
    state.insert("x", [1], vec![0.0]).unwrap();
    watch.refuses("twice", || state.insert("x", [1], vec![0.0]));
    watch.refuses("the format's own", || state.insert("__metadata__", [1], vec![0.0]));
    let mut prefixed = State::default();
    prefixed.insert("x__metadata__", [1], vec![0.0]).unwrap();
    prefixed.insert("data__", [1], vec![0.0]).unwrap();
    watch.refuses("the format's own by parts", || state.merge("__meta", prefixed.clone()));
    watch.refuses("what no file can hold", || prefixed.split_off("x").to_bytes());
    assert_eq!(state.names().collect::<Vec<_>>(), ["x"]);
    watch.refuses("merge", || state.clone().merge("", state.clone()));
    watch.refuses("require", || state.require("x", &[HUGE].into()).map(<[f32]>::to_vec));
    watch.refuses("require_only", || state.require_only([]));
    watch.refuses("require_as", || state.require_as::<f16>("x", &[HUGE].into()).map(std::borrow::Cow::into_owned));
    watch.refuses("rename", || state.clone().rename(|_| "__metadata__".to_owned()));
    let mut two = state.clone();
    two.insert("y", [1], vec![0.0]).unwrap();
    watch.refuses("rename to one", || two.clone().rename(|_| String::new()));
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
        r#"{"x":{"dtype":"F65","shape":[1],"data_offsets":[0,8]}}"#,
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
