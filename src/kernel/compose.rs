//! The WGSL text of a variant of a kernel.
//!
//! The shader's storage bindings are not written in WGSL: [`compose`] declares them from the kernel's [`Binding`] list,
//! together with accessors, so that one shader text serves tensors read by element or by quad (`vec4`), gradients written
//! in place, and outputs that nobody asked for. For a binding `x` the shader calls
//!
//! * `load_x(i)`, `store_x(i, v)`: element `i`;
//! * `add_x(i, v)`: adds to element `i`, whatever other threads add, and gives what it was before;
//! * `load4_x(i)`, `store4_x(i, v)`: elements `i .. i + 4`, for a binding made by [`read4`](super::read4) and its like. In the variant that
//!   is declared by quad, `i` is a multiple of 4; `BY_QUAD` tells whether it is this one, `HALVES` whether elements of some binding are halves;
//! * `load_quad_x(i, stride, room, pad)`, `store_quad_x(i, stride, room, v)`, for the same bindings: elements `i`, `i + stride`
//!   and so on, of which there are four or, if less, `room`, and `pad` for the others. By quad, the stride is 1 and `room` is
//!   0 or at least 4.
//!
//! `params` is a copy that is made before the shader's `main` begins, unless the shader has the line `// params stay uniform`.
//!
//! For a kernel with the constant `SUBGROUP` there is `handed_over`, see `shaders/lib/lanes.wgsl`.
//!
//! A shader's `override` constants become `const` ones with the variant's values, so that sizes of arrays can depend on them. And
//! loops like
//!
//! ```wgsl
//! for (var r = 0u; r < ROWS; r++) { // unrolled
//! ```
//!
//! where the bound is a number, such a constant, or a `const` that is a product of these, are written out: arrays that are indexed by
//! constants stay in registers, and few compilers between WGSL and a GPU unroll by themselves. (With one loop over its sums left as a
//! loop, the product of two 4096 x 4096 matrices took 8.5 times as long on an H200.) With `// unrolled if NAME` they are if that constant
//! is not 0.

use std::fmt::Write as _;

use super::{Access, Binding, Kernel, Variant, bound};

