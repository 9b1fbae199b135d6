//! A tensor of a state: its elements in their saved type, and conversion to other types.

use std::borrow::Cow;
use std::sync::OnceLock;

use bytemuck::Pod;
use half::{bf16, f16};
use safetensors::Dtype;

use crate::tensor::{Saved, Shape};

/// A tensor with the shape and type that it has in a file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stored {
    pub(super) shape: Shape,
    data: Data,
}

/// The elements of a tensor.
#[derive(Clone, Debug)]
enum Data {
    /// `f32`, the type of nearly all states, ready to be borrowed.
    F32(Vec<f32>),
    /// Any other type, as the bytes of the file.
    Other {
        dtype: Dtype,
        /// The elements, row-major and little-endian.
        bytes: Vec<u8>,
        /// The elements as `f32`, converted on first use.
        values: OnceLock<Vec<f32>>,
    },
}

impl PartialEq for Data {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::F32(a), Self::F32(b)) => a == b,
            (Self::Other { dtype, bytes, .. }, Self::Other { dtype: other, bytes: others, .. }) => {
                dtype == other && bytes == others
            }
            _ => false,
        }
    }
}

impl Stored {
    pub(super) fn new<T: Saved>(shape: Shape, values: Vec<T>) -> Self {
        let data = match T::into_f32(values) {
            Ok(values) => Data::F32(values),
            Err(values) => {
                let bytes = bytemuck::cast_slice(&values).to_vec();
                Data::Other { dtype: T::DTYPE, bytes, values: OnceLock::new() }
            }
        };
        Self { shape, data }
    }

    pub(super) fn from_bytes(shape: Shape, dtype: Dtype, bytes: &[u8]) -> Self {
        let data = match dtype {
            Dtype::F32 => Data::F32(bytemuck::pod_collect_to_vec(bytes)),
            _ => Data::Other { dtype, bytes: bytes.to_vec(), values: OnceLock::new() },
        };
        Self { shape, data }
    }

    pub(super) fn dtype(&self) -> Dtype {
        match &self.data {
            Data::F32(_) => Dtype::F32,
            Data::Other { dtype, .. } => *dtype,
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match &self.data {
            Data::F32(values) => bytemuck::cast_slice(values),
            Data::Other { bytes, .. } => bytes,
        }
    }

    /// Whether the elements are real numbers of 16 bits or more.
    pub(super) fn is_real(&self) -> bool {
        matches!(self.dtype(), Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::F64)
    }

    /// The elements as `f32`; `None` if they are not real numbers.
    pub(super) fn values(&self) -> Option<&[f32]> {
        match &self.data {
            Data::F32(values) => Some(values),
            Data::Other { .. } if !self.is_real() => None,
            Data::Other { values, .. } => {
                Some(values.get_or_init(|| self.to::<f32>().unwrap_or_default().into_owned()))
            }
        }
    }

    /// The elements as `T`, each rounded once; `None` if they are not real numbers.
    pub(super) fn to<T: Saved>(&self) -> Option<Cow<'_, [T]>> {
        let bytes = self.bytes();
        let values = match self.dtype() {
            dtype if dtype == T::DTYPE => return Some(view(bytes)),
            Dtype::F32 => each(bytes, |element| f32::from_le_bytes(element).into()),
            Dtype::F16 => each(bytes, |element| f16::from_le_bytes(element).into()),
            Dtype::BF16 => each(bytes, |element| bf16::from_le_bytes(element).into()),
            Dtype::F64 => each(bytes, f64::from_le_bytes),
            _ => return None,
        };
        Some(values.into())
    }
}

/// Reinterprets bytes as elements. Copies only if the bytes are misaligned.
fn view<T: Pod>(bytes: &[u8]) -> Cow<'_, [T]> {
    match bytemuck::try_cast_slice(bytes) {
        Ok(values) => values.into(),
        Err(_) => bytemuck::pod_collect_to_vec(bytes).into(),
    }
}

/// Converts elements of `N` bytes. An element with all bits set keeps all bits set.
fn each<const N: usize, T: Saved>(bytes: &[u8], value: impl Fn([u8; N]) -> f64) -> Vec<T> {
    let (elements, _) = bytes.as_chunks();
    let convert = |&element: &[u8; N]| if element == [u8::MAX; N] { T::ONES } else { T::nearest(value(element)) };
    elements.iter().map(convert).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rounds by definition: to the nearest finite half, and at a tie to the half whose last bit
    /// is 0.
    fn nearest_half(value: f64, wide: impl Fn(u16) -> f64, infinity: u16) -> u16 {
        let sign = u16::from(value.is_sign_negative()) << 15;
        let value = value.abs();
        let above = (0..infinity).find(|&bits| wide(bits) >= value).unwrap_or(infinity);
        if above == 0 {
            return sign;
        }
        let below = above - 1;
        // Infinity stands for the number that would follow the largest finite one.
        let next = if above == infinity { 2.0 * wide(below) - wide(below - 1) } else { wide(above) };
        let (up, down) = (next - value, value - wide(below));
        sign | if up < down || (up == down && above.is_multiple_of(2)) { above } else { below }
    }

    #[test]
    fn doubles_are_rounded_once_to_the_nearest_half() {
        let mut rng = fastrand::Rng::with_seed(1);
        let halves = |bits: u16| (f16::from_bits(bits).to_f64(), bf16::from_bits(bits).to_f64());
        for i in 0..300 {
            let bits = rng.u16(0..0x7c00);
            let (a, b) = match i {
                0 => (0.0, 0.0),
                1 => (f64::MAX, 3.4e38),
                2 => (65520.0, 3.3961775292304957e38),
                3 => (f64::from_bits(65520f64.to_bits() - 1), 3.396177529230495e38),
                4 => (f64::MIN_POSITIVE, f64::from_bits(1)),
                _ => halves(bits),
            };
            let (next_a, next_b) = halves(bits + 1);
            // Exactly halfway to the next half, slightly off halfway, and anywhere.
            for hair in [0.0, 1e-14, -1e-14, rng.f64() - 0.5] {
                for sign in [1.0, -1.0] {
                    let between = |a: f64, b: f64| if i < 5 { a } else { a + (b - a) * (0.5 + hair) };
                    let value = sign * between(a, next_a);
                    let want = nearest_half(value, |bits| halves(bits).0, 0x7c00);
                    assert_eq!(f16::nearest(value).to_bits(), want, "{value:e} as f16");
                    let value = sign * between(b, next_b);
                    let want = nearest_half(value, |bits| halves(bits).1, 0x7f80);
                    assert_eq!(bf16::nearest(value).to_bits(), want, "{value:e} as bf16");
                }
            }
        }
        assert!(f16::nearest(f64::NAN).is_nan() && bf16::nearest(f64::NEG_INFINITY) == bf16::NEG_INFINITY);
    }

    #[test]
    fn what_is_not_started_stays_so_in_every_type() {
        let stored = Stored::new([2].into(), vec![f32::ONES, f32::NAN]);
        let half = Stored::new([2].into(), stored.to::<bf16>().unwrap().into_owned());
        let back = half.to::<f16>().unwrap().into_owned();
        assert_eq!(back[0].to_bits(), u16::MAX);
        let bits: Vec<u32> = Stored::new([2].into(), back).values().unwrap().iter().map(|v| v.to_bits()).collect();
        assert!(bits[0] == u32::MAX && bits[1] != u32::MAX && f32::from_bits(bits[1]).is_nan(), "{bits:x?}");
    }
}
