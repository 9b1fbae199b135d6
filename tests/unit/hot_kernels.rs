//! The kernels in which large models spend their time, composed as for a discrete GPU.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::amd::{Compiler, spirv_of};
use crate::engine::kernel::composed;
use crate::loss::{CrossEntropy, Grad, LossRequest, Mse, Targets};
use crate::optim::{Momentum, Sgd};
use crate::{Batch, Caps, Family, Float, Gpu, Layout, Result, Tensor, Weights, f16};

/// A device without hardware that looks like a discrete GPU with subgroups of this many threads:
/// `noop` records commands and never runs them.
fn discrete(subgroup_size: u32) -> Gpu {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: wgpu::Backends::NOOP,
        backend_options: wgpu::BackendOptions {
            noop: wgpu::NoopBackendOptions {
                enable: true,
                subgroup_min_size: Some(subgroup_size),
                subgroup_max_size: Some(subgroup_size),
                ..Default::default()
            },
            ..Default::default()
        },
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let adapter = pollster::block_on(instance.request_adapter(&Default::default())).expect("an adapter");
    let limits = wgpu::Limits {
        max_compute_workgroup_storage_size: 49152,
        max_compute_invocations_per_workgroup: 1024,
        max_compute_workgroup_size_x: 1024,
        max_compute_workgroups_per_dimension: 65535,
        ..adapter.limits()
    };
    let descriptor = wgpu::DeviceDescriptor {
        required_features: wgpu::Features::SUBGROUP,
        required_limits: limits,
        ..Default::default()
    };
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).expect("a device");
    let gpu = Gpu::new(device, queue).expect("a device");
    gpu.with_caps(Caps { family: Family::Gpu, subgroup_size, ..gpu.caps().clone() }).expect("its caps")
}

fn zeros<T: Float>(gpu: &Gpu, shape: [usize; 2]) -> Tensor<T> {
    Tensor::zeros(gpu, shape).expect("a tensor")
}

fn cross_entropy<T: Float>(batch: &mut Batch, shape: [usize; 2], options: &CrossEntropy, backward: bool) -> Result<()> {
    let gpu = batch.gpu().clone();
    let targets = Targets::new(&gpu, [shape[0]], &vec![0u8; shape[0]], shape[1])?;
    let request = LossRequest::new();
    let request = if backward { request.grad(Grad::New) } else { request };
    batch.cross_entropy_with(&zeros::<T>(&gpu, shape), &targets, options, request).map(drop)
}

fn product(batch: &mut Batch, layout: Layout, side: usize) -> Result<()> {
    let x = zeros::<f32>(&batch.gpu().clone(), [side, side]);
    batch.matmul(layout, &x, &x, None).map(drop)
}

const ELEMENTS: [usize; 2] = [1024, 8192];

type Record = fn(&mut Batch) -> Result<()>;

