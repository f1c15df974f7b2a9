// Bars of nobody's market, for those who have none at hand.
#pragma once

#include <cstdint>

#include "bars.hpp"

namespace engine {

// That many weekdays from `first` on, 390 minutes each: random walks with trends, computed in whole numbers, so that a
// seed gives the same bars on every machine.
Market simulate(std::uint64_t seed, DayNumber first, int days);

}  // namespace engine
