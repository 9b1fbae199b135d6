// needs: map_backward numerics
// grad = upstream * y * (1 - y)

fn map_backward(y: f32, upstream: f32) -> f32 {
    // Hardware can flush a subnormal y, but the bits of y are the integer y * 2^149. That integer
    // is scaled by 2^-49, and the upstream gradient by the other 2^-100.
    let bits = bitcast<u32>(y);
    let subnormal = bits < 0x00800000u;
    let factor = select(y, f32(bitcast<i32>(y)) * 0x1p-49f, subnormal);
    return upstream * select(1.0, 0x1p-100f, subnormal) * (factor * (1.0 - factor));
}