/// Each call with its name.
fn calls() -> Vec<(&'static str, Record)> {
    const ROWS: usize = 512;
    fn rows(batch: &mut Batch, classes: usize) -> Result<()> {
        cross_entropy::<f32>(batch, [ROWS, classes], &CrossEntropy::default(), true)
    }
    vec![
        ("ce_1000", |b| rows(b, 1000)),
        ("ce_4096", |b| rows(b, 4096)),
        ("ce_8192", |b| rows(b, 8192)),
        ("ce_32768", |b| rows(b, 32768)),
        ("ce_50257", |b| rows(b, 50257)),
        ("ce_128256", |b| cross_entropy::<f32>(b, [ROWS, 128_256], &CrossEntropy::default(), true)),
        ("ce_4096_smoothed", |b| {
            cross_entropy::<f32>(b, [ROWS, 4096], &CrossEntropy::new().label_smoothing(0.1), true)
        }),
        ("ce_32768_smoothed", |b| {
            cross_entropy::<f32>(b, [ROWS, 32768], &CrossEntropy::new().label_smoothing(0.1), true)
        }),
        ("ce_4096_weighted", |b| {
            let weights = Weights::new([4096], &vec![1.0; 4096])?;
            let options = CrossEntropy::new().label_smoothing(0.1).weight(weights);
            cross_entropy::<f32>(b, [ROWS, 4096], &options, true)
        }),
        ("ce_4096_probabilities", |b| {
            let x = zeros::<f32>(&b.gpu().clone(), [ROWS, 4096]);
            b.cross_entropy_with(&x, &x, &CrossEntropy::default(), Grad::New).map(drop)
        }),
        ("ce_32768_f16", |b| cross_entropy::<f16>(b, [ROWS, 32768], &CrossEntropy::default(), true)),
        ("ce_32768_forward", |b| cross_entropy::<f32>(b, [ROWS, 32768], &CrossEntropy::default(), false)),
        ("softmax_backward_4096", |b| {
            let x = zeros::<f32>(&b.gpu().clone(), [ROWS, 4096]);
            b.softmax_backward(&x, &x, 1).map(drop)
        }),
        ("softmax_backward_32768", |b| {
            let x = zeros::<f32>(&b.gpu().clone(), [ROWS, 32768]);
            b.softmax_backward(&x, &x, 1).map(drop)
        }),
        ("bce_with_logits", |b| {
            let x = zeros::<f32>(&b.gpu().clone(), ELEMENTS);
            b.bce_with_logits_with(&x, &x, &Default::default(), Grad::New).map(drop)
        }),
        ("bce", |b| {
            let x = zeros::<f32>(&b.gpu().clone(), ELEMENTS);
            b.bce_with(&x, &x, &Default::default(), Grad::New).map(drop)
        }),
        ("mse", |b| {
            let x = zeros::<f32>(&b.gpu().clone(), ELEMENTS);
            b.mse_with(&x, &x, &Mse::default(), Grad::New).map(drop)
        }),
        ("sgd", |b| {
            let x = zeros::<f32>(&b.gpu().clone(), ELEMENTS);
            b.sgd(&x, &zeros(&b.gpu().clone(), ELEMENTS), None, &Sgd::default())
        }),
        ("sgd_momentum", |b| {
            let gpu = b.gpu().clone();
            let mut momentum = Momentum::new(&gpu, ELEMENTS)?;
            b.sgd(&zeros(&gpu, ELEMENTS), &zeros(&gpu, ELEMENTS), Some(&mut momentum), &Sgd::new().momentum(0.9))
        }),
        ("column_sum", |b| b.column_sum(&zeros::<f32>(&b.gpu().clone(), [4096, 1024])).map(drop)),
        ("matmul_nn_4096", |b| product(b, Layout::Nn, 4096)),
        ("matmul_nt_4096", |b| product(b, Layout::Nt, 4096)),
        ("matmul_tn_4096", |b| product(b, Layout::Tn, 4096)),
        ("matmul_nn_1024", |b| product(b, Layout::Nn, 1024)),
        ("matmul_nt_1024", |b| product(b, Layout::Nt, 1024)),
        ("matmul_tn_1024", |b| product(b, Layout::Tn, 1024)),
        ("matmul_nn_256", |b| product(b, Layout::Nn, 256)),
    ]
}

/// The WGSL of the hot kernels, by call and kernel. Nothing runs.
fn hot_kernels(subgroup_size: u32) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for (name, record) in calls() {
        let gpu = discrete(subgroup_size);
        let mut batch = gpu.batch();
        record(&mut batch).unwrap_or_else(|error| panic!("{name}: {error}"));
        // Those of the calls' small dispatches, which process one value per row or block.
        let small = ["xent.reduce", "xent.sum_target_weights"];
        let kernels = composed(&gpu).into_iter().filter(|(label, _)| !small.contains(label));
        all.extend(kernels.map(|(label, text)| (format!("{name}.{}", label.trim_start_matches("xent.")), text)));
    }
    all
}

/// Writes the WGSL of the hot kernels to the directory `XENT_WGSL`, one file per call and kernel.
#[test]
#[ignore = "writes files for other tools"]
fn write_wgsl() {
    let directory = PathBuf::from(std::env::var_os("XENT_WGSL").expect("XENT_WGSL is a directory"));
    std::fs::create_dir_all(&directory).expect("a directory");
    for (name, text) in hot_kernels(32) {
        std::fs::write(directory.join(format!("{name}.wgsl")), text).expect("a file");
    }
}

/// GPU families of AMD, RDNA 2, GCN 5 and RDNA 3, and the least number of threads in their subgroups.
const FAMILIES: [(&str, u32); 3] = [("navi21", 32), ("vega20", 64), ("navi31", 32)];

/// Whether a driver knows a family. Mesa before 23 has another name for RDNA 3, and gives it half of
/// its registers.
fn knows(driver: &str, family: &str) -> bool {
    let major = driver.strip_prefix("Mesa ").and_then(|version| version.split('.').next());
    family != "navi31" || major.and_then(|major| major.parse().ok()).is_some_and(|major: u32| major >= 23)
}

/// What the compiler says of a kernel.
#[derive(Debug, PartialEq, Eq)]
struct Listing {
    registers: u64,
    instructions: u64,
    /// The compiler's estimate of the cycles between two waves, if each loop turns a few times.
    cycles: u64,
    /// Vector registers that were spilled, and bytes of scratch memory. (Scalar registers are spilled
    /// to vector registers.)
    spilled: u64,
}

