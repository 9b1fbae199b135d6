// needs: once
// The factor of the learning rate in an update, if skipped updates do not advance the schedule.
// Counts skipped updates.
// Bindings: skipped (scalar: 1 if this update is skipped), skips (scalar: the number of skipped
// updates), table, factor (the result is its third element).
//
// The table has an entry for every value of each byte of a number k of steps, low byte first: for
// powers, the power; for cosines, the sine and 1 - cosine of the angle.

// 0: powers; 1: linear warm-up, then half a cosine.
override COSINE: u32;

// The result if no update has been skipped: the host knows the learning rate.
const KNOWN: f32 = -1.0;

// The index of the entry for byte `b` of k.
fn entry(k: u32, b: u32) -> u32 {
    return (256u * b) | ((k >> (8u * b)) & 0xffu);
}

// The power for k steps: the product of the entries for the bytes of k.
fn power(k: u32) -> f32 {
    var all = 1.0;
    for (var b = 0u; b < 4u; b++) { // unrolled
        all *= load_table(entry(k, b));
    }
    return all;
}

// The sine of the angle of k steps, at most 90 degrees. Adds the angles of the bytes, the highest
// byte first, so that the terms are small.
fn sine(k: u32) -> f32 {
    var s = 0.0;
    // 1 - cosine.
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

// The factor after n updates: linear warm-up, then half a cosine down to `floor`.
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

// Counts the skipped update, if it is one, and stores the factor, in one thread.
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
