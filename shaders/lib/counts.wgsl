// Counts of targets: how many are valid, and the first position that is no class (NONE if there is none).

const NONE: u32 = 0xffffffffu;

var<workgroup> shared_valid: array<u32, WORKGROUP>;
var<workgroup> shared_bad: array<u32, WORKGROUP>;

// Combines the threads' counts; thread 0 gets the workgroup's.
fn combine_counts(thread: u32, valid: u32, bad: u32) -> vec2<u32> {
    shared_valid[thread] = valid;
    shared_bad[thread] = bad;
    for (var distance = WORKGROUP / 2u; distance > 0u; distance /= 2u) {
        workgroupBarrier();
        if (thread < distance) {
            shared_valid[thread] += shared_valid[thread + distance];
            shared_bad[thread] = min(shared_bad[thread], shared_bad[thread + distance]);
        }
    }
    return vec2<u32>(shared_valid[thread], shared_bad[thread]);
}
