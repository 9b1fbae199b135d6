//! Wall time of one operation: recorded, submitted and waited for. `XENT_ADAPTER` picks the adapter.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use xent::wgpu::PollType;
use xent::{Batch, Bce, BceWithLogits, CrossEntropy, Gpu, Layout, Momentum, Mse, Nll, Result, Sgd, Tensor};

fn values(gpu: &Gpu, shape: &[usize]) -> Tensor<f32> {
    let mut rng = fastrand::Rng::with_seed(1);
    let data: Vec<f32> = (0..shape.iter().product()).map(|_| rng.f32()).collect();
    Tensor::from_slice(gpu, shape, &data).expect("a tensor that fits")
}

fn bench(
    c: &mut Criterion,
    gpu: &Gpu,
    id: &str,
    throughput: Throughput,
    mut record: impl FnMut(&mut Batch) -> Result<()>,
) {
    let (group, name) = id.split_once('/').expect("group/name");
    let mut group = c.benchmark_group(group);
    group.throughput(throughput).sample_size(10);
    group.bench_function(name, |b| {
        b.iter(|| {
            let mut batch = gpu.batch();
            record(&mut batch).expect("valid arguments");
            batch.submit().expect("a device that works");
            gpu.device().poll(PollType::wait_indefinitely()).expect("a device that works");
        });
    });
}

fn rows(c: &mut Criterion, gpu: &Gpu) {
    for (n, classes) in [(64, 10), (4096, 10), (1024, 1000), (1024, 4096), (128, 32768)] {
        let x = values(gpu, &[n, classes]);
        let labels: Vec<i64> = (0..classes as i64).cycle().take(n).collect();
        let y = Tensor::targets(gpu, [n], &labels, classes, -100).expect("labels are classes");
        let bytes = |per_element: u64| Throughput::Bytes((n * classes) as u64 * per_element);
        let (ce, nll) = (CrossEntropy::default(), Nll::default());
        let size = format!("{n}x{classes}");
        bench(c, gpu, &format!("cross_entropy/forward/{size}"), bytes(4), |b| {
            black_box(b.cross_entropy(&x, &y, &ce)?);
            Ok(())
        });
        bench(c, gpu, &format!("cross_entropy/forward_backward/{size}"), bytes(8), |b| {
            black_box(b.cross_entropy_backward(&x, &y, &ce, None)?);
            Ok(())
        });
        bench(c, gpu, &format!("log_softmax/forward/{size}"), bytes(8), |b| {
            black_box(b.log_softmax(&x, 1)?);
            Ok(())
        });
        bench(c, gpu, &format!("log_softmax/backward/{size}"), bytes(12), |b| {
            black_box(b.log_softmax_backward(&x, &x, 1)?);
            Ok(())
        });
        bench(c, gpu, &format!("nll/forward_backward/{size}"), bytes(4), |b| {
            black_box(b.nll_backward(&x, &y, &nll, None)?);
            Ok(())
        });
    }
}

fn elementwise(c: &mut Criterion, gpu: &Gpu) {
    let n = 1 << 20;
    let (x, y) = (values(gpu, &[n]), values(gpu, &[n]));
    let bytes = |per_element: u64| Throughput::Bytes(n as u64 * per_element);
    bench(c, gpu, &format!("bce/forward_backward/{n}"), bytes(12), |b| {
        black_box(b.bce_backward(&x, &y, &Bce::default(), None)?);
        Ok(())
    });
    bench(c, gpu, &format!("bce_with_logits/forward_backward/{n}"), bytes(12), |b| {
        black_box(b.bce_with_logits_backward(&x, &y, &BceWithLogits::default(), None)?);
        Ok(())
    });
    bench(c, gpu, &format!("mse/forward_backward/{n}"), bytes(12), |b| {
        black_box(b.mse_backward(&x, &y, &Mse::default(), None)?);
        Ok(())
    });
    bench(c, gpu, &format!("sgd/plain/{n}"), bytes(12), |b| b.sgd(&x, &y, None, &Sgd::default()));
    bench(c, gpu, &format!("relu/forward/{n}"), bytes(8), |b| b.relu(&x).map(|y| drop(black_box(y))));
    bench(c, gpu, &format!("sigmoid/forward/{n}"), bytes(8), |b| b.sigmoid(&x).map(|y| drop(black_box(y))));
    let matrix = x.reshape([1024, n / 1024]).expect("as many elements");
    bench(c, gpu, &format!("column_sum/1024x{}", n / 1024), bytes(4), |b| {
        b.column_sum(&matrix).map(|y| drop(black_box(y)))
    });
    let mut momentum = Momentum::new(gpu, [n]).expect("a tensor that fits");
    let options = Sgd { momentum: 0.9, ..Sgd::default() };
    bench(c, gpu, &format!("sgd/momentum/{n}"), bytes(20), |b| b.sgd(&x, &y, Some(&mut momentum), &options));
}

fn matmul(c: &mut Criterion, gpu: &Gpu) {
    let n = 512;
    let (x, y) = (values(gpu, &[n, n]), values(gpu, &[n, n]));
    for (name, layout) in [("nn", Layout::Nn), ("nt", Layout::Nt), ("tn", Layout::Tn)] {
        let operations = Throughput::Elements(2 * (n as u64).pow(3));
        bench(c, gpu, &format!("matmul/{name}/{n}x{n}x{n}"), operations, |b| {
            black_box(b.matmul(layout, &x, &y, None)?);
            Ok(())
        });
    }
}

fn kernels(c: &mut Criterion) {
    let gpu = match Gpu::headless() {
        Ok(gpu) => gpu,
        Err(error) if std::env::var("XENT_GPU").is_ok_and(|policy| policy == "require") => panic!("{error}"),
        Err(error) if std::env::var_os(Gpu::ADAPTER_VARIABLE).is_some() => panic!("{error}"),
        Err(error) => return eprintln!("SKIPPED: {error}"),
    };
    eprintln!("adapter: {}", gpu.describe());
    rows(c, &gpu);
    elementwise(c, &gpu);
    matmul(c, &gpu);
}

criterion_group!(all, kernels);
criterion_main!(all);
