//! Generates the WGSL of a variant of a kernel.
//!
//! Shader files declare neither their storage bindings nor `Params`. [`compose`] generates both
//! from the kernel's declaration in Rust, with accessors for each [`Binding`]. One shader therefore
//! serves tensors of scalars and of quads (`vec4`), of `f32` and of halves, gradients in place, and
//! absent outputs. A binding starts at an aligned offset, and its tensor at element `params.x_base`
//! of the binding; the accessors add that base. The accessors of a binding `x` are, as far as its
//! [`Access`] permits,
//!
//! * `load_x(i)`, `store_x(i, v)`: element `i`;
//! * `add_x(i, v)`: adds `v` to element `i` atomically, and returns the old value;
//! * `load4_x(i)`, `store4_x(i, v)`: elements `i .. i + 4`, for bindings declared by
//!   [`read4`](super::read4) and related functions. If the variant declares them as quads, `i` must
//!   be a multiple of 4. `BY_QUAD` is the variant's `vec4`, even if a single binding is declared as
//!   scalars; `HALVES` is true if any binding stores halves;
//! * `load_quad_x(i, stride, room, pad)`, `store_quad_x(i, stride, room, v)`, for the same
//!   bindings: the elements `i`, `i + stride`, .., of which the first `room` exist, at most 4;
//!   loads return `pad` for the others. If the binding is declared as quads, the stride must be 1
//!   and `room` 0 or at least 4.
//!
//! `params` has the fields of the kernel's parameters and the common parameters of
//! [`text`](super::text), without those that the shader does not use. It is a copy made at the
//! start of `main`, unless the shader has the line `// params stay uniform`.
//!
//! Kernels with the constant `SUBGROUP` also get `shuffled`; see `shaders/lib/lanes.wgsl`.
//!
//! The shader's `override` constants become `const`, with the variant's values, so that array sizes
//! can depend on them; see [`specialise`].

use std::fmt::Write as _;

use super::specialise::{self, Value, with_declared};
use super::{Access, Binding, Field, Kernel, Variant, buffer_bindings};

/// The WGSL text of a variant.
pub(super) fn compose(kernel: &Kernel, variant: &Variant) -> String {
    let copied = copies_params(kernel);
    let mut text = String::from(if copied {
        "@group(0) @binding(0) var<uniform> given_params: Params;\nvar<private> params: Params;\n"
    } else {
        "@group(0) @binding(0) var<uniform> params: Params;\n"
    });
    text.push_str(&params_struct(kernel));
    let bound = buffer_bindings(kernel, variant);
    for (slot, &(i, Binding { name, element, quads, .. }, only_read)) in bound.iter().enumerate() {
        let access = if only_read { "read" } else { "read_write" };
        let item = match (variant.half(i), *quads && variant.by_quad(i)) {
            (None, true) => "vec4<f32>",
            (None, false) => element,
            (Some(_), true) => "vec2<u32>",
            // Different threads may write the two halves of a word.
            (Some(_), false) => {
                if only_read {
                    "u32"
                } else {
                    "atomic<u32>"
                }
            }
        };
        let binding = slot + 1;
        let _ = writeln!(text, "@group(0) @binding({binding}) var<storage, {access}> {name}_data: array<{item}>;");
    }
    for (i, binding) in kernel.bindings.iter().enumerate() {
        let present = (variant.absent | variant.ones) & (1 << i) == 0;
        let one = variant.ones & (1 << i) != 0;
        let data = match binding.access {
            Access::WriteOver(over) if variant.in_place => over,
            _ => binding.name,
        };
        let over = kernel.bindings.iter().position(|other| other.name == data).unwrap_or(i);
        let accessors = Accessors { binding, data, present, one, by_quad: variant.by_quad(i) };
        match variant.half(over) {
            None => accessors.of_words(&mut text),
            Some(half) => {
                let only_read = bound.iter().any(|&(bound, _, only_read)| bound == over && only_read);
                accessors.of_halves(&mut text, half, only_read);
            }
        }
    }
    for (half, used) in [(F16, variant.f16), (BF16, variant.bf16)] {
        if used != 0 {
            text.push_str(half.source);
        }
    }
    // With quads, shaders need not check whether a quad is complete.
    let _ = writeln!(text, "const BY_QUAD: bool = {};", variant.vec4);
    let _ = writeln!(text, "const HALVES: bool = {};", variant.f16 | variant.bf16 != 0);
    let constant = |name: &str| {
        let named = kernel.text().constants.iter().zip(&variant.constants).find(|&(&constant, _)| constant == name);
        named.map(|(_, &value)| value)
    };
    if let Some(subgroup) = constant("SUBGROUP") {
        // The source may name the builtin only if the device has subgroups.
        let value = if subgroup > 0 { "subgroupShuffleXor(v, distance)" } else { "v" };
        let _ = writeln!(text, "fn shuffled(v: vec4<u32>, distance: u32) -> vec4<u32> {{ return {value}; }}");
    }
    let mut source = if copied { copy_params_in_main(&kernel.text().source) } else { kernel.text().source.clone() };
    if let (Some(subgroup @ 1..), Some(workgroup)) = (constant("SUBGROUP"), constant("WORKGROUP"))
        && subgroup < workgroup
    {
        // The device decides which threads of a workgroup share a subgroup, so number the threads
        // subgroup by subgroup.
        source = source.replace(
            "    @builtin(local_invocation_index) thread: u32,\n) {",
            "    @builtin(subgroup_id) subgroup: u32,\n    @builtin(subgroup_size) size: u32,\n    \
             @builtin(subgroup_invocation_id) member: u32,\n) {\n    let thread = subgroup * size + member;",
        );
    }
    for (name, value) in kernel.text().constants.iter().zip(&variant.constants) {
        source = source.replace(&format!("override {name}: u32;"), &format!("const {name}: u32 = {value}u;"));
    }
    let values = kernel.text().constants.iter().zip(&variant.constants);
    let known = values.map(|(name, &value)| ((*name).to_owned(), Value::Number(value)));
    let known = with_declared(known.collect(), &format!("{text}{source}"));
    specialise::write(&mut text, &source.lines().collect::<Vec<_>>(), &known);
    text
}

