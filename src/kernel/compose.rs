//! The WGSL text of a variant of a kernel.
//!
//! The shader's storage bindings are not written in WGSL: [`compose`] declares them from the kernel's [`Binding`] list,
//! together with accessors, so that one shader text serves tensors read by element or by quad (`vec4`), gradients written
//! in place, and outputs that nobody asked for. For a binding `x` the shader calls
//!
//! * `load_x(i)`, `store_x(i, v)`: element `i`;
//! * `count_x(i)`: counts element `i` up;
//! * `load4_x(i)`, `store4_x(i, v)`: elements `i .. i + 4`, for a binding made by [`read4`](super::read4) and its like. In the variant that
//!   is declared by quad, `i` is a multiple of 4; `BY_QUAD` tells whether it is this one;
//! * `load_quad_x(i, stride, room, pad)`, `store_quad_x(i, stride, room, v)`, for the same bindings: elements `i`, `i + stride`
//!   and so on, of which there are four or, if less, `room`, and `pad` for the others. By quad, the stride is 1 and `room` is
//!   0 or at least 4.
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
//! where the bound is such a constant or a number, are written out: arrays that are indexed by constants stay in registers,
//! and few compilers between WGSL and a GPU unroll by themselves. With `// unrolled if NAME` they are if that constant is not 0.

use std::fmt::Write as _;

use super::{Access, Binding, Kernel, Variant, bound};

/// The WGSL text of a variant.
pub(super) fn compose(kernel: &Kernel, variant: &Variant) -> String {
    let mut text = String::from("@group(0) @binding(0) var<uniform> params: Params;\n");
    let bound = bound(kernel, variant);
    for (slot, &(i, only_read)) in bound.iter().enumerate() {
        let Binding { name, element, quads, .. } = kernel.bindings[i];
        let access = if only_read { "read" } else { "read_write" };
        let item = match quads && variant.by_quad(i) {
            true => "vec4<f32>",
            false => element,
        };
        let binding = slot + 1;
        let _ = writeln!(text, "@group(0) @binding({binding}) var<storage, {access}> {name}_data: array<{item}>;");
    }
    for (i, binding) in kernel.bindings.iter().enumerate() {
        let present = variant.absent & (1 << i) == 0;
        let data = match binding.access {
            Access::WriteOver(over) if variant.in_place => over,
            _ => binding.name,
        };
        accessors(&mut text, binding, data, present, variant.by_quad(i));
    }
    // A variant by quad need not ask whether a quad is whole.
    let _ = writeln!(text, "const BY_QUAD: bool = {};", variant.vec4);
    let constant = |name: &str| kernel.constants.iter().position(|&c| c == name).map(|i| variant.constants[i]);
    if let Some(subgroup) = constant("SUBGROUP") {
        // The builtin may only be in the text where the device has it.
        let value = if subgroup > 0 { "subgroupShuffleXor(v, distance)" } else { "v" };
        let _ = writeln!(text, "fn handed_over(v: vec4<u32>, distance: u32) -> vec4<u32> {{ return {value}; }}");
    }
    let mut source = kernel.source.to_owned();
    for (name, value) in kernel.constants.iter().zip(&variant.constants) {
        source = source.replace(&format!("override {name}: u32;"), &format!("const {name}: u32 = {value}u;"));
    }
    let lines: Vec<_> = source.lines().collect();
    unroll(&mut text, &lines, &constant);
    text
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
        let indent = &line[..line.len() - line.trim_start().len()];
        let end = after.iter().position(|l| l.strip_prefix(indent) == Some("}")).unwrap_or(after.len());
        for k in 0..count {
            let _ = writeln!(text, "{indent}{{\n{indent}const {name}: u32 = {k}u;");
            unroll(text, &after[..end], constant);
            let _ = writeln!(text, "{indent}}}");
        }
        rest = after.get(end + 1..).unwrap_or_default();
    }
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

fn accessors(text: &mut String, binding: &Binding, data: &str, present: bool, vec4: bool) {
    let Binding { name, element, quads, access } = binding;
    let reads = matches!(access, Access::Read | Access::Update);
    let writes = !matches!(access, Access::Read | Access::Count);
    let at = if vec4 && *quads { "[i >> 2u][i & 3u]" } else { "[i]" };
    if *access == Access::Count {
        let _ = writeln!(text, "fn count_{name}(i: u32) {{ atomicAdd(&{data}_data[i], 1u); }}");
    }
    if reads {
        let value = if present { format!("{data}_data{at}") } else { format!("{element}()") };
        let _ = writeln!(text, "fn load_{name}(i: u32) -> {element} {{ return {value}; }}");
    }
    if writes {
        let store = if present { format!("{data}_data{at} = v;") } else { String::new() };
        let _ = writeln!(text, "fn store_{name}(i: u32, v: {element}) {{ {store} }}");
    }
    if *quads && reads {
        let value = match (present, vec4) {
            (false, _) => "vec4<f32>()".to_owned(),
            (true, true) => format!("{data}_data[i >> 2u]"),
            (true, false) => {
                format!("vec4<f32>({data}_data[i], {data}_data[i + 1u], {data}_data[i + 2u], {data}_data[i + 3u])")
            }
        };
        let _ = writeln!(text, "fn load4_{name}(i: u32) -> vec4<f32> {{ return {value}; }}");
        let loads = match vec4 {
            true => format!("if (room > 0u) {{ v = load4_{name}(i); }}"),
            false => by_element(|k| format!("v[{k}] = load_{name}(i + {k}u * stride);")),
        };
        let _ = writeln!(
            text,
            "fn load_quad_{name}(i: u32, stride: u32, room: u32, pad: f32) -> vec4<f32> {{ var v = vec4<f32>(pad); {loads} return v; }}"
        );
    }
    if *quads && writes {
        let store = match (present, vec4) {
            (false, _) => String::new(),
            (true, true) => format!("{data}_data[i >> 2u] = v;"),
            (true, false) => (0..4).map(|k| format!("{data}_data[i + {k}u] = v[{k}]; ")).collect(),
        };
        let _ = writeln!(text, "fn store4_{name}(i: u32, v: vec4<f32>) {{ {store} }}");
        let stores = match vec4 {
            true => format!("if (room > 0u) {{ store4_{name}(i, v); }}"),
            false => by_element(|k| format!("store_{name}(i + {k}u * stride, v[{k}]);")),
        };
        let _ = writeln!(text, "fn store_quad_{name}(i: u32, stride: u32, room: u32, v: vec4<f32>) {{ {stores} }}");
    }
}

/// A statement for each element of a quad that there is room for.
fn by_element(statement: impl Fn(usize) -> String) -> String {
    (0..4).map(|k| format!("if (room > {k}u) {{ {} }} ", statement(k))).collect()
}
