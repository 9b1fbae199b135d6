// IEEE binary16, two numbers per word. Loads are exact; stores round to nearest even, keep
// subnormal numbers and turn NaN into a quiet NaN. Avoids `pack2x16float`, because its results for
// ties and overflow depend on the driver. Pure functions of one thread's values; no exchange
// between threads.

// The 4 numbers in two words, the first in the low half of the first word.
fn f16_of(words: vec2<u32>) -> vec4<f32> {
    let halves = vec4<u32>(words.x & 0xffffu, words.x >> 16u, words.y & 0xffffu, words.y >> 16u);
    let magnitude = halves & vec4<u32>(0x7fffu);
    // Adds 112, the difference of the biases, to the exponent. Infinity and NaN get all exponent
    // bits.
    let normal = (magnitude << vec4<u32>(13u)) + vec4<u32>(0x38000000u);
    let special = (magnitude << vec4<u32>(13u)) | vec4<u32>(0x7f800000u);
    let small = bitcast<vec4<u32>>(vec4<f32>(magnitude) * 0x1p-24f);
    var bits = select(normal, special, magnitude >= vec4<u32>(0x7c00u));
    bits = select(bits, small, magnitude < vec4<u32>(0x400u));
    return bitcast<vec4<f32>>(bits | ((halves & vec4<u32>(0x8000u)) << vec4<u32>(16u)));
}

// The bits of 4 numbers rounded to halves, each in the low half of a word.
fn f16_bits(x: vec4<f32>) -> vec4<u32> {
    let bits = bitcast<vec4<u32>>(x);
    let magnitude = bits & vec4<u32>(0x7fffffffu);
    let odd = (magnitude >> vec4<u32>(13u)) & vec4<u32>(1u);
    let normal = ((magnitude + vec4<u32>(0xfffu) + odd) >> vec4<u32>(13u)) - vec4<u32>(0x1c000u);
    // The addition rounds x * 2^24 to an integer, which is in the low bits of the sum.
    let small = bitcast<vec4<u32>>(bitcast<vec4<f32>>(magnitude) * 0x1p24f + 0x1p23f) & vec4<u32>(0x7fffffu);
    var half = select(normal, small, magnitude < vec4<u32>(0x38800000u));
    half = select(half, vec4<u32>(0x7c00u), magnitude >= vec4<u32>(0x477ff000u));
    half = select(half, vec4<u32>(0x7e00u), magnitude > vec4<u32>(0x7f800000u));
    return half | ((bits >> vec4<u32>(16u)) & vec4<u32>(0x8000u));
}
