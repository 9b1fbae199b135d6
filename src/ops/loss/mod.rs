//! Losses of elements and of rows.

macro_rules! modules {
    ($($(#[$doc:meta])* $name:ident, $with:ident, $backward:ident: $Options:ident, $inputs:expr, $targets:expr;)*) => {
        $(
            pub(crate) mod $name;
            pub use $name::$Options;
        )*
    };
}
#[macro_use]
mod table;
elementwise_losses!(modules);

pub(crate) mod cross_entropy;
pub(crate) mod definition;
pub(crate) mod denominator;
pub(crate) mod elements;
pub(crate) mod elementwise;
pub(crate) mod nll;
pub(crate) mod reduction;
pub(crate) mod request;
pub(crate) mod row_loss;
pub(crate) mod row_parts;
pub(crate) mod row_steps;
pub(crate) mod rows;
pub(crate) mod statistics;
pub(crate) mod targets;
pub(crate) mod upstream_quotient;

pub use cross_entropy::CrossEntropy;
pub use denominator::Denominator;
pub use nll::Nll;
pub use reduction::Reduction;
pub use request::{Grad, LossOutput, LossRequest};
pub use statistics::Statistics;
pub use targets::Targets;
