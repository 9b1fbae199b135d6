// needs: numerics sum_blocks
// Counts rows: their losses, the ranks of their targets, and what they were taken for.
//
// The shader that uses this defines
//   fn outcome(i: u32) -> Outcome        of the dispatch's row i
// Bindings: targets, predictions (of the shader's types), weights (one element, or one for each row), cells, partials (three words a block).
//
// A cell is a sum of weights in four words, the lowest first: a whole number of 2^-64. Whole numbers have the same sum in any order, so the
// threads' atomic additions always give the same bits. The cells, for C classes:
//   C       rows that have so many outputs above their target's
//   1       rows without an order of their outputs (NaN)
//   1       rows that were taken for what they are
//   1       the number of rows, whatever their weights
// and then, with a confusion matrix,
//   C       rows of weight 0 that have a class as their target, or were taken for it
//   C (C + 1)       a row for each target; the last column is for rows that were taken for no class

struct Outcome {
    ignored: bool,
    // Nothing else counts of a row that is not fine: its position is reported.
    fine: bool,
    actual: u32,
    // The number of classes stands for none.
    predicted: u32,
    rank: u32,
    loss: f32,
}

// The same for weights: from 0 to 2^31, so that no cell overflows before there are 2^33 rows.
fn is_weight(bits: u32) -> bool {
    return bits <= 0x4f000000u || bits == 0x80000000u;
}

// A weight as a whole number of 2^-64, rounded to nearest: exact from 2^-40 on.
fn cell_words(weight: f32) -> vec4<u32> {
    let bits = bitcast<u32>(weight) & 0x7fffffffu;
    let exponent = bits >> 23u;
    let digits = select(0u, (bits & 0x007fffffu) | 0x00800000u, exponent > 0u);
    // The last digit stands for 2^(exponent - 150).
    let place = i32(exponent) - 86;
    let dropped = u32(clamp(-place, 0, 25));
    let rounded = (digits + ((1u << dropped) >> 1u)) >> dropped;
    let shift = u32(max(place, 0));
    let word = vec4<u32>(shift / 32u);
    let low = rounded << (shift % 32u);
    let high = (rounded >> 1u) >> (31u - shift % 32u);
    let words = vec4<u32>(0u, 1u, 2u, 3u);
    return select(vec4<u32>(), vec4<u32>(low), words == word) + select(vec4<u32>(), vec4<u32>(high), words == word + 1u);
}

// Adds to a word, and gives what is carried to the next. The value has a weight's 24 digits: with a carry it does not wrap.
fn add_to_word(at: u32, value: u32, carry: u32) -> u32 {
    let addend = value + carry;
    if (addend == 0u) {
        return 0u;
    }
    return u32(add_cells(at, addend) + addend < addend);
}

fn add_to_cell(cell: u32, words: vec4<u32>) {
    if (cell < params.first_cell || cell >= params.end_cell) {
        return;
    }
    let at = 4u * (cell - params.first_cell);
    var carry = add_to_word(at, words.x, 0u);
    carry = add_to_word(at + 1u, words.y, carry);
    carry = add_to_word(at + 2u, words.z, carry);
    carry = add_to_word(at + 3u, words.w, carry);
}

const ONE: vec4<u32> = vec4<u32>(0u, 0u, 1u, 0u);

fn count_row(row: Outcome, weight: f32) {
    let classes = params.classes;
    let occurring = classes + 3u;
    if (is_zero(weight)) {
        if (params.matrix == 1u) {
            add_to_cell(occurring + row.actual, ONE);
            if (row.predicted < classes) {
                add_to_cell(occurring + row.predicted, ONE);
            }
        }
        return;
    }
    let words = cell_words(weight);
    add_to_cell(row.rank, words);
    if (row.predicted == row.actual) {
        add_to_cell(classes + 1u, words);
    }
    if (params.matrix == 1u) {
        add_to_cell(occurring + classes + row.actual * (classes + 1u) + row.predicted, words);
    }
}

const SUMS: u32 = 1u;

// The rows that the thread has counted.
var<private> rows: u32 = 0u;

fn add_element(i: u32) {
    let row = outcome(i);
    let weight = load_weights(i * params.weights_stride);
    if (row.ignored) {
        return;
    }
    if (!row.fine || !is_weight(bitcast<u32>(weight))) {
        bad = min(bad, params.first + i);
        return;
    }
    count_row(row, weight);
    if (!is_zero(weight)) {
        rows += 1u;
        sums[0] = plus(sums[0], weight * row.loss);
    }
}

fn end_block(block: u32, thread: u32) {
    add_to_cell(params.classes + 2u, vec4<u32>(0u, 0u, rows, 0u));
}
