//! Kernels: a shader with its bindings and parameters, declared once.
//!
//! [`compose`] generates the WGSL of a variant from the declaration; [`Pipelines`] compiles it.

use std::sync::OnceLock;

mod compose;
mod pipelines;
mod specialise;
mod text;
#[cfg(test)]
pub(crate) mod turns;

pub(crate) use pipelines::Pipelines;
#[cfg(test)]
pub(crate) use pipelines::composed;
pub(crate) use text::COMMON;

/// Declares a kernel by the stem of its shader file, its parameters and its bindings.
macro_rules! kernel {
    ($stem:literal, $params:expr, $bindings:expr) => {
        $crate::engine::kernel::Kernel {
            label: concat!("xent.", $stem),
            shader: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/", $stem, ".wgsl")),
            bindings: $bindings,
            params: $params,
            text: std::sync::OnceLock::new(),
        }
    };
}
pub(crate) use kernel;

/// Declares the parameters of kernels. [`compose`] generates the struct `Params` of the shader from
/// it.
macro_rules! params {
    ($(#[$meta:meta])* struct $name:ident { $($(#[$doc:meta])* $field:ident : $ty:ident),* $(,)? }) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
        pub(crate) struct $name { $($(#[$doc])* pub(crate) $field: $ty),* }

        impl $name {
            pub(crate) const FIELDS: &'static [$crate::engine::kernel::Field] = &[$($crate::engine::kernel::Field {
                name: stringify!($field),
                ty: stringify!($ty),
            }),*];
        }
    };
}
pub(crate) use params;

/// A field of a kernel's parameters, of a 4-byte type with the same name in Rust and WGSL.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) ty: &'static str,
}

/// A storage binding of a kernel.
#[derive(Debug)]
pub(crate) struct Binding {
    pub(crate) name: &'static str,
    pub(crate) element: &'static str,
    /// Whether the shader accesses it in quads (`load4_x`, `store4_x` and related accessors).
    pub(crate) quads: bool,
    pub(crate) access: Access,
}

/// What a kernel does with a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
    /// Read and written.
    Update,
    /// Integers that threads add to atomically; their sums do not depend on the order.
    Count,
    /// Written; if the caller requests it, in place over the named binding.
    WriteOver(&'static str),
}

const fn binding(name: &'static str, element: &'static str, quads: bool, access: Access) -> Binding {
    Binding { name, element, quads, access }
}

pub(crate) const fn read(name: &'static str, element: &'static str) -> Binding {
    binding(name, element, false, Access::Read)
}

pub(crate) const fn write(name: &'static str, element: &'static str) -> Binding {
    binding(name, element, false, Access::Write)
}

pub(crate) const fn update(name: &'static str, element: &'static str) -> Binding {
    binding(name, element, false, Access::Update)
}

pub(crate) const fn count(name: &'static str) -> Binding {
    binding(name, "atomic<u32>", false, Access::Count)
}

pub(crate) const fn read4(name: &'static str) -> Binding {
    binding(name, "f32", true, Access::Read)
}

pub(crate) const fn write4(name: &'static str) -> Binding {
    binding(name, "f32", true, Access::Write)
}

pub(crate) const fn update4(name: &'static str) -> Binding {
    binding(name, "f32", true, Access::Update)
}

pub(crate) const fn write4_over(name: &'static str, over: &'static str) -> Binding {
    binding(name, "f32", true, Access::WriteOver(over))
}

/// A compute shader with the entry point `main`. Binding 0 is `params`; the bindings that need a
/// buffer follow from 1, in order.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// `xent.<stem of the shader's file>`
    pub(crate) label: &'static str,
    /// The text of the shader file, without the library files it needs.
    pub(crate) shader: &'static str,
    pub(crate) bindings: &'static [Binding],
    pub(crate) params: &'static [Field],
    pub(crate) text: OnceLock<Text>,
}

/// The complete source of a kernel, and what follows from it.
#[derive(Debug)]
pub(crate) struct Text {
    /// The shader file, preceded by all library files it needs.
    source: String,
    /// The names of the `override` constants.
    pub(crate) constants: Vec<&'static str>,
    /// The common parameters that the source uses (see [`text`]).
    pub(crate) common: Vec<&'static str>,
    /// The declared parameters that the source uses, with their index in the declaration. Kernels
    /// can share a declaration.
    pub(crate) own: Vec<(usize, &'static Field)>,
}

impl Kernel {
    pub(crate) fn text(&self) -> &Text {
        self.text.get_or_init(|| Text::of(self))
    }

    pub(crate) fn has_constant(&self, name: &str) -> bool {
        self.text().constants.contains(&name)
    }
}

/// Everything that distinguishes compiled pipelines of the same kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Variant {
    /// The values of the kernel's constants, in order.
    pub(crate) constants: Vec<u32>,
    /// Declares bindings that are accessed in quads as arrays of quads: `vec4<f32>`, or `vec2<u32>`
    /// for halves.
    pub(crate) vec4: bool,
    /// Bit `i`: declares binding `i` as scalars even though the shader accesses it in quads.
    pub(crate) by_scalar: u32,
    /// The [`Access::WriteOver`] binding shares the memory of its input.
    pub(crate) in_place: bool,
    /// Bit `i`: binding `i` stores `f16`, two per word.
    pub(crate) f16: u32,
    /// Bit `i`: binding `i` stores `bf16`, two per word.
    pub(crate) bf16: u32,
    /// Bit `i`: binding `i` is absent; loads return 0 and stores do nothing.
    pub(crate) absent: u32,
    /// Bit `i`: binding `i` is absent, and loads return 1.
    pub(crate) ones: u32,
}

impl Variant {
    #[cfg(test)]
    pub(crate) fn new(constants: &[u32]) -> Self {
        Self { constants: constants.to_vec(), ..Self::default() }
    }

    /// Whether binding `i` is declared as quads, provided that the shader accesses it in quads.
    pub(crate) fn by_quad(&self, i: usize) -> bool {
        self.vec4 && self.by_scalar & (1 << i) == 0
    }
}

/// The bindings of a variant that need a buffer: the index, the binding, and whether it is
/// read-only.
fn buffer_bindings(kernel: &Kernel, variant: &Variant) -> Vec<(usize, &'static Binding, bool)> {
    let written_over = kernel.bindings.iter().find_map(|b| match b.access {
        Access::WriteOver(over) if variant.in_place => Some(over),
        _ => None,
    });
    let needs_buffer = |(i, b): &(usize, &Binding)| {
        let aliased = variant.in_place && matches!(b.access, Access::WriteOver(_));
        (variant.absent | variant.ones) & (1 << i) == 0 && !aliased
    };
    let only_read = |b: &Binding| b.access == Access::Read && written_over != Some(b.name);
    kernel.bindings.iter().enumerate().filter(needs_buffer).map(|(i, b)| (i, b, only_read(b))).collect()
}

#[cfg(test)]
#[path = "../../tests/unit/kernel.rs"]
mod tests;
