//! Options: structs with public fields, defaults and setters.
//!
//! Options are `#[non_exhaustive]`: callers start from `new()` and set what they need, so that a
//! field can be added without breaking them. A separate builder type would repeat every field, and
//! could not be read back.

/// Declares a struct of options. For each field: its documentation, name, type and default. A field
/// written `name? Type` is an `Option<Type>`, `None` by default, whose setter takes a `Type`.
/// `options!(@setters ..)` declares only setters, inside an `impl`.
macro_rules! options {
    (
        $(#[$meta:meta])*
        pub struct $name:ident { $($(#[$doc:meta])* $field:ident $kind:tt $ty:ty $(= $default:expr)?),* $(,)? }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug)]
        #[non_exhaustive]
        pub struct $name { $($(#[$doc])* pub $field: $crate::options::options!(@type $kind $ty)),* }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $crate::options::options!(@default $($default)?)),* }
            }
        }

        impl $name {
            /// The defaults.
            #[must_use]
            pub fn new() -> Self {
                Self::default()
            }

            $($crate::options::options!(@setter $(#[$doc])* $field $kind $ty);)*
        }
    };
    (@type : $ty:ty) => { $ty };
    (@type ? $ty:ty) => { Option<$ty> };
    (@default) => { None };
    (@default $default:expr) => { $default };
    (@setters $($(#[$doc:meta])* $field:ident $kind:tt $ty:ty),* $(,)?) => {
        $($crate::options::options!(@setter $(#[$doc])* $field $kind $ty);)*
    };
    (@setter $(#[$doc:meta])* $field:ident : $ty:ty) => {
        $(#[$doc])*
        #[must_use]
        pub fn $field(mut self, $field: $ty) -> Self {
            self.$field = $field;
            self
        }
    };
    (@setter $(#[$doc:meta])* $field:ident ? $ty:ty) => {
        $(#[$doc])*
        #[must_use]
        pub fn $field(mut self, $field: impl Into<Option<$ty>>) -> Self {
            self.$field = $field.into();
            self
        }
    };
}
pub(crate) use options;
