// needs: numerics sum_blocks
// Counts the rows of an evaluation by the rank of their target and by their prediction, and sums
// their losses.
//
// A shader that needs this defines
//   fn outcome(i: u32) -> Outcome        the outcome of row i of the dispatch
// Bindings: targets, predictions, weights (scalar, or one per row), cells [cells, 4], partials (a
// partial result per block).
//
// A cell is a sum of weights: an integer multiple of 2^-64 in four words, low word first. Integer
// sums do not depend on the order, so atomic additions are reproducible. For C classes, the cells
// are
//   C       by rank: the weights of rows with this many outputs above the output of their target
//   1       the weights of rows without a rank, because of NaN
//   1       the weights of rows with the right prediction
//   1       the number of rows of weight other than 0, regardless of the weight
// and, with a confusion matrix,
//   C       the number of times that rows of weight 0 have this class as target or as prediction
//   C (C + 1)       by target and prediction; the last column is for rows without a prediction

struct Outcome {
    ignored: bool,
    // Whether the row's data are in range. If not, the row is not counted, and its position is
    // reported.
    fine: bool,
    // The class of the target.
    actual: u32,
    // C if there is no prediction.
    predicted: u32,
    // C if there is no rank.
    rank: u32,
    loss: f32,
}

// Whether a weight is from 0 to 2^31, so that no cell overflows with fewer than 2^33 rows.
fn is_weight(bits: u32) -> bool {
    return bits <= 0x4f000000u || bits == 0x80000000u;
}

// A weight as an integer multiple of 2^-64, rounded to nearest; exact from 2^-41 on.
fn cell_words(weight: f32) -> vec4<u32> {
    let bits = bitcast<u32>(weight) & 0x7fffffffu;
    let exponent = bits >> 23u;
    let digits = select(0u, (bits & 0x007fffffu) | 0x00800000u, exponent > 0u);
    // The last bit of the significand is worth 2^(exponent - 150).
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

// Adds to a word and returns the carry. The value has at most 24 significant bits, so adding a
// carry to it does not overflow.
fn add_to_word(at: u32, value: u32, carry: u32) -> u32 {
    let addend = value + carry;
    if (addend == 0u) {
        return 0u;
    }
    return u32(add_cells(at, addend) + addend < addend);
}

// Adds a number of four words to a cell, if this dispatch counts the cell.
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

// Adds one row to its cells, by one thread.
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

// The number of rows that this thread has counted.
var<private> rows: u32 = 0u;

// Counts row i and adds its loss to the thread's sum, by one thread; reports the row's position if
// its data are out of range.
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
