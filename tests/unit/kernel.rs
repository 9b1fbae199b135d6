//! Parses representative variants of every shader and compares them with its declaration in Rust.

use super::compose::compose;
use super::pipelines::lock;
use super::turns::Turns;
use super::*;
use crate::every_op::{ops, run, sweeps_in_full};
use crate::loss::{CrossEntropy, Grad, LossRequest, Targets};
use crate::ops::kernels;
use crate::{Caps, Family, Gpu, Layout, Tensor};

/// Representative variants of a kernel, with all constants 1 (`SUBGROUP` 0 or 1): with quads or
/// scalars, each output absent or present, in place or not, with or without subgroups, with words
/// or halves.
fn variants(kernel: &Kernel) -> Vec<Variant> {
    // Without and with subgroups, then with halves.
    let mut all: Vec<_> = [0, 1].into_iter().flat_map(|subgroup| variants_with(kernel, subgroup)).collect();
    let quads = kernel.bindings.iter().enumerate().filter(|(_, b)| b.quads).fold(0, |mask, (i, _)| mask | 1 << i);
    for variant in variants_with(kernel, 0) {
        let halves = quads & !variant.absent;
        all.push(Variant { f16: halves, ..variant.clone() });
        all.push(Variant { bf16: halves, ..variant });
    }
    all
}

fn variants_with(kernel: &Kernel, subgroup: u32) -> Vec<Variant> {
    let constants: Vec<_> =
        kernel.text().constants.iter().map(|&name| if name == "SUBGROUP" { subgroup } else { 1 }).collect();
    let optional = |access| !matches!(access, Access::Read | Access::Count);
    let outputs = kernel.bindings.iter().enumerate().filter(|(_, b)| optional(b.access));
    let over = kernel.bindings.iter().any(|b| matches!(b.access, Access::WriteOver(_)));
    let absences: Vec<u32> = std::iter::once(0).chain(outputs.map(|(i, _)| 1 << i)).collect();
    let mut all = Vec::new();
    for vec4 in [false, true] {
        all.extend(absences.iter().map(|&absent| Variant {
            constants: constants.clone(),
            vec4,
            absent,
            ..Variant::default()
        }));
        if over {
            all.push(Variant { constants: constants.clone(), vec4, in_place: true, ..Variant::default() });
        }
    }
    all
}

fn parse(kernel: &Kernel, variant: &Variant) -> naga::Module {
    let source = compose(kernel, variant);
    naga::front::wgsl::parse_str(&source)
        .unwrap_or_else(|e| panic!("{} {variant:?}: {}", kernel.label, e.emit_to_string(&source)))
}

/// Every parameter is used by one of the kernels that share its declaration. (A parameter that a
/// shader uses but nobody declares does not compile.)
#[test]
fn parameters_are_used() {
    for kernel in kernels() {
        let names = |kernel: &Kernel| kernel.params.iter().map(|field| field.name).collect::<Vec<_>>();
        let sharing = || kernels().into_iter().filter(|other| names(other) == names(kernel));
        for field in kernel.params {
            let used = sharing().any(|other| other.text().own.iter().any(|(_, own)| own.name == field.name));
            assert!(used, "{}: {}", kernel.label, field.name);
        }
    }
}

#[test]
fn needs_name_files_and_every_file_is_needed() {
    let there: std::collections::BTreeSet<_> = text::LIBRARY.iter().map(|(stem, _)| *stem).collect();
    let mut unneeded = there.clone();
    for (file, text) in kernels().into_iter().map(|k| (k.label, k.shader)).chain(text::LIBRARY.iter().copied()) {
        for need in text.lines().filter_map(|line| line.strip_prefix("// needs: ")).flat_map(str::split_whitespace) {
            assert!(there.contains(need), "{file} needs {need:?}, which is not in shaders/lib");
            unneeded.remove(need);
        }
    }
    assert!(unneeded.is_empty(), "no shader needs {unneeded:?}");
}

