// needs: map_backward numerics
// upstream * y * (1 - y)

fn map_backward(y: f32, upstream: f32) -> f32 {
    // Hardware can flush a subnormal y, but its bits are an integer multiple of 2^-149. 2^-100 of that scales the upstream gradient.
    let bits = bitcast<u32>(y);
    let subnormal = bits < 0x00800000u;
    let factor = select(y, f32(bitcast<i32>(y)) * 0x1p-49f, subnormal);
    return upstream * select(1.0, 0x1p-100f, subnormal) * (factor * (1.0 - factor));
}
