// Whole numbers to compare whole sums with, in place of the floats that thresholds are.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace zob {

constexpr float MOST_SUM = 1 << 24;  // in whole numbers; more than any

// Whole sums that are less than x are less than this, which is not NaN: nothing is less than NaN.
inline float least_whole(float x) { return std::isnan(x) ? -INFINITY : std::ceil(x); }

// So many steps, rounded to a float, are the first that are not less than x.
inline int32_t least_steps(float x, float step) {
    const auto reach = [&](int32_t n) { return !(static_cast<float>(n) * step < x); };
    int32_t n = static_cast<int32_t>(std::clamp(least_whole(x / step), -MOST_SUM, MOST_SUM));
    while (n < MOST_SUM && !reach(n)) n++;
    while (n > -MOST_SUM && reach(n - 1)) n--;
    return n;
}

// The most bits that may differ where a sum, -2 times that, or one more where sums are odd, is not to be less than x.
inline int32_t most_differing(float x, bool odd) {
    return static_cast<int32_t>(std::clamp(std::floor(((odd ? 1.0f : 0.0f) - least_whole(x)) / 2), -MOST_SUM, MOST_SUM));
}

}  // namespace zob
