// Exact amounts: whole numbers of the unit in their name (price_e10: 10^-10 USD), as sentio.h has them. Products are
// made in 128 bits and rounded once, half to even.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

namespace engine {

__extension__ typedef __int128 Wide;

constexpr std::int64_t E6 = 1'000'000;
constexpr std::int64_t E8 = 100 * E6;
constexpr std::int64_t E10 = 100 * E8;

// Throws std::overflow_error where 64 bits do not hold it: an amount that wrapped would be believed.
inline std::int64_t narrow(Wide value) {
    if (value < std::numeric_limits<std::int64_t>::min() || value > std::numeric_limits<std::int64_t>::max())
        throw std::overflow_error("an amount does not fit into 64 bits");
    return static_cast<std::int64_t>(value);
}

// The whole number nearest to value / by, half to even; `by` is above zero.
inline std::int64_t divided(Wide value, Wide by) {
    Wide quotient = value / by;
    const Wide rest = value % by;
    const Wide twice = 2 * (rest < 0 ? -rest : rest);
    if (twice > by || (twice == by && quotient % 2 != 0))
        quotient += value < 0 ? -1 : 1;
    return narrow(quotient);
}

// USD of that many shares at that price, in 10^-6.
inline std::int64_t worth_e6(std::int64_t price_e10, std::int64_t quantity_e8) {
    return divided(Wide{price_e10} * quantity_e8, Wide{E6} * E6);
}

// "12.5" with 2 digits is 1250. What has more digits is rounded half to even; none for what is no decimal number or too
// large (an exponent, NaN and the like are none).
inline std::optional<std::int64_t> decimal(std::string_view text, int digits) {
    const bool negative = !text.empty() && text.front() == '-';
    if (negative)
        text.remove_prefix(1);
    Wide value = 0;
    int places = -1;  // digits behind the point so far, -1 before it
    int next = 0;     // the first digit that is rounded away
    bool any = false, more = false;
    for (const char each : text) {
        if (each == '.' && places < 0) {
            places = 0;
            continue;
        }
        if (each < '0' || each > '9')
            return std::nullopt;
        any = true;
        const int digit = each - '0';
        if (places < digits) {
            value = value * 10 + digit;
            places += places >= 0;
        } else if (places++ == digits) {
            next = digit;
        } else {
            more = more || digit != 0;
        }
        if (value > std::numeric_limits<std::int64_t>::max())
            return std::nullopt;
    }
    if (!any)
        return std::nullopt;
    for (int place = places < 0 ? 0 : places; place < digits; place++) {
        value *= 10;
        if (value > std::numeric_limits<std::int64_t>::max())
            return std::nullopt;
    }
    if (next > 5 || (next == 5 && (more || value % 2 != 0)))
        value++;
    if (value > std::numeric_limits<std::int64_t>::max())
        return std::nullopt;
    return static_cast<std::int64_t>(negative ? -value : value);
}

// 1250 with 2 digits is "12.50".
inline std::string text(std::int64_t value, int digits) {
    const bool negative = value < 0;
    std::string all = std::to_string(value).substr(negative);
    const auto least = static_cast<std::size_t>(digits) + 1;
    if (all.size() < least)
        all.insert(0, least - all.size(), '0');
    all.insert(all.size() - static_cast<std::size_t>(digits), ".");
    return (negative ? "-" : "") + all;
}

}  // namespace engine
