// needs: by_element
// Repeats a dimension: output[outer, size, inner] = input[outer, inner]. Bindings: input, output.

fn element(i: u32) {
    let row = (params.first + i / params.inner) / params.size;
    store_output(i, load_input(row * params.inner + i % params.inner));
}