#[test]
fn bindings_are_used_as_declared() {
    let caps = naga::valid::Capabilities::default() | naga::valid::Capabilities::SUBGROUP;
    for kernel in kernels() {
        // A binding may be used, or written, only with some values of the constants.
        let mut unused: Vec<_> = kernel.bindings.iter().map(|binding| format!("{}_data", binding.name)).collect();
        let mut unwritten = Vec::new();
        let mut written = Vec::new();
        let modes = ["DENOMINATOR", "PART_STATS_STORED", "SWEEP", "TARGETS"];
        let others = [(&modes[..], 0), (&modes, 2), (&["HELD"], 0)].into_iter().flat_map(|(names, mode)| {
            let value = |&name: &&str| if names.contains(&name) { mode } else { 1 };
            let constants: Vec<u32> = kernel.text().constants.iter().map(value).collect();
            variants(kernel).into_iter().map(move |variant| Variant { constants: constants.clone(), ..variant })
        });
        for variant in variants(kernel).into_iter().chain(others) {
            let module = parse(kernel, &variant);
            let mut validator = naga::valid::Validator::new(naga::valid::ValidationFlags::all(), caps);
            validator.subgroup_stages(naga::valid::ShaderStages::COMPUTE);
            validator.subgroup_operations(naga::valid::SubgroupOperationSet::all());
            let info = validator.validate(&module).unwrap_or_else(|e| {
                panic!("{} {variant:?}: {}", kernel.label, e.emit_to_string(&compose(kernel, &variant)))
            });
            let entry = info.get_entry_point(0);
            let mut slots = Vec::new();
            for (handle, global) in module.global_variables.iter() {
                let Some(binding) = &global.binding else { continue };
                let name = global.name.as_deref().unwrap_or("");
                let use_ = entry[handle];
                unused.retain(|unused| use_.is_empty() || unused != name);
                if let naga::AddressSpace::Storage { access } = global.space {
                    let writes = use_.contains(naga::valid::GlobalUse::WRITE);
                    let may_write = access.contains(naga::StorageAccess::STORE);
                    assert!(may_write || !writes, "{} {variant:?}: {name}", kernel.label);
                    if may_write {
                        if writes { &mut written } else { &mut unwritten }.push(name.to_owned());
                    }
                }
                slots.push((binding.binding as usize, name.to_owned()));
            }
            slots.sort();
            let names =
                buffer_bindings(kernel, &variant).into_iter().map(|(_, binding, _)| format!("{}_data", binding.name));
            let params = if compose::copies_params(kernel) { "given_params" } else { "params" };
            let want: Vec<_> = std::iter::once(params.to_owned()).chain(names).enumerate().collect();
            assert_eq!(slots, want, "{} {variant:?}", kernel.label);
        }
        assert!(unused.is_empty(), "{}: {unused:?} are declared and never used", kernel.label);
        unwritten.retain(|name| !written.contains(name));
        assert!(unwritten.is_empty(), "{}: {unwritten:?} are never written", kernel.label);
    }
}

/// A marked loop that is not unrolled costs only speed, because its arrays leave the registers; no
/// other test would notice.
#[test]
fn every_loop_that_is_marked_so_is_unrolled() {
    for kernel in kernels() {
        // Rows are in registers, or stored in parts.
        for [held, parts] in [[1, 1], [0, 64]] {
            let value = |&name: &&str| match name {
                "HELD" => held,
                "PARTS" => parts,
                _ => 1,
            };
            let constants: Vec<u32> = kernel.text().constants.iter().map(value).collect();
            let text = compose(kernel, &Variant::new(&constants));
            let left = text.lines().find(|line| line.contains("// unrolled"));
            assert_eq!(left, None, "{}", kernel.label);
        }
    }
}

#[test]
fn all_overrides_are_substituted_and_main_is_the_only_entry_point() {
    for kernel in kernels() {
        let module = parse(kernel, &Variant::new(&vec![1; kernel.text().constants.len()]));
        assert!(module.overrides.is_empty(), "{}: every constant has a value", kernel.label);
        let entries: Vec<_> = module.entry_points.iter().map(|e| (e.stage, e.name.as_str())).collect();
        assert_eq!(entries, [(naga::ShaderStage::Compute, "main")], "{}", kernel.label);
    }
}

/// The composer changes shaders at marks and lines that it looks for in their text, and leaves a
/// misspelt one alone.
#[test]
fn the_composer_finds_what_it_looks_for() {
    let library = text::LIBRARY.iter().map(|(_, file)| *file);
    for line in kernels().into_iter().map(|kernel| kernel.shader).chain(library).flat_map(str::lines) {
        let mark = line.split_once(") { //").map_or(" unrolled", |(_, mark)| mark);
        assert!(mark == " unrolled" || mark == " unrolled if WHOLE", "{line}");
        assert!(!line.contains("// need") || line.starts_with("// needs: "), "{line}");
        assert!(!line.starts_with("//need"), "{line}");
        assert!(!line.starts_with("// params ") || line == "// params stay uniform", "{line}");
    }
    for kernel in kernels() {
        let value = |&name: &&str| match name {
            "SUBGROUP" => 4,
            "WORKGROUP" => 8,
            _ => 1,
        };
        let constants = &kernel.text().constants;
        let source = compose(kernel, &Variant::new(&constants.iter().map(value).collect::<Vec<_>>()));
        let copies = source.contains("\n    params = given_params;\n");
        assert_eq!(copies, compose::copies_params(kernel), "{}", kernel.label);
        let by_subgroup = ["SUBGROUP", "WORKGROUP"].iter().all(|name| constants.contains(name));
        assert_eq!(source.contains("@builtin(subgroup_invocation_id) member"), by_subgroup, "{}", kernel.label);
    }
}

