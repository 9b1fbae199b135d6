// needs: once
// What the learning rates of an update are multiplied with, where updates that were skipped do not count; and whether this one is another of them.
// Bindings: skipped (one element: 1 if this update is skipped), skips (one element: how many were), table, factor (its third element is what comes out).
//
// The table has an entry for every value of each byte of a number of steps, from the lowest byte on: the power of so many steps; or the sine, and 1
// less the cosine, of the angle that they are.

// 0: powers; 1: linear up, then half a cosine down.
override COSINE: u32;

// For `updates`, whose rate the host knows.
const KNOWN: f32 = -1.0;

// The entry of byte `b` of k.
fn entry(k: u32, b: u32) -> u32 {
    return (256u * b) | ((k >> (8u * b)) & 0xffu);
}

fn power(k: u32) -> f32 {
    var all = 1.0;
    for (var b = 0u; b < 4u; b++) { // unrolled
        all *= load_table(entry(k, b));
    }
    return all;
}

// The sine of so many steps, at most a right angle: from the largest part of the angle on, so that what is added to it is small.
fn sine(k: u32) -> f32 {
    var s = 0.0;
    // 1 less the cosine.
    var v = 0.0;
    for (var i = 0u; i < 4u; i++) { // unrolled
        let at = 2u * entry(k, 3u - i);
        let sine = load_table(at);
        let versine = load_table(at + 1u);
        let before = s;
        s = before + (sine * (1.0 - v) - before * versine);
        v = v + (versine * (1.0 - v) + before * sine);
    }
    return s;
}

fn cosine(n: u32) -> f32 {
    if (n < params.warm_up) {
        return f32(n + 1u) / f32(params.warm_up);
    }
    if (n >= params.steps) {
        return params.floor;
    }
    let s = sine(params.steps - n);
    return params.floor + (1.0 - params.floor) * (s * s);
}

fn once() {
    let skips = min(load_skips(0u), params.updates);
    store_skips(0u, skips + load_skipped(0u));
    let n = params.updates - skips;
    var rate = KNOWN;
    if (skips != 0u) {
        if (COSINE == 1u) {
            rate = cosine(n);
        } else {
            rate = power(n / params.every);
        }
    }
    store_factor(2u, rate);
}
