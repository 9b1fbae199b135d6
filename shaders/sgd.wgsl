// needs: by_quad gradient numerics
// One step of stochastic gradient descent.
//
//   g = +-clip(grad / loss_scale) * factor + weight_decay * value
//   v = g in the first step, else momentum * v + (1 - dampening) * g        (only with momentum)
//   value -= lr * (g without momentum, g + momentum * v with Nesterov momentum, else v)
//
// With the guard on, a factor of NaN skips the update.
// Bindings: values, grads; factor (absent if it is 1; else three elements: two factors, to be
// multiplied one after the other, and, used only with SCHEDULED, the ratio of the learning rate to
// `base_lr`, or a negative number if `lr` is the learning rate); velocity (absent without
// momentum).

// 0: no momentum; 1: momentum; 2: Nesterov momentum.
override MOMENTUM: u32;
// 1: multiplies gradients by the factor.
override FACTOR: u32;
// 1: the learning rate can depend on skipped updates.
override SCHEDULED: u32;

// The bits of a velocity before the first step: a NaN that this kernel never writes.
const UNSTARTED: u32 = 0xffffffffu;

// The two factors of the gradients, and the learning rate.
var<private> factor: vec2<f32>;
var<private> lr: f32;

struct Step {
    value: vec4<f32>,
    velocity: vec4<f32>,
}

// The new values and velocities of 4 elements, by one thread.
fn step_of(value: vec4<f32>, grad: vec4<f32>, velocity: vec4<f32>) -> Step {
    var g = params.sign * unscaled_and_clipped(grad);
    if (FACTOR == 1u) {
        g = (g * factor.y) * factor.x;
    }
    if (params.weight_decay != 0.0) {
        g += params.weight_decay * value;
    }
    var v = velocity;
    var direction = g;
    if (MOMENTUM != 0u) {
        let unstarted = bitcast<vec4<u32>>(velocity) == vec4<u32>(UNSTARTED);
        v = select(params.momentum * velocity + params.intake * g, g, unstarted);
        // A computed NaN must not be mistaken for UNSTARTED.
        v = select(v, vec4<f32>(nan()), bitcast<vec4<u32>>(v) == vec4<u32>(UNSTARTED));
        direction = v;
        if (MOMENTUM == 2u) {
            direction = g + params.momentum * v;
        }
    }
    return Step(value - lr * direction, v);
}

// Loads the factors and the learning rate, in every thread. Returns false if the guard skips the
// update.
fn begin() -> bool {
    factor = vec2<f32>(1.0);
    if (FACTOR == 1u) {
        factor = vec2<f32>(load_factor(0u), load_factor(1u));
        if (params.guard == 1u && is_nan(factor.x)) {
            return false;
        }
    }
    lr = params.lr;
    if (SCHEDULED == 1u) {
        let rate = load_factor(2u);
        if (rate >= 0.0) {
            lr = params.base_lr * rate;
        }
    }
    return true;
}

fn quad(i: u32, n: u32) {
    let step = step_of(
        load_quad_values(i, 1u, n, 0.0),
        load_quad_grads(i, 1u, n, 0.0),
        load_quad_velocity(i, 1u, n, 0.0),
    );
    store_quad_values(i, 1u, n, step.value);
    store_quad_velocity(i, 1u, n, step.velocity);
}