#[test]
fn labels_name_their_shader_and_are_unique() {
    let mut labels: Vec<_> = kernels().into_iter().map(|k| k.label).collect();
    for label in &labels {
        let stem = label.strip_prefix("xent.").expect("labels start with the crate's name");
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("shaders/{stem}.wgsl"));
        assert!(file.exists(), "{label}: {}", file.display());
    }
    labels.sort_unstable();
    labels.dedup();
    assert_eq!(labels.len(), kernels().len());
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders")).expect("shaders");
    let shaders = files.filter(|f| f.as_ref().is_ok_and(|f| f.path().is_file())).count();
    assert_eq!(shaders, kernels().len(), "every shader belongs to a kernel");
}

/// The limit is the smallest that WebGPU allows. wgpu does not check it everywhere, and some
/// drivers accept more.
#[test]
fn workgroup_memory_fits_webgpus_minimum() {
    for kernel in kernels() {
        // The largest workgroups and tiles.
        let most = |&name: &&str| match name {
            "WORKGROUP" => 256,
            "TILE_QUADS" => 32,
            "DEPTH_QUADS" => 4,
            _ => 1,
        };
        let module = parse(kernel, &Variant::new(&kernel.text().constants.iter().map(most).collect::<Vec<_>>()));
        let shared = module.global_variables.iter().filter(|(_, g)| g.space == naga::AddressSpace::WorkGroup);
        let bytes: u32 = shared.map(|(_, g)| module.types[g.ty].inner.size(module.to_ctx())).sum();
        assert!(bytes <= 16384, "{}: {bytes} bytes", kernel.label);
    }
}

/// Creates the module as outside tests, or without bounds checks.
#[expect(unsafe_code, reason = "a shader without bounds checks must stay within its bindings")]
pub(super) fn shader_module(
    device: &wgpu::Device,
    text: wgpu::ShaderModuleDescriptor<'_>,
    bounds: bool,
) -> wgpu::ShaderModule {
    if bounds {
        device.create_shader_module(text)
    } else {
        // SAFETY: the kernels stay within their bindings, as the tests verify.
        unsafe { device.create_shader_module_trusted(text, wgpu::ShaderRuntimeChecks::unchecked()) }
    }
}

/// No kernel relies on bounds checks or on zeroed workgroup memory: results have the same bits with
/// both checks and without them, although the run with checks also has the smallest turn budget. No
/// invocation makes more turns than planned, and each kernel comes close to its plan at least once,
/// because plans decide how work is split.
#[test]
fn results_do_not_depend_on_bounds_checks_zero_init_or_turn_budget() {
    let with = |on| {
        let gpu = Gpu::headless()?;
        *lock(&gpu.pipelines().checks) = Some(on);
        Ok::<_, crate::Error>(gpu)
    };
    let (on, off) = match (with(true), with(false)) {
        (Ok(on), Ok(off)) => (on, off),
        (Err(error), _) | (_, Err(error)) => {
            assert!(std::env::var("XENT_GPU").map_or(true, |policy| policy != "require"), "{error}");
            return eprintln!("SKIPPED: {error}");
        }
    };
    on.count_turns();
    let mut slack = std::collections::BTreeMap::new();
    for family in [Family::CpuSimd, Family::Gpu] {
        let few = Caps { family, max_turns: Caps::MIN_TURNS, ..on.caps().clone() };
        let budget = crate::plan::turn_budget(&few);
        let on = on.with_caps(few).expect("its caps");
        let off = off.with_caps(Caps { family, ..off.caps().clone() }).expect("its caps");
        for (name, record) in ops(4) {
            let (on_bits, off_bits) = (run(&on, record).expect(name), run(&off, record).expect(name));
            assert!(on_bits == off_bits, "{name}, {family:?}");
            for Turns { label, variant, planned, made } in on.turns().expect("turns") {
                assert!(made <= planned && planned <= budget, "{name}: {made} of {planned} in {label}, {variant:?}");
                let least: &mut u64 = slack.entry(label).or_insert(u64::MAX);
                *least = (*least).min(planned - made);
            }
        }
    }
    for (label, slack) in slack {
        // A sample need not have the sizes at which a kernel takes all its turns.
        let tight = slack <= 2 * crate::plan::FIXED_TURNS || !sweeps_in_full();
        assert!(tight, "{label}: at least {slack} turns fewer than planned");
    }
}

