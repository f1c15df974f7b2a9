// What the command line asks for.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "bars.hpp"
#include "publish.hpp"

namespace engine {

struct Options {
    RingOptions ring;
    std::filesystem::path bars;   // empty: simulated ones
    std::uint64_t seed = 0;       // of the simulation
    int days = 3;                 // of the simulation
    Span span;
    std::optional<double> speed;  // 1 is real time; none: as fast as it goes
    std::string account = "cpp";  // one for each day: cpp-2025-10-10
    bool help = false;
};

// Throws std::invalid_argument, whose text names the option and what it may be.
Options parse(int count, char **words);

extern const char *const USAGE;

}  // namespace engine
