#!/usr/bin/env bash
# Plants wrong constants in the kernels, one at a time, and checks on every stack whether the tests
# notice. The test binaries hold the text of `shaders/` verbatim, so a plant of the same length
# needs no build: it overwrites the text in a copy of the binary.
#
#   tests/plants.sh [STACK...]        after `.ci/run`, which installs the stacks
#   tests/plants.sh check             only checks that the shaders still have the texts
set -euo pipefail
cd "$(dirname "$0")/.."
# A sample of the cases may miss a plant.
export XENT_GPU=require XENT_SWEEPS=full
XDG_RUNTIME_DIR=$(mktemp -d)
export XDG_RUNTIME_DIR
trap 'rm -rf "$XDG_RUNTIME_DIR"' EXIT
[ $# -gt 0 ] || set -- lavapipe strict llvmpipe swiftshader dawn

# Each line: a kernel, its text, the replacement, and the tests to run (a binary and its filter).
plants='
cross_entropy|weight * select(p - 1.0, -rest_probability_lifted|weight * select(p - 0.9, -rest_probability_lifted|corpus ce_7x13
cross_entropy: smoothed|let share = params.uniform_share + params.target_share;|let share = params.uniform_share - params.target_share;|corpus ce_7x13
lib/softmax|select(s.ties, 0.0, higher)|select(s.ties, 0.5, higher)|corpus ce_7x13
lib/softmax: gaps|select(0.0, lost, small)|select(0.0, 0.0 , small)|it accuracy::long
lib/numerics: exp|1.6666666e-1|1.6766666e-1|corpus logsoftmax
lib/numerics: log|0.66666663|0.66766663|corpus bce_7x13
nll|select(nan(), 0.0, ignored)|select(nan(), 0.1, ignored)|corpus nll
bce|max(log_f32(p), -100.0)|max(log_f32(p), -101.0)|corpus bce_clamp
bce_with_logits|falling, right) / (1.0 + e);|falling, right) / (1.1 + e);|corpus bcel_7x13
huber|delta * (distance - 0.5 * delta)|delta * (distance - 0.6 * delta)|corpus huber
column_sum|sums[c] = Sum(0.0, 0.0);|sums[c] = Sum(0.1, 0.0);|it parity::matmul_and_column_sum
lib/simd_product|a.w * b[3]|a.w * b[2]|it parity::matmul_and_column_sum
sigmoid_backward|(factor * (1.0 - factor))|(factor * (1.1 - factor))|it parity::maps
sgd|if (MOMENTUM == 2u) {|if (MOMENTUM == 3u) {|corpus sgd
reduce|quotient(sums[0].high,|quotient(sums[0].low ,|corpus mse
mse|((x - y) * (x - y))|((x - y) * (x - 0))|corpus mse
sigmoid_backward: subnormal|f32(bitcast<i32>(y)) * 0x1p-49f|f32(bitcast<i32>(y)) * 0x1p-48f|it tiny_and_huge::sigmoids
lib/wide|power_of_two(first),|power_of_two(    1),|it tiny_and_huge::denominators
softmax_backward|product(y, g - sum);|product(y, g - 1.0);|corpus softmax
log_softmax_backward|return g - select(e|return 1 - select(e|corpus logsoftmax
sum_target_weights|position_weight * load_weight(u32(t)|position_weight * load_weight(u32(0)|corpus nll
relu|select(0.0, x, passes(x))|select(0.1, x, passes(x))|it parity::maps
relu_backward|select(0.0, upstream, passes(y))|select(0.1, upstream, passes(y))|it parity::maps
matmul|a_quads[x][e] * b_quads[y]|a_quads[x][0] * b_quads[y]|it parity::matmul_and_column_sum
lib/f16|- vec4<u32>(0x1c000u)|- vec4<u32>(0x1c001u)|it half::conversions
lib/bf16|vec4<u32>(0x7fffu) + odd|vec4<u32>(0x7ffeu) + odd|it half::conversions
expand|row * params.inner + i %|0u  * params.inner + i %|it broadcast::weights_are
sum_rows|var mine = Sum(0.0,|var mine = Sum(0.1,|it broadcast::mse_takes
row_parts|store_parts(to + 1u, stats.ties);|store_parts(to + 1u, stats.rest);|it row_parts::maps
grad_norm|square = scaled * scaled;|square = scaled * 1.0000;|it training::clipping
clip_factor|bounded = norm + 1e-6;|bounded = norm + 1e-1;|it training::clipping
accumulate|1u, n, total + value);|1u, n, total - value);|it training::accumulated
row_tally|select(none, rank, p >= 0)|select(none, rank, p >= 9)|it metrics::counters
lib/tally|i32(exponent) - 86;|i32(exponent) - 85;|it evaluation::weights_of_all
running_total|normalised_sum(plus_sum(before, part))|Sum(before.high + part.high, 0.000000)|it evaluation::small_losses
window_sum|quotient(value_of(loss), value_of(all))|quotient(value_of(loss), value_of(own))|it windows::a_window_is_one_batch
window_mean|quotient(sum, denominator)|quotient(sum, 4.000000000)|it windows::a_window_is_one_batch
schedule|(k >> (8u * b))|(k >> (7u * b))|it rates::rates_far_along
rank|(classes > vec4<u32>(t))|(classes < vec4<u32>(t))|it metrics::counters
sum_parts|part * params.stride + i|part * params.stride + 0|it accuracy::long
lib/row_sums|min(s.predicted, first_largest|max(s.predicted, first_largest|it cross_entropy::statistics_of_ties
binary_tally|threshold = 0.5;|threshold = 0.6;|it metrics::binary_outputs
row_statistics|outcome == 2u|outcome == 1u|it cross_entropy::statistics_of_ties
'

while IFS='|' read -r kernel text plant _; do
  [ -n "$kernel" ] || continue
  TEXT=$text PLANT=$plant perl -0777 -ne '
    my ($text, $plant) = map { s/\\n/\n/gr } @ENV{"TEXT", "PLANT"};
    length $text == length $plant or die "not of one length: $text\n";
    $found ||= /\Q$text\E/;
    END { $found or die "no kernel says $ENV{TEXT}\n" }' shaders/*.wgsl shaders/lib/*.wgsl
done <<<"$plants"
[ "$1" != check ] || exit 0

swiftshader_icd=$(.ci/swiftshader || true)

binary() {
  cargo test --release --no-run --test "$1" 2>&1 | sed -n 's/^ *Executable .*(\(.*\))$/\1/p'
}
corpus=$(binary corpus)
it=$(binary it)

# Runs the binary $2 on the stack $1 with the filter $3.
on() {
  case $1 in
    lavapipe) "$2" "$3" ;;
    strict) XENT_ADAPTER=webgpu-limits WGPU_STRICT_WEBGPU_COMPLIANCE=1 "$2" "$3" ;;
    llvmpipe) XENT_ADAPTER=gl "$2" "$3" ;;
    swiftshader) XENT_ADAPTER=swiftshader VK_DRIVER_FILES=$swiftshader_icd "$2" "$3" ;;
    dawn) XENT_ADAPTER=dawn VK_DRIVER_FILES=$swiftshader_icd "$2" "$3" ;;
  esac
}

# Prints "PASSED of TOTAL" from the output of a test run; nothing if the run reports no tests.
score() {
  awk '/^test result: / { passed += $4; failed += $6 } END { if (passed + failed) printf "%d of %d", passed, passed + failed }'
}

planted=$XDG_RUNTIME_DIR/planted
declare -A sound
survived=0
printf '| kernel | instead of | planted | tests |'
printf ' %s |' "$@"
printf '\n|---|---|---|---|%s\n' "$(printf -- '---|%.0s' "$@")"
while IFS='|' read -r kernel text plant tests; do
  [ -n "$kernel" ] || continue
  read -r binary filter <<<"$tests"
  TEXT=$text PLANT=$plant perl -0777 -pe '
    my ($text, $plant) = map { s/\\n/\n/gr } @ENV{"TEXT", "PLANT"};
    s/\Q$text\E/$plant/g or die "the tests do not hold $text\n";' "${!binary}" >"$planted"
  chmod +x "$planted"
  row="| $kernel | \`$(sed 's/^ *//; s/\\n.*//' <<<"$text")\` | \`$(sed 's/^ *//; s/\\n.*//' <<<"$plant")\` | $tests |"
  for stack in "$@"; do
    key="$stack $tests"
    sound[$key]=${sound[$key]:-$(on "$stack" "${!binary}" "$filter" 2>/dev/null | score)}
    if [ -z "${sound[$key]}" ] || [ "${sound[$key]% of *}" != "${sound[$key]#* of }" ]; then
      echo "without a plant $stack passes ${sound[$key]:-nothing} of $tests"
      exit 1
    fi
    with=$(on "$stack" "$planted" "$filter" 2>/dev/null | score) && survived=$((survived + 1))
    row+=" ${with:-no result} |"
  done
  printf '%s\n' "$row"
done <<<"$plants"
[ "$survived" = 0 ] || { echo "$survived plants survived" && exit 1; }
