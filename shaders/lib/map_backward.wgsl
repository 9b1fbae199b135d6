// needs: by_quad
// grad = map_backward(y, upstream), element by element, from the output y of the map. A shader
// that needs this defines
//   fn map_backward(y: f32, upstream: f32) -> f32
// Bindings: y, upstream, grad.

fn begin() -> bool {
    return true;
}

// The gradient of the quad at element i, whose first min(n, 4) elements exist, by one thread.
fn quad(i: u32, n: u32) {
    let y = load_quad_y(i, 1u, n, 0.0);
    let g = load_quad_upstream(i, 1u, n, 0.0);
    let grad = vec4<f32>(
        map_backward(y.x, g.x),
        map_backward(y.y, g.y),
        map_backward(y.z, g.z),
        map_backward(y.w, g.w),
    );
    store_quad_grad(i, 1u, n, grad);
}
