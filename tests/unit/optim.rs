//! The cost of an update on the host.

use super::*;
use crate::engine::Gpu;
use crate::parameters::COMPARED;

fn many(gpu: &Gpu, names: &[String]) -> Parameters {
    let list: Vec<_> = names.iter().map(|name| (&name[..], [3].into(), &[1.0f32; 3][..])).collect();
    Parameters::new(gpu, &list).unwrap()
}

/// Counts the work of `step` for thousands of parameters: one dispatch for each run of neighbours
/// with the same options, and no comparison of names.
#[test]
fn a_step_of_thousands_of_parameters_is_no_more_work_than_it_has_to_be() {
    let (device, queue) = wgpu::Device::noop(&wgpu::DeviceDescriptor::default());
    let gpu = Gpu::new(device, queue).unwrap();
    let names: Vec<String> = (0..8000).map(|i| format!("layers.{i}.weight")).collect();
    let parameters = many(&gpu, &names);
    let own = Group { names: names.iter().step_by(2).cloned().collect(), lr: Some(0.5), ..Group::default() };
    for (groups, runs) in [(vec![], 1), (vec![own], 8000)] {
        let mut optimizer = Optimizer::new(&parameters, Optimization { groups, ..Optimization::default() }).unwrap();
        COMPARED.set(0);
        let mut batch = gpu.batch();
        let before = gpu.counters().dispatches;
        optimizer.step(&mut batch, &parameters).unwrap();
        optimizer.set_lr(0.25).unwrap();
        optimizer.step(&mut batch, &parameters).unwrap();
        assert_eq!((gpu.counters().dispatches - before, COMPARED.get()), (2 * runs, 0));
        // Parameters of another object with the same layout are compared, once each.
        let other = many(&gpu, &names);
        optimizer.step(&mut batch, &other).unwrap();
        assert_eq!((gpu.counters().dispatches - before, COMPARED.get()), (3 * runs, 8000));
    }
}
