// Weights of elements, broadcast over the tensor. Binding: weight (absent without weights).

// 1: there are weights.
override WEIGHTED: u32;

fn element_weight(i: u32) -> f32 {
    if (WEIGHTED == 0u) {
        return 1.0;
    }
    let index = ((params.weight_first + i) / params.weight_inner) % params.weight_size;
    return load_weight(index);
}

fn element_weights(i: u32) -> vec4<f32> {
    return vec4<f32>(element_weight(i), element_weight(i + 1u), element_weight(i + 2u), element_weight(i + 3u));
}
