// Sums in a fixed order, and positions of bad data. A workgroup turns a block of values into a partial result:
// two words, the bits of a sum and the first position at which data is out of range (NONE if all of it is fine).

const NONE: u32 = 0xffffffffu;

var<workgroup> shared_sums: array<f32, WORKGROUP>;
var<workgroup> shared_bad: array<u32, WORKGROUP>;

// Combines the threads' results as a tree; thread 0 gets the workgroup's.
fn combine(thread: u32, sum: f32, bad: u32) -> vec2<u32> {
    shared_sums[thread] = sum;
    shared_bad[thread] = bad;
    for (var distance = WORKGROUP / 2u; distance > 0u; distance /= 2u) {
        workgroupBarrier();
        if (thread < distance) {
            shared_sums[thread] += shared_sums[thread + distance];
            shared_bad[thread] = min(shared_bad[thread], shared_bad[thread + distance]);
        }
    }
    return vec2<u32>(bitcast<u32>(shared_sums[thread]), shared_bad[thread]);
}
