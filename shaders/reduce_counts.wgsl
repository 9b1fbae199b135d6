// needs: count_blocks
// Sums pairs of counts by blocks. Further binding: input [pairs, 2].

fn counts_of(i: u32) -> vec2<u32> {
    return vec2<u32>(load_input(2u * i), load_input(2u * i + 1u));
}