/// Prints the listings of all hot kernels on the first Vulkan device. The driver reads its
/// environment once, so each GPU family needs a process of its own.
#[test]
#[ignore = "a part of amd_compiles_them_without_spills"]
fn print_listings() {
    let compiler = Compiler::new().expect("a driver");
    // The test harness has not ended its line.
    println!("\ndriver\t{}", compiler.name);
    let family = std::env::var("RADV_FORCE_FAMILY").expect("a family");
    let (_, subgroup_size) = FAMILIES.into_iter().find(|(name, _)| *name == family).expect("a known family");
    for (name, wgsl) in hot_kernels(subgroup_size) {
        let statistics = compiler.compile(&spirv_of(&wgsl)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let of = |name: &str| *statistics.get(name).unwrap_or_else(|| panic!("no {name:?} in {statistics:?}"));
        let spilled = of("Spilled VGPRs") + of("Scratch size");
        let [registers, instructions, cycles] = ["VGPRs", "Instructions", "Inverse Throughput"].map(of);
        println!("kernel\t{name}\t{registers}\t{instructions}\t{cycles}\t{spilled}");
    }
}

/// The name of the driver, and its listings for a GPU family.
fn listings(driver: &Path, family: &str) -> (String, BTreeMap<String, Listing>) {
    let output = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "hot_kernels::print_listings", "--ignored", "--nocapture", "--test-threads=1"])
        .env("VK_DRIVER_FILES", driver)
        .env("RADV_FORCE_FAMILY", family)
        .env("RADV_DEBUG", "nocache")
        .output()
        .expect("a process");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    let name = lines.iter().find_map(|line| match line[..] {
        ["driver", name] => Some(name.to_owned()),
        _ => None,
    });
    let listing = |line: &Vec<&str>| match line[..] {
        ["kernel", name, registers, instructions, cycles, spilled] => {
            let [registers, instructions, cycles, spilled] =
                [registers, instructions, cycles, spilled].map(|number| number.parse().expect("a number"));
            Some((name.to_owned(), Listing { registers, instructions, cycles, spilled }))
        }
        _ => None,
    };
    (name.expect("a driver"), lines.iter().filter_map(listing).collect())
}

/// The file of AMD's driver: of the environment, or where packages install it.
fn amd_driver() -> Option<PathBuf> {
    if let Some(file) = std::env::var_os("XENT_AMD_DRIVER") {
        return Some(file.into());
    }
    // Elsewhere than on Debian, the driver's file may lack the name of the architecture.
    let files = [format!("radeon_icd.{}.json", std::env::consts::ARCH), "radeon_icd.json".to_owned()];
    let paths = files.iter().map(|file| Path::new("/usr/share/vulkan/icd.d").join(file));
    paths.into_iter().find(|path| path.exists())
}

/// The compiler of AMD's driver keeps each hot kernel in registers, and with the versions that the
/// table was recorded with, takes no more registers, instructions and cycles than recorded. Prints
/// the listings as lines of the table.
#[test]
fn amd_compiles_them_without_spills() {
    let Some(driver) = amd_driver() else {
        assert!(std::env::var("XENT_AMD").map_or(true, |policy| policy != "require"), "Mesa has no driver for AMD");
        return eprintln!("SKIPPED: no driver for AMD");
    };
    let table = include_str!("amd_listings.tsv");
    let recorded: BTreeMap<[&str; 3], [u64; 3]> = table
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            let [driver, family, kernel, numbers @ ..] = &fields[..] else { panic!("{line:?}") };
            let numbers: Vec<u64> = numbers.iter().map(|number| number.parse().expect("a number")).collect();
            ([*driver, *family, *kernel], numbers.try_into().expect("three numbers"))
        })
        .collect();
    let mut worse = Vec::new();
    let mut version = String::new();
    for (family, _) in FAMILIES {
        if !version.is_empty() && !knows(&version, family) {
            println!("{version} does not know {family}");
            continue;
        }
        let (name, listings) = listings(&driver, family);
        name.rsplit(", ").next().expect("a version").clone_into(&mut version);
        let version = version.as_str();
        let known = recorded.keys().any(|[driver, of, _]| *driver == version && *of == family);
        if !known {
            println!("{version} {family}: not in the table, so only spills are checked");
        }
        let of_family = recorded.keys().filter(|[driver, of, _]| *driver == version && *of == family);
        let gone = of_family.filter(|[_, _, kernel]| !listings.contains_key(*kernel));
        worse.extend(gone.map(|[_, _, kernel]| format!("{family} {kernel}: in the table, but not compiled")));
        for (kernel, &Listing { registers, instructions, cycles, spilled }) in &listings {
            println!("{version}\t{family}\t{kernel}\t{registers}\t{instructions}\t{cycles}");
            if spilled > 0 {
                worse.push(format!("{family} {kernel}: {spilled} spilled registers and bytes of scratch memory"));
            }
            match recorded.get(&[version, family, kernel]) {
                None if known => worse.push(format!("{family} {kernel}: not in the table")),
                Some(most) => {
                    let now = [registers, instructions, cycles];
                    if now.iter().zip(most).any(|(now, most)| now > most) {
                        worse.push(format!(
                            "{family} {kernel}: {now:?} registers, instructions, cycles; recorded {most:?}"
                        ));
                    }
                }
                None => {}
            }
        }
    }
    assert!(worse.is_empty(), "{worse:#?}");
}
