//! The source of a shader: its own file, after the files of `shaders/lib/` that it needs.
//!
//! A file names the files it needs in a line `// needs: rows numerics`. Those files may need
//! others.

use super::{Kernel, Text};

macro_rules! library {
    ($($stem:literal),+ $(,)?) => {
        &[$(($stem, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/lib/", $stem, ".wgsl")))),+]
    };
}

pub(super) const LIBRARY: &[(&str, &str)] = library![
    "by_element",
    "by_quad",
    "count_blocks",
    "difference",
    "element_weight",
    "elementwise_loss",
    "gradient",
    "grid",
    "lanes",
    "map",
    "map_backward",
    "norm_scales",
    "numerics",
    "once",
    "partials",
    "plain_logits",
    "product",
    "product_loads",
    "rectifier",
    "row_loss",
    "row_map",
    "row_map_backward",
    "row_stats",
    "row_sums",
    "rows",
    "scaled_logits",
    "simd_product",
    "softmax",
    "sum",
    "sum_across",
    "sum_blocks",
    "tally",
    "turns",
    "wide",
];

/// Parameters that many kernels have in common. A kernel has those that its shader uses, unless its
/// own parameters include a field of the same name.
///
/// * `count`: the number of elements of a dispatch; `first`: the index of the first; `block`: the
///   number of elements of a workgroup;
/// * `rows`, `classes`, `inner`: the rows of a dispatch, with dimensions `[outer, classes, inner]`;
///   `first_block`, `end_block`: the range of blocks that each lane processes;
/// * `zero`: a 0 that compilers cannot know to be 0.
pub(crate) const COMMON: [&str; 9] =
    ["count", "first", "block", "rows", "classes", "inner", "first_block", "end_block", "zero"];

impl Text {
    pub(super) fn of(kernel: &Kernel) -> Self {
        let mut files = Vec::new();
        with_needs(kernel.shader, &mut files);
        let lines = files.iter().flat_map(|file| file.lines());
        let constants = lines.filter_map(|line| line.strip_prefix("override ")?.strip_suffix(": u32;")).collect();
        let source = files.concat();
        let declared = |name: &str| kernel.params.iter().any(|field| field.name == name);
        let common = COMMON.into_iter().filter(|name| !declared(name) && uses_param(&source, name)).collect();
        let own = kernel.params.iter().enumerate().filter(|(_, field)| uses_param(&source, field.name)).collect();
        Self { source, constants, common, own }
    }
}

/// Appends a file after the files it needs, each only once.
fn with_needs(file: &'static str, files: &mut Vec<&'static str>) {
    if files.contains(&file) {
        return;
    }
    for need in file.lines().filter_map(|line| line.strip_prefix("// needs: ")).flat_map(str::split_whitespace) {
        // The test `needs_name_files_and_every_file_is_needed` rejects unknown names.
        if let Some((_, needed)) = LIBRARY.iter().find(|(stem, _)| *stem == need) {
            with_needs(needed, files);
        }
    }
    files.push(file);
}

pub(super) fn uses_param(source: &str, name: &str) -> bool {
    let goes_on = |c: char| c.is_ascii_alphanumeric() || c == '_';
    source.split("params.").skip(1).any(|text| text.strip_prefix(name).is_some_and(|rest| !rest.starts_with(goes_on)))
}