/// The WGSL text of a variant.
pub(super) fn compose(kernel: &Kernel, variant: &Variant) -> String {
    let copied = copies_params(kernel);
    let mut text = String::from(match copied {
        true => "@group(0) @binding(0) var<uniform> given_params: Params;\nvar<private> params: Params;\n",
        false => "@group(0) @binding(0) var<uniform> params: Params;\n",
    });
    let bound = bound(kernel, variant);
    for (slot, &(i, Binding { name, element, quads, .. }, only_read)) in bound.iter().enumerate() {
        let access = if only_read { "read" } else { "read_write" };
        let item = match (variant.half(i), *quads && variant.by_quad(i)) {
            (None, true) => "vec4<f32>",
            (None, false) => element,
            (Some(_), true) => "vec2<u32>",
            // Neighbouring threads write the halves of a word.
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
    // A variant by quad need not ask whether a quad is whole.
    let _ = writeln!(text, "const BY_QUAD: bool = {};", variant.vec4);
    let _ = writeln!(text, "const HALVES: bool = {};", variant.f16 | variant.bf16 != 0);
    let constant = |name: &str| {
        let named = kernel.constants.iter().zip(&variant.constants).find(|&(&constant, _)| constant == name);
        named.map(|(_, &value)| value)
    };
    if let Some(subgroup) = constant("SUBGROUP") {
        // The builtin may only be in the text where the device has it.
        let value = if subgroup > 0 { "subgroupShuffleXor(v, distance)" } else { "v" };
        let _ = writeln!(text, "fn handed_over(v: vec4<u32>, distance: u32) -> vec4<u32> {{ return {value}; }}");
    }
    let mut source = if copied { with_params(kernel.source) } else { kernel.source.to_owned() };
    if let (Some(subgroup @ 1..), Some(workgroup)) = (constant("SUBGROUP"), constant("WORKGROUP"))
        && subgroup < workgroup
    {
        // Which of a workgroup's threads are neighbours in a subgroup is the device's choice.
        source = source.replace(
            "    @builtin(local_invocation_index) thread: u32,\n) {",
            "    @builtin(subgroup_id) subgroup: u32,\n    @builtin(subgroup_invocation_id) member: u32,\n) {\n    \
             let thread = subgroup * SUBGROUP + member;",
        );
    }
    for (name, value) in kernel.constants.iter().zip(&variant.constants) {
        source = source.replace(&format!("override {name}: u32;"), &format!("const {name}: u32 = {value}u;"));
    }
    let lines: Vec<_> = source.lines().collect();
    unroll(&mut text, &lines, &|name| constant(name).or_else(|| product(&lines, name)));
    text
}

/// Whether a kernel's parameters are copied. They are not if it has barriers in loops whose ends are parameters: WGSL takes only a uniform
/// variable for the same in all threads.
pub(super) fn copies_params(kernel: &Kernel) -> bool {
    !kernel.source.contains("\n// params stay uniform\n")
}

/// The source with parameters that are read once, before any loop: in a loop llvmpipe reads them again each time, lane by lane.
fn with_params(source: &str) -> String {
    let main = source.split_once("\nfn main(").and_then(|(before, main)| Some((before, main.split_once(") {\n")?)));
    let Some((before, (builtins, body))) = main else { return source.to_owned() };
    format!("{before}\nfn main({builtins}) {{\n    params = given_params;\n{body}")
}

/// Writes lines of WGSL, those of marked loops as often as the loops go around.
fn unroll(text: &mut String, lines: &[&str], constant: &impl Fn(&str) -> Option<u32>) {
    let mut rest = lines;
    while let Some((&line, after)) = rest.split_first() {
        rest = after;
        let Some((name, count)) = marked_loop(line, constant) else {
            let _ = writeln!(text, "{line}");
            continue;
        };
        let indent = line.strip_suffix(line.trim_start()).unwrap_or_default();
        let end = after.iter().position(|l| l.strip_prefix(indent) == Some("}")).unwrap_or(after.len());
        let (body, later) = after.split_at_checked(end).unwrap_or((after, &[]));
        for k in 0..count {
            let _ = writeln!(text, "{indent}{{\n{indent}const {name}: u32 = {k}u;");
            unroll(text, body, constant);
            let _ = writeln!(text, "{indent}}}");
        }
        rest = later.get(1..).unwrap_or_default();
    }
}

/// The value of a shader's `const NAME: u32 = ..;` that is a product of numbers and other such constants.
fn product(lines: &[&str], name: &str) -> Option<u32> {
    let value = lines.iter().find_map(|line| line.strip_prefix("const ")?.strip_prefix(name)?.strip_prefix(": u32 = "));
    let factor = |text: &str| {
        let number = text.strip_suffix('u').and_then(|number| number.parse().ok());
        number.or_else(|| product(lines, text))
    };
    value?.strip_suffix(';')?.split(" * ").map(factor).product()
}

/// The variable of a loop that is to be unrolled, and how often it goes around.
fn marked_loop<'a>(line: &'a str, constant: &impl Fn(&str) -> Option<u32>) -> Option<(&'a str, u32)> {
    let (header, condition) = line.trim().split_once("++) { // unrolled")?;
    if let Some(name) = condition.strip_prefix(" if ") {
        constant(name).filter(|&value| value != 0)?;
    }
    let header = header.strip_prefix("for (var ")?;
    let (name, condition) = header.split_once(" = 0u; ")?;
    let bound = condition.strip_prefix(name)?.strip_prefix(" < ")?.strip_suffix(name)?.strip_suffix("; ")?;
    let count = constant(bound).or_else(|| bound.strip_suffix('u')?.parse().ok())?;
    Some((name, count))
}

/// A way to store numbers in half a word: its name, and a shader with its conversions.
#[derive(Clone, Copy)]
struct Half {
    name: &'static str,
    source: &'static str,
}

const F16: Half = Half { name: "f16", source: include_str!("../../shaders/lib/f16.wgsl") };
const BF16: Half = Half { name: "bf16", source: include_str!("../../shaders/lib/bf16.wgsl") };

impl Variant {
    /// How binding `i` is stored, if not by whole words.
    fn half(&self, i: usize) -> Option<Half> {
        match (self.f16 >> i & 1, self.bf16 >> i & 1) {
            (1, _) => Some(F16),
            (_, 1) => Some(BF16),
            _ => None,
        }
    }
}

/// What a shader calls for a binding.
struct Accessors<'a> {
    binding: &'a Binding,
    /// The binding whose memory it is.
    data: &'a str,
    present: bool,
    /// What is absent is 1 and not 0.
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

    fn of_words(&self, text: &mut String) {
        let Self { binding: Binding { name, element, quads, access }, data, present, one, by_quad } = *self;
        let at = if by_quad && *quads { "[i >> 2u][i & 3u]" } else { "[i]" };
        if *access == Access::Count {
            let _ = writeln!(text, "fn add_{name}(i: u32, v: u32) -> u32 {{ return atomicAdd(&{data}_data[i], v); }}");
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
            let at = format!("{data}_data[i >> 2u]");
            self.quads(text, &at, &format!("{at} = v;"));
        }
    }

    /// A present binding of halves, two a word. By quad, a thread writes no word that another writes.
    fn of_halves(&self, text: &mut String, half: Half, only_read: bool) {
        let Self { binding: Binding { name, quads, .. }, data, by_quad, .. } = *self;
        let Half { name: half, .. } = half;
        let by_quad = by_quad && *quads;
        let word = if by_quad { "[i >> 2u][(i >> 1u) & 1u]" } else { "[i >> 1u]" };
        let shift = "16u * (i & 1u)";
        if self.reads() {
            let load = match by_quad || only_read {
                true => format!("{data}_data{word}"),
                false => format!("atomicLoad(&{data}_data{word})"),
            };
            let _ = writeln!(
                text,
                "fn load_{name}(i: u32) -> f32 {{ return {half}_of(vec2<u32>({load} >> ({shift}), 0u)).x; }}"
            );
        }
        if self.writes() {
            let store = match by_quad {
                true => format!("let w = {data}_data{word}; {data}_data{word} = (w & ~mask) | bits;"),
                false => format!("atomicAnd(&{data}_data{word}, ~mask); atomicOr(&{data}_data{word}, bits);"),
            };
            let _ = writeln!(
                text,
                "fn store_{name}(i: u32, v: f32) {{ let mask = 0xffffu << ({shift}); \
                 let bits = {half}_bits(vec4<f32>(v)).x << ({shift}); {store} }}"
            );
        }
        if *quads {
            let at = format!("{data}_data[i >> 2u]");
            let words = "vec2<u32>(b.x | (b.y << 16u), b.z | (b.w << 16u))";
            self.quads(text, &format!("{half}_of({at})"), &format!("let b = {half}_bits(v); {at} = {words};"));
        }
    }

    /// Whole quads, of a present binding that is declared by quad with this load and this store, else in terms of elements.
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
        self.quads_in_part(text);
    }

    /// Quads of which there may be a part, in terms of the others.
    fn quads_in_part(&self, text: &mut String) {
        let name = self.binding.name;
        if self.reads() {
            let loads = match self.by_quad {
                true => format!("if (room > 0u) {{ v = load4_{name}(i); }}"),
                false => by_element(|k| format!("v[{k}] = load_{name}(i + {k}u * stride);")),
            };
            let _ = writeln!(
                text,
                "fn load_quad_{name}(i: u32, stride: u32, room: u32, pad: f32) -> vec4<f32> {{ var v = vec4<f32>(pad); {loads} return v; }}"
            );
        }
        if self.writes() {
            let stores = match self.by_quad {
                true => format!("if (room > 0u) {{ store4_{name}(i, v); }}"),
                false => by_element(|k| format!("store_{name}(i + {k}u * stride, v[{k}]);")),
            };
            let _ = writeln!(text, "fn store_quad_{name}(i: u32, stride: u32, room: u32, v: vec4<f32>) {{ {stores} }}");
        }
    }
}

/// A statement for each element of a quad that there is room for.
fn by_element(statement: impl Fn(usize) -> String) -> String {
    (0..4).map(|k| format!("if (room > {k}u) {{ {} }} ", statement(k))).collect()
}