/// The shader's `Params`: the base of each binding, the common parameters that the shader uses, and
/// the fields declared in Rust.
fn params_struct(kernel: &Kernel) -> String {
    let bases = kernel.bindings.iter().map(|binding| format!("    {}_base: u32,\n", binding.name));
    let common = kernel.text().common.iter().map(|name| format!("    {name}: u32,\n"));
    let fields = kernel.text().own.iter().map(|(_, Field { name, ty })| format!("    {name}: {ty},\n"));
    format!("struct Params {{\n{}}}\n", bases.chain(common).chain(fields).collect::<String>())
}

/// Whether `main` copies the parameters. It must not if parameters bound loops with barriers: WGSL
/// requires uniform control flow at a barrier, and only the uniform variable counts as uniform.
pub(super) fn copies_params(kernel: &Kernel) -> bool {
    !kernel.text().source.contains("\n// params stay uniform\n")
}

/// The source with a `main` that first copies the parameters. Otherwise llvmpipe loads them again
/// in every iteration of a loop, lane by lane.
fn copy_params_in_main(source: &str) -> String {
    let main = source.split_once("\nfn main(").and_then(|(before, main)| Some((before, main.split_once(") {\n")?)));
    let Some((before, (builtins, body))) = main else { return source.to_owned() };
    format!("{before}\nfn main({builtins}) {{\n    params = given_params;\n{body}")
}

/// A 16-bit format: its name, and the WGSL source of its conversions.
#[derive(Clone, Copy)]
struct Half {
    name: &'static str,
    source: &'static str,
}

const F16: Half = Half { name: "f16", source: include_str!("../../../shaders/lib/f16.wgsl") };
const BF16: Half = Half { name: "bf16", source: include_str!("../../../shaders/lib/bf16.wgsl") };

impl Variant {
    /// The 16-bit format of binding `i`; `None` if its elements are whole words.
    fn half(&self, i: usize) -> Option<Half> {
        match (self.f16 >> i & 1, self.bf16 >> i & 1) {
            (1, _) => Some(F16),
            (_, 1) => Some(BF16),
            _ => None,
        }
    }
}

/// Generates the accessors of a binding.
struct Accessors<'a> {
    binding: &'a Binding,
    /// The name of the binding that provides the memory.
    data: &'a str,
    present: bool,
    /// Loads return 1, not 0, if the binding is absent.
    one: bool,
    by_quad: bool,
}

