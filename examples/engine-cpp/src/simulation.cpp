#include "simulation.hpp"

#include <algorithm>
#include <random>
#include <utility>

#include "amounts.hpp"

namespace engine {
namespace {

constexpr int MINUTES = 390;
constexpr std::int64_t CENT_E10 = 100'000'000, LEAST_E10 = 100 * CENT_E10;
constexpr std::int64_t NOISE_PPM = 500, TREND_PPM = 100;
constexpr std::uint64_t TREND_MINUTES = 25, SILENT_EVERY = 40;

const std::pair<const char *, std::int64_t> OPENING_CENTS[] = {
    {"ERX", 5'346}, {"ERY", 2'099}, {"FAS", 17'140}, {"FAZ", 4'205}, {"SDS", 1'423},   {"SQQQ", 1'443},
    {"SSO", 11'330}, {"SVIX", 2'102}, {"TNA", 4'733}, {"TQQQ", 10'875}, {"TZA", 786}, {"UVXY", 1'055},
};

// The engine is the standard's, to the bit; its distributions are each library's own, so they are not used.
using Random = std::mt19937_64;

// About normal, mean 0 and deviation 10^6.
std::int64_t bell_e6(Random &random) {
    std::int64_t sum = 0;
    for (int each = 0; each < 12; each++)
        sum += static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(E6));
    return sum - 6 * E6;
}

struct Walk {
    std::int64_t price_e10;
    std::int64_t trend_e6 = 0;

    std::int64_t close_e10(Random &random) {
        if (random() % TREND_MINUTES == 0)
            trend_e6 = bell_e6(random);
        const Wide change_e12 = Wide{TREND_PPM} * trend_e6 + Wide{NOISE_PPM} * bell_e6(random);
        price_e10 = std::max(LEAST_E10, price_e10 + divided(price_e10 * change_e12, Wide{E6} * E6));
        return divided(price_e10, CENT_E10) * CENT_E10;
    }
};

}  // namespace

Market simulate(std::uint64_t seed, DayNumber first, int days) {
    Random random(seed);
    Market market;
    std::vector<Walk> walks;
    for (const auto &[symbol, cents] : OPENING_CENTS) {
        market.symbols.emplace_back(symbol);
        walks.push_back({cents * CENT_E10});
    }
    DayNumber day = next_weekday(first);
    for (int each = 0; each < days; each++, day = next_weekday(day + 1))
        for (int minute = 0; minute < MINUTES; minute++) {
            std::vector<Bar> &bars = market.days[day][opening_us(day) + minute * MINUTE_US];
            for (std::size_t symbol = 0; symbol < walks.size(); symbol++) {
                const std::int64_t close_e10 = walks[symbol].close_e10(random);
                if (random() % SILENT_EVERY != 0)  // not every symbol trades in every minute
                    bars.push_back({symbol, close_e10});
            }
        }
    return market;
}

}  // namespace engine
