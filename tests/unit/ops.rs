//! Tensors larger than the memory of any test machine, recorded and validated on wgpu's `noop`
//! backend.

use std::sync::Arc;

use crate::engine::{Role, Storage};
use crate::loss::{CrossEntropy, Grad, Targets};
use crate::tensor::Tensor;
use crate::{Gpu, Layout};

/// Logits of more than 2^32 elements. Each dispatch binds only as many as fit a binding.
#[test]
fn rows_beyond_u32_elements() {
    const SEGMENT: u64 = 64 << 20;
    let (device, queue) = wgpu::Device::noop(&wgpu::DeviceDescriptor::default());
    let gpu = Gpu::new(device, queue).unwrap();
    let buffer = gpu.device().create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: SEGMENT,
        usage: Role::Storage.usage_flags(),
        mapped_at_creation: false,
    });
    // No segment holds a whole number of rows.
    let (rows, classes) = (70_000, 65_535);
    let segments = (rows as u64 * classes as u64 * 4).div_ceil(SEGMENT);
    let storage = Arc::new(Storage::repeated(&buffer, usize::try_from(segments).unwrap()));
    let logits = Tensor::<f32>::over(&gpu, storage, 0, [rows, classes].into());
    assert!(logits.len() > 1 << 32);
    let hidden = Tensor::<f32>::zeros(&gpu, [rows, 1]).unwrap();
    let targets = Targets::new(&gpu, [rows], &vec![1u8; rows], classes).unwrap();
    let scope = gpu.device().push_error_scope(wgpu::ErrorFilter::Validation);
    let mut batch = gpu.batch();
    let before = gpu.counters().dispatches;
    batch.cross_entropy_with(&logits, &targets, &CrossEntropy::default(), Grad::InPlace).map(|out| out.loss).unwrap();
    assert!(gpu.counters().dispatches - before > 2 * segments, "each segment, and each row that is cut");
    batch.matmul(Layout::Tn, &logits, &hidden, None).unwrap();
    batch.column_sum(&logits).unwrap();
    let error = batch.sigmoid(&logits).unwrap_err();
    let expected = "sigmoid: the number of elements needs 4587450000, the limit is 4294967295";
    assert_eq!(error.to_string(), expected);
    batch.submit().unwrap();
    let error = pollster::block_on(scope.pop());
    assert!(error.is_none(), "{error:?}");
}