impl Accessors<'_> {
    fn reads(&self) -> bool {
        matches!(self.binding.access, Access::Read | Access::Update)
    }

    fn writes(&self) -> bool {
        !matches!(self.binding.access, Access::Read | Access::Count)
    }

    /// The position of the tensor's element `i`, counted from the start of the binding.
    fn position(&self) -> String {
        format!("params.{}_base + i", self.data)
    }

    fn of_words(&self, text: &mut String) {
        let Self { binding: Binding { name, element, quads, access }, data, present, one, by_quad } = *self;
        let i = self.position();
        let at = if by_quad && *quads { format!("[({i}) >> 2u][({i}) & 3u]") } else { format!("[{i}]") };
        if *access == Access::Count {
            let _ =
                writeln!(text, "fn add_{name}(i: u32, v: u32) -> u32 {{ return atomicAdd(&{data}_data[{i}], v); }}");
        }
        if self.reads() {
            let value = match (present, one) {
                (true, _) => format!("{data}_data{at}"),
                (false, true) => format!("{element}(1)"),
                (false, false) => format!("{element}()"),
            };
            let _ = writeln!(text, "fn load_{name}(i: u32) -> {element} {{ return {value}; }}");
        }
        if self.writes() {
            let store = if present { format!("{data}_data{at} = v;") } else { String::new() };
            let _ = writeln!(text, "fn store_{name}(i: u32, v: {element}) {{ {store} }}");
        }
        if *quads {
            let at = format!("{data}_data[({i}) >> 2u]");
            self.quads(text, &at, &format!("{at} = v;"));
        }
    }

    /// The accessors of a present binding of halves, two per word. With quads, no two threads write
    /// to the same word, so stores need no atomics.
    fn of_halves(&self, text: &mut String, half: Half, only_read: bool) {
        let Self { binding: Binding { name, quads, .. }, data, by_quad, .. } = *self;
        let Half { name: half, .. } = half;
        let by_quad = by_quad && *quads;
        let i = self.position();
        let word = if by_quad { format!("[({i}) >> 2u][(({i}) >> 1u) & 1u]") } else { format!("[({i}) >> 1u]") };
        let shift = format!("16u * (({i}) & 1u)");
        if self.reads() {
            let load = if by_quad || only_read {
                format!("{data}_data{word}")
            } else {
                format!("atomicLoad(&{data}_data{word})")
            };
            let _ = writeln!(
                text,
                "fn load_{name}(i: u32) -> f32 {{ return {half}_of(vec2<u32>({load} >> ({shift}), 0u)).x; }}"
            );
        }
        if self.writes() {
            let store = if by_quad {
                format!("let w = {data}_data{word}; {data}_data{word} = (w & ~mask) | bits;")
            } else {
                format!("atomicAnd(&{data}_data{word}, ~mask); atomicOr(&{data}_data{word}, bits);")
            };
            let _ = writeln!(
                text,
                "fn store_{name}(i: u32, v: f32) {{ let mask = 0xffffu << ({shift}); \
                 let bits = {half}_bits(vec4<f32>(v)).x << ({shift}); {store} }}"
            );
        }
        if *quads {
            let at = format!("{data}_data[({i}) >> 2u]");
            let words = "vec2<u32>(b.x | (b.y << 16u), b.z | (b.w << 16u))";
            self.quads(text, &format!("{half}_of({at})"), &format!("let b = {half}_bits(v); {at} = {words};"));
        }
    }

    /// The accessors of whole quads: `load` and `store` if the binding is present and declared as
    /// quads, else the accessors of single elements.
    fn quads(&self, text: &mut String, load: &str, store: &str) {
        let Self { binding: Binding { name, .. }, present, by_quad, .. } = *self;
        let whole = present && by_quad;
        if self.reads() {
            let elements =
                format!("vec4<f32>(load_{name}(i), load_{name}(i + 1u), load_{name}(i + 2u), load_{name}(i + 3u))");
            let value = if whole { load } else { &elements };
            let _ = writeln!(text, "fn load4_{name}(i: u32) -> vec4<f32> {{ return {value}; }}");
        }
        if self.writes() {
            let elements: String = (0..4).map(|k| format!("store_{name}(i + {k}u, v[{k}]); ")).collect();
            let store = if whole { store } else { &elements };
            let _ = writeln!(text, "fn store4_{name}(i: u32, v: vec4<f32>) {{ {store} }}");
        }
        // The accessors of quads that may be incomplete are built from the other accessors.
        if self.reads() {
            let loads = if by_quad {
                format!("if (room > 0u) {{ v = load4_{name}(i); }}")
            } else {
                by_element(|k| format!("v[{k}] = load_{name}(i + {k}u * stride);"))
            };
            let _ = writeln!(
                text,
                "fn load_quad_{name}(i: u32, stride: u32, room: u32, pad: f32) -> vec4<f32> {{ var v = vec4<f32>(pad); {loads} return v; }}"
            );
        }
        if self.writes() {
            let stores = if by_quad {
                format!("if (room > 0u) {{ store4_{name}(i, v); }}")
            } else {
                by_element(|k| format!("store_{name}(i + {k}u * stride, v[{k}]);"))
            };
            let _ = writeln!(text, "fn store_quad_{name}(i: u32, stride: u32, room: u32, v: vec4<f32>) {{ {stores} }}");
        }
    }
}

/// A statement for each element of a quad, executed if there is room for the element.
fn by_element(statement: impl Fn(usize) -> String) -> String {
    (0..4).map(|k| format!("if (room > {k}u) {{ {} }} ", statement(k))).collect()
}
