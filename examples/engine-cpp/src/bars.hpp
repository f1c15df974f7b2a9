// Minute bars as the engine trades on them, and reading them from CSV files.
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "calendar.hpp"

namespace engine {

struct Bar {
    std::size_t symbol;  // its place among Market::symbols
    std::int64_t close_e10;
};

// The bars of each minute by its time, in microseconds since 1970, UTC; a symbol that did not trade then has none.
using Day = std::map<std::int64_t, std::vector<Bar>>;

struct Market {
    std::vector<std::string> symbols;
    std::map<DayNumber, Day> days;
    std::uint64_t bad_lines = 0;  // left out, each said on stderr
};

struct Span {  // of days, both included
    DayNumber first = std::numeric_limits<DayNumber>::min(), last = std::numeric_limits<DayNumber>::max();
};

// Every SYMBOL.csv in a folder, with the columns ts_utc,ts_nyt_epoch,open,high,low,close,volume and a line for each
// minute, in the order of time. A line that cannot be used is said on stderr with its file and number, counted and left
// out. Throws std::runtime_error for a folder without such files, and for a file that is none of that kind.
Market read_bars(const std::filesystem::path &folder, Span span);

}  // namespace engine
