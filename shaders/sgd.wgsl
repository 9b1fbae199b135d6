// One step of stochastic gradient descent.
//
//   g = +-(grad without the loss's scale, clipped by value) * factor + weight_decay * value
//   v = g at the first step, else momentum * v + (1 - dampening) * g        (with momentum only)
//   value -= lr * (g without momentum, g + momentum * v with Nesterov's, else v)
//
// A factor that is NaN leaves everything as it is, with the guard on. Bindings: values, grads, factor (one element; absent if it is
// 1), velocity (absent without momentum).

struct Params {
    count: u32,
    // Elements that a workgroup updates.
    block: u32,
    values_base: u32,
    grads_base: u32,
    factor_base: u32,
    velocity_base: u32,
    lr: f32,
    momentum: f32,
    // 1 - dampening
    intake: f32,
    weight_decay: f32,
    // 1, or -1 to maximise.
    sign: f32,
    inverse_loss_scale: f32,
    clip_value: f32,
    // 1: a factor that is NaN skips the step.
    guard: u32,
}

// 0: no momentum; 1: momentum; 2: Nesterov's.
override MOMENTUM: u32;
// 1: gradients are multiplied with the factor.
override FACTOR: u32;

// The bits of a velocity that does not exist yet: a NaN that is never written here.
const UNSTARTED: u32 = 0xffffffffu;

struct Step {
    value: vec4<f32>,
    velocity: vec4<f32>,
}

fn step_of(value: vec4<f32>, grad: vec4<f32>, velocity: vec4<f32>, factor: f32) -> Step {
    var g = params.sign * settled(grad);
    if (FACTOR == 1u) {
        g *= factor;
    }
    if (params.weight_decay != 0.0) {
        g += params.weight_decay * value;
    }
    var v = velocity;
    var direction = g;
    if (MOMENTUM != 0u) {
        let unstarted = bitcast<vec4<u32>>(velocity) == vec4<u32>(UNSTARTED);
        v = select(params.momentum * velocity + params.intake * g, g, unstarted);
        // A NaN that was handed on must not look like it.
        v = select(v, vec4<f32>(nan()), bitcast<vec4<u32>>(v) == vec4<u32>(UNSTARTED));
        direction = v;
        if (MOMENTUM == 2u) {
            direction = g + params.momentum * v;
        }
    }
    return Step(value - params.lr * direction, v);
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let start = min(group_index(group, groups) * params.block, params.count);
    let end = min(start + params.block, params.count);
    var factor = 1.0;
    if (FACTOR == 1u) {
        factor = load_factor(params.factor_base);
        if (params.guard == 1u && is_nan(factor)) {
            return;
        }
    }
    for (var i = start + thread * 4u; i < end; i += WORKGROUP * 4u) {
        if (i + 4u <= end) {
            let step = step_of(
                load4_values(params.values_base + i),
                load4_grads(params.grads_base + i),
                load4_velocity(params.velocity_base + i),
                factor,
            );
            store4_values(params.values_base + i, step.value);
            store4_velocity(params.velocity_base + i, step.velocity);
        } else {
            for (var k = i; k < end; k++) {
                let step = step_of(
                    vec4<f32>(load_values(params.values_base + k)),
                    vec4<f32>(load_grads(params.grads_base + k)),
                    vec4<f32>(load_velocity(params.velocity_base + k)),
                    factor,
                );
                store_values(params.values_base + k, step.value.x);
                store_velocity(params.velocity_base + k, step.velocity.x);
            }
        }
    }
}