/// With drawn sizes and budgets, no invocation makes more turns than planned, and no plan exceeds
/// the budget. The row of the first two draws is so long that one turn too few per run would show.
#[test]
fn turns_of_drawn_sizes_are_within_drawn_budgets() {
    const MOST: u32 = 1_500_000;
    let on = match Gpu::headless() {
        Ok(on) => on,
        Err(error) => {
            assert!(std::env::var("XENT_GPU").map_or(true, |policy| policy != "require"), "{error}");
            return eprintln!("SKIPPED: {error}");
        }
    };
    on.count_turns();
    let mut rng = fastrand::Rng::with_seed(17);
    for draw in 0..if sweeps_in_full() { 24 } else { 6 } {
        let family = [Family::CpuSimd, Family::Gpu][draw % 2];
        // Uniform in the logarithm, so that small sizes are as likely as large ones.
        let mut size = |least: u32, most: u32| {
            let bits = rng.u32(least.ilog2()..=most.ilog2());
            rng.u32(1 << bits..2 << bits).clamp(least, most)
        };
        let max_turns = if draw < 6 { 65535 } else { size(Caps::MIN_TURNS, 65535) };
        let gpu = on.with_caps(Caps { family, max_turns, ..on.caps().clone() }).expect("its caps");
        let budget = crate::plan::turn_budget(gpu.caps());
        let ones = |dims: [u32; 2]| {
            let [rows, columns] = dims.map(|dim| dim as usize);
            Tensor::from_slice(&gpu, [rows, columns], &vec![1.0f32; rows * columns]).expect("a tensor")
        };
        let mut batch = gpu.batch();
        let what = match draw / 2 % 3 {
            0 => {
                // Long enough to be streamed: rows in registers need a pipeline for each length.
                let classes = if draw < 2 { MOST } else { size(9000, MOST) };
                let rows = size(1, MOST / classes);
                let x = ones([rows, classes]);
                let y = Targets::new(&gpu, [rows as usize], &vec![0i64; rows as usize], classes as usize);
                let smoothed = CrossEntropy::new().label_smoothing(0.1);
                let request = LossRequest::new().grad(Grad::New).statistics();
                batch.cross_entropy_with(&x, y.expect("targets"), &smoothed, request).expect("a loss");
                let y = batch.log_softmax(&x, 1).expect("a map");
                batch.log_softmax_backward(&y, &x, 1).expect("its gradient");
                format!("rows [{rows}, {classes}]")
            }
            1 => {
                let [m, n, k] = [size(1, 40), size(1, 40), size(1, 400_000)];
                let k = k.min(MOST / m.max(n));
                for (layout, a, b) in
                    [(Layout::Nn, [m, k], [k, n]), (Layout::Nt, [m, k], [n, k]), (Layout::Tn, [k, m], [k, n])]
                {
                    batch.matmul(layout, &ones(a), &ones(b), None).expect("a product");
                }
                format!("product [{m}, {n}, {k}]")
            }
            _ => {
                let columns = size(1, 40);
                let rows = size(1, MOST / columns);
                batch.column_sum(&ones([rows, columns])).expect("sums");
                format!("columns [{rows}, {columns}]")
            }
        };
        batch.submit().expect("a submission");
        for Turns { label, variant, planned, made } in gpu.turns().expect("turns") {
            let what = format!("{what} with {max_turns} turns in {label}, {variant:?}");
            assert!(made <= planned && planned <= budget, "{made} of {planned} made, {budget} allowed: {what}");
        }
    }
}

/// Compiles representative variants of every shader with Tint.
#[test]
#[ignore = "needs Dawn: npm install --prefix tests/dawn"]
fn dawn_compiles_every_variant() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for kernel in kernels() {
        for (i, variant) in variants(kernel).iter().enumerate() {
            let file = folder.path().join(format!("{}.{i}.wgsl", kernel.label));
            std::fs::write(file, compose(kernel, variant)).expect("a file");
        }
    }
    let server = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dawn/server.mjs");
    let status = std::process::Command::new("node").arg(server).arg("--compile").arg(folder.path()).status();
    assert!(status.is_ok_and(|status| status.success()), "Dawn compiles every variant");
}
