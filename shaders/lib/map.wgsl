// needs: by_quad
// y = map(x), element by element. A shader that needs this defines
//   fn map(x: f32) -> f32
// Bindings: x, y.

fn begin() -> bool {
    return true;
}

fn quad(i: u32, n: u32) {
    let x = load_quad_x(i, 1u, n, 0.0);
    store_quad_y(i, 1u, n, vec4<f32>(map(x.x), map(x.y), map(x.z), map(x.w)));
}
